package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/peersignal/peersignal/test/bench/proc"
)

var (
	size   = flag.Int64("size", 1<<30, "bytes of the file")
	rounds = flag.Int("rounds", 3, "how often each is measured; the table has the medians")
	folder = flag.String("dir", "", "where the files are written (default: the folder for temporary files)")
)

func main() {
	flag.Parse()
	var err error
	switch role := flag.Arg(0); role {
	case "":
		err = bench()
	case "peer", "bare":
		err = serveChild(role)
	default:
		err = fmt.Errorf("unknown argument %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-files:", err)
		os.Exit(1)
	}
}

// figures are what one round measured.
type figures struct {
	rate             float64 // bytes a second
	sender, receiver int64   // bytes of memory above idle, at the peak
	cpu              float64 // seconds of both processes
}

func bench() error {
	dir, err := os.MkdirTemp(*folder, "bench-files-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	url, stop, err := proc.StartServer()
	if err != nil {
		return err
	}
	defer stop()
	var ours, bare []figures
	for i := range *rounds {
		b, err := measureBare()
		if err != nil {
			return fmt.Errorf("bare data channel: %w", err)
		}
		o, err := measurePeers(url, filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			return fmt.Errorf("peers: %w", err)
		}
		fmt.Printf("round %d of %d: bare %.1f MB/s, peers %.1f MB/s, ratio %.2f\n", i+1, *rounds, b.rate/1e6, o.rate/1e6, o.rate/b.rate)
		bare, ours = append(bare, b), append(ours, o)
	}
	printTable(bare, ours)
	return nil
}

func printTable(bare, ours []figures) {
	median := func(all []figures, of func(figures) float64) float64 {
		var v []float64
		for _, f := range all {
			v = append(v, of(f))
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	fmt.Printf("\none file of %d MiB; medians of %d rounds\n\n%-34s%14s%14s%8s\n", *size>>20, len(bare), "", "bare channel", "peers", "ratio")
	for _, row := range []struct {
		name string
		of   func(figures) float64
	}{
		{"MB/s", func(f figures) float64 { return f.rate / 1e6 }},
		{"CPU s per GB, both sides", func(f figures) float64 { return f.cpu / float64(*size) * 1e9 }},
		{"MB above idle, sender", func(f figures) float64 { return float64(f.sender) / 1e6 }},
		{"MB above idle, receiver", func(f figures) float64 { return float64(f.receiver) / 1e6 }},
	} {
		b, o := median(bare, row.of), median(ours, row.of)
		fmt.Printf("%-34s%14.1f%14.1f%8.2f\n", row.name, b, o, o/b)
	}
}

// pair is two processes of one role.
type pair struct{ sender, receiver *child }

func startPair(role string) (pair, error) {
	sender, err := proc.Start[request, string](role)
	if err != nil {
		return pair{}, err
	}
	receiver, err := proc.Start[request, string](role)
	if err != nil {
		sender.Stop()
		return pair{}, err
	}
	return pair{sender, receiver}, nil
}

func (p pair) stop() {
	p.sender.Stop()
	p.receiver.Stop()
}

// measure runs transfer and watches both processes meanwhile. idle is their
// memory before they had anything to do.
func (p pair) measure(idle [2]int64, transfer func() error) (figures, error) {
	before := p.cpu()
	if err := errors.Join(p.sender.ResetPeak(), p.receiver.ResetPeak()); err != nil {
		return figures{}, err
	}
	begin := time.Now()
	if err := transfer(); err != nil {
		return figures{}, err
	}
	f := figures{rate: float64(*size) / time.Since(begin).Seconds(), cpu: p.cpu() - before}
	peaks, err := p.memory("VmHWM")
	f.sender, f.receiver = peaks[0]-idle[0], peaks[1]-idle[1]
	return f, err
}

func (p pair) cpu() float64 { return (p.sender.CPU() + p.receiver.CPU()).Seconds() }

// idle returns the memory of both processes when they have nothing to do.
func (p pair) idle() ([2]int64, error) {
	for _, c := range []*child{p.sender, p.receiver} {
		if _, err := c.Do(request{Op: "idle"}); err != nil {
			return [2]int64{}, err
		}
	}
	return p.memory("VmRSS")
}

func (p pair) memory(what string) (out [2]int64, err error) {
	var err1, err2 error
	out[0], err1 = p.sender.Memory(what)
	out[1], err2 = p.receiver.Memory(what)
	return out, errors.Join(err1, err2)
}

func measurePeers(url, dir string) (figures, error) {
	p, err := startPair("peer")
	if err != nil {
		return figures{}, err
	}
	defer p.stop()
	steps := []struct {
		at  *child
		req request
	}{
		{p.sender, request{Op: "open", Server: url, Dir: dir + "-a"}},
		{p.receiver, request{Op: "open", Server: url, Dir: dir + "-b"}},
		{p.sender, request{Op: "invite"}},
		{p.receiver, request{Op: "join"}},
	}
	var last string
	for _, s := range steps {
		s.req.Text = last
		if last, err = s.at.Do(s.req); err != nil {
			return figures{}, err
		}
	}
	idle, err := p.idle()
	if err != nil {
		return figures{}, err
	}
	added, err := p.sender.Do(request{Op: "add", Size: *size})
	if err != nil {
		return figures{}, err
	}
	if _, err := p.receiver.Do(request{Op: "await", Text: added}); err != nil {
		return figures{}, err
	}
	if _, err := p.idle(); err != nil { // what adding took is not what sending takes
		return figures{}, err
	}
	return p.measure(idle, func() error {
		_, err := p.receiver.Do(request{Op: "fetch", Text: added})
		return err
	})
}

func measureBare() (figures, error) {
	p, err := startPair("bare")
	if err != nil {
		return figures{}, err
	}
	defer p.stop()
	offer, err := p.sender.Do(request{Op: "offer"})
	if err != nil {
		return figures{}, err
	}
	answer, err := p.receiver.Do(request{Op: "answer", Text: offer})
	if err != nil {
		return figures{}, err
	}
	if _, err := p.sender.Do(request{Op: "connect", Text: answer}); err != nil {
		return figures{}, err
	}
	idle, err := p.idle()
	if err != nil {
		return figures{}, err
	}
	return p.measure(idle, func() error {
		sent := make(chan error, 1)
		go func() {
			_, err := p.sender.Do(request{Op: "send", Size: *size})
			sent <- err
		}()
		_, err := p.receiver.Do(request{Op: "receive", Size: *size})
		return errors.Join(err, <-sent)
	})
}
