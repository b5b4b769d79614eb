package signaling_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/peersignal/peersignal/internal/signaling"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// drain begins to drain and gives what says that it has ended.
func drain(t *testing.T, n *node, ctx context.Context, window time.Duration) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- n.Drain(ctx, window) }()
	until(t, "draining", n.Draining)
	return done
}

func TestGracefulDrain(t *testing.T) {
	n := start(t, signaling.Config{})
	a, b := pair(t, n)
	away := attach(t, n, newDevice(t), nil)
	away.hold(tag(5))
	b.hold(tag(5))
	b.joined(tag(5), away)
	pending := dial(t, n)
	away.snap()
	parked(t, n, 1)
	id := b.ask(wire.KindOffer, away.id(), tag(5))
	until(t, "the held offer", func() bool {
		s := n.Sessions(signaling.Selector{State: signaling.StateParked}, 0)
		return len(s) == 1 && s[0].Queued > 0
	})
	done := drain(t, n, t.Context(), time.Minute)

	// What waits for who cannot come back is answered; nobody comes in.
	b.left(tag(5), away)
	if r := b.result(id); r.Code != wire.CodeExpired {
		t.Errorf("got %+v", r)
	}
	if m := read[*wire.Refused](pending); m.Code != wire.CodeDraining {
		t.Errorf("got %+v", m)
	}
	pending.wantClose(wire.CloseDraining)
	if got := httpStatus(t, n, nil); got != http.StatusServiceUnavailable {
		t.Errorf("status %d", got)
	}
	for _, c := range []*client{a, b} {
		if m := read[*wire.Notice](c); m.Code != wire.CodeDraining || m.RetryAfter < 0 || m.RetryAfter >= 60_000 {
			t.Errorf("got %+v", m)
		}
	}
	// Who is there is served until it goes.
	for range 2 {
		if r := b.offer(a.id(), tag(1)); r.Code != wire.CodeDelivered {
			t.Error(r)
		}
	}
	// bye does not lose what was called delivered.
	a.send(&wire.Bye{})
	read[*wire.Signal](a)
	read[*wire.Signal](a)
	b.left(tag(1), a)
	select {
	case err := <-done:
		t.Fatalf("drained with a session: %v", err)
	default:
	}
	b.bye()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := n.Drain(t.Context(), 0); err != nil {
		t.Errorf("again: %v", err)
	}
}

// TestDrainDeadline: who does not go is sent what it has coming, and closed.
func TestDrainDeadline(t *testing.T) {
	for name, begin := range map[string]func(n *node) <-chan error{
		"window": func(n *node) <-chan error { return drain(t, n, t.Context(), 2*time.Second) },
		"context": func(n *node) <-chan error {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			t.Cleanup(cancel)
			return drain(t, n, ctx, time.Hour)
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t, signaling.Config{})
			a, b := pair(t, n)
			done := begin(n)
			if r := drainedOffer(b, a.id()); r.Code != wire.CodeDelivered {
				t.Fatal(r)
			}
			read[*wire.Notice](a)
			read[*wire.Signal](a)
			a.wantClose(wire.CloseDraining)
			b.wantClose(wire.CloseDraining)
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// drainedOffer sends an offer and skips the notice that comes before its result.
func drainedOffer(c *client, to peercrypto.ID) *wire.Result {
	c.t.Helper()
	id := c.ask(wire.KindOffer, to, tag(1))
	read[*wire.Notice](c)
	return c.result(id)
}

// TestDrainSpread looks at when sessions are told to come back.
func TestDrainSpread(t *testing.T) {
	const sessions, window = 200, 100 * time.Second
	n := start(t, signaling.Config{})
	var clients []*client
	for range sessions {
		clients = append(clients, attach(t, n, newDevice(t), nil))
	}
	drain(t, n, t.Context(), window)
	var tenth [10]int
	for _, c := range clients {
		m := read[*wire.Notice](c)
		i := m.RetryAfter * 10 / window.Milliseconds()
		if i < 0 || i > 9 {
			t.Fatalf("%d ms is not in the window", m.RetryAfter)
		}
		tenth[i]++
		c.snap()
	}
	for i, k := range tenth { // 20 each; 0 or 50 happens once in 10^8 runs
		if k == 0 || k > 50 {
			t.Errorf("%d of %d sessions in part %d of the window", k, sessions, i)
		}
	}
}
