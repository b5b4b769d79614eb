package world

import (
	"slices"
	"testing"
	"time"
)

// Shrink looks for a smaller plan that fails in the same way as res, until nothing more can be left out or time (of the real
// clock) is up. What it returns was played and failed.
func Shrink(t *testing.T, p Plan, res Result, within time.Duration) (Plan, Result) {
	t.Helper()
	deadline := time.Now().Add(within)
	try := func(actions []Action) bool {
		q := p
		q.Actions = actions
		got := Run(t, q, nil)
		if got.Err == nil || got.Kind != res.Kind {
			return false
		}
		p, res = q, got
		return true
	}
	for size := (len(p.Actions) + 1) / 2; size > 0 && time.Now().Before(deadline); {
		smaller := false
		// From the end: what happens late is needed least.
		for end := len(p.Actions); end > 0 && time.Now().Before(deadline); end -= size {
			from := max(0, end-size)
			if end > len(p.Actions) {
				continue
			}
			smaller = try(slices.Delete(slices.Clone(p.Actions), from, end)) || smaller
		}
		if !smaller || size > 1 {
			size /= 2
		}
	}
	return p, res
}
