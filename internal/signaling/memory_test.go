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
