package load

import (
	"context"
	"fmt"
	"time"
)

// newcomers connect and join the first group, a burst at a time, and stay. When
// all have come they leave one after the other.
type newcomers struct {
	run              *run
	joined           int
	joining, leaving float64 // processor time of the server, in seconds
	wholeList        histogram
}

func (*newcomers) event(c *client, e *Event) {
	if e.Kind == Presence {
		c.stats.arrived.Add(uint64(e.Join + e.Leave))
	}
}

func (n *newcomers) play(ctx context.Context) error {
	// The newcomers are behind those that are connected.
	coming := n.run.clients[n.run.cfg.Devices:]
	begin := n.run.server.sample()
	joined := make(chan error, len(coming))
	for len(coming) > 0 && ctx.Err() == nil {
		burst := coming[:min(len(coming), n.run.cfg.Burst)]
		coming = coming[len(burst):]
		for _, c := range burst {
			go func() { joined <- n.join(ctx, c) }()
		}
		for range burst {
			if err := <-joined; err != nil && ctx.Err() == nil {
				n.run.fail(err)
			} else if err == nil {
				n.joined++
			}
		}
	}
	if n.joined == 0 {
		return fmt.Errorf("no newcomer could join the group: %w", context.Cause(ctx))
	}
	n.run.server.settle(ctx)
	middle := n.run.server.sample()
	for _, c := range n.run.clients[n.run.cfg.Devices:] {
		if s := c.sock.Load(); s != nil {
			c.cut.Store(true)
			if !c.bye(s) {
				s.cut()
			}
		}
	}
	n.run.server.settle(ctx)
	n.joining, n.leaving = middle.cpu-begin.cpu, n.run.server.sample().cpu-middle.cpu
	return nil
}

// join connects, joins the group, and waits for the whole list of the others.
func (n *newcomers) join(ctx context.Context, c *client) error {
	s, err := c.connect(ctx, nil)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, s.cut)
	if err := n.await(c, s); err != nil {
		stop()
		s.cut()
		return err
	}
	n.run.readers.Go(func() {
		defer s.cut()
		defer stop()
		if err := c.serve(s); !c.cut.Load() && ctx.Err() == nil {
			n.run.fail(err)
		}
	})
	return nil
}

func (n *newcomers) await(c *client, s *socket) error {
	begin := time.Now()
	topic := n.run.clients[0].topics[:1]
	if err := s.finish(c.device.Topics(s.begin(), topicsID+c.nextID.Add(1), topic, nil)); err != nil {
		return err
	}
	for known := 0; known < n.run.cfg.GroupsOf; {
		e, err := c.read(s)
		switch {
		case err != nil:
			return fmt.Errorf("waiting for the group: %w", err)
		case e.Kind == Result && e.Code != "":
			return &refusal{e.Code, e.RetryAfter}
		case e.Kind == Presence:
			c.stats.arrived.Add(uint64(e.Join))
			known += e.Join - e.Leave
		}
	}
	n.wholeList.add(time.Since(begin))
	return nil
}

func (n *newcomers) report(r *Report) {
	r.Newcomers = &NewcomerReport{
		Joined: n.joined, Others: n.run.cfg.GroupsOf, AtOnce: n.run.cfg.Burst, WholeList: percentiles(&n.wholeList),
	}
	if r.Server != nil {
		each := 1000 / float64(n.joined)
		r.Newcomers.ServerCPU, r.Newcomers.LeavingCPU = n.joining*each, n.leaving*each
	}
}
