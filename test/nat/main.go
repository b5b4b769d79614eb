//go:build linux

// Command nat is a laboratory for connections behind NAT: it builds networks out of Linux network namespaces, runs a real
// peersignal and two real daemons in them, and prints for each case how the two found each other and how they got over
// what then happened to the network. It exits 0 only if every case that it ran held, see docs/nat.md.
//
// It needs root and Linux; without them it says so and, unless -require is given, exits 0.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/peersignal/peersignal/test/harness"
	"github.com/peersignal/peersignal/test/nat/lab"
)

// most is how many cases run at the same time at most: each has up to eight namespaces and three programs.
const most = 4

type options struct {
	bin      string
	cases    string
	short    bool
	keep     bool
	require  bool
	parallel int
	tries    int
	limit    time.Duration
}

func main() {
	var o options
	list := flag.Bool("list", false, "print the cases and exit")
	flag.StringVar(&o.bin, "bin", "bin", "folder with peersignal and peerd")
	flag.StringVar(&o.cases, "case", "", "run these cases only, separated by commas")
	flag.BoolVar(&o.short, "short", false, "run the quick cases only, and demand no time")
	flag.BoolVar(&o.keep, "keep", false, "after a case wait, with its network and programs in place, until SIGINT")
	flag.BoolVar(&o.require, "require", false, "fail if this machine cannot run the laboratory")
	flag.IntVar(&o.parallel, "parallel", 2, "cases at the same time, 1 to 4")
	flag.IntVar(&o.tries, "tries", 1, "how often a case is tried at most; what failed before is printed")
	flag.DurationVar(&o.limit, "limit", 20*time.Minute, "give up after this time")
	flag.Parse()
	if *list {
		for _, s := range scenarios() {
			fmt.Printf("%-18s %s\n", s.name, s.about)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "nat:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	chosen, err := choose(scenarios(), o)
	if err != nil {
		return err
	}
	if missing := lab.Missing(); len(missing) > 0 {
		text := "this machine cannot run the laboratory; it needs " + strings.Join(missing, "; ")
		if o.require {
			return errors.New(text)
		}
		fmt.Println("skipped:", text)
		return nil
	}
	bin, err := harness.Find(o.bin)
	if err != nil {
		return err
	}
	swept, err := lab.Sweep(ctx)
	if len(swept) > 0 {
		fmt.Printf("deleted %d namespaces that an earlier run left behind\n", len(swept))
	}
	if err != nil {
		return fmt.Errorf("deleting what an earlier run left behind: %w", err)
	}
	limited, cancel := context.WithTimeout(ctx, o.limit)
	defer cancel()
	results := runAll(limited, chosen, bin, o)
	fmt.Println()
	printTable(os.Stdout, results)
	for _, r := range results {
		if r.err != nil {
			return errors.New("not every case held")
		}
	}
	return ctx.Err()
}

func choose(all []scenario, o options) ([]scenario, error) {
	var chosen []scenario
	if o.cases == "" {
		for _, s := range all {
			if s.short || !o.short {
				chosen = append(chosen, s)
			}
		}
		return chosen, nil
	}
	for name := range strings.SplitSeq(o.cases, ",") {
		found := false
		for _, s := range all {
			if s.name == strings.TrimSpace(name) {
				chosen, found = append(chosen, s), true
			}
		}
		if !found {
			return nil, fmt.Errorf("there is no case %q: see -list", name)
		}
	}
	return chosen, nil
}

// runAll runs the cases, several at a time, and returns their results in order.
func runAll(ctx context.Context, chosen []scenario, bin harness.Binaries, o options) []result {
	results := make([]result, len(chosen))
	slots := make(chan struct{}, min(max(o.parallel, 1), most))
	if o.keep {
		slots = make(chan struct{}, 1)
	}
	var wg sync.WaitGroup
	for i, s := range chosen {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			for try := 1; ; try++ {
				results[i] = runCase(ctx, s, bin, o)
				fmt.Println(results[i].line())
				if results[i].err == nil || try >= o.tries || ctx.Err() != nil {
					return
				}
				fmt.Printf("again   %s\n", s.name)
			}
		})
	}
	wg.Wait()
	return results
}
