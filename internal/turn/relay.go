package turn

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxPeers and maxChannels bound what pion keeps for one allocation.
	maxPeers    = 128
	maxChannels = 128
)

var errPeerDenied = errors.New("the peer policy denies this peer")

// relaySocket is what a relay needs of its UDP socket.
type relaySocket interface {
	WriteToUDPAddrPort(p []byte, to netip.AddrPort) (int, error)
	LocalAddr() net.Addr
	Close() error
}

// relayHost is a wire that reads the relays of its clients itself, and
// forwards channel data without pion.
type relayHost interface {
	bindRelay(at netip.AddrPort) (relaySocket, error)
	// adopt begins to read the relay; it is called for the packet that read
	// returned last.
	adopt(r *relay) error
	// release forgets a relay that has ended. It may come from any goroutine.
	release(r *relay)
}

// relay is the UDP socket of one allocation, as pion sees it. pion writes to
// it from the front's goroutine. A hosted relay is read by its host; of others
// pion reads in a goroutine of its own.
type relay struct {
	// Static.
	server  *Server
	front   *front
	family  *family
	conn    relaySocket
	reader  *net.UDPConn // conn, unless it is hosted
	addr    *net.UDPAddr // what clients are told; its pointer identifies the relay in pion's events
	port    uint16
	source  netip.AddrPort // the client
	name    string         // the username the allocation was made with
	tag     string         // of the session
	session string         // its id, "" unless Introductions needs it
	place   *place

	// Owned by the goroutine that writes, and by the one that reads.
	out, in judgement
	hosted  hosted

	// Owned by pion's reading goroutine.
	inAddr *net.UDPAddr // the last sender, as pion gets it

	// judged counts the permissions and channels that were asked for: each
	// makes the next packet be judged afresh.
	judged atomic.Uint32
	routes atomic.Pointer[routes] // of a hosted relay

	mu       sync.Mutex
	peers    map[netip.Addr]struct{} // those with a permission
	channels map[uint16]netip.AddrPort

	gone      chan struct{} // closed at the end
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

// WriteTo sends a client's packet to a peer. A packet over the session's rate
// is dropped without an error, as a network would.
func (r *relay) WriteTo(p []byte, addr net.Addr) (int, error) {
	udp, ok := addr.(*net.UDPAddr)
	if !ok {
		return 0, errPeerDenied
	}
	peer := unmapped(udp.AddrPort())
	d := &r.server.metrics.toPeer
	if !r.permitted(peer.Addr()) {
		// pion asks for a channel only, which outlives its permission.
		d.noPermission.Inc()
		return 0, errPeerDenied
	}
	if !r.judge(d, &r.out, peer) {
		return 0, errPeerDenied
	}
	if !r.account(d, len(p), clockOf(r.server.cfg.Now())) {
		return len(p), nil
	}
	d.count(1, len(p))
	return r.conn.WriteToUDPAddrPort(p, r.family.toSocket(peer))
}

// ReadFrom returns the next packet of a peer that has a permission. The
// address is shared with later packets of the same peer and must not be
// changed. Of a hosted relay nothing comes but the end.
func (r *relay) ReadFrom(p []byte) (int, net.Addr, error) {
	if r.reader == nil {
		<-r.gone
		r.front.settle()
		return 0, nil, net.ErrClosed
	}
	d := &r.server.metrics.toClient
	for {
		n, from, err := r.reader.ReadFromUDPAddrPort(p)
		if err != nil {
			if r.server.retry(err) {
				continue
			}
			r.end(endClient)
			r.front.settle()
			return 0, nil, err
		}
		if n > maxPacket {
			d.tooLarge.Inc()
			continue
		}
		from = r.family.toPublic(unmapped(from))
		if !r.permitted(from.Addr()) {
			// Not accounted: anybody can send here.
			d.noPermission.Inc()
			continue
		}
		if !r.judge(d, &r.in, from) || !r.account(d, n, clockOf(r.server.cfg.Now())) {
			continue
		}
		d.count(1, n)
		if r.inAddr == nil || r.inAddr.AddrPort() != from {
			r.inAddr = net.UDPAddrFromAddrPort(from)
		}
		return n, r.inAddr, nil
	}
}

// judgement is what is known about one peer. Flows keep that of the last peer,
// which is nearly always the next one as well.
type judgement struct {
	peer     netip.AddrPort
	at       uint32 // relay.judged
	reason   string // "" when the policy allows it
	ownRelay bool   // allowed only while other is open
	other    *relay // open at the peer's address
	met      bool   // introduced to other, or to the address
}

// judge says whether a packet may pass between the client and the peer. It
// keeps in j what it found.
func (r *relay) judge(d *direction, j *judgement, peer netip.AddrPort) bool {
	if at := r.judged.Load(); j.peer != peer || j.at != at {
		*j = judgement{peer: peer, at: at, other: r.family.relayOf(peer)}
		j.reason, j.ownRelay = r.server.policy.Load().decide(peer)
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
		d.policy.Inc()
	case j.ownRelay && j.other == nil:
		// Inside the relay range, but somebody else's socket on this host.
		d.notLive.Inc()
	case !j.met:
		d.stranger.Inc()
	default:
		return true
	}
	return false
}

// account takes one packet of n bytes from the quotas. Who sends it counts it.
func (r *relay) account(d *direction, n int, now clock) bool {
	ok, exhausted := r.place.spend(n, now)
	switch {
	case exhausted:
		d.day.Inc()
		r.server.endUser(r.place.user)
		return false
	case !ok:
		d.rate.Inc()
		return false
	}
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
		if r.peers == nil {
			r.peers = make(map[netip.Addr]struct{})
		}
		r.peers[peer] = struct{}{}
	} else {
		delete(r.peers, peer)
	}
	r.routeLocked()
}

// setChannel records a channel; the zero peer removes it.
func (r *relay) setChannel(channel uint16, peer netip.AddrPort) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if peer.IsValid() {
		if r.channels == nil {
			r.channels = make(map[uint16]netip.AddrPort)
		}
		r.channels[channel] = peer
	} else {
		delete(r.channels, channel)
	}
	r.routeLocked()
}

func (r *relay) routeLocked() {
	if r.reader == nil {
		r.routes.Store(newRoutes(r.family, r.channels, r.peers))
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
		r.discard()
		r.place.release(r.server.cfg.Now())
		close(r.gone)
		r.server.metrics.allocations.WithLabelValues(r.front.transport).Dec()
		r.server.metrics.ended.WithLabelValues(reason).Inc()
	})
	return first
}

// LocalAddr implements net.PacketConn.
func (r *relay) LocalAddr() net.Addr { return r.conn.LocalAddr() }

// SetDeadline implements net.PacketConn; nobody sets one.
func (*relay) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.PacketConn.
func (*relay) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.PacketConn.
func (*relay) SetWriteDeadline(time.Time) error { return nil }

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
