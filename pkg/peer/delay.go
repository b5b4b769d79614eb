package peer

import (
	"context"
	"math/rand/v2"
	"time"
)

// retryDelay is how long to wait before attempt number failures+1: nothing
// before the first, then uniformly random up to a bound that doubles from
// RetryMin to RetryMax, so that many devices do not dial in step.
func retryDelay(cfg Config, failures int) time.Duration {
	if failures == 0 {
		return 0
	}
	bound := cfg.RetryMin
	for i := 1; i < failures && bound < cfg.RetryMax; i++ {
		bound *= 2
	}
	return rand.N(min(bound, cfg.RetryMax) + 1)
}

// sleep waits and tells whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
