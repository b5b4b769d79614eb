package exchange_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/peersignal/peersignal/pkg/sync/files"
	"github.com/peersignal/peersignal/pkg/sync/files/exchange"
	"github.com/peersignal/peersignal/test/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// pipe is one end of a stream in memory.
type pipe struct {
	in, out chan []byte
	once    sync.Once
	closed  chan struct{} // this end
	other   chan struct{}
	change  func([]byte) []byte // of what is written; nil drops the stream
}

func newPipe() (*pipe, *pipe) {
	a, b := make(chan []byte, 16), make(chan []byte, 16)
	x, y := make(chan struct{}), make(chan struct{})
	return &pipe{in: a, out: b, closed: x, other: y}, &pipe{in: b, out: a, closed: y, other: x}
}

func (p *pipe) ReadMessage(ctx context.Context) ([]byte, error) {
	select {
	case b := <-p.in:
		return b, nil
	default:
	}
	select {
	case b := <-p.in:
		return b, nil
	case <-p.other:
		return nil, io.EOF
	case <-p.closed:
		return nil, io.ErrClosedPipe
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipe) WriteMessage(ctx context.Context, b []byte) error {
	b = bytes.Clone(b)
	if p.change != nil {
		if b = p.change(b); b == nil {
			_ = p.Close()
			return io.ErrClosedPipe
		}
	}
	select {
	case p.out <- b:
		return nil
	case <-p.other:
		return io.ErrClosedPipe
	case <-p.closed:
		return io.ErrClosedPipe
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pipe) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func open(t testing.TB) *files.Store {
	t.Helper()
	s, err := files.Open(t.TempDir(), files.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func random(n int, seed byte) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func add(t testing.TB, s *files.Store, content []byte) files.Ref {
	t.Helper()
	ref, err := s.Add(context.Background(), bytes.NewReader(content), nil)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func all(files.Ref) bool { return true }

// giver is a device that serves a store.
type giver struct {
	t      testing.TB
	store  *files.Store
	server *exchange.Server
	allow  func(files.Ref) bool
	change func([]byte) []byte
	ended  chan error
}

func newGiver(t testing.TB, cfg exchange.ServerConfig) *giver {
	t.Helper()
	if cfg.Store == nil {
		cfg.Store = open(t)
	}
	return &giver{t: t, store: cfg.Store, server: exchange.NewServer(cfg), allow: all, ended: make(chan error, 16)}
}

// dial returns the fetcher's end of a stream that is served.
func (g *giver) dial(ctx context.Context, peer string) *pipe {
	a, b := newPipe()
	b.change = g.change
	go func() { g.ended <- g.server.Serve(ctx, peer, g.allow, b) }()
	return a
}

// taker is a device that fetches one file.
type taker struct {
	t     testing.TB
	store *files.Store
	p     *files.Partial
	*exchange.Fetch
	wg     sync.WaitGroup
	mu     sync.Mutex
	errors map[string]error
}

func newTaker(t testing.TB, ref files.Ref) *taker {
	t.Helper()
	s := open(t)
	p, err := s.Begin(ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return &taker{t: t, store: s, p: p, Fetch: exchange.NewFetch(p, nil), errors: map[string]error{}}
}

// from runs a source in a goroutine.
func (k *taker) from(ctx context.Context, name string, st exchange.Stream) {
	k.wg.Go(func() {
		err := k.Source(ctx, name, st)
		k.mu.Lock()
		defer k.mu.Unlock()
		k.errors[name] = err
	})
}

// finish waits for all sources and compares the file.
func (k *taker) finish(content []byte) {
	k.t.Helper()
	k.wg.Wait()
	if err := k.p.Finish(); err != nil {
		k.t.Fatalf("%v; the sources: %v", err, k.errors)
	}
	f, err := k.store.Open(k.p.Ref().ID)
	if err != nil {
		k.t.Fatal(err)
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, content) {
		k.t.Errorf("another content: %d bytes, %v", len(got), err)
	}
}
