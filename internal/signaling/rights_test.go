package signaling_test

import (
	"testing"

	"github.com/peersignal/peersignal/internal/signaling"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// TestRightsAreOfNow lets what allows a signal come and go between signals to
// the same device: each counts at once, however often it was allowed before.
func TestRightsAreOfNow(t *testing.T) {
	n := start(t, signaling.Config{Limits: signaling.Limits{OffersPerMinute: 1000, ConcurrentOffers: 1000}})
	u, d := newUser(t), newDevice(t)
	a, b := connect(t, n, u.device(t)), connect(t, n, d)
	drop := func(c *client) {
		t.Helper()
		if r := c.topics(nil, []peercrypto.Tag{tag(1)}); r.Code != wire.CodeOK {
			t.Fatal(r)
		}
	}
	offer := func(want wire.Code) {
		t.Helper()
		for range 2 {
			if r := a.offer(d.cert.DeviceID, tag(1)); r.Code != want {
				t.Fatalf("got %+v, want %s", r, want)
			}
			if want == wire.CodeDelivered {
				read[*wire.Signal](b)
			}
		}
	}
	both := func() {
		t.Helper()
		a.joined(tag(1), b)
		b.joined(tag(1), a)
	}
	a.hold(tag(1))
	b.hold(tag(1))
	both()
	offer(wire.CodeDelivered)
	drop(b)
	a.left(tag(1), b)
	offer(wire.CodeNotAllowed)
	b.hold(tag(1))
	both()
	offer(wire.CodeDelivered)
	drop(a)
	b.left(tag(1), a)
	offer(wire.CodeNotAllowed)
	a.hold(tag(1))
	both()
	offer(wire.CodeDelivered)

	// Another session of the device begins without topics, and is the one that
	// gets what follows.
	b = connect(t, n, d)
	a.left(tag(1), b)
	offer(wire.CodeNotAllowed)
	b.hold(tag(1))
	both()
	offer(wire.CodeDelivered)
	b.bye()
	a.left(tag(1), b)
	offer(wire.CodeNotAllowed)

	// What the tag allows, and what it does not, are not mixed up.
	mate := connect(t, n, u.device(t))
	for via, want := range map[peercrypto.Tag]wire.Code{{}: wire.CodeDelivered, tag(1): wire.CodeNotAllowed} {
		for range 2 {
			if r := a.offer(mate.id(), via); r.Code != want {
				t.Errorf("to the same user's device via %v: got %+v, want %s", via, r, want)
			}
		}
	}
}
