// Command sim plays simulated histories (package world) in several processes and tells which seeds fail, each with the
// smallest history that was found to fail in the same way. With -bugs it puts bugs into the engine, one after the other,
// and expects each to be found. docs/simulation.md is its manual.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	o := options{}
	flag.Uint64Var(&o.first, "first", 1, "the first seed")
	flag.Uint64Var(&o.seeds, "seeds", 1_000, "how many seeds")
	flag.IntVar(&o.jobs, "jobs", runtime.GOMAXPROCS(0), "how many processes")
	flag.DurationVar(&o.shrink, "shrink", time.Minute, "how long to look for a smaller history of each failure")
	flag.BoolVar(&o.race, "race", false, "with the race detector, about ten times slower")
	hunting := flag.Bool("bugs", false, "put bugs in and expect them to be found")
	only := flag.String("only", "", "with -bugs: only the one with this name")
	flag.Parse()
	if flag.NArg() > 0 || o.seeds == 0 || o.jobs < 1 {
		return fmt.Errorf("usage: sim [-first n] [-seeds n] [-jobs n] [-shrink duration] [-race] [-bugs [-only name]]")
	}
	dir, err := os.MkdirTemp("", "peersignal-sim-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
	if *hunting {
		return hunt(ctx, dir, o, *only, os.Stdout)
	}
	binary, err := build(ctx, dir, o.race, nil)
	if err != nil {
		return err
	}
	began := time.Now()
	sum := play(ctx, binary, o, os.Stdout)
	fmt.Println(sum.text(o, time.Since(began)))
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted after %d histories", sum.ended+len(sum.failed))
	case len(sum.failed) > 0:
		return fmt.Errorf("%d of %d histories failed: seeds %v", len(sum.failed), o.seeds, sum.failed)
	}
	return nil
}
