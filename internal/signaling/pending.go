package signaling

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// evictAfter is how long a connection that is not authenticated is safe from
// one that is not from a more modest address.
const evictAfter = 500 * time.Millisecond

// evictTries is how many addresses with equally many connections are looked at.
const evictTries = 8

// pendings are the WebSockets of clients that are not authenticated yet. When
// there are too many, the address with the most of
// them loses its oldest one to a newcomer from an address with fewer; between
// equals, whoever has had its time does. So one address cannot keep others out,
// and many addresses can only as long as they come faster than evictAfter.
type pendings struct {
	now func() time.Time

	mu     sync.Mutex
	n      int
	byAddr map[netip.Addr]*crowd
	levels []*list.List // of *crowd by how many they are, each in order of arrival there
}

// crowd are the pending connections from one address, oldest first.
type crowd struct {
	addr    netip.Addr
	members list.List     // of *pending
	at      *list.Element // in levels[members.Len()]
}

// pending is one of them.
type pending struct {
	since time.Time
	close func() // ends it; must not block
	busy  bool   // it cannot be ended now

	crowd *crowd        // nil when it is none any more
	at    *list.Element // in crowd.members
}

func newPendings() *pendings {
	return &pendings{now: time.Now, byAddr: make(map[netip.Addr]*crowd)}
}

// shareOf is what shares the room for pending connections: an IPv4 address or
// an IPv6 /64.
func shareOf(a netip.Addr) netip.Addr {
	if p := networkOf(a); p.IsValid() {
		return p.Addr()
	}
	return netip.Addr{}
}

// enter adds a connection, which is busy, or gives nil when there is no room
// for it among limit.
func (ps *pendings) enter(limit int, addr netip.Addr, end func()) *pending {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := &pending{since: ps.now(), close: end, busy: true}
	addr = shareOf(addr)
	if ps.n >= limit && !ps.evictLocked(addr) {
		return nil
	}
	ps.addLocked(p, addr)
	return p
}

func (ps *pendings) addLocked(p *pending, addr netip.Addr) {
	c := ps.byAddr[addr]
	if c == nil {
		c = &crowd{addr: addr}
		ps.byAddr[addr] = c
	}
	ps.n++
	p.crowd, p.at = c, c.members.PushBack(p)
	ps.placeLocked(c)
}

// placeLocked puts a crowd on the level of its size.
func (ps *pendings) placeLocked(c *crowd) {
	n := c.members.Len()
	for len(ps.levels) <= n {
		ps.levels = append(ps.levels, list.New())
	}
	for _, level := range []int{n - 1, n + 1} { // where it can have been
		if c.at != nil && level > 0 && level < len(ps.levels) {
			ps.levels[level].Remove(c.at) // does nothing when it is not there
		}
	}
	c.at = nil
	if n > 0 {
		c.at = ps.levels[n].PushBack(c)
		return
	}
	delete(ps.byAddr, c.addr)
}

// leave takes a connection out; it may have left already.
func (ps *pendings) leave(p *pending) {
	if p == nil {
		return
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.leaveLocked(p)
}

func (ps *pendings) leaveLocked(p *pending) {
	if p.crowd == nil {
		return
	}
	c := p.crowd
	c.members.Remove(p.at)
	p.crowd, p.at = nil, nil
	ps.n--
	ps.placeLocked(c)
}

// evictLocked makes room for a newcomer, or says that it has to wait.
func (ps *pendings) evictLocked(newcomer netip.Addr) bool {
	own := 1
	if c := ps.byAddr[newcomer]; c != nil {
		own += c.members.Len()
	}
	for most := len(ps.levels) - 1; most > 0; most-- {
		e := ps.levels[most].Front()
		for tries := 0; e != nil && tries < evictTries; tries, e = tries+1, e.Next() {
			p := e.Value.(*crowd).oldest()
			if p != nil && (most > own || ps.now().Sub(p.since) >= evictAfter) {
				ps.leaveLocked(p)
				p.close()
				return true
			}
		}
	}
	return false
}

// oldest is the oldest that can be ended, or nil.
func (c *crowd) oldest() *pending {
	for e := c.members.Front(); e != nil; e = e.Next() {
		if p := e.Value.(*pending); !p.busy {
			return p
		}
	}
	return nil
}

// setBusy keeps a connection from being evicted, e.g. while what it said is
// looked at.
func (ps *pendings) setBusy(p *pending, busy bool) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p.busy = busy
}
