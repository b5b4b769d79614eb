package ws

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	lateShards = 8
	lateBytes  = 512 // most bytes of one connection's replies that may be late

	// After how many periods late frames are written by themselves, when few and
	// when many connections of a shard have some: under load it pays to wait.
	latePatience     = 2
	lateLoadPatience = 8
	// lateLoad is how many connections of a shard make a load.
	lateLoad = 32
)

// Late has frames written that nobody waits for: they go out with the next
// frame of their connection, which spares a system call and a packet, or after
// two periods by themselves, eight when hundreds of connections have some.
// Replies are late only when hundreds of connections had one in the period
// before. The zero Late cannot be used.
type Late struct {
	every  time.Duration
	next   atomic.Uint32
	shards [lateShards]lateShard
}

// lateShard has connections with late frames; some may have none any more. Its
// lock comes after a connection's.
type lateShard struct {
	period   atomic.Uint32
	repliers atomic.Uint32 // connections that had replies in this period
	busy     atomic.Bool   // they were many in the last one

	mu     sync.Mutex
	conns  []*Conn
	armed  bool // a tick will come
	rushed bool // a sweep will come
}

// NewLate makes a Late of this period.
func NewLate(every time.Duration) *Late { return &Late{every: every} }

// note has c looked at, soon or in time, before something is added that may be
// late. c.mu is held.
func (l *Late) note(c *Conn, soon bool) {
	sh := &l.shards[c.lateShard]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if !c.waitsLocked() {
		c.lateSince = sh.period.Load()
	}
	if !c.lateNoted {
		c.lateNoted = true
		sh.conns = append(sh.conns, c)
	}
	if soon {
		c.lateSoon = true
		if !sh.rushed {
			sh.rushed = true
			go l.sweep(sh)
		}
	}
	l.armLocked(sh)
}

func (l *Late) armLocked(sh *lateShard) {
	if !sh.armed {
		sh.armed = true
		time.AfterFunc(l.every, func() { l.tick(sh) })
	}
}

// replies counts a connection that has replies, and says whether they should be
// late. c.mu is held.
func (l *Late) replies(c *Conn) bool {
	sh := &l.shards[c.lateShard]
	if period := sh.period.Load() + 1; c.replied != period {
		c.replied = period
		if sh.repliers.Add(1) == 1 {
			sh.mu.Lock()
			l.armLocked(sh)
			sh.mu.Unlock()
		}
	}
	return sh.busy.Load()
}

// tick ends a period.
func (l *Late) tick(sh *lateShard) {
	sh.busy.Store(sh.repliers.Swap(0) >= lateLoad)
	sh.period.Add(1)
	l.sweep(sh)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.armed = false
	if len(sh.conns) > 0 || sh.busy.Load() || sh.repliers.Load() > 0 {
		l.armLocked(sh)
	}
}

// sweep writes what should be written now.
func (l *Late) sweep(sh *lateShard) {
	sh.mu.Lock()
	period, conns := sh.period.Load(), sh.conns
	sh.conns, sh.rushed = nil, false
	sh.mu.Unlock()
	kept, patience := conns[:0], uint32(latePatience)
	if len(conns) > lateLoad {
		patience = lateLoadPatience
	}
	now := time.Now().UnixMilli()
	for _, c := range conns {
		if c.lateTick(period, patience, now) {
			kept = append(kept, c)
		}
	}
	clear(conns[len(kept):])
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.conns = append(kept, sh.conns...)
}

// lateTick writes what has to be written soon or has been late for so many
// periods, and says whether to look again.
func (c *Conn) lateTick(period, patience uint32, now int64) (again bool) {
	c.mu.Lock()
	waits := c.waitsLocked() && c.end == nil && !c.dead
	if waits && !c.lateSoon && period-c.lateSince < patience {
		c.mu.Unlock()
		return true
	}
	c.lateNoted, c.lateSoon = false, false
	if !waits || c.flushing {
		c.mu.Unlock() // flush takes it, or nobody
		return false
	}
	c.toldAt = now
	if c.idleLocked() {
		_ = c.unlockAfterWrite(nil)
	} else {
		c.startLocked()
		c.mu.Unlock()
	}
	return false
}

// sendLate is sendWire for frames that may be late.
func (c *Conn) sendLate(frames []byte) {
	c.mu.Lock()
	if !c.mayBeLateLocked(len(frames)) {
		c.mu.Unlock()
		c.sendWire(frames)
		return
	}
	c.late = append(c.late, frames...)
	c.mu.Unlock()
}

// replyLate has one reply follow late, or says that it must not.
func (c *Conn) replyLate(payload []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.mayBeLateLocked(Headroom + len(payload)) {
		return false
	}
	c.late = appendFrame(c.late, opText, payload)
	return true
}

// mayBeLateLocked tells whether n bytes of replies may be late; if so, they
// will be looked after once they are in late.
func (c *Conn) mayBeLateLocked(n int) bool {
	if c.o.Late == nil || !c.o.Late.replies(c) || len(c.late)+n > lateBytes || c.end != nil || !c.idleLocked() {
		return false
	}
	c.o.Late.note(c, false)
	return true
}

// QueueSoon is QueueBelow for one of several messages that may follow one
// another quickly: it is written at once by another goroutine if the connection
// was not told anything in this way lately, and otherwise together with what
// follows, see Late. It makes no system call.
func (c *Conn) QueueSoon(message []byte, most int) bool {
	if c.o.Late == nil || c.raw == nil {
		return c.QueueBelow(message, most)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flushing || c.end != nil || c.dead || c.queued+len(message) > most || !c.o.Budget.Take(len(message)) {
		return c.queueBelowLocked(message, most)
	}
	period := c.o.Late.every.Milliseconds()
	now := time.Now().UnixMilli()
	soon := now-c.toldAt > lateLoadPatience*period
	if soon {
		c.toldAt = now
	}
	c.o.Late.note(c, soon)
	c.queue = append(c.queue, queued{message, false})
	c.queued += len(message)
	return true
}
