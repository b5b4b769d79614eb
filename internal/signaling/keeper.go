package signaling

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peersignal/peersignal/pkg/wire"
)

const (
	keeperShards  = 16
	keeperMostICE = 32 // sessions whose ICE servers are renewed at once
)

// keeper looks after all connections from one goroutine, which runs while
// there are any: it pings sessions, ends those that are silent and those that
// do not authenticate, and has ICE servers renewed. A timer for each would cost
// more memory than the rest of a silent connection.
type keeper struct {
	server *Server
	clock  atomic.Int64 // Unix ms, as of the last tick
	every  time.Duration
	ice    chan struct{} // capacity keeperMostICE
	idle   chan struct{} // capacity 1: the last connection has gone

	next    atomic.Uint32
	shards  [keeperShards]keeperShard
	mu      sync.Mutex
	n       int
	running bool
}

type keeperShard struct {
	mu    sync.Mutex
	conns map[*conn]struct{}
}

func newKeeper(s *Server) *keeper {
	l := &s.cfg.Limits
	k := &keeper{
		server: s, ice: make(chan struct{}, keeperMostICE), idle: make(chan struct{}, 1),
		every: min(l.PingInterval, l.PingTimeout-l.PingInterval, l.AuthTimeout) / 16,
	}
	k.every = min(max(k.every, time.Millisecond), 250*time.Millisecond)
	for i := range k.shards {
		k.shards[i].conns = make(map[*conn]struct{})
	}
	return k
}

// add begins to look after a connection.
func (k *keeper) add(c *conn) {
	k.mu.Lock()
	k.n++
	if !k.running {
		k.running = true
		k.clock.Store(time.Now().UnixMilli())
		k.server.wg.Go(k.run)
	}
	k.mu.Unlock()
	now, interval := k.clock.Load(), k.server.cfg.Limits.PingInterval.Milliseconds()
	c.begun = now
	c.seen.Store(now)
	c.nextPing = now + interval/2 + rand.Int64N(interval/2+1) // spreads the pings; no secret
	c.shard = uint8(k.next.Add(1) % keeperShards)
	sh := &k.shards[c.shard]
	sh.mu.Lock()
	sh.conns[c] = struct{}{}
	sh.mu.Unlock()
}

func (k *keeper) remove(c *conn) {
	sh := &k.shards[c.shard]
	sh.mu.Lock()
	delete(sh.conns, c)
	sh.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.n--; k.n == 0 {
		select {
		case k.idle <- struct{}{}:
		default:
		}
	}
}

func (k *keeper) run() {
	ticks := time.NewTicker(k.every)
	defer ticks.Stop()
	var due []*conn
	for {
		select {
		case <-ticks.C:
			due = k.tick(time.Now().UnixMilli(), due)
		case <-k.idle:
			k.mu.Lock()
			k.running = k.n > 0
			running := k.running
			k.mu.Unlock()
			if !running {
				return
			}
		}
	}
}

// tick does what is due, without holding locks while it does.
func (k *keeper) tick(now int64, due []*conn) []*conn {
	k.clock.Store(now)
	l := &k.server.cfg.Limits
	patience, auth := l.PingTimeout.Milliseconds(), l.AuthTimeout.Milliseconds()
	for i := range k.shards {
		sh := &k.shards[i]
		due = due[:0]
		sh.mu.Lock()
		for c := range sh.conns {
			c.transport.Probe()
			if now >= c.nextPing || now-c.seen.Load() > patience || now-c.begun > auth && c.member.Load() == nil {
				due = append(due, c)
			}
		}
		sh.mu.Unlock()
		for j, c := range due {
			k.care(c, now)
			due[j] = nil
		}
	}
	return due
}

// care does what is due for one connection.
func (k *keeper) care(c *conn, now int64) {
	s, l := k.server, &k.server.cfg.Limits
	m := c.member.Load()
	switch {
	case m == nil:
		if now-c.begun > l.AuthTimeout.Milliseconds() && !c.ending() {
			s.refuseAuth(c, nil, &wire.Refused{
				Code: wire.CodeAuthTimeout, Message: "no valid auth in time", RetryAfter: time.Second.Milliseconds(),
			})
		}
	case now-c.seen.Load() > l.PingTimeout.Milliseconds():
		c.shut(closing{code: wire.ClosePingTimeout, reason: wire.ClosePingTimeout.String()})
	case now >= c.nextPing:
		c.nextPing = now + l.PingInterval.Milliseconds()
		c.transport.Ping()
		k.renewICE(c, m)
	}
}

// renewICE sends new ICE servers to a session whose own expire soon. When too
// many need them at once, it gets its own with a later ping.
func (k *keeper) renewICE(c *conn, m *member) {
	if !m.iceDue(k.server.cfg.Now()) {
		return
	}
	select {
	case k.ice <- struct{}{}:
		k.server.wg.Go(func() {
			k.server.sendICE(c, m, 0)
			<-k.ice
		})
	default:
	}
}
