//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"time"
)

// What is measured, and how long.
var (
	repeats  = flag.Int("repeats", 3, "how often each figure is measured; the table has the medians")
	step     = flag.Duration("step", 500*time.Millisecond, "how long each rate is tried")
	burst    = flag.Int("burst", 4, "packets that a socket sends at once")
	cpuRate  = flag.Int("rate", 250_000, "packets a second at which processor time is measured")
	allocs   = flag.Int("allocations", 3200, "allocations for memory and allocations a second")
	only     = flag.String("only", "", "measure only this: rates, cpu or allocations")
	increase = flag.Int("increment", 50_000, "difference between two rates that are tried")
)

const (
	firstRate = 100_000
	lastRate  = 1_200_000
	maxLoss   = 0.01

	mostTime = 170 * time.Second
)

func main() {
	flag.Parse()
	if err := run(flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "bench-turn:", err)
		os.Exit(1)
	}
}

func run(role string) error {
	switch role {
	case "server":
		return runServer(os.Stdout)
	case "load":
		return runLoad(os.Stdin, os.Stdout)
	case "":
		return bench()
	default:
		return fmt.Errorf("unknown argument %q", role)
	}
}

// subject is one server under load, with its figures.
type subject struct {
	name         string
	server, load *process
	figures      map[string][]float64
}

func (s *subject) stop() {
	s.load.stop()
	s.server.stop()
}

func (s *subject) add(figure string, value float64) {
	s.figures[figure] = append(s.figures[figure], value)
}

func (s *subject) median(figure string) float64 {
	v := slices.Clone(s.figures[figure])
	if len(v) == 0 {
		return math.NaN()
	}
	slices.Sort(v)
	return v[len(v)/2]
}

func (s *subject) do(c command) (result, error) {
	if err := json.NewEncoder(s.load.in).Encode(c); err != nil {
		return result{}, fmt.Errorf("asking the load on %s: %w", s.name, err)
	}
	var r result
	line, err := s.load.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &r)
	}
	if err == nil && r.Error != "" {
		err = errors.New(r.Error)
	}
	if err != nil {
		return result{}, fmt.Errorf("loading %s: %w", s.name, err)
	}
	return r, nil
}

func start(name, self string, server *process, to target) (*subject, error) {
	load, err := launch(loadCPUs, self, "load")
	if err != nil {
		return nil, err
	}
	s := &subject{name: name, server: server, load: load, figures: make(map[string][]float64)}
	if err := json.NewEncoder(load.in).Encode(to); err != nil {
		return nil, fmt.Errorf("telling the load its target: %w", err)
	}
	return s, nil
}

// subjects starts our server, and coturn where there is one.
func subjects() ([]*subject, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	p, to, err := launchOurs(self)
	if err != nil {
		return nil, err
	}
	ours, err := start("peersignal", self, p, to)
	if err != nil {
		return nil, err
	}
	if _, err := exec.LookPath("turnserver"); err != nil {
		fmt.Println("coturn is not installed (Debian package coturn): measuring without a comparison")
		return []*subject{ours}, nil
	}
	p, to, err = launchCoturn()
	if err != nil {
		return nil, err
	}
	theirs, err := start("coturn", self, p, to)
	if err != nil {
		return nil, err
	}
	return []*subject{ours, theirs}, nil
}

func bench() error {
	if runtime.NumCPU() < 4 {
		return fmt.Errorf("%d processors: the servers and the load need two each", runtime.NumCPU())
	}
	all, err := subjects()
	if err != nil {
		return err
	}
	for _, s := range all {
		defer s.stop()
	}
	begin := time.Now()
	for i := range *repeats {
		if i > 0 && time.Since(begin)*time.Duration(i+1)/time.Duration(i) > mostTime {
			fmt.Println("there is no time for another round")
			break
		}
		fmt.Printf("round %d of %d\n", i+1, *repeats)
		for _, part := range []struct {
			name    string
			measure func(*subject) error
		}{
			{"rates", func(s *subject) error { return s.measureRates(1200) }},
			{"cpu", func(s *subject) error { return s.measureCPU(1200, *burst) }},
			{"cpu", func(s *subject) error { return s.measureCPU(1200, 1) }},
			{"rates", func(s *subject) error { return s.measureRates(160) }},
			{"cpu", func(s *subject) error { return s.measureCPU(160, *burst) }},
			{"allocations", func(s *subject) error { return s.measureAllocations(i) }},
		} {
			if *only != "" && *only != part.name {
				continue
			}
			for _, s := range all {
				if err := part.measure(s); err != nil {
					return err
				}
			}
		}
	}
	printTable(all)
	return nil
}

// measureRates raises the rate until three times in a row more than maxLoss is lost.
func (s *subject) measureRates(size int) error {
	best, failures := 0.0, 0
	for rate := firstRate; rate <= lastRate && failures < 3; rate += *increase {
		r, err := s.do(command{Rate: rate, Size: size, Burst: *burst, Duration: *step})
		if err != nil {
			return err
		}
		if loss := 1 - float64(r.Received)/float64(r.Sent); loss > maxLoss {
			failures++
			continue
		}
		failures = 0
		best = max(best, float64(r.Received)/r.Seconds)
	}
	s.add(rateOf(size), best)
	return nil
}

func rateOf(size int) string { return fmt.Sprintf("%d B: packets/s at <= 1 %% loss", size) }

func (s *subject) measureCPU(size, burst int) error {
	before, err := s.server.cpu()
	if err != nil {
		return err
	}
	r, err := s.do(command{Rate: *cpuRate, Size: size, Burst: burst, Duration: 2 * *step})
	if err != nil {
		return err
	}
	after, err := s.server.cpu()
	if err != nil {
		return err
	}
	s.add(cpuOf(size, burst), (after-before)/float64(r.Received)*1e6)
	s.add(lossOf(size, burst), 100*(1-float64(r.Received)/float64(r.Sent)))
	return nil
}

func cpuOf(size, burst int) string {
	return fmt.Sprintf("%d B, bursts of %d: CPU s a million packets", size, burst)
}

func lossOf(size, burst int) string {
	return fmt.Sprintf("%d B, bursts of %d: percent lost there", size, burst)
}

const (
	allocationRate   = "allocations/s"
	allocationCPU    = "CPU us an allocation"
	allocationMemory = "KB an allocation"
)

// measureAllocations counts memory in the first round only: later ones reuse it.
func (s *subject) measureAllocations(round int) error {
	before, err := s.server.memory()
	if err != nil {
		return err
	}
	started, err := s.server.cpu()
	if err != nil {
		return err
	}
	r, err := s.do(command{Allocate: *allocs})
	if err != nil {
		return err
	}
	ended, err := s.server.cpu()
	if err != nil {
		return err
	}
	after, err := s.server.memory()
	if err != nil {
		return err
	}
	s.add(allocationCPU, (ended-started)/float64(r.Sent)*1e6)
	s.add(allocationRate, float64(r.Sent)/r.Seconds)
	if round == 0 {
		s.add(allocationMemory, float64(after-before)/float64(r.Sent)/1000)
	}
	_, err = s.do(command{Release: true})
	return err
}

func printTable(all []*subject) {
	fmt.Printf("\n%d allocations, bursts of %d; processor time at %d packets/s\n\n%-45s", loadAllocations, *burst, *cpuRate, "")
	for _, s := range all {
		fmt.Printf("%14s", s.name)
	}
	if len(all) == 2 {
		fmt.Printf("%10s", "ratio")
	}
	fmt.Println()
	for _, figure := range []string{
		rateOf(1200), cpuOf(1200, *burst), lossOf(1200, *burst), cpuOf(1200, 1), lossOf(1200, 1), rateOf(160),
		cpuOf(160, *burst), lossOf(160, *burst), allocationRate, allocationCPU, allocationMemory,
	} {
		fmt.Printf("%-45s", figure)
		for _, s := range all {
			fmt.Printf("%14.6g", s.median(figure))
		}
		if len(all) == 2 {
			fmt.Printf("%10.2f", all[0].median(figure)/all[1].median(figure))
		}
		fmt.Println()
	}
}
