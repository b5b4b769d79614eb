package world

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

var (
	first   = flag.Uint64("sim.first", 1, "the first seed")
	count   = flag.Uint64("sim.count", 50, "how many seeds")
	stride  = flag.Uint64("sim.stride", 1, "the distance between seeds")
	shrink  = flag.Duration("sim.shrink", time.Minute, "how long to look for a smaller history when one fails")
	verbose = flag.Bool("sim.v", false, "write what happens")
)

// TestSameSeedSameHistory: everything that happens follows from the seed, but for the order of goroutines within one event,
// which a busy machine may turn: then the same history comes again a little later.
func TestSameSeedSameHistory(t *testing.T) {
	for _, seed := range []uint64{3, 5, 7, 16, WideFrom + 3} {
		p := NewPlan(seed)
		traces := map[uint64]int{}
		for again := false; !again && len(traces) < 5; {
			res := Run(t, p, nil)
			if res.Err != nil {
				t.Fatal(res.Err)
			}
			traces[res.Trace]++
			again = traces[res.Trace] > 1
		}
		if len(traces) > 1 {
			t.Logf("seed %d: traces %x", seed, traces)
		}
		if len(traces) == 5 {
			t.Errorf("seed %d is another history each time", seed)
		}
	}
}

// TestShrink: a failure is made again by few of the actions.
func TestShrink(t *testing.T) {
	for seed := uint64(1); ; seed++ {
		p := NewPlan(seed)
		p.Actions = append(p.Actions, Action{At: p.Span - 2, Kind: Tamper})
		res := Run(t, p, nil)
		if res.Err == nil && seed < 20 {
			continue // there was no document that could be spoilt
		}
		if res.Err == nil {
			t.Fatal("a document that is spoilt is not noticed")
		}
		small, why := Shrink(t, p, res, time.Minute)
		if why.Kind != res.Kind || len(small.Actions) > len(p.Actions)/2 {
			t.Errorf("%v\n%v", small, why.Err)
		}
		return
	}
}

// TestSeeds plays the histories of some seeds; the flags say which. It writes a line before and after each, for the program that runs many.
func TestSeeds(t *testing.T) {
	for i := range *count {
		playSeed(t, *first+i**stride)
	}
}

// TestWideSeeds plays a few wide histories.
func TestWideSeeds(t *testing.T) {
	for i := range uint64(4) {
		playSeed(t, WideFrom+1+i)
	}
}

func playSeed(t *testing.T, seed uint64) {
	t.Helper()
	var log io.Writer
	if *verbose {
		log = os.Stdout
	}
	p := NewPlan(seed)
	fmt.Printf("sim: seed %d begins\n", seed)
	res := Run(t, p, log)
	if res.Err == nil {
		fmt.Printf("sim: seed %d ends trace=%x virtual=%v %v\n", seed, res.Trace, res.Stats.Virtual, res.Stats)
		return
	}
	small, why := p, res
	if *shrink > 0 {
		small, why = Shrink(t, p, res, *shrink)
	}
	report := fmt.Sprintf("%v\nsmallest history found that fails like this: users of devices %v, malicious device %d, SQLite %v, %v\n%s\n%v\nplay it again: %s",
		res.Err, small.Devices, small.Evil, small.SQLite, small.Span, strings.Join(why.Story, "\n"), why.Err,
		fmt.Sprintf("go test ./test/sim/world -run TestSeeds -sim.first %d -sim.count 1 -sim.v", seed))
	t.Errorf("seed %d: %s", seed, report)
	fmt.Printf("sim: seed %d fails \x01%s\n", seed, strings.ReplaceAll(report, "\n", "\x01"))
	if *verbose {
		Run(t, small, os.Stdout)
	}
}
