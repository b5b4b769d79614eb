package signaling_test

import (
	"context"
	"testing"
	"time"

	"github.com/peersignal/peersignal/internal/signaling"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// remembered has a session with one topic end so that only its memory is left.
func remembered(t testing.TB, l signaling.Limits) (*node, *client) {
	t.Helper()
	l.ResumeWindow = 50 * time.Millisecond
	n := start(t, signaling.Config{Limits: l})
	c := attach(t, n, newDevice(t), nil)
	c.hold(tag(1))
	c.snap()
	until(t, "the end of the session", func() bool { return n.Stats().Sessions == 0 })
	return n, c
}

// TestMemoryNeedsKeyAndToken: the topics of a session that is over are given back for its device's key and its token together, once.
func TestMemoryNeedsKeyAndToken(t *testing.T) {
	for name, tc := range map[string]struct {
		limits signaling.Limits
		as     func(t *testing.T, c *client) device // who comes
		topics int
	}{
		"both": {as: func(_ *testing.T, c *client) device { return c.device }, topics: 1},
		"the key without the token": {as: func(_ *testing.T, c *client) device {
			c.ready.Resume = peercrypto.NewNonce().String()
			return c.device
		}},
		"the token with another device": {as: func(t *testing.T, _ *client) device { return newDevice(t) }},
		"both, too late":                {limits: signaling.Limits{RememberTime: -1}, as: func(_ *testing.T, c *client) device { return c.device }},
		"both, when topics are full":    {limits: signaling.Limits{TopicsTotal: 1}, as: func(_ *testing.T, c *client) device { return c.device }},
	} {
		t.Run(name, func(t *testing.T) {
			n, c := remembered(t, tc.limits)
			if tc.limits.TopicsTotal == 1 {
				attach(t, n, newDevice(t), nil).hold(tag(2))
			}
			d := tc.as(t, c)
			again := attach(t, n, d, c)
			if again.ready.Resumed || again.ready.Topics != tc.topics {
				t.Fatalf("got %+v", again.ready)
			}
			again.bye()
			if d.cert.DeviceID != c.device.cert.DeviceID { // what a thief tried costs the owner nothing
				tc.topics = 1
			} else {
				tc.topics = 0 // it is used up
			}
			if c := attach(t, n, c.device, c); c.ready.Topics != tc.topics {
				t.Errorf("afterwards its device got %+v", c.ready)
			}
		})
	}
}

// TestMemoriesAreBounded: so many topics are remembered in all. The oldest make room, and only for what fits.
func TestMemoriesAreBounded(t *testing.T) {
	n := start(t, signaling.Config{Limits: signaling.Limits{ResumeWindow: 10 * time.Millisecond, RememberedTopics: 6}})
	all := tags(20)
	end := func(count int) *client {
		c := attach(t, n, newDevice(t), nil)
		c.hold(all[:count]...)
		c.snap()
		until(t, "the end of the session", func() bool { return n.Stats().Sessions == 0 })
		return c
	}
	first, second, third, large := end(2), end(2), end(3), end(7)
	for i, want := range []struct {
		c      *client
		topics int
	}{{first, 0}, {second, 2}, {third, 3}, {large, 0}} {
		c := attach(t, n, want.c.device, want.c)
		if c.ready.Topics != want.topics {
			t.Errorf("%d: got %+v, want %d topics", i, c.ready, want.topics)
		}
		c.bye()
	}
}

// TestMemoryWithinLimits: topics that have too many holders by now, or are too many for the limits of now, are not given back, in part or whole.
func TestMemoryWithinLimits(t *testing.T) {
	l := signaling.Limits{ResumeWindow: 10 * time.Millisecond, TopicMembers: 1}
	for name, meanwhile := range map[string]func(t *testing.T, n *node){
		"a holder too many": func(t *testing.T, n *node) { connect(t, n, newDevice(t)).hold(tag(2)) },
		"a topic too many": func(t *testing.T, n *node) {
			if err := n.Reload(signaling.Live{Limits: signaling.Limits{Topics: 1}}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t, signaling.Config{Limits: l})
			c := attach(t, n, newDevice(t), nil)
			c.hold(tag(1), tag(2))
			c.snap()
			until(t, "the end of the session", func() bool { return n.Stats().Sessions == 0 })
			meanwhile(t, n)
			if again := attach(t, n, c.device, c); again.ready.Topics != 0 {
				t.Errorf("got %+v", again.ready)
			}
		})
	}
}

// TestTokenIsBoundToCertificate: a session goes on only with the certificate that others were shown.
func TestTokenIsBoundToCertificate(t *testing.T) {
	other := newUser(t)
	for name, change := range map[string]func(c *peercrypto.DeviceCert) peercrypto.SigningKey{
		"renewed": nil,
		"another user's": func(c *peercrypto.DeviceCert) peercrypto.SigningKey {
			c.UserID, c.UserKey = other.id, other.user.Public()
			return other.user
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t, signaling.Config{})
			u := newUser(t)
			a, b := attach(t, n, u.device(t), nil), connect(t, n, newDevice(t))
			meet(t, a, b, tag(1))
			a.snap()
			parked(t, n, 1)
			key, next := u.user, a.device
			next.cert.Expires += 1000
			if change != nil {
				key = change(&next.cert)
			}
			var err error
			if next.cert, err = peercrypto.SignDeviceCert(key, next.cert); err != nil {
				t.Fatal(err)
			}
			again := attach(t, n, next, a)
			if again.ready.Resumed || again.ready.Session == a.ready.Session {
				t.Errorf("got %+v", again.ready)
			}
			b.left(tag(1), a)
		})
	}
}

// blockingSource blocks a device at the moment when it is let in: after it was looked up, before its session begins.
type blockingSource struct {
	n    *node
	t    *testing.T
	what signaling.Block
}

func (s *blockingSource) ICEServers(context.Context, signaling.ICERequest) ([]wire.ICEServer, time.Time, error) {
	if s.n == nil {
		return nil, time.Time{}, nil
	}
	if ended, err := s.n.Block(s.what); ended != 0 || err != nil {
		s.t.Errorf("the session has begun already: %d, %v", ended, err)
	}
	return nil, time.Time{}, nil
}

// TestBlockDuringLogin: a block that comes while a device logs in, and finds no session yet, holds all the same.
func TestBlockDuringLogin(t *testing.T) {
	source := &blockingSource{t: t}
	n := start(t, signaling.Config{ICE: source})
	d := newDevice(t)
	source.n, source.what = n, signaling.Block{Device: string(d.cert.DeviceID)}
	c, _ := tryAttach(t, n, d, nil)
	c.wantClose(wire.CloseKicked)
	until(t, "the end of the session", func() bool { return n.Stats().Sessions == 0 })
	_, m := tryAttach(t, n, d, nil)
	if r, ok := m.(*wire.Refused); !ok || r.Code != wire.CodeBlocked {
		t.Errorf("got %+v", m)
	}
}
