package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/sqlite"
)

// A cost is what one side spends.
type cost struct {
	bytes, frames int
	cpu           time.Duration
}

// start counts CPU time of this thread until its result is called.
func (c *cost) start() func() {
	runtime.LockOSThread()
	before := threadTime()
	return func() {
		c.cpu += threadTime() - before
		runtime.UnlockOSThread()
	}
}

type result struct {
	a, b  cost
	trips int
	heap  uint64 // allocated by both sides, in bytes
}

func (r *result) watch() {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	r.heap = m.TotalAlloc
}

func (r *result) done() {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	r.heap = m.TotalAlloc - r.heap
}

func (r *result) row(name string) {
	fmt.Printf("| %s | %s | %s | %d | %d | %.1f | %.1f | %.1f |\n", name, size(r.a.bytes), size(r.b.bytes), r.trips, r.a.frames+r.b.frames,
		float64(r.a.cpu.Microseconds())/1000, float64(r.b.cpu.Microseconds())/1000, float64(r.heap)/(1<<20))
}

func size(n int) string {
	switch {
	case n < 10_000:
		return strconv.Itoa(n)
	case n < 10_000_000:
		return fmt.Sprintf("%.1f k", float64(n)/1000)
	}
	return fmt.Sprintf("%.1f M", float64(n)/1e6)
}

func main() {
	n := flag.Int("n", 1_000_000, "entries in each store")
	differences := flag.String("d", "0,1,10,1000,100000", "in how many places the stores differ; more than a quarter of n are left out")
	dir := flag.String("dir", filepath.Join(os.TempDir(), "peersignal-bench-recon"), "where the stores are kept for the next run")
	flag.Parse()
	if err := run(*n, *differences, *dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(n int, differences, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	all := refs(n)
	a, b, err := openPair(dir, all)
	if err != nil {
		return err
	}
	defer a.Close() //nolint:errcheck // the process ends
	defer b.Close() //nolint:errcheck // the process ends
	fmt.Printf("%d entries in each store. a asks. Round trips: until a knows all differences; what it says then\n"+
		"needs no answer. CPU in ms; MB: allocated by both sides during the exchange, loading of the sorted slice not counted.\n\n", n)
	fmt.Println("| differences | bytes of a | bytes of b | round trips | frames | CPU of a | CPU of b | MB |\n|---|---|---|---|---|---|---|---|")
	for _, text := range strings.Split(differences, ",") {
		d, err := strconv.Atoi(text)
		if err != nil {
			return err
		}
		if d > n/4 {
			continue
		}
		for _, where := range []string{"at random places", "in the newest day"} {
			from := 0
			if where != "at random places" {
				if from = n - max(n/(3*365), 2*d); d == 0 || from < 0 {
					continue
				}
			}
			if err := scenario(a, b, all, from, d, fmt.Sprintf("%d %s", d, where)); err != nil {
				return fmt.Errorf("%d %s: %w", d, where, err)
			}
		}
	}
	return nil
}

// maxLimited is the most differences for which negentropy is tried with short frames; 100,000 take it minutes.
const maxLimited = 1000

// scenario takes d entries of all[from:] out of one store or the other, compares, and puts them back.
func scenario(a, b *sqlite.Store, all []groupsync.Ref, from, d int, name string) (err error) {
	rng := rand.New(rand.NewPCG(3, uint64(d)))
	var out [2][]groupsync.Ref
	for i, at := range rng.Perm(len(all) - from)[:d] {
		out[i%2] = append(out[i%2], all[from+at])
	}
	stores := []*sqlite.Store{a, b}
	for i, store := range stores {
		if err := flip(store, out[i], false); err != nil {
			return err
		}
		defer func() {
			if err2 := flip(store, out[i], true); err == nil {
				err = err2
			}
		}()
	}
	var res, sum result
	runs := max(1, 50/max(d, 1)) // the clock of threads ticks slowly
	for i := range 1 + runs {
		if res, err = ours(a, b, d); err != nil {
			return err
		}
		if i > 0 { // the first run warms the disk's cache
			sum.a.cpu += res.a.cpu
			sum.b.cpu += res.b.cpu
		}
	}
	res.a.cpu, res.b.cpu = sum.a.cpu/time.Duration(runs), sum.b.cpu/time.Duration(runs)
	res.row(name + ", peersignal")
	for _, limit := range []int{0, 64 << 10} {
		if limit > 0 && d > maxLimited {
			continue
		}
		if res, err = theirs(a, b, limit, d); err != nil {
			return err
		}
		frames := ""
		if limit > 0 {
			frames = ", frames of 64 KB"
		}
		res.row(name + ", negentropy" + frames)
	}
	return nil
}
