package turn

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/stun/v3"
	pionturn "github.com/pion/turn/v4"
)

// wire is a front's socket: a UDP socket, or the frames of one stream.
type wire interface {
	// read returns the next packet and the client that sent it. The address is
	// not changed afterwards. live says whether the client has an allocation.
	// Any error but errTooLarge is final.
	read(p []byte, live func(netip.AddrPort) bool) (int, net.Addr, error)
	write(p []byte, addr net.Addr) (int, error)
	LocalAddr() net.Addr
	Close() error
}

// front is one socket that pion reads, with a pion server of its own. pion
// handles its packets one by one: ReadFrom, then every callback that the
// packet leads to, then the next ReadFrom, all in one goroutine.
type front struct {
	// Static.
	server    *Server
	transport string
	wire      wire

	// Owned by pion's reading goroutine.
	packet  []byte // the packet being handled
	method  stun.Method
	source  netip.AddrPort // its sender
	name    string         // its username, once authenticated
	claims  claims
	key     stun.MessageIntegrity
	pending *place // taken for it, not yet a relay's
	family  *family
	refusal stun.ErrorCode // what pion's next error answer should have said, see correct
	done    bool
	busy    bool // whether it holds handling

	// handling is held while pion handles a packet, see settle.
	handling sync.Mutex

	mu     sync.Mutex
	relays map[netip.AddrPort]*relay // by client
}

// serve hands the front to pion. Its goroutine ends when the wire is closed.
func (f *front) serve() error {
	f.relays = make(map[netip.AddrPort]*relay)
	_, err := pionturn.NewServer(pionturn.ServerConfig{
		Realm:         f.server.cfg.Realm,
		LoggerFactory: pionLogs{f.server.cfg.Logger},
		AuthHandler:   f.authenticate,
		QuotaHandler:  f.reserve,
		EventHandler:  f.events(),
		PacketConnConfigs: []pionturn.PacketConnConfig{{
			PacketConn: f, RelayAddressGenerator: f, PermissionHandler: f.permit,
		}},
	})
	return err
}

// events follows what pion keeps, by the relay address, which pion hands back
// as the pointer that AllocatePacketConn returned.
func (f *front) events() pionturn.EventHandler {
	s := f.server
	return pionturn.EventHandler{
		OnAuth: func(_, _ net.Addr, _, _, _, _ string, ok bool) {
			if !ok {
				f.refuseAuth(authIntegrity)
				return
			}
			if r := f.relayOf(f.source); r != nil && f.method == stun.MethodRefresh {
				r.extend(f.lifetime())
			}
		},
		OnAllocationDeleted: func(_, _ net.Addr, _, _, _ string) { s.running.Done() },
		OnPermissionCreated: func(_, _ net.Addr, _, _, _ string, at net.Addr, peer net.IP) {
			s.withRelay(at, func(r *relay) { r.setPeer(addrOf(peer), true) })
		},
		OnPermissionDeleted: func(_, _ net.Addr, _, _, _ string, at net.Addr, peer net.IP) {
			s.withRelay(at, func(r *relay) { r.setPeer(addrOf(peer), false) })
		},
		OnChannelCreated: func(_, _ net.Addr, _, _, _ string, at, peer net.Addr, channel uint16) {
			s.withRelay(at, func(r *relay) { r.setChannel(channel, addrPortOf(peer)) })
		},
		OnChannelDeleted: func(_, _ net.Addr, _, _, _ string, at, _ net.Addr, channel uint16) {
			s.withRelay(at, func(r *relay) { r.setChannel(channel, netip.AddrPort{}) })
		},
	}
}

// ReadFrom returns the next packet that passes the gate. An error is final.
func (f *front) ReadFrom(p []byte) (int, net.Addr, error) {
	f.dropPending()
	f.refusal, f.key = 0, nil
	for {
		f.setBusy(false)
		n, addr, err := f.wire.read(p, f.isLive)
		if errors.Is(err, errTooLarge) {
			f.server.metrics.clientDrops.WithLabelValues(dropTooLarge).Inc()
			continue
		}
		if err != nil {
			f.finish()
			return 0, nil, err
		}
		f.setBusy(true)
		f.packet, f.source = p[:n], addrPortOf(addr)
		if reason := f.admit(); reason != "" {
			f.server.metrics.clientDrops.WithLabelValues(reason).Inc()
			continue
		}
		return n, addr, nil
	}
}

func (f *front) setBusy(busy bool) {
	switch {
	case busy == f.busy:
	case busy:
		f.handling.Lock()
	default:
		f.handling.Unlock()
	}
	f.busy = busy
}

// settle waits until the packet being handled is done with. A relay that was
// ended waits here before pion hears of it: pion adds a permission in two
// steps, and an allocation that is closed between them panics. Later packets
// do not find the relay, so the gate keeps them away from the allocation.
func (f *front) settle() {
	f.handling.Lock()
	defer f.handling.Unlock()
}

// finish reports, once, that pion is done reading.
func (f *front) finish() {
	if f.done {
		return
	}
	f.done = true
	_ = f.wire.Close()
	f.server.frontDone(f)
}

// admit is the gate: what pion would only refuse, and what a source asks too
// often without a credential, ends here. It returns why.
func (f *front) admit() string {
	kind, method := classify(f.packet)
	f.method, f.name = method, ""
	switch kind {
	case kindChannelData:
		if !f.isLive(f.source) {
			return dropNoAllocation
		}
		return ""
	case kindIndication:
		switch {
		case method != stun.MethodSend:
			return dropUnexpected
		case !f.isLive(f.source):
			return dropNoAllocation
		}
		return ""
	case kindRequest:
		return f.admitRequest(method)
	case kindResponse:
		return dropUnexpected
	default:
		return dropMalformed
	}
}

func (f *front) admitRequest(method stun.Method) string {
	label := methodLabel(method)
	if label == "" {
		return dropUnexpected
	}
	f.server.metrics.requests.WithLabelValues(label).Inc()
	now := f.server.cfg.Now()
	_, claimed := attribute(f.packet, stun.AttrMessageIntegrity)
	switch {
	case (method == stun.MethodCreatePermission || method == stun.MethodChannelBind) && !f.isLive(f.source):
		return dropNoAllocation
	case method == stun.MethodBinding || !claimed:
		if !f.server.sources.allow(f.source.Addr(), now) {
			return dropSourceRate
		}
	case !f.isLive(f.source) && !f.server.sources.has(f.source.Addr(), now):
		// Failed credentials took the tokens, see refuseAuth.
		return dropSourceRate
	}
	return ""
}

func methodLabel(m stun.Method) string {
	switch m {
	case stun.MethodBinding:
		return "binding"
	case stun.MethodAllocate:
		return "allocate"
	case stun.MethodRefresh:
		return "refresh"
	case stun.MethodCreatePermission:
		return "create_permission"
	case stun.MethodChannelBind:
		return "channel_bind"
	default:
		return ""
	}
}

// WriteTo sends an answer or relayed data to a client.
func (f *front) WriteTo(p []byte, addr net.Addr) (int, error) {
	if kind, _ := classify(p); kind == kindResponse {
		// Answers come from the goroutine that owns the request.
		if better := f.correct(p); better != nil {
			_, err := f.wire.write(better, addr)
			return len(p), err
		}
	}
	return f.wire.write(p, addr)
}

// host is the front's wire when that reads the relays itself, else nil.
func (f *front) host() relayHost {
	h, _ := f.wire.(relayHost)
	return h
}

func (f *front) relayOf(client netip.AddrPort) *relay {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.relays[client]
}

func (f *front) isLive(client netip.AddrPort) bool { return f.relayOf(client) != nil }

func (f *front) remember(r *relay) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.relays[r.source] = r
}

// forget removes the relay, unless the client has a newer one already.
func (f *front) forget(r *relay) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.relays[r.source] == r {
		delete(f.relays, r.source)
	}
}

// LocalAddr implements net.PacketConn.
func (f *front) LocalAddr() net.Addr { return f.wire.LocalAddr() }

// Close closes the socket, which ends pion's reading goroutine.
func (f *front) Close() error { return f.wire.Close() }

// SetDeadline implements net.PacketConn; the wire keeps its own deadlines.
func (*front) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.PacketConn.
func (*front) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.PacketConn.
func (*front) SetWriteDeadline(time.Time) error { return nil }

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

func addrPortOf(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.UDPAddr:
		return unmapped(a.AddrPort())
	case *net.TCPAddr:
		return unmapped(a.AddrPort())
	default:
		return netip.AddrPort{}
	}
}
