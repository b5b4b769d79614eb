package load

import (
	"bytes"
	"context"
	"fmt"
	"time"
)

// groups are devices that hold a topic together. One after the other drops the
// topic of its group, or adds it again when it had dropped it; how long it takes
// until another member is told of a join is the way of a message.
type groups struct {
	run  *run
	byID map[string]*client
}

func (g *groups) event(c *client, e *Event) {
	switch e.Kind {
	case Result:
		c.result(e)
	case Presence:
		c.stats.arrived.Add(uint64(e.Join + e.Leave))
		if e.Whole || e.Join == 0 || e.Topic != c.topics[0] {
			return
		}
		g.joined(c, e.Message)
	}
}

// joined measures how long ago the devices asked to join that are announced.
func (g *groups) joined(c *client, message []byte) {
	const name = `"deviceId":"`
	now := g.run.now()
	for {
		i := bytes.Index(message, []byte(name))
		if i < 0 {
			return
		}
		message = message[i+len(name):]
		end := bytes.IndexByte(message, '"')
		if end < 0 {
			return
		}
		if who := g.byID[string(message[:end])]; who != nil {
			if at := who.joined.Load(); at != 0 {
				c.stats.received.add(time.Duration(now - at))
			}
		}
		message = message[end:]
	}
}

func (g *groups) play(ctx context.Context) error {
	away := make([]bool, len(g.run.clients))
	next := 0
	// A stride that goes from group to group.
	stride := g.run.cfg.GroupsOf
	every(ctx, g.run.cfg.Rate, func(time.Duration) {
		c := g.run.clients[next]
		topic := c.topics[:1]
		if away[next] {
			c.joined.Store(g.run.now())
			_ = c.setTopics(topic, nil)
		} else {
			c.joined.Store(0)
			_ = c.setTopics(nil, topic)
		}
		if away[next] = !away[next]; away[next] {
			return // it comes back next
		}
		if next += stride; next >= len(g.run.clients) {
			next = (next + 1) % stride
		}
	})
	return nil
}

func (*groups) report(*Report) {}

// newcomers are devices that connect and join the first group, one burst after
// the other, and leave again; the members are connected all the time.
type newcomers struct {
	run    *run
	joined int
	spent  time.Duration
	whole  histogram
}

func (*newcomers) event(c *client, e *Event) {
	if e.Kind == Presence {
		c.stats.arrived.Add(uint64(e.Join + e.Leave))
	}
}

func (n *newcomers) play(ctx context.Context) error {
	// The burst's devices are behind those that are connected.
	fresh := n.run.clients[n.run.cfg.Devices:]
	done := make(chan error, len(fresh))
	begin := time.Now()
	for n.joined < n.run.cfg.Count && ctx.Err() == nil {
		for _, c := range fresh {
			go func() { done <- n.join(ctx, c) }()
		}
		for range fresh {
			if err := <-done; err != nil && ctx.Err() == nil {
				n.run.fail(err)
			} else if err == nil {
				n.joined++
			}
		}
	}
	n.spent = time.Since(begin)
	if n.joined == 0 {
		return fmt.Errorf("no newcomer could join the group: %w", context.Cause(ctx))
	}
	return nil
}

// join connects, joins the group, waits for the whole list of the others, and
// leaves.
func (n *newcomers) join(ctx context.Context, c *client) error {
	s, err := c.connect(ctx, nil)
	if err != nil {
		return err
	}
	defer s.cut()
	stop := context.AfterFunc(ctx, s.cut)
	defer stop()
	begin := time.Now()
	topic := n.run.clients[0].topics[:1]
	if err := s.finish(c.device.Topics(s.begin(), topicsID+c.nextID.Add(1), topic, nil)); err != nil {
		return err
	}
	others := n.run.cfg.GroupsOf
	for known := 0; known < others; {
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
	n.whole.add(time.Since(begin))
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

func (n *newcomers) report(r *Report) {
	r.Newcomers = &NewcomerReport{
		Joined: n.joined, Others: n.run.cfg.GroupsOf, AtOnce: n.run.cfg.Burst, WholeList: percentiles(&n.whole),
	}
	if r.Server != nil {
		r.Newcomers.ServerCPU = r.Server.CPU / float64(n.joined) * 1000
	}
}
