package sync

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

const (
	// againFree is how many stored entries a received one may have read again, on average, at no cost.
	againFree = 64
	// againAtOnce and againEvery bound what more is read again for one session, under the writer's lock: about a second of it at once, and a fifth later.
	againAtOnce = 100_000
	againEvery  = 100 * time.Microsecond
)

// A reworkBudget slows a session down whose entries have much that is stored folded or judged again: those that are older than what is there, and
// those of members who were removed. The committer owns it.
type reworkBudget struct{ limiter *rate.Limiter }

func newReworkBudget() reworkBudget {
	return reworkBudget{rate.NewLimiter(rate.Every(againEvery), againAtOnce)}
}

// delay counts entries that were read again for received ones, and returns how long the session takes nothing more.
func (b reworkBudget) delay(now time.Time, again, received int) (wait time.Duration) {
	for n := again - againFree*received; n > 0; n -= againAtOnce {
		wait = b.limiter.ReserveN(now, min(n, againAtOnce)).DelayFrom(now)
	}
	return wait
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
