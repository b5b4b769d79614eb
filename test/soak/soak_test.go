//go:build linux

package soak

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestSoak compresses hours of traffic: everything that clients and operators do, all the time, with keep-alives and
// timeouts of seconds. After a first part, which fills the caches and pools, and again at the end everybody leaves, and
// the server has to be what it was: no gauge is left, and memory, goroutines and file descriptors are the same within
// the tolerances below. SOAK is how long it takes; 20 s when it is not set.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes its time")
	}
	duration := 20 * time.Second
	if text := os.Getenv("SOAK"); text != "" {
		var err error
		if duration, err = time.ParseDuration(text); err != nil {
			t.Fatalf("SOAK: %v", err)
		}
	}
	bin, err := build(t.Context(), t.TempDir(), []string{"CGO_ENABLED=0"}, "-trimpath")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), duration+5*time.Minute)
	defer cancel()
	s := startServer(t, bin)
	first := duration / 4
	s.busy(t, ctx, first)
	before := s.quiet(t, ctx, "before")
	s.busy(t, ctx, duration-first)
	after := s.quiet(t, ctx, "after")
	t.Logf("before: %v", before)
	t.Logf("after:  %v", after)
	after.compare(t, before)
	if err := s.Stop(30 * time.Second); err != nil {
		t.Errorf("it does not end as it should: %v", err)
	}
	if log := s.Log(); strings.Contains(log, "panic") {
		t.Errorf("the server's output:\n%.20000s", log)
	}
}

// busy makes all kinds of traffic at once.
func (s *server) busy(t *testing.T, ctx context.Context, d time.Duration) {
	t.Helper()
	// No deadline: a dial that it ends fails a moment before the context says so.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer time.AfterFunc(d, cancel).Stop()
	var wg sync.WaitGroup
	counts := make(map[string]*atomic.Int64)
	for name, do := range kinds {
		n := new(atomic.Int64)
		counts[name] = n
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := do(ctx, s); err != nil && ctx.Err() == nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				n.Add(1)
			}
		})
	}
	wg.Wait()
	if !s.Running() {
		t.Fatalf("the server ended:\n%.5000s", s.Log())
	}
	var done []string
	for name, n := range counts {
		done = append(done, fmt.Sprintf("%s %d", name, n.Load()))
	}
	slices.Sort(done)
	t.Logf("%s of %s", d, strings.Join(done, ", "))
}

// figures are what a server has when nobody is there.
type figures struct {
	heap, rss, goroutines, files float64
}

func (f figures) String() string {
	return fmt.Sprintf("%.2f MB of heap, %.1f MB resident, %.0f goroutines, %.0f files", f.heap/1e6, f.rss/1e6, f.goroutines, f.files)
}

// What may be more at the end. The heap is measured after a collection; it has caches that fill slowly, such as the topics
// that are remembered for minutes, for clients that come back, and credentials that were revoked until they expire. Resident memory is what the collector keeps for later, which depends on how
// busy the moments were.
const (
	moreHeap       = 3e6
	moreRSS        = 40e6
	moreGoroutines = 4
	moreFiles      = 2
)

func (f figures) compare(t *testing.T, before figures) {
	t.Helper()
	for _, c := range []struct {
		name                string
		before, after, more float64
	}{
		{"bytes of heap", before.heap, f.heap, moreHeap}, {"resident bytes", before.rss, f.rss, moreRSS},
		{"goroutines", before.goroutines, f.goroutines, moreGoroutines}, {"files", before.files, f.files, moreFiles},
	} {
		if c.after > c.before+c.more {
			t.Errorf("%.0f %s at the end, %.0f before: more than %.0f above", c.after, c.name, c.before, c.more)
		}
	}
}

// gauges are 0 when nobody is there.
var gauges = []string{
	"peersignal_signaling_sessions", "peersignal_signaling_parked", "peersignal_signaling_pending", "peersignal_signaling_topics",
	"peersignal_signaling_resume_bytes", "peersignal_signaling_memory_bytes", "peersignal_turn_allocations", "peersignal_turn_tcp_connections",
}

// quiet waits until the server has forgotten everybody, and measures it. With go test -artifacts a profile of the heap
// is kept.
func (s *server) quiet(t *testing.T, ctx context.Context, name string) figures {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		all, err := s.metrics(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var left []string
		for _, gauge := range gauges {
			for series, value := range all {
				if (series == gauge || strings.HasPrefix(series, gauge+"{")) && value != 0 {
					left = append(left, fmt.Sprintf("%s is %g", series, value))
				}
			}
		}
		if len(left) == 0 {
			break
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			dump, _ := s.page(context.WithoutCancel(ctx), true, "/debug/pprof/goroutine?debug=1")
			t.Fatalf("everybody has left, but %s\n%.10000s", strings.Join(left, ", "), dump)
		}
	}
	now := s.measure(t, ctx)
	profile, err := s.page(ctx, true, "/debug/pprof/heap?gc=1")
	if err == nil {
		err = os.WriteFile(filepath.Join(t.ArtifactDir(), name+".heap"), profile, 0o644)
	}
	if err != nil {
		t.Error(err)
	}
	return now
}

// measure takes the least of some looks: connections that have just been closed take their goroutines with them a
// moment later.
func (s *server) measure(t *testing.T, ctx context.Context) figures {
	t.Helper()
	var least figures
	for i := range 10 {
		if _, err := s.page(ctx, true, "/debug/pprof/heap?gc=1"); err != nil {
			t.Fatal(err)
		}
		all, err := s.metrics(ctx)
		if err != nil {
			t.Fatal(err)
		}
		now := figures{
			all["go_memstats_heap_alloc_bytes"], all["process_resident_memory_bytes"], all["go_goroutines"], all["process_open_fds"],
		}
		if i == 0 {
			least = now
		}
		least.heap, least.rss = min(least.heap, now.heap), min(least.rss, now.rss)
		least.goroutines, least.files = min(least.goroutines, now.goroutines), min(least.files, now.files)
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal(errors.Join(errors.New("measuring"), ctx.Err()))
		}
	}
	return least
}
