package turn

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/pion/stun/v3"
	pionturn "github.com/pion/turn/v4"
)

// Protocol numbers and families in TURN attributes (RFC 8656).
const (
	protocolUDP = 17
	familyIPv4  = 1
	familyIPv6  = 2

	minLifetime     = time.Minute
	defaultLifetime = 10 * time.Minute
	maxLifetime     = time.Hour
)

var (
	errNoTCPRelay = errors.New("TCP relaying (RFC 6062) is not served")
	errPortPair   = errors.New("pairs of relay ports are not served")
	errNoPort     = errors.New("no even relay port is free")
)

// authenticate returns the key of a username. Expiry counts for what opens an
// allocation; whoever has one can go on with the credential that opened it,
// and with no other (RFC 8656 section 5).
func (f *front) authenticate(username, realm string, _ net.Addr) ([]byte, bool) {
	c, reason := f.server.minter.parse(username)
	now := f.server.cfg.Now()
	switch held := f.relayOf(f.source); {
	case reason != "":
	case realm != f.server.cfg.Realm:
		reason = authRealm
	case f.server.isRevoked(c, f.source.Addr()):
		reason = authRevoked
	case !f.lifetimeServed(held != nil):
		reason = authLifetime
	case held != nil && held.name == username:
	case held != nil && f.method != stun.MethodAllocate:
		reason = authWrongUser
	case now.Unix() >= c.expires:
		reason = authExpired
	}
	if reason != "" {
		if reason == authWrongUser {
			f.refusal = stun.CodeWrongCredentials
		}
		f.refuseAuth(reason)
		return nil, false
	}
	f.name, f.claims = username, c
	f.key = pionturn.GenerateAuthKey(username, realm, c.secret.password(username))
	return f.key, true
}

// lifetimeServed refuses an allocation shorter than minLifetime, and to refresh
// one that is gone, which pion would not answer.
func (f *front) lifetimeServed(live bool) bool {
	switch f.method {
	case stun.MethodAllocate:
		l := f.lifetime()
		return l == 0 || l >= minLifetime
	case stun.MethodRefresh:
		l := f.lifetime()
		return l == 0 || live && l >= minLifetime
	default:
		return true
	}
}

// lifetime is what pion takes from the packet being handled: ten minutes when
// the client asks for nothing, or for an hour or more.
func (f *front) lifetime() time.Duration {
	if v, ok := attribute(f.packet, stun.AttrLifetime); ok && len(v) == 4 {
		if l := time.Duration(binary.BigEndian.Uint32(v)) * time.Second; l < maxLifetime {
			return l
		}
	}
	return defaultLifetime
}

// isRevoked says whether a credential is refused of a client, although it has
// not expired.
func (s *Server) isRevoked(c claims, client netip.Addr) bool {
	now := s.cfg.Now()
	return s.minter.isRevoked(c.session, c.expires, now) || s.minter.isRevoked(c.user, c.expires, now) ||
		s.cfg.Barred != nil && s.cfg.Barred(client)
}

func (f *front) refuseAuth(reason string) {
	f.server.metrics.authFailures.WithLabelValues(reason).Inc()
	f.server.sources.allow(f.source.Addr(), f.server.cfg.Now())
}

// reserve takes a place in the quotas for an authenticated Allocate; the relay
// gets it in AllocatePacketConn, or the next ReadFrom gives it back.
func (f *front) reserve(string, string, net.Addr) bool {
	f.dropPending()
	reason := f.checkAllocate()
	if reason == "" {
		f.refusal = stun.CodeAllocQuotaReached
		f.pending, reason = f.server.ledger.reserve(f.claims.session, f.claims.user, f.server.cfg.Now())
	}
	if reason != "" {
		f.server.metrics.refused.WithLabelValues(reason).Inc()
		return false
	}
	f.refusal = 0
	return true
}

// checkAllocate refuses relays that pion would take for UDP over IPv4, and
// finds the family that is asked for.
func (f *front) checkAllocate() string {
	if v, ok := attribute(f.packet, stun.AttrRequestedTransport); !ok || len(v) != 4 || v[0] != protocolUDP {
		f.refusal = stun.CodeUnsupportedTransProto
		return refuseTransport
	}
	f.family = f.server.mainFamily()
	if v, ok := attribute(f.packet, stun.AttrRequestedAddressFamily); ok {
		f.family = nil
		switch {
		case len(v) == 4 && v[0] == familyIPv4:
			f.family = f.server.family4
		case len(v) == 4 && v[0] == familyIPv6:
			f.family = f.server.family6
		}
	}
	if f.family == nil {
		f.refusal = stun.CodeAddrFamilyNotSupported
		return refuseFamily
	}
	return ""
}

func (f *front) dropPending() {
	if f.pending != nil {
		f.pending.release(f.server.cfg.Now())
		f.pending = nil
	}
}

// permit decides about the peer of a CreatePermission, by address, or of a
// ChannelBind, by address and port. What it allows is judged again with every
// packet.
func (f *front) permit(_ net.Addr, ip net.IP) bool {
	peer := addrOf(ip)
	reason := f.checkPeer(peer)
	if reason == "" {
		return true
	}
	f.server.metrics.peerRefusals.WithLabelValues(reason).Inc()
	switch reason {
	case denyFamily:
		f.refusal = stun.CodePeerAddrFamilyMismatch
	case denyTooMany, denyChannels:
		f.refusal = stun.CodeInsufficientCapacity
	default:
		f.refusal = stun.CodeForbidden
	}
	return false
}

func (f *front) checkPeer(peer netip.Addr) string {
	r := f.relayOf(f.source)
	switch {
	case r == nil:
		return denyNoRelay
	case peer.Is4() != r.family.ip.Is4():
		return denyFamily
	}
	r.judged.Add(1)
	if f.method != stun.MethodChannelBind {
		if ok, reason := f.server.policy.Load().AllowedIP(peer); !ok {
			return reason
		}
		if !r.mayPermit(peer) {
			return denyStranger
		}
	} else if reason := f.checkBind(r, peer); reason != "" {
		return reason
	}
	if !r.mayAdd(peer) {
		return denyTooMany
	}
	return ""
}

// checkBind looks at what pion does not show of a ChannelBind.
func (f *front) checkBind(r *relay, peer netip.Addr) string {
	// The address is the one that pion found; of the value only the port is
	// needed: family, port and address, the port mixed with the cookie.
	v, ok := attribute(f.packet, stun.AttrXORPeerAddress)
	if !ok || len(v) < 8 {
		return denyInvalid
	}
	port := binary.BigEndian.Uint16(v[2:]) ^ stunCookie>>16
	at := netip.AddrPortFrom(peer, port)
	if ok, reason := f.server.policy.Load().Allowed(at); !ok {
		return reason
	}
	if !r.mayMeet(r.family.relayOf(at), peer) {
		return denyStranger
	}
	v, ok = attribute(f.packet, stun.AttrChannelNumber)
	if !ok || len(v) != 4 || !r.mayBind(binary.BigEndian.Uint16(v)) {
		return denyChannels
	}
	return ""
}

// Validate implements pionturn.RelayAddressGenerator.
func (*front) Validate() error { return nil }

// AllocatePacketConn implements pionturn.RelayAddressGenerator: it binds the
// relay socket of the request being handled.
func (f *front) AllocatePacketConn(_ string, port int) (net.PacketConn, net.Addr, error) {
	if f.pending == nil {
		return f.evenPort()
	}
	r := &relay{
		server: f.server, front: f, family: f.family, source: f.source, name: f.name, tag: f.claims.session, place: f.pending,
		gone: make(chan struct{}),
	}
	if f.server.cfg.Introductions != nil {
		r.session = f.server.names.of(r.tag)
	}
	if reason, err := f.server.open(r, port); err != nil {
		f.server.metrics.refused.WithLabelValues(reason).Inc()
		return nil, nil, err
	}
	f.pending = nil
	return r, r.addr, nil
}

// evenPort answers pion's search for an even port, which comes before there is
// a place in the quotas: so it names a port and binds none. A pair of ports
// (the R bit of EVEN-PORT) is refused, since pion would not hold the second.
func (f *front) evenPort() (net.PacketConn, net.Addr, error) {
	if v, ok := attribute(f.packet, stun.AttrEvenPort); !ok || len(v) != 1 || v[0]&0x80 != 0 {
		return nil, nil, errPortPair
	}
	// The family is not known yet; both have the same range, and a port that
	// the other one does not have free fails later.
	family := f.server.mainFamily()
	port, ok := family.freeEvenPort()
	if !ok {
		return nil, nil, errNoPort
	}
	return unbound{}, net.UDPAddrFromAddrPort(netip.AddrPortFrom(family.public, port)), nil
}

// unbound stands for the socket that pion closes again in its search.
type unbound struct{ net.PacketConn }

// Close implements net.PacketConn.
func (unbound) Close() error { return nil }

// AllocateConn implements pionturn.RelayAddressGenerator.
func (*front) AllocateConn(string, int) (net.Conn, net.Addr, error) { return nil, nil, errNoTCPRelay }
