package link_test

import (
	"context"
	"sync"
	"testing"
	"time"
)

// far is a pair of devices with a long way between them: delay each way, and
// rate bytes a second, 0 for any.
func far(t *testing.T, delay time.Duration, rate int) *pair {
	t.Helper()
	p := newPair(t, never, nil)
	for _, n := range []*lab{p.an, p.bn} {
		n.mu.Lock()
		n.delay, n.rate = delay, rate
		n.mu.Unlock()
	}
	return p
}

// bulk sends on a stream of its own until ctx ends.
func bulk(ctx context.Context, t *testing.T, p *pair, wg *sync.WaitGroup) {
	t.Helper()
	s, err := p.ac.OpenStream(ctx, "bulk")
	if err != nil {
		t.Fatal(err)
	}
	wg.Go(func() {
		for msg := make([]byte, 64<<10); s.WriteMessage(ctx, msg) == nil; {
		}
	})
	r, err := p.bc.AcceptStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	wg.Go(func() {
		for {
			if _, err := r.ReadMessage(ctx); err != nil {
				return
			}
		}
	})
}

// One stream fills a long path: far more than the least window a round trip, if
// this machine can send that much at all.
func TestLongPath(t *testing.T) {
	const delay = 40 * time.Millisecond
	const least = float64(256<<10) * float64(time.Second) / float64(2*delay) // bytes a second with the least window
	near := best(t, far(t, 0, 0), func(float64) bool { return true })
	want := min(1.5*least, near/4)
	got := best(t, far(t, delay, 0), func(rate float64) bool { return rate > want })
	t.Logf("%.1f MB/s; %.1f without distance, %.1f with the least window", got/1e6, near/1e6, least/1e6)
}

// best is the best rate of a transfer, in bytes a second, until it is enough.
func best(t *testing.T, p *pair, enough func(rate float64) bool) (rate float64) {
	t.Helper()
	ctx, cancel := context.WithCancel(testContext(t))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	bulk(ctx, t, p, &wg)
	eventually(t, "a transfer that is fast enough", func() bool {
		before, began := p.bc.Stats().BytesIn, time.Now()
		time.Sleep(200 * time.Millisecond)
		rate = max(rate, float64(p.bc.Stats().BytesIn-before)/time.Since(began).Seconds())
		return enough(rate)
	})
	return rate
}

// A small message does not wait long behind a transfer that fills a narrow path.
func TestSmallMessageOnNarrowPath(t *testing.T) {
	const delay, rate = 25 * time.Millisecond, 4 << 20
	p := far(t, delay, rate)
	ctx, cancel := context.WithCancel(testContext(t))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	bulk(ctx, t, p, &wg)
	ask, err := p.ac.OpenStream(ctx, "small")
	if err != nil {
		t.Fatal(err)
	}
	answer, err := p.bc.AcceptStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	wg.Go(func() {
		for {
			msg, err := answer.ReadMessage(ctx)
			if err != nil || answer.WriteMessage(ctx, msg) != nil {
				return
			}
		}
	})
	eventually(t, "a full path", func() bool { return p.bc.Stats().BytesIn > 2*rate })
	before, began := p.bc.Stats().BytesIn, time.Now()
	const rounds = 10
	for range rounds {
		if err := ask.WriteMessage(ctx, []byte("?")); err != nil {
			t.Fatal(err)
		}
		if _, err := ask.ReadMessage(ctx); err != nil {
			t.Fatal(err)
		}
	}
	// What it waits for is what passes in the meantime: on a busy machine both take longer.
	passed, took := (p.bc.Stats().BytesIn-before)/rounds, time.Since(began)
	t.Logf("%v there and back, of which %v is distance; the transfer has %.1f of %.1f MB/s", took/rounds, 2*delay,
		float64(passed*rounds)/took.Seconds()/1e6, float64(rate)/1e6)
	if passed > rate {
		t.Errorf("%d bytes of the transfer pass while a small message goes there and back", passed)
	}
}
