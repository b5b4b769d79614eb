package turn

import (
	"testing"
	"time"
)

// The limiter gives a burst, then the rate, and survives a clock that jumps.
func TestLimiter(t *testing.T) {
	const second = int64(time.Second)
	l := newLimiter(100_000)
	now := int64(1_000) * second
	if !l.allow(100_000, now) || l.allow(1, now) {
		t.Error("the burst is not one second")
	}
	if l.allow(60_000, now+second/2) || !l.allow(50_000, now+second/2) {
		t.Error("half a second later there is not half of it")
	}
	if !l.allow(100_000, now+10*second) || l.allow(1000, now+10*second) {
		t.Error("more than a burst gathered")
	}
	// An hour back: empty, but not for an hour.
	back := now - 3600*second
	if l.allow(50_000, back) || !l.allow(50_000, back+second) {
		t.Error("a clock that jumped back stops the session")
	}
}
