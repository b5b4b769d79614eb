package load

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// logins connect, authenticate and leave, each device as fast as it can.
type logins struct {
	run  *run
	done atomic.Uint64
	time time.Duration
}

func (*logins) event(*client, *Event) {}

func (l *logins) play(ctx context.Context) error {
	begin := time.Now()
	var wg sync.WaitGroup
	for _, c := range l.run.clients {
		wg.Go(func() {
			for failures := 0; ctx.Err() == nil; {
				err := l.login(ctx, c)
				if ctx.Err() != nil {
					return
				}
				if err == nil {
					failures = 0
					l.done.Add(1)
					c.stats.sent.Add(1)
					continue
				}
				l.run.fail(err)
				if !c.wait(ctx, err, failures) {
					return
				}
				failures++
			}
		})
	}
	wg.Wait()
	l.time = time.Since(begin)
	if l.done.Load() == 0 {
		return l.run.nobodyConnected()
	}
	return nil
}

// login is one whole session without topics.
func (l *logins) login(ctx context.Context, c *client) error {
	if err := l.run.limiter.Wait(ctx); err != nil {
		return fmt.Errorf("waiting to connect: %w", err)
	}
	s, err := c.connect(ctx, nil)
	if err != nil {
		return err
	}
	defer s.cut()
	return c.part(s)
}

// part says goodbye and waits until the server has closed.
func (c *client) part(s *socket) error {
	if !c.bye(s) {
		return nil
	}
	_ = s.nc.SetReadDeadline(time.Now().Add(partingTime))
	for {
		if _, err := s.next(); err != nil {
			return nil
		}
	}
}

func (l *logins) report(r *Report) {
	n := l.done.Load()
	r.Logins = &LoginReport{Done: n, PerSecond: float64(n) / l.time.Seconds()}
}

// storm cuts all connections at the same time, and measures how long it takes
// until all devices are back.
type storm struct {
	run     *run
	back    []float64 // seconds
	resumed uint64
}

func (*storm) event(*client, *Event) {}

func (s *storm) play(ctx context.Context) error {
	for range s.run.cfg.Count {
		resumed := s.run.total().resumed
		waiting := s.cutAll()
		begin := time.Now()
		if !s.await(ctx, waiting) {
			return nil
		}
		s.back = append(s.back, time.Since(begin).Seconds())
		s.resumed += s.run.total().resumed - resumed
	}
	return nil
}

// cutAll cuts every connection, and gives the sockets that it cut.
func (s *storm) cutAll() map[*client]*socket {
	cut := make(map[*client]*socket)
	for _, c := range s.run.clients {
		if sock := c.sock.Load(); sock != nil {
			c.cut.Store(true)
			cut[c] = sock
		}
	}
	for _, sock := range cut {
		sock.cut()
	}
	return cut
}

// await waits until each of the clients has another socket.
func (s *storm) await(ctx context.Context, cut map[*client]*socket) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for len(cut) > 0 {
		for c, old := range cut {
			if now := c.sock.Load(); now != nil && now != old {
				delete(cut, c)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return len(cut) == 0
		}
	}
	return true
}

func (s *storm) report(r *Report) {
	r.Storms = &StormReport{BackAfter: s.back, Resumed: s.resumed}
}
