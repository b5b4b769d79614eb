package load

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// A histogram counts durations in buckets that are at most 1/128 wide, from 1 µs
// to about 3 days. Adding allocates nothing and takes no lock; many
// goroutines may do it at a time.
type histogram struct {
	counts [octaves << subBits]atomic.Uint32
	max    atomic.Int64 // ns
}

const (
	subBits = 7
	octaves = 32
)

// bucketOf gives the bucket of a number of microseconds: below 256 one each, from
// there 128 to an octave.
func bucketOf(us uint64) int {
	if us < 2<<subBits {
		return int(us)
	}
	shift := bits.Len64(us) - subBits - 1
	return min(shift<<subBits+int(us>>shift), octaves<<subBits-1)
}

// upperEdge is the longest duration of a bucket.
func upperEdge(bucket int) time.Duration {
	if bucket < 2<<subBits {
		return time.Duration(bucket) * time.Microsecond
	}
	shift := bucket>>subBits - 1
	low := uint64(bucket-shift<<subBits) << shift
	return time.Duration(low+1<<shift-1) * time.Microsecond
}

func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.counts[bucketOf(uint64(d/time.Microsecond))].Add(1)
	for {
		seen := h.max.Load()
		if int64(d) <= seen || h.max.CompareAndSwap(seen, int64(d)) {
			return
		}
	}
}

// reset forgets everything. What is added meanwhile may be forgotten, too.
func (h *histogram) reset() {
	for i := range h.counts {
		h.counts[i].Store(0)
	}
	h.max.Store(0)
}

// Percentiles sum up many durations, in milliseconds. A percentile is exact to
// 1 %.
type Percentiles struct {
	Count uint64  `json:"count"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p999"`
	Max   float64 `json:"max"`
}

// percentiles sums up several histograms of the same thing.
func percentiles(all ...*histogram) Percentiles {
	var counts [octaves << subBits]uint64
	var p Percentiles
	var longest time.Duration
	for _, h := range all {
		for i := range h.counts {
			n := uint64(h.counts[i].Load())
			counts[i] += n
			p.Count += n
		}
		longest = max(longest, time.Duration(h.max.Load()))
	}
	at := func(q float64) float64 {
		left := uint64(math.Ceil(q * float64(p.Count)))
		for i, n := range counts {
			if n >= left && left > 0 {
				return milliseconds(min(upperEdge(i), longest))
			}
			left -= n
		}
		return 0
	}
	p.P50, p.P90, p.P99, p.P999, p.Max = at(0.5), at(0.9), at(0.99), at(0.999), milliseconds(longest)
	return p
}

func milliseconds(d time.Duration) float64 {
	return math.Round(float64(d)/float64(time.Microsecond)) / 1000
}
