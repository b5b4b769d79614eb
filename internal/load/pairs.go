package load

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// patience is how long an exchange may take before it is given up and counted.
const patience = 10 * time.Second

// pairs exchange offers and answers: the even client offers, the odd one
// answers. In the closed loop an answer makes the next offer.
type pairs struct {
	run     *run
	playing atomic.Bool
}

func (p *pairs) open() bool { return p.run.cfg.Rate > 0 }

func (p *pairs) event(c *client, e *Event) {
	switch e.Kind {
	case Offer:
		p.arrived(c, e)
		_ = c.signal(p.run.now(), e.Conn)
	case Answer:
		p.arrived(c, e)
		c.last.Store(p.run.now())
		if !p.open() && c.current.CompareAndSwap(e.Conn, 0) && p.playing.Load() {
			_ = c.signal(p.run.now(), 0)
		}
	case Result:
		if !c.result(e) && !p.open() {
			p.later(c, e.RetryAfter)
		}
	}
}

// arrived measures the way from the mate.
func (p *pairs) arrived(c *client, e *Event) {
	c.stats.arrived.Add(1)
	if at := c.mate.left[e.Conn%window].Load(); at != 0 {
		c.stats.received.add(time.Duration(p.run.now() - at))
	}
}

// later goes on with the loop of a pair of which a message was refused.
func (p *pairs) later(c *client, after time.Duration) {
	if c.n%2 == 1 {
		c = c.mate
	}
	c.last.Store(p.run.now() + int64(after))
	time.AfterFunc(max(after, 100*time.Millisecond), func() {
		if p.playing.Load() {
			c.last.Store(p.run.now())
			_ = c.signal(p.run.now(), 0)
		}
	})
}

func (p *pairs) play(ctx context.Context) error {
	p.playing.Store(true)
	defer p.playing.Store(false)
	if p.open() {
		p.pace(ctx)
		return nil
	}
	for i := 0; i < len(p.run.clients) && ctx.Err() == nil; i += 2 {
		c := p.run.clients[i]
		c.last.Store(p.run.now())
		_ = c.signal(p.run.now(), 0)
	}
	p.watch(ctx)
	return nil
}

// watch begins anew with pairs whose exchange does not end.
func (p *pairs) watch(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := p.run.now()
		for i := 0; i < len(p.run.clients); i += 2 {
			c := p.run.clients[i]
			both := c.sock.Load() != nil && c.mate.sock.Load() != nil
			if now-c.last.Load() < int64(patience) || !both {
				continue
			}
			c.stats.refuse(p.run, "timeout")
			c.last.Store(now)
			_ = c.signal(now, 0)
		}
	}
}

// pace sends at a rate, whatever arrives: half of the messages are the answers.
// An offer's time is when it should have been sent.
func (p *pairs) pace(ctx context.Context) {
	var wg sync.WaitGroup
	workers := min(runtime.GOMAXPROCS(0), len(p.run.clients)/2)
	for w := range workers {
		wg.Go(func() {
			next := 2 * w
			every(ctx, p.run.cfg.Rate/2/float64(workers), func(late time.Duration) {
				_ = p.run.clients[next].signal(p.run.now()-int64(late), 0)
				if next += 2 * workers; next >= len(p.run.clients) {
					next = 2 * w
				}
			})
		})
	}
	wg.Wait()
}

// every calls do at a rate until ctx ends, and tells how late it is.
func every(ctx context.Context, perSecond float64, do func(late time.Duration)) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	begin, done := time.Now(), 0
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for due := int(time.Since(begin).Seconds() * perSecond); done < due && ctx.Err() == nil; done++ {
			at := time.Duration(float64(done+1) / perSecond * float64(time.Second))
			do(max(0, time.Since(begin)-at))
		}
	}
}

// idle does nothing.
type idle struct{}

func (idle) event(*client, *Event) {}
func (idle) report(*Report)        {}

func (idle) play(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (*pairs) report(*Report) {}
