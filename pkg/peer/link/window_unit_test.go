package link

import (
	"testing"
	"time"
)

// A window grows to what the path carries in a round trip and a little more, and
// follows it when it narrows.
func TestWindowFollowsThePath(t *testing.T) {
	type path struct {
		rtt  time.Duration
		rate float64 // bytes a second
		want int
	}
	w, now, buffered := newSendWindow(), time.Unix(1, 0), 0
	for _, p := range []path{
		{80 * time.Millisecond, 1e9, windowMax},
		{50 * time.Millisecond, 4 << 20, 4 << 20 * 150 / 1000},
		{50 * time.Millisecond, 100 << 10, windowMin},
		{200 * time.Millisecond, 1e9, windowMax},
	} {
		const step = 5 * time.Millisecond
		for range int(10 * time.Second / step) {
			now = now.Add(step)
			buffered -= int(min(p.rate*step.Seconds(), float64(buffered)*step.Seconds()/p.rtt.Seconds()))
			if more := w.limit - buffered; more > 0 { // the writer writes as soon as it may
				w.written += uint64(more)
				buffered += more
			}
			w.measure(now, buffered, p.rtt)
		}
		if w.limit < p.want*9/10 || w.limit > p.want*11/10 {
			t.Errorf("%v, %.0f bytes a second: the window is %d, want %d", p.rtt, p.rate, w.limit, p.want)
		}
	}
}
