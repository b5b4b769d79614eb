package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const worldPackage = "github.com/peersignal/peersignal/test/sim/world"

type options struct {
	first, seeds uint64
	jobs         int
	shrink       time.Duration
	race         bool
	one          bool // stop at the first failure
}

// stuckAfter is how long one history and the search for a smaller one may take.
const stuckAfter = 3 * time.Minute

// build compiles the histories' test binary; overlay replaces source files.
func build(ctx context.Context, dir string, race bool, overlay map[string]string) (string, error) {
	binary := filepath.Join(dir, "world.test")
	args := []string{"test", "-c", "-o", binary}
	if race {
		args = append(args, "-race")
	}
	if len(overlay) > 0 {
		raw, err := json.Marshal(map[string]any{"Replace": overlay})
		if err != nil {
			return "", err
		}
		name := filepath.Join(dir, "overlay.json")
		if err := os.WriteFile(name, raw, 0o600); err != nil {
			return "", err
		}
		args = append(args, "-overlay", name)
	}
	out, err := exec.CommandContext(ctx, "go", append(args, worldPackage)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building the simulator: %w\n%s", err, out)
	}
	return binary, nil
}

// A summary is what workers found.
type summary struct {
	mu     sync.Mutex
	ended  int
	failed []uint64
	digest uint64 // of the traces of all histories: two runs of the same seeds agree
	counts map[string]int
	time   time.Duration // virtual
}

// play runs the workers; worker i has the seeds first + i, first + i + jobs, and so on.
func play(ctx context.Context, binary string, o options, out io.Writer) *summary {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sum := &summary{counts: map[string]int{}}
	var wg sync.WaitGroup
	for i := range o.jobs {
		wg.Go(func() {
			w := worker{binary: binary, o: o, sum: sum, out: out, stop: cancel}
			for seed := o.first + uint64(i); seed < o.first+o.seeds && ctx.Err() == nil; {
				seed = w.run(ctx, seed)
			}
		})
	}
	wg.Wait()
	slices.Sort(sum.failed)
	return sum
}

// A worker runs one process after the other; a new one is needed where a history ended it.
type worker struct {
	binary string
	o      options
	sum    *summary
	out    io.Writer
	stop   context.CancelFunc
}

// run plays from a seed on and returns the seed to go on with.
func (w *worker) run(ctx context.Context, seed uint64) uint64 {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	step := uint64(w.o.jobs)
	n := (w.o.first + w.o.seeds - seed + step - 1) / step
	cmd := exec.CommandContext(ctx, w.binary, "-test.run", "^TestSeeds$", "-test.timeout", "0",
		"-sim.first", fmt.Sprint(seed), "-sim.stride", fmt.Sprint(step), "-sim.count", fmt.Sprint(n), "-sim.shrink", w.o.shrink.String())
	pipe, err := cmd.StdoutPipe()
	if err == nil {
		cmd.Stderr = cmd.Stdout
		err = cmd.Start()
	}
	if err != nil {
		w.fail(seed, err.Error())
		return w.o.first + w.o.seeds
	}
	stuck := time.AfterFunc(stuckAfter, cancel)
	defer stuck.Stop()
	at, over := seed, false
	var text []string
	lines := bufio.NewScanner(pipe)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		line := lines.Text()
		what, ours := strings.CutPrefix(line, "sim: ")
		if !ours {
			text = append(text, line)
			continue
		}
		stuck.Reset(stuckAfter)
		over = w.heard(what, &at)
		if over {
			text = nil
		}
	}
	_ = cmd.Wait()
	if over && at+step >= w.o.first+w.o.seeds || ctx.Err() != nil && w.o.one {
		return w.o.first + w.o.seeds
	}
	if !over {
		w.fail(at, "the process ended or hung:\n"+strings.Join(text[max(0, len(text)-120):], "\n"))
	}
	return at + step
}

// heard takes a line about a history; it tells whether the history is over.
func (w *worker) heard(what string, seed *uint64) bool {
	var verb, rest string
	what, report, _ := strings.Cut(what, "\x01")
	if n, _ := fmt.Sscanf(what, "seed %d %s", seed, &verb); n != 2 {
		return false
	}
	_, rest, _ = strings.Cut(what, verb)
	switch verb {
	case "ends":
		w.sum.add(rest, w.out)
		return true
	case "fails":
		w.fail(*seed, strings.ReplaceAll(report, "\x01", "\n"))
		return true
	}
	return false
}

func (w *worker) fail(seed uint64, report string) {
	w.sum.mu.Lock()
	defer w.sum.mu.Unlock()
	w.sum.failed = append(w.sum.failed, seed)
	_, _ = fmt.Fprintf(w.out, "seed %d FAILED\n%s\n", seed, report)
	if w.o.one {
		w.stop()
	}
}

// add counts a history that went well.
func (s *summary) add(rest string, out io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended++
	for field := range strings.FieldsSeq(rest) {
		name, value, _ := strings.Cut(field, "=")
		switch name {
		case "trace":
			var trace uint64
			_, _ = fmt.Sscanf(value, "%x", &trace)
			s.digest += trace
		case "virtual":
			if d, err := time.ParseDuration(value); err == nil {
				s.time += d
			}
		default:
			n := 0
			_, _ = fmt.Sscan(value, &n)
			s.counts[name] += n
		}
	}
	if s.ended%500 == 0 {
		_, _ = fmt.Fprintf(out, "%d histories are clean\n", s.ended)
	}
}

func (s *summary) text(o options, took time.Duration) string {
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "seeds %d to %d: %d clean, %d failed, in %v; %v of virtual time; digest %016x\n",
		o.first, o.first+o.seeds-1, s.ended, len(s.failed), took.Round(time.Second), s.time.Round(time.Hour), s.digest)
	for _, name := range slices.Sorted(maps.Keys(s.counts)) {
		_, _ = fmt.Fprintf(&b, " %s %d", name, s.counts[name])
	}
	return b.String()
}
