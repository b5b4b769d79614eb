// Command demo shows the whole way through the system with the real programs: a server with its own relay, two users with
// a daemon each, an invitation, a real data set, edits on both sides, and the same once more through the relay only.
// It exits 0 only if everything that it claims is true.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/peersignal/peersignal/test/harness"
)

func main() {
	bin := flag.String("bin", "bin", "folder with peersignal and peerd")
	keep := flag.Bool("keep", false, "leave the programs running and their folders in place")
	limit := flag.Duration("limit", 5*time.Minute, "give up after this time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	if err := run(ctx, *bin, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo failed:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, binDir string, keep bool) (err error) {
	bin, err := harness.Find(binDir)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "peersignal-demo-")
	if err != nil {
		return err
	}
	world, err := harness.NewWorld(dir, bin)
	if err != nil {
		return err
	}
	d := &demo{world: world, out: os.Stdout}
	defer func() {
		switch {
		case keep && err == nil:
			d.explainKept()
		case err != nil:
			world.Close()
			fmt.Fprintf(os.Stderr, "\nlogs are in %s\n", dir)
		default:
			world.Close()
			_ = os.RemoveAll(dir)
		}
	}()
	return d.play(ctx)
}
