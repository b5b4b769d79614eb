package signaling_test

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/peersignal/peersignal/internal/signaling"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// kick ends the sessions of a device.
func kick(t *testing.T, n *node, device peercrypto.ID) int {
	t.Helper()
	ended, err := n.Kick(signaling.Selector{Device: string(device)}, "go away")
	if err != nil {
		t.Fatal(err)
	}
	return ended
}

func TestSessionsOfAnOperator(t *testing.T) {
	n := start(t, signaling.Config{})
	u := newUser(t)
	a, b := attach(t, n, u.device(t), nil), connect(t, n, u.device(t))
	c := connect(t, n, newDevice(t))
	a.hold(tag(1), tag(2))
	a.snap()
	parked(t, n, 1)
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	for _, try := range []struct {
		name string
		sel  signaling.Selector
		want []*client
	}{
		{"all", signaling.Selector{}, []*client{a, b, c}},
		{"device", signaling.Selector{Device: string(b.id())}, []*client{b}},
		{"user", signaling.Selector{User: u.user.Public().String()}, []*client{a, b}},
		{"session", signaling.Selector{Session: c.ready.Session.String()}, []*client{c}},
		{"parked", signaling.Selector{State: signaling.StateParked}, []*client{a}},
		{"network", signaling.Selector{Network: loopback, State: signaling.StateConnected}, []*client{b, c}},
		{"nobody", signaling.Selector{Network: netip.MustParsePrefix("10.0.0.0/8")}, nil},
	} {
		var got []string
		for _, s := range n.Sessions(try.sel, 0) {
			got = append(got, s.Device)
		}
		var want []string
		for _, w := range try.want {
			want = append(want, string(w.id()))
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", try.name, got, want)
		}
	}
	if got := n.Sessions(signaling.Selector{}, 2); len(got) != 2 {
		t.Errorf("got %v", got)
	}
	if s := n.Sessions(signaling.Selector{Device: string(a.id())}, 0)[0]; s.Topics != 2 || s.State != signaling.StateParked ||
		s.Session != a.ready.Session.String() || s.User != u.user.Public().String() || s.Address != a.ready.You.Addr {
		t.Errorf("got %+v", s)
	}
	if _, err := n.Kick(signaling.Selector{}, ""); !errors.Is(err, signaling.ErrNoSelection) {
		t.Errorf("got %v", err)
	}
	if ended, err := n.Kick(signaling.Selector{User: u.user.Public().String()}, "bye"); ended != 2 || err != nil {
		t.Errorf("got %d, %v", ended, err)
	}
	b.wantClose(wire.CloseKicked)
	if again := attach(t, n, a.device, a); again.ready.Resumed || again.ready.Topics != 0 {
		t.Errorf("a kicked session goes on: %+v", again.ready)
	}
	c.quiet()
}

func TestBlock(t *testing.T) {
	now := time.Now()
	var mu sync.Mutex
	n := start(t, signaling.Config{Now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}})
	u := newUser(t)
	a, other := u.device(t), newDevice(t)
	for _, b := range []signaling.Block{
		{Device: string(a.cert.DeviceID)},
		{User: a.cert.UserKey.String(), Reason: "spam"},
		{Network: netip.MustParsePrefix("127.0.0.1/8")},
	} {
		c := connect(t, n, a)
		b.Expires = now.Add(time.Second)
		if ended, err := n.Block(b); ended != 1 || err != nil {
			t.Fatalf("%s: got %d, %v", b.Target(), ended, err)
		}
		c.wantClose(wire.CloseKicked)
		_, m := tryAttach(t, n, a, nil)
		if r, ok := m.(*wire.Refused); !ok || r.Code != wire.CodeBlocked {
			t.Fatalf("%s: got %+v", b.Target(), m)
		}
		if !b.Network.IsValid() {
			connect(t, n, other).bye()
		}
		if list := n.Blocked(); len(list) != 1 || list[0].Reason != b.Reason || list[0].Created.IsZero() {
			t.Errorf("got %+v", list)
		}
		mu.Lock()
		now = now.Add(2 * time.Second) // it expires
		mu.Unlock()
		if list := n.Blocked(); len(list) != 0 {
			t.Errorf("got %+v", list)
		}
		connect(t, n, a).bye()
		until(t, "no session", func() bool { return n.Stats().Sessions == 0 })
	}
}

func TestBlocksAreChecked(t *testing.T) {
	n := start(t, signaling.Config{})
	for _, bad := range []signaling.Block{
		{}, {Device: "a", User: "b"}, {User: "not a key"}, {Device: string(make([]byte, 65))},
		{Device: "a", Reason: string(make([]byte, 257))},
	} {
		if _, err := n.Block(bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
		if _, err := n.SetBlocks([]signaling.Block{{Device: "fine"}, bad}); err == nil || len(n.Blocked()) != 0 {
			t.Errorf("%+v was taken", bad)
		}
	}
	c := connect(t, n, newDevice(t))
	mapped := signaling.Block{Network: netip.MustParsePrefix("::ffff:127.0.0.0/104")}
	if ended, err := n.SetBlocks([]signaling.Block{{Device: "x"}, mapped}); ended != 1 || err != nil {
		t.Errorf("got %d, %v", ended, err)
	}
	c.wantClose(wire.CloseKicked)
	if ok, err := n.Unblock(signaling.Block{Network: netip.MustParsePrefix("127.0.0.0/8")}); !ok || err != nil {
		t.Errorf("got %v, %v", ok, err)
	}
	if ok, err := n.Unblock(signaling.Block{Device: "y"}); ok || err != nil {
		t.Errorf("got %v, %v", ok, err)
	}
	connect(t, n, newDevice(t))
	many := make([]signaling.Block, signaling.MaxBlocks+1)
	for i := range many {
		many[i].Device = string(peercrypto.NewID(time.Now()))
	}
	if _, err := n.SetBlocks(many); !errors.Is(err, signaling.ErrTooManyBlocks) {
		t.Errorf("got %v", err)
	}
}

// recorder is an Auditor.
type recorder struct {
	mu     sync.Mutex
	events []signaling.AuditEvent
}

func (r *recorder) Audit(e signaling.AuditEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// kinds gives what was recorded, and forgets it.
func (r *recorder) kinds() (out []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		kind := string(e.Kind)
		if e.Code != "" {
			kind += " " + e.Code
		}
		out = append(out, kind)
	}
	r.events = nil
	return out
}

func TestAudit(t *testing.T) {
	rec := &recorder{}
	n := start(t, signaling.Config{Audit: rec, Limits: signaling.Limits{ResumeWindow: 300 * time.Millisecond}})
	want := func(kinds ...string) {
		t.Helper()
		var got []string
		until(t, "the events", func() bool { got = append(got, rec.kinds()...); return len(got) >= len(kinds) })
		if !slices.Equal(got, kinds) {
			t.Errorf("got %q, want %q", got, kinds)
		}
	}
	a := attach(t, n, newDevice(t), nil)
	want("registered")
	a.snap()
	parked(t, n, 1)
	a = attach(t, n, a.device, a)
	want("resumed")
	a.snap()
	want("ended expired")
	b := dial(t, n)
	b.send(&wire.Bye{})
	b.wantClose(wire.CloseRefused)
	want("refused invalid")
	c := connect(t, n, newDevice(t))
	kick(t, n, c.id())
	c.wantClose(wire.CloseKicked)
	want("registered", "kicked kicked", "ended kicked")
	if _, err := n.Block(signaling.Block{Device: string(c.id())}); err != nil {
		t.Fatal(err)
	}
	tryAttach(t, n, c.device, nil)
	if _, err := n.Unblock(signaling.Block{Device: string(c.id())}); err != nil {
		t.Fatal(err)
	}
	want("blocked", "refused blocked", "unblocked")
	if err := n.Drain(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	want("drain")
}
