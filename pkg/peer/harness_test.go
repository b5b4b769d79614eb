package peer_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/peersignal/peersignal/internal/signaling"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/sqlite"
	"github.com/peersignal/peersignal/test/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// patience is how long a test waits for what has to happen.
const patience = 2 * time.Minute

// server is a real signaling server on a port that it keeps over restarts.
type server struct {
	t    testing.TB
	addr string
	stop func()
}

func startServer(t testing.TB) *server {
	t.Helper()
	s := &server{t: t}
	s.start()
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *server) url() string { return "http://" + s.addr }

func (s *server) start() {
	s.t.Helper()
	sig, err := signaling.New(signaling.Config{})
	if err != nil {
		s.t.Fatal(err)
	}
	var lis net.Listener
	eventually(s.t, "a free port", func() bool {
		at := s.addr
		if at == "" { // below the ports of clients, one of which could have it when the server comes back
			at = fmt.Sprintf("127.0.0.1:%d", 16_384+rand.IntN(16_384))
		}
		lis, err = net.Listen("tcp", at)
		return err == nil
	})
	s.addr = lis.Addr().String()
	web := &http.Server{Handler: sig.Handler(), ReadHeaderTimeout: 5 * time.Second}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = sig.Run(ctx) })
	wg.Go(func() { _ = web.Serve(lis) })
	s.stop = sync.OnceFunc(func() {
		_ = web.Close()
		cancel()
		wg.Wait()
	})
}

// user is an identity with a database that survive a restart of the peer.
type user struct {
	t    testing.TB
	name string
	id   peercrypto.Identity
	path string
	*peer.Peer
	close  func()
	events *recorder
}

func newUser(t testing.TB, name string) *user {
	t.Helper()
	id, _, err := peercrypto.NewIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &user{t: t, name: name, id: id, path: filepath.Join(t.TempDir(), "peerd.db")}
}

// open starts the user's peer; server may be nil.
func (u *user) open(s *server, change ...func(*peer.Config)) *user {
	u.t.Helper()
	store, err := sqlite.Open(u.path, sqlite.Options{})
	if err != nil {
		u.t.Fatal(err)
	}
	cfg := peer.Config{
		Identity: u.id, Store: store, Name: u.name, Auto: true, AllowLoopback: true,
		DialDelay: 300 * time.Millisecond, RetryMin: 100 * time.Millisecond,
		ReconnectMin: 50 * time.Millisecond, ReconnectMax: 500 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(testWriter{u.t}, &slog.HandlerOptions{Level: slog.LevelInfo})).With("peer", u.name),
	}
	if s != nil {
		cfg.Server = s.url()
	}
	for _, f := range change {
		f(&cfg)
	}
	p, err := peer.Open(context.Background(), cfg)
	if err != nil {
		_ = store.Close()
		u.t.Fatal(err)
	}
	u.Peer = p
	u.events = record(p)
	u.close = sync.OnceFunc(func() {
		if err := p.Close(); err != nil {
			u.t.Errorf("%s: Close: %v", u.name, err)
		}
		<-u.events.done
		if err := store.Close(); err != nil {
			u.t.Errorf("%s: closing the store: %v", u.name, err)
		}
	})
	u.t.Cleanup(u.close)
	return u
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", b)
	return len(b), nil
}

// recorder keeps every event of a peer.
type recorder struct {
	mu   sync.Mutex
	seen []peer.Event
	more chan struct{}
	done chan struct{}
}

func record(p *peer.Peer) *recorder {
	r := &recorder{more: make(chan struct{}), done: make(chan struct{})}
	events := p.Events(context.Background())
	go func() {
		defer close(r.done)
		for ev := range events {
			r.mu.Lock()
			r.seen = append(r.seen, ev)
			close(r.more)
			r.more = make(chan struct{})
			r.mu.Unlock()
		}
	}()
	return r
}

// wait returns the first event from position on that matches, and the position
// behind it.
func (r *recorder) wait(t testing.TB, from int, what string, match func(peer.Event) bool) int {
	t.Helper()
	deadline := time.After(patience)
	for {
		r.mu.Lock()
		for ; from < len(r.seen); from++ {
			if match(r.seen[from]) {
				r.mu.Unlock()
				return from + 1
			}
		}
		more := r.more
		r.mu.Unlock()
		select {
		case <-more:
		case <-r.done:
			t.Fatalf("the peer ended before: %s", what)
		case <-deadline:
			t.Fatalf("never happened: %s", what)
		}
	}
}

func (r *recorder) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.seen)
}

func (r *recorder) any(match func(peer.Event) bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ev := range r.seen {
		if match(ev) {
			return true
		}
	}
	return false
}

func is[T peer.Event](ev peer.Event) bool {
	_, ok := ev.(T)
	return ok
}

func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// create makes a group of u.
func (u *user) create(name string) peercrypto.ID {
	u.t.Helper()
	g, err := u.CreateGroup(deadline(u.t), name)
	if err != nil {
		u.t.Fatal(err)
	}
	return g.ID
}

// invites lets another user join a group and waits until both know it.
func (u *user) invites(other *user, group peercrypto.ID, o groupsync.InviteOptions) {
	u.t.Helper()
	inv, err := u.Invite(deadline(u.t), group, o)
	if err != nil {
		u.t.Fatal(err)
	}
	from := other.events.len()
	if err := other.Join(deadline(u.t), inv); err != nil {
		u.t.Fatal(err)
	}
	other.events.wait(u.t, from, other.name+" joins", func(ev peer.Event) bool {
		j, ok := ev.(peer.GroupJoined)
		return ok && j.Group == group
	})
}

func (u *user) put(group peercrypto.ID, doc string) peercrypto.ID {
	u.t.Helper()
	d, err := u.Put(deadline(u.t), group, []byte(doc))
	if err != nil {
		u.t.Fatalf("%s: %v", u.name, err)
	}
	return d.Subject
}

// eventually polls: for states that no event announces.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); {
		if time.Now().After(end) {
			t.Fatalf("never true: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// equal waits until all have the same fingerprint and number of documents.
func equal(t testing.TB, group peercrypto.ID, docs int64, users ...*user) {
	t.Helper()
	eventually(t, "replicas are equal", func() bool {
		var first string
		for i, u := range users {
			g, err := u.Group(context.Background(), group)
			if err != nil || g.Documents != docs || i > 0 && g.Fingerprint != first {
				return false
			}
			first = g.Fingerprint
		}
		return true
	})
}

func (u *user) connectedTo(other *user) bool {
	for _, d := range u.Status().Devices {
		if d.Device == other.Device() && d.Connected {
			return true
		}
	}
	return false
}
