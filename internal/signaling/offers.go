package signaling

import (
	"slices"
	"sync"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// offers limits what one session offers to each other device.
type offers struct {
	perMinute, concurrent int

	mu    sync.Mutex
	pairs map[peercrypto.ID]*offerPair
}

// offerPair is what a session offered to one device; the lock of offers guards
// it.
type offerPair struct {
	bucket    bucket
	open      []openOffer // not answered, oldest first; at most offers.concurrent
	forgotten bool        // offers does not know it any more
}

type openOffer struct {
	conn connID
	at   int64 // Unix ns
}

// connID is a connection id as a key that needs no memory of its own.
type connID [25]byte

func connKey(id []byte) (k connID) {
	copy(k[:], id)
	return k
}

// allow notes an offer to a device, or says how long to wait. last is the
// caller's own: the pair that it met last, if any, which saves to look for it.
func (o *offers) allow(to peercrypto.ID, conn connID, now time.Time, last **offerPair) (bool, time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.pairLocked(to, last)
	if p == nil {
		if len(o.pairs) >= maxOfferTargets {
			o.forget(now)
		}
		if len(o.pairs) >= maxOfferTargets {
			return false, time.Minute
		}
		if o.pairs == nil {
			o.pairs = make(map[peercrypto.ID]*offerPair)
		}
		p = &offerPair{bucket: newBucket(o.perMinute, time.Minute, now)}
		o.pairs[to], *last = p, p
	}
	p.expire(now)
	again := p.index(conn)
	if again < 0 && len(p.open) >= o.concurrent {
		return false, time.Second
	}
	if ok, wait, _ := p.bucket.take(now); !ok {
		return false, wait
	}
	if again >= 0 {
		p.open = slices.Delete(p.open, again, again+1)
	}
	p.open = append(p.open, openOffer{conn, now.UnixNano()})
	return true, 0
}

// pairLocked finds the pair of a device, nil if there is none, and notes it in
// last.
func (o *offers) pairLocked(to peercrypto.ID, last **offerPair) *offerPair {
	if *last == nil || (*last).forgotten {
		*last = o.pairs[to]
	}
	return *last
}

// answered notes that a device answered a connection's offer; last is as in
// allow.
func (o *offers) answered(by peercrypto.ID, conn connID, last **offerPair) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p := o.pairLocked(by, last); p != nil {
		if i := p.index(conn); i >= 0 {
			p.open = slices.Delete(p.open, i, i+1)
		}
	}
}

func (p *offerPair) index(conn connID) int {
	return slices.IndexFunc(p.open, func(o openOffer) bool { return o.conn == conn })
}

// expire forgets old offers.
func (p *offerPair) expire(now time.Time) {
	limit := now.Add(-offerLife).UnixNano()
	i := 0
	for i < len(p.open) && p.open[i].at <= limit {
		i++
	}
	if i > 0 {
		p.open = slices.Delete(p.open, 0, i)
	}
}

func (o *offers) forget(now time.Time) {
	for id, p := range o.pairs {
		p.expire(now)
		if len(p.open) == 0 && p.bucket.full(now) {
			p.forgotten = true
			delete(o.pairs, id)
		}
	}
}
