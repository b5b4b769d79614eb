package signaling_test

import (
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/peersignal/peersignal/internal/signaling"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// view is what a client knows of who holds its tags.
type view map[peercrypto.Tag]map[peercrypto.ID]bool

func (v view) apply(p *wire.Present) {
	if v[p.Tag] == nil || p.Full {
		v[p.Tag] = make(map[peercrypto.ID]bool)
	}
	for _, j := range p.Join {
		v[p.Tag][j.Cert.DeviceID] = true
	}
	for _, id := range p.Leave {
		delete(v[p.Tag], id)
	}
}

// TestPresenceConverges has devices change their tags, break their connections and
// come back at random, while an observer does so, too, and reads or does not. What
// it knows in the end is what holds.
func TestPresenceConverges(t *testing.T) {
	n := start(t, signaling.Config{Limits: signaling.Limits{MessagesPer10s: 1 << 20, OffersPerMinute: 1 << 20}})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	observed := []peercrypto.Tag{tag(1), tag(2), tag(3)}
	observer, known := attach(t, n, newDevice(t), nil), view{}
	observer.holdSome(observed, nil)
	var others []*client
	truth := view{}
	for range 5 {
		others = append(others, attach(t, n, newDevice(t), nil))
	}
	for range 150 {
		i := r.IntN(len(others))
		tg := observed[r.IntN(len(observed))]
		if truth[tg] == nil {
			truth[tg] = make(map[peercrypto.ID]bool)
		}
		switch c := others[i]; r.IntN(4) {
		case 0:
			c.holdSome([]peercrypto.Tag{tg}, nil)
			truth[tg][c.id()] = true
		case 1:
			c.holdSome(nil, []peercrypto.Tag{tg})
			delete(truth[tg], c.id())
		case 2:
			c.snap()
			others[i] = attach(t, n, c.device, c)
			if !others[i].ready.Resumed {
				t.Fatal(others[i].ready)
			}
		case 3:
			observer = wander(t, n, r, observer, known)
		}
	}
	until(t, "the same view", func() bool {
		observer.catchUp(known)
		for _, tg := range observed {
			if !maps.Equal(known[tg], truth[tg]) && len(known[tg])+len(truth[tg]) > 0 {
				return false
			}
		}
		return true
	})
}

// wander has the observer read, or break off and come back, now or after a while.
func wander(t *testing.T, n *node, r *rand.Rand, c *client, known view) *client {
	t.Helper()
	if r.IntN(2) == 0 {
		c.catchUp(known)
		return c
	}
	c.snap()
	if r.IntN(2) == 0 {
		parked(t, n, 1)
	}
	c = attach(t, n, c.device, c)
	if !c.ready.Resumed {
		t.Fatal(c.ready)
	}
	return c
}

// holdSome changes tags and does not mind presence that comes before the result.
func (c *client) holdSome(add, del []peercrypto.Tag) {
	c.t.Helper()
	c.nextID++
	c.send(&wire.Topics{ID: c.nextID, Add: add, Del: del})
	c.skipTo(c.nextID, view{})
}

// catchUp applies all presence until now.
func (c *client) catchUp(known view) {
	c.t.Helper()
	c.nextID++
	c.send(&wire.Topics{ID: c.nextID, Del: []peercrypto.Tag{tag(250)}})
	c.skipTo(c.nextID, known)
}

func (c *client) skipTo(id uint64, known view) {
	c.t.Helper()
	for {
		switch m := c.next().(type) {
		case *wire.Present:
			known.apply(m)
		case *wire.Result:
			if m.ID == id {
				return
			}
		default:
			c.t.Fatalf("got %T %+v (%v)", m, m, c.closed)
		}
	}
}

// TestLongListIsNoBacklog: the list of a large group, which is longer than the
// send queue, does not make its reader a slow one.
func TestLongListIsNoBacklog(t *testing.T) {
	const members = 250 // about 640 bytes each
	n := start(t, signaling.Config{Limits: signaling.Limits{SendQueueBytes: 2 * wire.MaxFrame}})
	var sender *client
	for range members {
		sender = connect(t, n, newDevice(t))
		sender.holdSome([]peercrypto.Tag{tag(1)}, nil)
	}
	for _, newcomer := range []*client{attach(t, n, newDevice(t), nil), connect(t, n, newDevice(t))} {
		newcomer.hold(tag(1))
		sender.nextID++
		sender.send(&wire.Signal{
			Kind: wire.KindOffer, ID: sender.nextID, To: newcomer.id(), Via: tag(1), Conn: newConnID(), Env: envelope(wire.KindOffer),
		})
		for signals, known := 0, (view{}); signals == 0 || len(known[tag(1)]) < members; {
			switch m := newcomer.next().(type) {
			case *wire.Present:
				known.apply(m)
			case *wire.Signal:
				signals++
			default:
				t.Fatalf("got %T %+v (%v)", m, m, newcomer.closed)
			}
		}
		sender.skipTo(sender.nextID, view{})
		newcomer.snap()
	}
}
