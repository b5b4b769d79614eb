package signaling

import (
	"net/netip"
	"testing"
	"time"
)

func TestToil(t *testing.T) {
	var toil toil
	now, a := time.Now(), netip.MustParseAddr("192.0.2.1")
	toil.add(a, 2, 3*toilAtOnce, now) // one half more than there is
	if w := toil.wait(a, 2, now); w < 80*time.Second || w > 81*time.Second {
		t.Errorf("it waits %v", w)
	}
	if w := toil.wait(a, 2, now.Add(81*time.Second)); w != 0 {
		t.Errorf("it still waits %v", w)
	}
	for _, other := range []netip.Addr{netip.MustParseAddr("192.0.2.2"), {}} {
		if toil.wait(other, 2, now) > 0 {
			t.Errorf("%v waits, too", other)
		}
	}
	if toil.wait(a, -1, now) > 0 {
		t.Error("it waits without a limit")
	}
	// Addresses without end take no memory without end, and a few hardly make one forgotten.
	next := netip.MustParseAddr("10.0.0.0")
	for range 2 * maxToilers {
		toil.add(next, 2, 1, now)
		next = next.Next()
		if n := len(toil.young) + len(toil.old); n > maxToilers {
			t.Fatalf("%d addresses", n)
		}
		if n := len(toil.young) + len(toil.old); n < maxToilers/2 && toil.wait(a, 2, now) == 0 {
			t.Fatal("it was forgotten")
		}
	}
}
