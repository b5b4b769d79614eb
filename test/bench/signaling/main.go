//go:build linux

package main

import (
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/peersignal/peersignal/internal/load"
)

var (
	repeats = flag.Int("repeats", 3, "how often each figure is measured; the table has the medians")
	short   = flag.Bool("short", false, "everything smaller and once, in less than a minute")
	only    = flag.String("only", "", "measure only this: idle, pairs, logins or newcomers")
	onlyOf  = flag.String("servers", "", "measure only servers whose names contain one of these words, separated by commas")
	bin     = flag.String("bin", "bin", "folder with peersignal")
	node    = flag.String("node", filepath.Join("test", "bench", "signaling", "node"), "folder with the Node servers")
)

const mostTime = 330 * time.Second

func main() {
	flag.Parse()
	if err := run(flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "bench-signaling:", err)
		os.Exit(1)
	}
}

func run(role string) error {
	switch role {
	case "gws":
		return serveBare(onGWS())
	case "coder":
		return serveBare(onCoder())
	case "load":
		return runLoad(flag.Arg(1))
	case "":
		return compare()
	default:
		return fmt.Errorf("unknown argument %q", role)
	}
}

// sizes is how much is measured.
type sizes struct {
	pairs, idle, group, newcomers int
	duration, warmup              time.Duration
}

func chosenSizes() sizes {
	if *short {
		return sizes{pairs: 200, idle: 500, group: 200, newcomers: 20, duration: time.Second, warmup: 200 * time.Millisecond}
	}
	return sizes{pairs: 2000, idle: 5000, group: 1000, newcomers: 50, duration: 4 * time.Second, warmup: time.Second}
}

func compare() error {
	if runtime.NumCPU() < 4 {
		return fmt.Errorf("%d processors: the server and the load need two each", runtime.NumCPU())
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	b := &bench{self: self, bin: *bin}
	var why string
	if b.node, why = nodeServers(*node); why != "" {
		fmt.Printf("the Node servers are left out: %s\n", why)
	}
	t := newTable()
	rounds := *repeats
	if *short {
		rounds = 1
	}
	begin := time.Now()
	for i := range rounds {
		if i > 0 && time.Since(begin)*time.Duration(i+1)/time.Duration(i) > mostTime {
			fmt.Println("there is no time for another round")
			break
		}
		for _, s := range b.servers() {
			if !chosen(s.name) {
				continue
			}
			fmt.Printf("round %d of %d: %s\n", i+1, rounds, s.name)
			if err := b.round(s, t, chosenSizes()); err != nil {
				return err
			}
		}
	}
	t.print(os.Stdout, chosenSizes())
	return nil
}

func chosen(name string) bool {
	return *onlyOf == "" || slices.ContainsFunc(strings.Split(*onlyOf, ","), func(w string) bool { return strings.Contains(name, w) })
}

// The figures.
const (
	messages  = "messages/s"
	cpu       = "CPU s per 100,000"
	median    = "p50 ms"
	tail      = "p99 ms"
	loadCPU   = "the load's own CPU s"
	memory    = "KB an idle session"
	logins    = "logins/s"
	loginCPU  = "CPU s per 100,000 logins"
	newcomer  = "CPU ms a newcomer"
	newcomers = "CPU ms a newcomer, in tens"
	leaver    = "CPU ms when it leaves"
)

// round measures everything once, each with a fresh process.
func (b *bench) round(s server, t *table, z sizes) error {
	for _, part := range []struct {
		name string
		cfg  load.Config
		take func(r *load.Report)
	}{
		{"idle", load.Config{Scenario: load.Idle, Devices: z.idle, Duration: 100 * time.Millisecond}, func(r *load.Report) {
			t.add(s.name, memory, r.Server.KBPerSession)
		}},
		{"pairs", load.Config{Scenario: load.Pairs, Devices: z.pairs, Duration: z.duration, Warmup: z.warmup}, func(r *load.Report) {
			t.add(s.name, messages, r.PerSecond)
			t.add(s.name, cpu, r.Server.CPUPer100k)
			t.add(s.name, median, r.Received.P50)
			t.add(s.name, tail, r.Received.P99)
			t.add(s.name, loadCPU, r.Load.CPUPer100k)
		}},
		{"logins", load.Config{Scenario: load.Auth, Devices: 32, Duration: z.duration}, func(r *load.Report) {
			t.add(s.name, logins, r.Logins.PerSecond)
			t.add(s.name, loginCPU, r.Server.CPUPer100k)
		}},
		{"newcomers", load.Config{Scenario: load.Newcomers, Devices: z.group, Count: z.newcomers, Duration: time.Minute}, func(r *load.Report) {
			t.add(s.name, newcomer, r.Newcomers.ServerCPU)
			t.add(s.name, leaver, r.Newcomers.LeavingCPU)
		}},
		{"newcomers", load.Config{Scenario: load.Newcomers, Devices: z.group, Count: 2 * z.newcomers, Burst: 10, Duration: time.Minute}, func(r *load.Report) {
			t.add(s.name, newcomers, r.Newcomers.ServerCPU)
		}},
	} {
		if *only != "" && *only != part.name {
			continue
		}
		p, err := s.start()
		if err != nil {
			return err
		}
		r, err := b.measure(s, p, part.cfg)
		p.stop()
		if err != nil {
			return err
		}
		part.take(r)
	}
	return nil
}

// table holds the figures of all rounds.
type table struct {
	names []string
	all   map[string]map[string][]float64 // server -> figure -> values
}

func newTable() *table { return &table{all: make(map[string]map[string][]float64)} }

func (t *table) add(server, figure string, value float64) {
	if t.all[server] == nil {
		t.all[server] = make(map[string][]float64)
		t.names = append(t.names, server)
	}
	t.all[server][figure] = append(t.all[server][figure], value)
}

func (t *table) median(server, figure string) float64 {
	v := slices.Clone(t.all[server][figure])
	if len(v) == 0 {
		return math.NaN()
	}
	slices.Sort(v)
	return v[len(v)/2]
}
