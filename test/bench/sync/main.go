package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/peersignal/peersignal/test/bench/proc"
)

var (
	changes = flag.Int("n", 100_000, "changes in the group")
	edits   = flag.Int("edits", 400, "single edits whose way is timed")
	rounds  = flag.Int("rounds", 1, "how often the cold sync is measured; the table has the medians")
	folder  = flag.String("dir", "", "where the stores are made (default: the folder for temporary files)")
	profile = flag.String("profile", "", "folder for CPU profiles of the cold sync (default: none)")
)

func main() {
	flag.Parse()
	var err error
	switch flag.NArg() {
	case 0:
		err = bench()
	case 2:
		err = serveChild(flag.Arg(0), flag.Arg(1))
	default:
		err = errors.New("unexpected arguments")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-sync:", err)
		os.Exit(1)
	}
}

// figures are what one round measured.
type figures struct {
	rate, verifies   float64 // per second
	verify           float64 // µs of processor time for each
	sender, receiver float64 // µs of processor time for each change
	peak, senderPeak float64 // MB
}

func bench() error {
	dir, err := os.MkdirTemp(*folder, "bench-sync-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	url, stop, err := proc.StartServer()
	if err != nil {
		return err
	}
	defer stop()
	var all []figures
	for i := range *rounds {
		b := &run{url: url, dir: filepath.Join(dir, strconv.Itoa(i)), last: i == *rounds-1}
		f, err := b.measure()
		if err != nil {
			return err
		}
		all = append(all, f)
	}
	printCold(all)
	return nil
}

// run is one round: a sender with all changes, and a receiver with none.
type run struct {
	url, dir         string
	last             bool // measure also what needs no repetition
	sender, receiver *child
}

func (b *run) measure() (f figures, err error) {
	if b.sender, err = startChild("sender", b.dir+"-a"); err != nil {
		return f, err
	}
	defer b.sender.Stop()
	if b.receiver, err = startChild("receiver", b.dir+"-b"); err != nil {
		return f, err
	}
	defer b.receiver.Stop()
	if err := b.prepare(); err != nil {
		return f, err
	}
	if f, err = b.cold(); err != nil || !b.last {
		return f, err
	}
	return f, errors.Join(b.live(), b.starts())
}

// prepare makes a group of two members, of whom the receiver is away while the sender writes.
func (b *run) prepare() error {
	var text string
	for _, s := range []struct {
		at  *child
		req request
	}{
		{b.sender, request{Op: "open", Server: b.url}},
		{b.receiver, request{Op: "open", Server: b.url}},
		{b.sender, request{Op: "invite"}},
		{b.receiver, request{Op: "join"}},
		{b.receiver, request{Op: "close"}},
		{b.sender, request{Op: "fill", N: *changes}},
	} {
		s.req.Text = text
		r, err := s.at.Do(s.req)
		if err != nil {
			return err
		}
		text = r.Text
	}
	if b.last {
		fmt.Printf("%d changes of %s bytes on average, each a new document\n", *changes, text)
	}
	return nil
}

// cold syncs everything to the receiver, between two measurements of bare signature checks.
func (b *run) cold() (f figures, err error) {
	before, cost := bareVerifies(2 * time.Second)
	cpu := [2]time.Duration{b.sender.CPU(), b.receiver.CPU()}
	if _, err := b.receiver.Do(request{Op: "open", Server: b.url}); err != nil {
		return f, err
	}
	if err := b.record(1); err != nil {
		return f, err
	}
	took, err := b.receiver.Do(request{Op: "take", N: *changes})
	if err := errors.Join(err, b.record(0)); err != nil {
		return f, err
	}
	perChange := func(c *child, before time.Duration) float64 {
		return (c.CPU() - before).Seconds() * 1e6 / float64(*changes)
	}
	f.sender, f.receiver = perChange(b.sender, cpu[0]), perChange(b.receiver, cpu[1])
	f.rate = float64(*changes) / took.Times[0]
	after, costAfter := bareVerifies(2 * time.Second)
	f.verifies, f.verify = (before+after)/2, (cost+costAfter)/2
	peaks := [2]int64{}
	var err1, err2 error
	peaks[0], err1 = b.sender.Memory("VmHWM")
	peaks[1], err2 = b.receiver.Memory("VmHWM")
	f.senderPeak, f.peak = float64(peaks[0])/1e6, float64(peaks[1])/1e6
	return f, errors.Join(err1, err2)
}

// record begins (1) or ends (0) profiles of both, if there are to be some.
func (b *run) record(n int) error {
	if *profile == "" {
		return nil
	}
	_, err := b.sender.Do(request{Op: "record", N: n})
	_, err2 := b.receiver.Do(request{Op: "record", N: n})
	return errors.Join(err, err2)
}

// live times single edits, beside bare commits.
func (b *run) live() error {
	if _, err := b.receiver.Do(request{Op: "watch"}); err != nil {
		return err
	}
	bare, err := b.sender.Do(request{Op: "bare", N: *edits})
	if err != nil {
		return err
	}
	puts, err := b.sender.Do(request{Op: "put", N: *edits})
	if err != nil {
		return err
	}
	marks, err := b.receiver.Do(request{Op: "marks", N: *edits})
	if err != nil {
		return err
	}
	fmt.Printf("\n%-46s%10s%10s\n", fmt.Sprintf("with %d changes in the group, ms", *changes), "p50", "p99")
	row := func(name string, times []float64) {
		fmt.Printf("%-46s%10.2f%10.2f\n", name, quantile(times, 0.5)*1e3, quantile(times, 0.99)*1e3)
	}
	row("bare SQLite commit, durable", bare.Times)
	row("local commit, durable", puts.Times)
	row("edit to event at the other device", marks.Times)
	fmt.Printf("%-46s%10.2f\n", "local commit : bare commit", quantile(puts.Times, 0.5)/quantile(bare.Times, 0.5))
	return nil
}

// starts times opening a device that has everything.
func (b *run) starts() error {
	var times []float64
	for range 3 {
		if _, err := b.receiver.Do(request{Op: "close"}); err != nil {
			return err
		}
		r, err := b.receiver.Do(request{Op: "open", Server: b.url})
		if err != nil {
			return err
		}
		times = append(times, r.Times...)
	}
	fmt.Printf("%-46s%10.2f\n", "start of a device", quantile(times, 0.5)*1e3)
	return nil
}

func quantile(times []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func printCold(all []figures) {
	median := func(of func(figures) float64) float64 {
		var v []float64
		for _, f := range all {
			v = append(v, of(f))
		}
		return quantile(v, 0.5)
	}
	fmt.Printf("\n%-46s%10s\n", fmt.Sprintf("cold sync, %d round(s)", len(all)), "")
	for _, row := range []struct {
		name, format string
		of           func(figures) float64
	}{
		{"changes/s, verified and durable", "%10.0f", func(f figures) float64 { return f.rate }},
		{"bare Ed25519 verifies/s, all cores", "%10.0f", func(f figures) float64 { return f.verifies }},
		{"ratio", "%10.2f", func(f figures) float64 { return f.rate / f.verifies }},
		{"processor time of one verify, µs", "%10.1f", func(f figures) float64 { return f.verify }},
		{"processor time of the sender, µs a change", "%10.1f", func(f figures) float64 { return f.sender }},
		{"processor time of the receiver, µs a change", "%10.1f", func(f figures) float64 { return f.receiver }},
		{"processor time: one verify / both sides", "%10.2f", func(f figures) float64 { return f.verify / (f.sender + f.receiver) }},
		{"peak memory of the sender, MB", "%10.0f", func(f figures) float64 { return f.senderPeak }},
		{"peak memory of the receiver, MB", "%10.0f", func(f figures) float64 { return f.peak }},
	} {
		fmt.Printf("%-46s"+row.format+"\n", row.name, median(row.of))
	}
}
