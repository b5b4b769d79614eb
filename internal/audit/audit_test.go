package audit_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/peersignal/peersignal/internal/audit"
	"github.com/peersignal/peersignal/test/leak"
)

var update = flag.Bool("update", false, "rewrite the golden file")

func TestMain(m *testing.M) { leak.Main(m) }

// start runs a log until stop is called, which waits for its end.
func start(t *testing.T, cfg audit.Config) (log *audit.Log, stop func()) {
	t.Helper()
	log, err := audit.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- log.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return log, stop
}

// written is a log with n events.
func written(t *testing.T, n int) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "audit.jsonl")
	log, stop := start(t, audit.Config{Path: path, Queue: n + 1})
	for i := range n {
		log.Record(audit.Event{Time: time.UnixMilli(1_700_000_000_000), Kind: "registered", Session: fmt.Sprint("s", i)})
	}
	stop()
	return path
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// kinds are the kinds of all lines.
func kinds(t *testing.T, files ...string) (out []string) {
	t.Helper()
	err := audit.Read(func(l audit.Line) error {
		out = append(out, l.Kind)
		return nil
	}, files...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// The bytes of a log are specified in docs/operations.md and stay.
func TestGolden(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	now := time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.FixedZone("", 3600))
	log, stop := start(t, audit.Config{Path: path, Detail: "peersignal test", Now: func() time.Time { return now }})
	log.Record(audit.Event{
		Time: now, Kind: "registered", Session: "s1", Device: "d1", User: "u1", Address: "192.0.2.1:5000", Code: "ok",
		Detail: "text with <html>, \"quotes\",\nlines, \xff and \u2028",
	})
	log.Record(audit.Event{Time: now, Kind: "kicked", Detail: strings.Repeat("x", 600)})
	stop()
	const golden = "testdata/golden.jsonl"
	if *update {
		write(t, golden, read(t, path))
	}
	if got, want := read(t, path), read(t, golden); !bytes.Equal(got, want) {
		t.Errorf("the bytes have changed:\n%s", got)
	}
	r, err := audit.Verify(golden)
	if err != nil || r.First.Seq != 1 || r.Last.Seq != 4 || r.Torn {
		t.Errorf("got %+v, %v", r, err)
	}
}

// Whatever is done to the lines of a log is found, at the line where it begins
// to show.
func TestTampering(t *testing.T) {
	lines := strings.SplitAfter(strings.TrimSpace(string(read(t, written(t, 8))))+"\n", "\n")[:10]
	swap := func(l []string) []string { l[3], l[4] = l[4], l[3]; return l }
	for _, tt := range []struct {
		name string
		do   func([]string) []string
		line int
		want string
	}{
		{"altered", func(l []string) []string { l[4] = strings.Replace(l[4], `"s3"`, `"s9"`, 1); return l }, 5, "altered"},
		{"first altered", func(l []string) []string { l[0] = strings.Replace(l[0], "started", "stopped", 1); return l }, 1, "altered"},
		{"last altered", func(l []string) []string { l[9] = strings.Replace(l[9], "stopped", "started", 1); return l }, 10, "altered"},
		{"removed", func(l []string) []string { return slices.Delete(l, 3, 5) }, 4, "lines 4 to 5 are missing"},
		{"repeated", func(l []string) []string { return slices.Insert(l, 4, l[3]) }, 5, "line 4 stands where line 5 has to be"},
		{"reordered", swap, 4, "line 4 is missing"},
		{"no JSON", func(l []string) []string { l[2] = "\n"; return l }, 3, "not a line"},
		{"not ended", func(l []string) []string { l[2] = strings.TrimSpace(l[2]); return l }, 3, ""},
		{"endless", func(l []string) []string { l[2] = strings.Repeat("x", 1<<20); return l }, 3, "not a line"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "audit.jsonl")
			write(t, path, []byte(strings.Join(tt.do(slices.Clone(lines)), "")))
			_, err := audit.Verify(path)
			m, ok := errors.AsType[*audit.Mistake](err)
			if !ok || m.Line != tt.line || m.File != path || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want a mistake in line %d: %s", err, tt.line, tt.want)
			}
			if log, err := audit.Open(audit.Config{Path: path}); err == nil {
				_ = log.Close()
				t.Error("the server goes on with it")
			}
		})
	}
}

// A line with the right hash of its own and another past does not fit.
func TestReplacedLine(t *testing.T) {
	a, b := strings.SplitAfter(string(read(t, written(t, 3))), "\n"), strings.SplitAfter(string(read(t, written(t, 3))), "\n")
	other := filepath.Join(t.TempDir(), "audit.jsonl")
	log, stop := start(t, audit.Config{Path: other})
	log.Record(audit.Event{Kind: "other"})
	stop()
	a[1] = strings.SplitAfter(string(read(t, other)), "\n")[1]
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	write(t, path, []byte(strings.Join(a, "")+strings.Join(b[len(b):], "")))
	_, err := audit.Verify(path)
	if m, ok := errors.AsType[*audit.Mistake](err); !ok || m.Line > 3 || !strings.Contains(err.Error(), "replaced") {
		t.Errorf("got %v", err)
	}
}

// After a crash the chain goes on behind the last whole line, and says so.
func TestCrash(t *testing.T) {
	whole := read(t, written(t, 4))
	last := bytes.LastIndexByte(bytes.TrimSpace(whole), '\n') + 1
	for name, left := range map[string][]byte{
		"half a line":         whole[:len(whole)-30],
		"no line feed":        whole[:len(whole)-1],
		"one byte":            whole[:last+1],
		"zeros":               append(bytes.Clone(whole[:last]), make([]byte, 5000)...),
		"zeros in two lines":  append(append(bytes.Clone(whole[:last]), make([]byte, 50)...), "\n\x00\n"...),
		"nothing but a start": []byte(`{"seq":1,"ti`),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "audit.jsonl")
			write(t, path, left)
			_, stop := start(t, audit.Config{Path: path})
			stop()
			r, err := audit.Verify(path)
			if err != nil || r.First.Seq != 1 || r.Torn {
				t.Fatalf("got %+v, %v", r, err)
			}
			if k := kinds(t, path); !slices.Contains(k, audit.KindRecovered) {
				t.Errorf("no word of it: %v", k)
			}
		})
	}
}

// A log that is being written can be verified: its torn end is no mistake.
func TestVerifyWhileWritten(t *testing.T) {
	path := written(t, 3)
	b := read(t, path)
	write(t, path, b[:len(b)-7])
	if r, err := audit.Verify(path); err != nil || !r.Torn || r.Last.Seq != 4 {
		t.Errorf("got %+v, %v", r, err)
	}
}

// The chain goes on from file to file and over restarts.
func TestRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	for range 3 {
		fill(t, audit.Config{Path: path, Keep: -1})
	}
	files, err := audit.Files(path)
	if err != nil || len(files) < 6 {
		t.Fatalf("%v, %v", files, err)
	}
	shuffled := append(slices.Clone(files[2:]), files[0], files[1])
	r, err := audit.Verify(shuffled...)
	if err != nil || r.First.Seq != 1 || r.Last.Seq != 3006 || r.Files != len(files) {
		t.Errorf("got %+v, %v", r, err)
	}
	if _, err := audit.Verify(slices.Delete(slices.Clone(files), 2, 3)...); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("a file is missing: %v", err)
	}
	if r, err := audit.Verify(files[2:]...); err != nil || r.First.Seq < 2 {
		t.Errorf("old files were deleted: %+v, %v", r, err)
	}
}

// Old files go, also after a crash between the renaming and the next file.
func TestOldFilesGo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	fill(t, audit.Config{Path: path, Keep: 2})
	r, err := audit.Verify(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, fmt.Sprintf("%s.%012d", path, r.First.Seq)); err != nil {
		t.Fatal(err)
	}
	fill(t, audit.Config{Path: path, Keep: 2})
	files, err := audit.Files(path)
	if err != nil || len(files) != 3 {
		t.Errorf("kept %v, %v", files, err)
	}
	if r, err = audit.Verify(files...); err != nil || r.Last.Seq != 2004 {
		t.Errorf("got %+v, %v", r, err)
	}
}

// fill runs a log of small files for 1,000 events.
func fill(t *testing.T, cfg audit.Config) {
	t.Helper()
	cfg.MaxBytes, cfg.Queue = audit.MinMaxBytes, 1000
	log, stop := start(t, cfg)
	for range 1000 {
		log.Record(audit.Event{Time: time.Now(), Kind: "registered", Detail: strings.Repeat("x", 250)})
	}
	stop()
}

// What does not fit into the queue is counted and told of, exactly.
func TestOverflow(t *testing.T) {
	reg := prometheus.NewRegistry()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	log, err := audit.Open(audit.Config{Path: path, Queue: 3, Registerer: reg, Kinds: []string{"registered"}})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		log.Record(audit.Event{Kind: "registered"})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := log.Run(ctx); err != nil {
		t.Fatal(err)
	}
	want := []string{audit.KindStarted, audit.KindLost, "registered", "registered", "registered", audit.KindStopped}
	if got := kinds(t, path); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if b := read(t, path); !bytes.Contains(b, []byte("7 events were lost")) {
		t.Errorf("the wrong count: %s", b)
	}
	if n := value(t, reg, "peersignal_audit_lost_events_total", "queue_full"); n != 7 {
		t.Errorf("the metric says %v", n)
	}
	if n := value(t, reg, "peersignal_audit_events_total", "registered"); n != 3 {
		t.Errorf("the metric says %v", n)
	}
	seq, hash := log.Head()
	if r, _ := audit.Verify(path); r.Last.Seq != seq || r.Last.Hash != hash {
		t.Errorf("head %d %s, want %d %s", seq, hash, r.Last.Seq, r.Last.Hash)
	}
}

func value(t *testing.T, reg *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("no %s %s", name, label)
	return 0
}

func TestOneWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	log, err := audit.Open(audit.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if _, err := audit.Open(audit.Config{Path: path}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("got %v", err)
	}
}

func TestConfigMistakes(t *testing.T) {
	dir := t.TempDir()
	for _, cfg := range []audit.Config{
		{}, {Path: dir}, {Path: filepath.Join(dir, "no", "folder")}, {Path: filepath.Join(dir, "a"), MaxBytes: 100},
		{Path: filepath.Join(dir, "a"), Queue: -1},
	} {
		if log, err := audit.Open(cfg); err == nil {
			_ = log.Close()
			t.Errorf("%+v is accepted", cfg)
		}
	}
	if _, err := audit.Files(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// Whatever a file holds is read or refused, and what is written can be read.
func FuzzVerify(f *testing.F) {
	golden, err := os.ReadFile("testdata/golden.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden, "detail")
	f.Add([]byte(`{"seq":1,"prev":"","hash":""}`+"\n"), "\x00\xff")
	f.Fuzz(func(t *testing.T, content []byte, detail string) {
		path := filepath.Join(t.TempDir(), "audit.jsonl")
		write(t, path, content)
		_, verifyErr := audit.Verify(path)
		log, err := audit.Open(audit.Config{Path: path})
		if err != nil {
			if verifyErr == nil {
				t.Fatalf("verified, and not continued: %v", err)
			}
			return
		}
		log.Record(audit.Event{Kind: "k", Detail: detail})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := log.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := audit.Verify(path); err != nil {
			t.Fatalf("what was continued cannot be verified: %v", err)
		}
	})
}
