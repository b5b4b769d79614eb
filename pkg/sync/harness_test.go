package sync_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/storetest"
	"github.com/peersignal/peersignal/test/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// A clock is a wall clock that tests can shift.
type clock struct {
	mu    sync.Mutex
	shift time.Duration
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.shift)
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shift += d
}

// A node is an engine with what tests need around it.
type node struct {
	*groupsync.Engine
	t     testing.TB
	ident peercrypto.Identity
	store groupsync.Store
	clock *clock
	cfg   groupsync.Config
}

var (
	identMu sync.Mutex
	idents  []peercrypto.Identity
)

// identity returns the n-th identity of the test binary: making one costs a memory-hard hash.
func identity(t testing.TB, n int) peercrypto.Identity {
	t.Helper()
	identMu.Lock()
	defer identMu.Unlock()
	for len(idents) <= n {
		id, _, err := peercrypto.NewIdentity(time.UnixMilli(1_700_000_000_000 + int64(len(idents))))
		if err != nil {
			t.Fatal(err)
		}
		idents = append(idents, id)
	}
	return idents[n]
}

func newNode(t testing.TB, n int, opts ...func(*groupsync.Config)) *node {
	t.Helper()
	return openNode(t, identity(t, n), storetest.NewMemory(), fmt.Sprintf("user %d", n), opts...)
}

func openNode(t testing.TB, ident peercrypto.Identity, store groupsync.Store, name string, opts ...func(*groupsync.Config)) *node {
	t.Helper()
	c := &clock{}
	cfg := groupsync.Config{Store: store, Identity: ident, Name: name, Now: c.Now}
	if os.Getenv("SYNC_LOG") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("node", name)
	}
	for _, o := range opts {
		o(&cfg)
	}
	e, err := groupsync.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return &node{e, t, ident, store, c, cfg}
}

// reopen starts the engine anew on the same store.
func (n *node) reopen() {
	n.t.Helper()
	_ = n.Close()
	e, err := groupsync.Open(n.t.Context(), n.cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = e.Close() })
	n.Engine = e
}

func (n *node) peer() groupsync.Peer {
	return groupsync.Peer{
		UserID: n.UserID(), UserKey: n.ident.User.Public(), Genesis: n.ident.Genesis,
		DeviceID: n.DeviceID(), DeviceKey: n.ident.Device.Public(), UserDoc: n.UserDoc(), Keys: historyOf(n.ident),
	}
}

func (n *node) create(name string) peercrypto.ID {
	n.t.Helper()
	g, err := n.CreateGroup(n.t.Context(), name)
	must(n.t, err)
	return g.ID
}

func (n *node) put(group peercrypto.ID, format string, args ...any) groupsync.Document {
	n.t.Helper()
	d, err := n.Put(n.t.Context(), group, json.RawMessage(fmt.Sprintf(format, args...)))
	must(n.t, err)
	return d
}

func (n *node) export(group peercrypto.ID) string {
	n.t.Helper()
	var b bytes.Buffer
	must(n.t, n.Export(n.t.Context(), group, &b))
	return b.String()
}

func (n *node) exportLog(group peercrypto.ID) []json.RawMessage {
	n.t.Helper()
	var b bytes.Buffer
	must(n.t, n.ExportLog(n.t.Context(), group, &b))
	var out []json.RawMessage
	for line := range bytes.Lines(b.Bytes()) {
		out = append(out, bytes.TrimSpace(bytes.Clone(line)))
	}
	return out
}

func (n *node) info(group peercrypto.ID) groupsync.GroupInfo {
	n.t.Helper()
	g, err := n.Group(n.t.Context(), group)
	must(n.t, err)
	return g
}

func (n *node) invite(group peercrypto.ID, o groupsync.InviteOptions) entry.Invitation {
	n.t.Helper()
	inv, err := n.Invite(n.t.Context(), group, o)
	must(n.t, err)
	return inv
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got error %v, want %v", err, target)
	}
}

// eventually waits until ok holds, looking whenever something happens at the nodes.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting until %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// A pipe is one end of a Transport in memory.
type pipe struct {
	in, out [3]chan []byte
	done    chan struct{}
	once    *sync.Once
}

func newPipe() (a, b *pipe) {
	done, once := make(chan struct{}), &sync.Once{}
	a, b = &pipe{done: done, once: once}, &pipe{done: done, once: once}
	for _, lane := range []groupsync.Lane{groupsync.Control, groupsync.Bulk} {
		a.out[lane], b.out[lane] = make(chan []byte, 16), make(chan []byte, 16)
		a.in[lane], b.in[lane] = b.out[lane], a.out[lane]
	}
	return a, b
}

func (p *pipe) Send(ctx context.Context, lane groupsync.Lane, frame []byte) error {
	select {
	case p.out[lane] <- bytes.Clone(frame):
		return nil
	case <-p.done:
		return io.ErrClosedPipe
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pipe) Recv(ctx context.Context) (groupsync.Lane, []byte, error) {
	select {
	case f := <-p.in[groupsync.Control]:
		return groupsync.Control, f, nil
	case f := <-p.in[groupsync.Bulk]:
		return groupsync.Bulk, f, nil
	case <-p.done:
		return 0, nil, io.EOF
	case <-ctx.Done():
		return 0, nil, ctx.Err()
	}
}

func (p *pipe) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

// A conversation is a running pair of sessions.
type conversation struct {
	a, b       *groupsync.Session
	errA, errB chan error
	cancel     context.CancelFunc
}

func connect(t testing.TB, a, b *node) *conversation {
	t.Helper()
	pa, pb := newPipe()
	return connectOver(t, a, b, pa, pb)
}

func connectOver(t testing.TB, a, b *node, pa, pb groupsync.Transport) *conversation {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &conversation{
		a: a.NewSession(b.peer(), pa), b: b.NewSession(a.peer(), pb),
		errA: make(chan error, 1), errB: make(chan error, 1), cancel: cancel,
	}
	go func() { c.errA <- c.a.Run(ctx) }()
	go func() { c.errB <- c.b.Run(ctx) }()
	t.Cleanup(cancel)
	return c
}

// end cancels both sessions and waits for them.
func (c *conversation) end() (errA, errB error) {
	c.cancel()
	return <-c.errA, <-c.errB
}

func (c *conversation) synced(group peercrypto.ID) bool {
	for _, s := range []*groupsync.Session{c.a, c.b} {
		found := false
		for _, g := range s.Status().Groups {
			found = found || g.Group == group && g.Synced
		}
		if !found {
			return false
		}
	}
	return true
}

// join makes the joiners members of a group of the host.
func join(t testing.TB, host *node, group peercrypto.ID, role entry.Role, joiners ...*node) {
	t.Helper()
	inv := host.invite(group, groupsync.InviteOptions{Role: role, Uses: len(joiners)})
	for _, j := range joiners {
		must(t, j.Join(t.Context(), inv))
		c := connect(t, host, j)
		eventually(t, "the join", func() bool { return c.synced(group) })
		c.end()
	}
}

// syncPair connects two nodes until they hold the same of a group.
func syncPair(t testing.TB, a, b *node, group peercrypto.ID) *conversation {
	t.Helper()
	c := connect(t, a, b)
	eventually(t, "both hold the same", func() bool {
		return c.synced(group) && a.info(group).Fingerprint == b.info(group).Fingerprint
	})
	return c
}
