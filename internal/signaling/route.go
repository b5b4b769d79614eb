package signaling

import (
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// lately is where a connection's last signal went and what allowed it. Most
// signals go where the one before them went, and need not look all that up
// again, nor take the lock that all others need. The connection's reader owns
// it.
type lately struct {
	to           *member // nil: it went nowhere
	mine, theirs uint32  // rights of both, when they allowed it
	device       connID  // text of to's id, here so that it is near
	via          [22]byte
	viaLen       uint8

	offered  *offerPair // of what was offered to it
	answered *offerPair // of what it offered
}

// still gives the target of a signal if it is the same as lately, and still
// allowed.
func (l *lately) still(from *member, sig *wire.SignalRef) *member {
	if l.to == nil || string(sig.To) != string(l.device[:]) || string(sig.Via) != string(l.via[:l.viaLen]) ||
		l.mine != from.rights.Load() || l.theirs != l.to.rights.Load() {
		return nil
	}
	return l.to
}

// target is the device that a signal is for, if it has a session, and whether
// the signal may go there.
func (h *hub) target(from *member, l *lately, sig *wire.SignalRef) (to *member, allowed bool) {
	if to := l.still(from, sig); to != nil {
		return to, true
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	to = h.devices[peercrypto.ID(sig.To)]
	if from.gone || to == nil || to == from || !shares(from, to, sig.Tag()) {
		return to, false
	}
	if l.to != to {
		*l = lately{to: to, device: connKey(sig.To)}
	}
	l.viaLen = uint8(copy(l.via[:], sig.Via))
	l.mine, l.theirs = from.rights.Load(), to.rights.Load()
	return to, true
}

// shares tells whether both may exchange a signal now. hub.mu is held.
func shares(from, to *member, via peercrypto.Tag) bool {
	if via == (peercrypto.Tag{}) {
		return from.userKey == to.userKey
	}
	_, a := from.tags[via]
	_, b := to.tags[via]
	return a && b
}

// routed is what the hub decided about a signal.
type routed struct {
	code    wire.Code
	wait    time.Duration // with rate-limited
	forward *member       // session of another node that it has to go to
}

// route authorizes a signal of a session of this node and delivers it if its
// target is on this node, too.
func (h *hub) route(from *member, c *conn, sig *wire.SignalRef, now time.Time) routed {
	to, allowed := h.target(from, &c.lately, sig)
	if sig.Kind == wire.KindNotify {
		if ok, wait := from.notes.allow(h.limits.NotifiesPerMinute, now); !ok {
			return routed{code: wire.CodeRateLimited, wait: wait}
		}
		if to == nil {
			return routed{code: h.leave(from, sig, time.Now())}
		}
	}
	if !allowed {
		return routed{code: wire.CodeNotAllowed}
	}
	if sig.Kind == wire.KindOffer {
		if ok, wait := from.offers.allow(to.device, connKey(sig.Conn), now, &c.lately.offered); !ok {
			return routed{code: wire.CodeRateLimited, wait: wait}
		}
	}
	if !to.local() {
		return routed{forward: to}
	}
	if h.introductions != nil && (sig.Kind == wire.KindOffer || sig.Kind == wire.KindAnswer) {
		if wait := h.mayIntroduce(c, from, to); wait > 0 {
			return routed{code: wire.CodeRateLimited, wait: wait}
		}
		h.introductions.note(from, to) // before the target can act on it
	}
	code := h.stamp(to, from, c, sig)
	if sig.Kind == wire.KindAnswer && code != wire.CodeOffline {
		to.offers.answered(from.device, connKey(sig.Conn), &c.lately.answered)
	}
	return routed{code: code}
}

// mayIntroduce says how long the address of a session has to wait until it can
// introduce devices that are not yet: else it could have the introductions of
// others forgotten, on which their relays depend.
func (h *hub) mayIntroduce(c *conn, from, to *member) time.Duration {
	if h.introductions.knows(from, to) {
		return 0
	}
	h.mu.RLock()
	perAddress := h.live.SessionsPerAddress
	h.mu.RUnlock()
	now := time.Now()
	wait := h.toil.wait(c.addrKey, perAddress, now)
	if wait == 0 {
		h.toil.add(c.addrKey, perAddress, toilOfPair, now)
	}
	return wait
}

// stamp gives a signal, with its sender, to a session of this node. For one
// that cannot resume nothing is kept of it.
func (h *hub) stamp(to, from *member, c *conn, sig *wire.SignalRef) wire.Code {
	if to.resumable {
		frame := sig.AppendStamped(lend(sig.StampedSize()), from.device)
		return h.hand(to, frame, true, receipt{from: from, conn: c, id: sig.ID})
	}
	n, err := to.conn.Load().pushStamped(sig, from.device)
	if err != nil {
		return wire.CodeOffline
	}
	h.metrics.relayed.Add(float64(n))
	return wire.CodeDelivered
}

// hand gives a stamped frame to a session of this node, see put.
func (h *hub) hand(to *member, frame []byte, lent bool, r receipt) wire.Code {
	code := h.put(to, frame, lent, r)
	if code != wire.CodeOffline {
		h.metrics.relayed.Add(float64(len(frame)))
	}
	return code
}
