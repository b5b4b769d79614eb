package world

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
)

// A Result is how a history ended.
type Result struct {
	Err   error  // what was wrong; nil if nothing was
	Kind  string // of Err: equal for failures of one check
	Trace uint64 // hash over the events and what the devices hold in the end
	Stats Stats
	Story []string // what the actions did, for a reader
}

// Run plays a history. It must not run beside another one in the same process. Events are written to log, if it is not
// nil. A panic or a deadlock in an engine ends the process.
func Run(t *testing.T, p Plan, log io.Writer) (res Result) {
	t.Helper()
	dirs := &tempDirs{}
	if p.SQLite {
		root, err := os.MkdirTemp(memoryDir(), "peersignal-sim-")
		if err != nil {
			return Result{Err: fmt.Errorf("making a directory for the stores: %w", err)}
		}
		dirs.root = root
		defer os.RemoveAll(root) //nolint:errcheck // a temporary directory
	}
	t.Run(fmt.Sprintf("seed=%d", p.Seed), func(t *testing.T) {
		cryptotest.SetGlobalRandom(t, p.Seed)
		synctest.Test(t, func(t *testing.T) { res = play(t.Context(), p, log, dirs) })
	})
	return res
}

// memoryDir is a directory in memory, where SQLite's syncs cost nothing, or "".
func memoryDir() string {
	const shm = "/dev/shm"
	if info, err := os.Stat(shm); err == nil && info.IsDir() {
		return shm
	}
	return ""
}

func play(ctx context.Context, p Plan, log io.Writer, dirs *tempDirs) Result {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := newWorld(ctx, p, log, dirs)
	if err := w.populate(); err != nil {
		return Result{Err: fmt.Errorf("making the devices: %w", err)}
	}
	for _, a := range p.Actions {
		w.schedule(a.At, func() { w.act(a) })
	}
	w.schedule(meetEvery/2, w.meet)
	w.play(p.Span)
	if w.failure == nil {
		w.heal()
		w.settle()
	}
	if w.failure == nil && p.Wide {
		w.settleWide()
	}
	if w.failure == nil {
		w.judge()
	}
	if w.failure == nil && p.Wide {
		w.judgeWide()
	}
	if w.failure == nil {
		w.again()
	}
	if w.failure != nil && w.log != nil {
		w.noteLogs()
	}
	for _, d := range w.devices {
		d.shut()
	}
	w.stats.Virtual = w.now()
	return Result{Err: w.failure, Kind: w.kind, Trace: w.hash.Sum64(), Stats: w.stats, Story: w.story}
}
