package peer

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestRetryDelay(t *testing.T) {
	cfg := Config{RetryMin: time.Second, RetryMax: time.Minute}
	if d := retryDelay(cfg, 0); d != 0 {
		t.Errorf("before the first attempt: %s", d)
	}
	for failures, bound := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 4: 8 * time.Second, 7: time.Minute, 1 << 30: time.Minute} {
		var most time.Duration
		for range 500 {
			most = max(most, retryDelay(cfg, failures))
		}
		if most > bound || most < bound/2 {
			t.Errorf("after %d failures up to %s, want up to %s", failures, most, bound)
		}
	}
}

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if !sleep(t.Context(), time.Hour) || time.Since(began) != time.Hour {
			t.Errorf("slept %s", time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if sleep(ctx, time.Hour) || time.Since(began) != time.Hour+time.Minute {
			t.Errorf("a cancelled sleep ended after %s", time.Since(began))
		}
	})
}

// TestSubscriptionLags: a reader that is too slow learns where the gap is, and
// nobody waits for it.
func TestSubscriptionLags(t *testing.T) {
	var h hub
	s := &subscription{queue: make(chan Event, 4)}
	h.add(s)
	for range 100 {
		h.publish(GroupChanged{})
	}
	for i := range 4 {
		ev := <-s.queue
		if _, lagged := ev.(Lagged); lagged != (i == 3) {
			t.Errorf("event %d is %T", i, ev)
		}
	}
	h.publish(ServerUp{})
	if ev := <-s.queue; ev != (ServerUp{}) {
		t.Errorf("after the gap: %T", ev)
	}
	h.remove(s)
	h.publish(ServerUp{})
	if len(s.queue) != 0 {
		t.Error("a removed subscription gets events")
	}
}
