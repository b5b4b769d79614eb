package signaling

import (
	"net/netip"
	"sync"
	"time"

	"github.com/peersignal/peersignal/internal/signaling/ws"
)

// bucket is a token bucket with debt: it refuses while it has less than one
// token, and each refused take costs one too, down to -burst. It is not safe
// for concurrent use.
type bucket struct {
	rate, burst float64 // tokens a second, most tokens
	tokens      float64
	last        time.Time
}

func newBucket(n int, per time.Duration, now time.Time) bucket {
	return bucket{rate: float64(n) / per.Seconds(), burst: float64(n), tokens: float64(n), last: now}
}

// take takes a token. If there is none, wait is when there will be one, and
// exhausted says that the debt has reached the burst, too.
func (b *bucket) take(now time.Time) (ok bool, wait time.Duration, exhausted bool) {
	if d := now.Sub(b.last); d > 0 {
		b.tokens = min(b.burst, b.tokens+d.Seconds()*b.rate)
		b.last = now
	}
	if b.tokens >= 1 {
		b.tokens--
		return true, 0, false
	}
	b.tokens = max(-b.burst, b.tokens-1)
	return false, time.Duration((1 - b.tokens) / b.rate * float64(time.Second)), b.tokens <= -b.burst
}

// full reports whether the bucket says nothing that a new one would not.
func (b *bucket) full(now time.Time) bool {
	return b.tokens+now.Sub(b.last).Seconds()*b.rate >= b.burst
}

// notes limits the notifications of one session.
type notes struct {
	mu     sync.Mutex
	bucket *bucket // nil until there is one
}

func (n *notes) allow(perMinute int, now time.Time) (ok bool, wait time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.bucket == nil {
		b := newBucket(perMinute, time.Minute, now)
		n.bucket = &b
	}
	ok, wait, _ = n.bucket.take(now)
	return ok, wait
}

// gate counts connections, in all and per address.
type gate struct {
	limits Limits
	budget *ws.Budget

	mu       sync.Mutex
	pending  int
	sessions int
	byAddr   map[netip.Addr]*addrCount
}

type addrCount struct{ pending, sessions int }

// addrKey is what counts as one address: IPv6 networks are handed out as /64.
// Loopback gives the zero Addr, which is not limited: on it are the operator's
// own programs, or a proxy that was not declared.
func addrKey(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if !a.IsValid() || a.IsLoopback() {
		return netip.Addr{}
	}
	if a.Is6() {
		p, _ := a.Prefix(64)
		return p.Addr()
	}
	return a
}

// enter admits a connection that is not ready yet, or names the limit.
func (g *gate) enter(addr netip.Addr) (refusal string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.byAddr[addr]
	switch {
	case n != nil && g.limits.PendingPerAddress > 0 && n.pending >= g.limits.PendingPerAddress:
		return resultPerAddress
	case !g.budget.Take(connBytes):
		return resultMemory
	}
	if n == nil && addr.IsValid() {
		n = &addrCount{}
		g.byAddr[addr] = n
	}
	if n != nil {
		n.pending++
	}
	g.pending++
	return ""
}

// ready turns a pending connection into a session, or refuses. It may be one
// too many if it takes the place of old, whose own is free soon.
func (g *gate) ready(addr netip.Addr, old *conn) (ok, full bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	spare, near := 0, 0
	if old != nil {
		spare = 1
		if old.addrKey == addr {
			near = 1
		}
	}
	if g.sessions-spare >= g.limits.Sessions {
		return false, true
	}
	if n := g.byAddr[addr]; n != nil {
		if g.limits.SessionsPerAddress > 0 && n.sessions-near >= g.limits.SessionsPerAddress {
			return false, false
		}
		n.pending--
		n.sessions++
	}
	g.pending--
	g.sessions++
	return true, false
}

// unready takes back ready.
func (g *gate) unready(addr netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := g.byAddr[addr]; n != nil {
		n.pending++
		n.sessions--
	}
	g.pending++
	g.sessions--
}

func (g *gate) leave(addr netip.Addr, wasReady bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.budget.Give(connBytes)
	n := g.byAddr[addr]
	if wasReady {
		g.sessions--
		if n != nil {
			n.sessions--
		}
	} else {
		g.pending--
		if n != nil {
			n.pending--
		}
	}
	if n != nil && *n == (addrCount{}) {
		delete(g.byAddr, addr)
	}
}

func (g *gate) counts() (pending, sessions int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.pending, g.sessions
}
