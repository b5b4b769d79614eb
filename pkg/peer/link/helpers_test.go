package link_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer/link"
	"github.com/peersignal/peersignal/test/leak"
)

func TestMain(m *testing.M) {
	leak.Main(m)
}

// patience bounds what a test waits for something that has to happen.
const patience = 2 * time.Minute

var testTag = peercrypto.Tag{1, 2, 3}

type device struct {
	t      testing.TB
	id     peercrypto.Identity
	link   *link.Link
	stop   func() // ends Run and waits
	mu     sync.Mutex
	got    []link.Event
	fresh  chan struct{} // closed and replaced when an event came
	admits int
}

// testIdentity returns one of a few identities in turn: no test needs more, and
// making one is slow.
func testIdentity(t testing.TB) (peercrypto.Identity, []byte) {
	t.Helper()
	i := turn % len(pool)
	turn++
	if pool[i].doc == nil {
		pool[i].id, pool[i].doc = newIdentity(t)
	}
	return pool[i].id, pool[i].doc
}

var (
	pool [6]struct {
		id  peercrypto.Identity
		doc []byte
	}
	turn int
)

func newIdentity(t testing.TB) (peercrypto.Identity, []byte) {
	t.Helper()
	id, _, err := peercrypto.NewIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	doc, err := peercrypto.SignUserDoc(id.User, id.Genesis, "tester", time.Now().UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	return id, doc
}

func logger() *slog.Logger {
	if os.Getenv("LINK_TEST_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return slog.New(slog.DiscardHandler)
}

// startDevice runs a device with testTag, with the changes of mod.
func startDevice(t testing.TB, url string, mod func(*link.Config)) *device {
	t.Helper()
	id, doc := testIdentity(t)
	return startIdentity(t, url, id, doc, mod)
}

func startIdentity(t testing.TB, url string, id peercrypto.Identity, doc []byte, mod func(*link.Config)) *device {
	t.Helper()
	d := &device{t: t, id: id, fresh: make(chan struct{})}
	cfg := link.Config{
		Server: url, Identity: id, UserDoc: doc, AllowLoopback: true, Logger: logger(),
		ReconnectMin: 10 * time.Millisecond, ReconnectMax: 100 * time.Millisecond, OffersPerMinute: 1 << 20,
		Admit: func(context.Context, link.Remote) error {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.admits++
			return nil
		},
	}
	if mod != nil {
		mod(&cfg)
	}
	l, err := link.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	d.link = l
	l.SetTopics([]link.Topic{{Tag: testTag}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := l.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	go d.collect()
	d.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(patience):
			t.Errorf("Run does not return")
		}
	})
	t.Cleanup(d.stop)
	return d
}

func (d *device) deviceID() peercrypto.ID { return d.link.DeviceID() }

func (d *device) collect() {
	for e := range d.link.Events() {
		d.mu.Lock()
		d.got = append(d.got, e)
		close(d.fresh)
		d.fresh = make(chan struct{})
		d.mu.Unlock()
	}
}

// await returns the first event that match accepts, waiting for it.
func await[E link.Event](d *device, what string, match func(E) bool) E {
	d.t.Helper()
	deadline := time.After(patience)
	seen := 0
	for {
		d.mu.Lock()
		for ; seen < len(d.got); seen++ {
			if e, ok := d.got[seen].(E); ok && match(e) {
				d.mu.Unlock()
				return e
			}
		}
		fresh := d.fresh
		d.mu.Unlock()
		select {
		case <-fresh:
		case <-deadline:
			d.t.Fatalf("%s: did not happen; status %+v", what, d.link.Status())
		}
	}
}

func (d *device) sees(o *device) {
	d.t.Helper()
	await(d, "discovery", func(e link.Discovered) bool { return e.Remote.DeviceID == o.deviceID() })
}

// count returns how many events match.
func count[E link.Event](d *device, match func(E) bool) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, e := range d.got {
		if e, ok := e.(E); ok && match(e) {
			n++
		}
	}
	return n
}

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// connect dials from a to b and returns both ends.
func connect(t testing.TB, a, b *device) (ac, bc *link.Conn) {
	t.Helper()
	a.sees(b)
	ac, err := a.link.Dial(testContext(t), b.deviceID())
	if err != nil {
		t.Fatalf("Dial: %v; peer: %+v", err, b.link.Status().Refused)
	}
	e := await(b, "connection", func(e link.Connected) bool { return e.Conn.SessionID() == ac.SessionID() })
	return ac, e.Conn
}

// eventually waits for a condition that has no event.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("%s: did not happen", what)
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}
