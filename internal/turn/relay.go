package turn

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// maxPeers and maxChannels bound what pion keeps for one allocation.
	maxPeers    = 128
	maxChannels = 128
)

var errPeerDenied = errors.New("the peer policy denies this peer")

// relay is the UDP socket of one allocation, as pion sees it. pion writes to
// it from the front's goroutine and reads from it in a goroutine of its own.
type relay struct {
	// Static.
	server  *Server
	front   *front
	family  *family
	conn    *net.UDPConn
	addr    *net.UDPAddr // what clients are told; its pointer identifies the relay in pion's events
	port    uint16
	source  netip.AddrPort // the client
	name    string         // the username the allocation was made with
	tag     string         // of the session
	session string         // its id, "" unless Introductions needs it
	place   *place
	out     flow
	in      flow

	// Owned by pion's reading goroutine.
	inAddr *net.UDPAddr // the last sender, as pion gets it

	// judged counts the permissions and channels that were asked for: each
	// makes the next packet be judged afresh.
	judged atomic.Uint32

	mu       sync.Mutex
	peers    map[netip.Addr]struct{} // those with a permission
	channels map[uint16]struct{}

	closeOnce sync.Once
	timer     *time.Timer // ends the relay, set once under server.mu
}

// expireEarly is how long before pion's own timer a relay ends. pion's timer
// must not fire, since it does not wait as settle does; the time is longer
// than any packet takes, which writeTimeout bounds.
const expireEarly = 15 * time.Second

// extend sets how long pion will keep the allocation; 0 ends it, by pion.
func (r *relay) extend(lifetime time.Duration) {
	if lifetime > 0 {
		r.timer.Reset(lifetime - expireEarly)
	}
}

// flow is one direction of a relay, used by one goroutine. It remembers the
// last peer that was judged, which is nearly always the next one as well.
type flow struct {
	bytes, packets  prometheus.Counter
	rate, day       prometheus.Counter
	policy, notLive prometheus.Counter
	stranger        prometheus.Counter
	last            judgement
}

// judgement is what is known about one peer.
type judgement struct {
	peer     netip.AddrPort
	at       uint32 // relay.judged
	reason   string // "" when the policy allows it
	ownRelay bool   // allowed only while other is open
	other    *relay // open at the peer's address
	met      bool   // introduced to other, or to the address
}

func newFlow(m *metrics, direction string) flow {
	drop := func(reason string) prometheus.Counter { return m.relayDrops.WithLabelValues(direction, reason) }
	return flow{
		bytes:   m.relayedBytes.WithLabelValues(direction),
		packets: m.relayedPackets.WithLabelValues(direction),
		rate:    drop(dropRate), day: drop(dropDay), policy: drop(dropPolicy), notLive: drop(dropNotLive),
		stranger: drop(denyStranger),
	}
}

// WriteTo sends a client's packet to a peer. A packet over the session's rate
// is dropped without an error, as a network would.
func (r *relay) WriteTo(p []byte, addr net.Addr) (int, error) {
	udp, ok := addr.(*net.UDPAddr)
	if !ok {
		return 0, errPeerDenied
	}
	peer := unmapped(udp.AddrPort())
	if !r.judge(&r.out, peer) {
		return 0, errPeerDenied
	}
	if !r.account(&r.out, len(p)) {
		return len(p), nil
	}
	return r.conn.WriteToUDPAddrPort(p, r.family.toSocket(peer))
}

// ReadFrom returns the next packet of a peer that has a permission. The
// address is shared with later packets of the same peer and must not be
// changed.
func (r *relay) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, from, err := r.conn.ReadFromUDPAddrPort(p)
		if err != nil {
			if r.server.retry(err) {
				continue
			}
			r.end(endClient)
			r.front.settle()
			return 0, nil, err
		}
		from = r.family.toPublic(unmapped(from))
		if !r.permitted(from.Addr()) {
			// Not accounted: anybody can send here.
			r.server.metrics.relayDrops.WithLabelValues(toClient, dropNoPermission).Inc()
			continue
		}
		if !r.judge(&r.in, from) || !r.account(&r.in, n) {
			continue
		}
		if r.inAddr == nil || r.inAddr.AddrPort() != from {
			r.inAddr = net.UDPAddrFromAddrPort(from)
		}
		return n, r.inAddr, nil
	}
}

// judge says whether a packet may pass between the client and the peer.
func (r *relay) judge(f *flow, peer netip.AddrPort) bool {
	j := &f.last
	if at := r.judged.Load(); j.peer != peer || j.at != at {
		*j = judgement{peer: peer, at: at, other: r.family.relayOf(peer)}
		j.reason, j.ownRelay = r.server.policy.decide(peer)
		if j.reason == "" && peer.Addr().Is4() != r.family.ip.Is4() {
			j.reason = denyFamily
		}
		j.met = j.reason == "" && r.mayMeet(j.other, peer.Addr())
	} else if other := r.family.relayOf(peer); other != j.other {
		// Another client has the port now.
		j.other, j.met = other, r.mayMeet(other, peer.Addr())
	}
	switch {
	case j.reason != "":
		f.policy.Inc()
	case j.ownRelay && j.other == nil:
		// Inside the relay range, but somebody else's socket on this host.
		f.notLive.Inc()
	case !j.met:
		f.stranger.Inc()
	default:
		return true
	}
	return false
}

// account counts one packet of n bytes against the quotas.
func (r *relay) account(f *flow, n int) bool {
	ok, exhausted := r.place.spend(n, r.server.cfg.Now())
	switch {
	case exhausted:
		f.day.Inc()
		r.server.endUser(r.place.user)
		return false
	case !ok:
		f.rate.Inc()
		return false
	}
	f.packets.Inc()
	f.bytes.Add(float64(n))
	return true
}

// mayAdd says whether the client can have a permission for one more address.
func (r *relay) mayAdd(peer netip.Addr) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, known := r.peers[peer]
	return known || len(r.peers) < maxPeers
}

// mayBind says whether the client can bind the channel.
func (r *relay) mayBind(channel uint16) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, known := r.channels[channel]
	return known || len(r.channels) < maxChannels
}

func (r *relay) permitted(peer netip.Addr) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.peers[peer]
	return ok
}

func (r *relay) setPeer(peer netip.Addr, present bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if present {
		r.peers[peer] = struct{}{}
	} else {
		delete(r.peers, peer)
	}
}

func (r *relay) setChannel(channel uint16, present bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if present {
		r.channels[channel] = struct{}{}
	} else {
		delete(r.channels, channel)
	}
}

// Close ends the allocation: pion's reading goroutine sees the closed socket
// and forgets it. pion closes every relay too, so only the first call counts.
func (r *relay) Close() error {
	r.end(endClient)
	return nil
}

// end closes the relay for a reason, and says whether it was open.
func (r *relay) end(reason string) bool {
	first := false
	r.closeOnce.Do(func() {
		first = true
		r.timer.Stop()
		r.family.close(r)
		r.front.forget(r)
		r.server.forget(r)
		r.place.release(r.server.cfg.Now())
		_ = r.conn.Close()
		r.server.metrics.allocations.WithLabelValues(r.front.transport).Dec()
		r.server.metrics.ended.WithLabelValues(reason).Inc()
	})
	return first
}

// LocalAddr implements net.PacketConn.
func (r *relay) LocalAddr() net.Addr { return r.conn.LocalAddr() }

// SetDeadline implements net.PacketConn.
func (r *relay) SetDeadline(t time.Time) error { return r.conn.SetDeadline(t) }

// SetReadDeadline implements net.PacketConn.
func (r *relay) SetReadDeadline(t time.Time) error { return r.conn.SetReadDeadline(t) }

// SetWriteDeadline implements net.PacketConn.
func (r *relay) SetWriteDeadline(t time.Time) error { return r.conn.SetWriteDeadline(t) }

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
