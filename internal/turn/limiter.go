package turn

import "sync/atomic"

// minBurst is the least that a session may send at once, in bytes.
const minBurst = 64 << 10

// limiter bounds the bytes a second of a session, with a burst of one second.
// It is a token bucket kept as the one moment at which it would be full again
// (the generic cell rate algorithm), so that a packet costs one atomic
// operation, from whichever goroutine it comes.
type limiter struct {
	perSecond int64
	burst     int64 // nanoseconds until an empty bucket is full
	full      atomic.Int64
}

func newLimiter(bytesPerSecond int) *limiter {
	l := &limiter{perSecond: int64(bytesPerSecond)}
	l.burst = l.nanos(max(bytesPerSecond, minBurst))
	return l
}

// nanos is how long the rate takes for n bytes.
func (l *limiter) nanos(n int) int64 { return int64(float64(n) * 1e9 / float64(l.perSecond)) }

// allow takes n bytes, or nothing when they are not there. now is in
// nanoseconds; should it jump back, the bucket is empty at worst.
func (l *limiter) allow(n int, now int64) bool {
	cost := l.nanos(n)
	for {
		old := l.full.Load()
		if old > now+l.burst { // the clock jumped back
			l.full.CompareAndSwap(old, now+l.burst)
			continue
		}
		full := max(old, now) + cost
		if full > now+l.burst {
			return false
		}
		if l.full.CompareAndSwap(old, full) {
			return true
		}
	}
}
