package signaling

import (
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// TestOfferTargetsAreBounded: a session that offers to one device after the other costs only so much memory, and who has had its time makes room.
func TestOfferTargetsAreBounded(t *testing.T) {
	o := offers{perMinute: 20, concurrent: 4}
	now := time.Now()
	offer := func(to peercrypto.ID) bool {
		var last *offerPair
		ok, wait := o.allow(to, connID{1}, now, &last)
		if !ok && wait <= 0 {
			t.Error("it does not say how long to wait")
		}
		return ok
	}
	first := peercrypto.NewID(now)
	var pair *offerPair
	if ok, _ := o.allow(first, connID{1}, now, &pair); !ok {
		t.Fatal("the first offer was refused")
	}
	for range maxOfferTargets - 1 {
		if !offer(peercrypto.NewID(now)) {
			t.Fatal("refused too early")
		}
	}
	if offer(peercrypto.NewID(now)) || len(o.pairs) != maxOfferTargets {
		t.Errorf("one target too many, of %d", len(o.pairs))
	}
	if !offer(first) {
		t.Error("a known target is refused")
	}
	now = now.Add(2 * time.Minute)
	if !offer(peercrypto.NewID(now)) || len(o.pairs) != 1 {
		t.Errorf("%d targets are left", len(o.pairs))
	}
	// A connection that met the first one lately does not go on counting where nobody looks.
	for i := range o.concurrent {
		if ok, _ := o.allow(first, connID{byte(i + 1)}, now, &pair); !ok {
			t.Fatal("refused too early")
		}
	}
	var other *offerPair
	if ok, _ := o.allow(first, connID{99}, now, &other); ok {
		t.Error("two connections of one session count apart")
	}
}
