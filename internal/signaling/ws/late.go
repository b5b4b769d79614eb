package ws

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	lateShards = 8
	lateBytes  = 512 // most bytes of one connection that may be late

	// After how many periods late frames are written by themselves, when few and
	// when many connections of a shard have some: under load it pays to wait.
	latePatience     = 2
	lateLoadPatience = 8
	lateLoad         = 32
)

// Late has frames written that nobody waits for: they go out with the next
// frame of their connection, which spares a system call and a packet, or after
// two periods by themselves, eight when hundreds of connections have some. The
// zero Late cannot be used.
type Late struct {
	every  time.Duration
	next   atomic.Uint32
	shards [lateShards]lateShard
}

// lateShard has connections with late frames; some may have none any more. Its
// lock comes after a connection's.
type lateShard struct {
	mu     sync.Mutex
	conns  []*Conn
	period uint32
	armed  bool
}

// NewLate makes a Late of this period.
func NewLate(every time.Duration) *Late { return &Late{every: every} }

// note has c looked at. c.mu is held.
func (l *Late) note(c *Conn) {
	sh := &l.shards[c.lateShard]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if len(c.late) == 0 {
		c.lateSince = sh.period
	}
	if c.lateNoted {
		return
	}
	c.lateNoted = true
	sh.conns = append(sh.conns, c)
	if !sh.armed {
		sh.armed = true
		time.AfterFunc(l.every, func() { l.tick(sh) })
	}
}

// tick ends a period: what is from before the last one is written.
func (l *Late) tick(sh *lateShard) {
	sh.mu.Lock()
	sh.period++
	period, conns := sh.period, sh.conns
	sh.conns = nil
	sh.mu.Unlock()
	kept, patience := conns[:0], uint32(latePatience)
	if len(conns) > lateLoad {
		patience = lateLoadPatience
	}
	for _, c := range conns {
		if c.lateTick(period, patience) {
			kept = append(kept, c)
		}
	}
	clear(conns[len(kept):])
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.conns = append(kept, sh.conns...)
	if sh.armed = len(sh.conns) > 0; sh.armed {
		time.AfterFunc(l.every, func() { l.tick(sh) })
	}
}

// lateTick writes what has been late for so many periods, and says whether to
// look again.
func (c *Conn) lateTick(period, patience uint32) (again bool) {
	c.mu.Lock()
	if len(c.late) > 0 && period-c.lateSince < patience && !c.dead {
		c.mu.Unlock()
		return true
	}
	c.lateNoted = false
	if len(c.late) == 0 || !c.idleLocked() || c.end != nil || c.dead {
		c.mu.Unlock() // flush takes it, or nobody
		return false
	}
	_ = c.unlockAfterWrite(nil)
	return false
}

// sendLate is sendWire for frames that may be late.
func (c *Conn) sendLate(frames []byte) {
	c.mu.Lock()
	if c.o.Late == nil || len(c.late)+len(frames) > lateBytes || c.end != nil || !c.idleLocked() {
		c.mu.Unlock()
		c.sendWire(frames)
		return
	}
	c.o.Late.note(c)
	c.late = append(c.late, frames...)
	c.mu.Unlock()
}
