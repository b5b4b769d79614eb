package load

import (
	"bytes"
	"context"
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
