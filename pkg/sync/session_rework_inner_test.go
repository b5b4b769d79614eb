package sync

import (
	"testing"
	"time"
)

// TestReworkIsSlowedDown: who has much that is stored read again gets a share of the writer, and who sends many entries at once does not notice.
func TestReworkIsSlowedDown(t *testing.T) {
	b, now := newReworkBudget(), time.UnixMilli(1_700_000_000_000)
	for range 100 {
		if d := b.delay(now, againFree*2_000, 2_000); d != 0 {
			t.Fatalf("a batch of 2,000 waits %v", d)
		}
	}
	if d := b.delay(now, againAtOnce+againFree, 1); d != 0 {
		t.Fatalf("the first ones wait %v", d)
	}
	if d := b.delay(now, 10_000+againFree, 1); d != 10_000*againEvery {
		t.Errorf("10,000 more wait %v", d)
	}
	if d := b.delay(now, 3*againAtOnce+againFree, 1); d != (3*againAtOnce+10_000)*againEvery {
		t.Errorf("more than fits at once waits %v", d)
	}
}

// Again tells tests how many stored entries were read again.
func (r IngestResult) Again() int { return r.again }
