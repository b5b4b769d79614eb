package signaling_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/peersignal/peersignal/internal/signaling"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// flakyBus loses messages for which lose says so.
type flakyBus struct {
	signaling.Bus
	lose func(node string, payload []byte) bool
}

func (b *flakyBus) Publish(ctx context.Context, node string, payload []byte) error {
	if b.lose(node, payload) {
		return nil
	}
	return b.Bus.Publish(ctx, node, payload)
}

func kindOf(payload []byte) string {
	line, _, _ := strings.Cut(string(payload), "\n")
	var head struct {
		K string `json:"k"`
	}
	_ = json.Unmarshal([]byte(line), &head)
	return head.K
}

// startNode starts a node of a cluster. Its heartbeat is so slow that only what
// is announced counts, unless cfg has another.
func startNode(t *testing.T, bus signaling.Bus, name string, cfg signaling.Config) *node {
	t.Helper()
	cfg.Bus, cfg.Node = bus, name
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = time.Minute
	}
	return start(t, cfg)
}

// meet makes a and b, on two nodes, share a tag.
func meet(t *testing.T, a, b *client, tg peercrypto.Tag) {
	t.Helper()
	a.hold(tg)
	b.hold(tg)
	a.joined(tg, b)
	b.joined(tg, a)
}

func TestTwoNodes(t *testing.T) {
	bus := signaling.NewMemBus()
	n1, n2 := startNode(t, bus, "one", signaling.Config{}), startNode(t, bus, "two", signaling.Config{})
	a, b := connect(t, n1, newDevice(t)), connect(t, n2, newDevice(t))
	stranger := connect(t, n2, newDevice(t))
	stranger.hold(tag(9))
	meet(t, a, b, tag(1))

	conn := newConnID()
	if r := a.signal(wire.KindOffer, b.id(), tag(1), conn); r.Code != wire.CodeDelivered {
		t.Fatal(r)
	}
	want := wire.Signal{Kind: wire.KindOffer, From: a.id(), Via: tag(1), Conn: conn, Env: envelope(wire.KindOffer)}
	if got := read[*wire.Signal](b); *got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if r := b.signal(wire.KindAnswer, a.id(), tag(1), conn); r.Code != wire.CodeDelivered {
		t.Fatal(r)
	}
	read[*wire.Signal](a)
	for _, to := range []peercrypto.ID{stranger.id(), newDevice(t).cert.DeviceID} {
		if r := a.offer(to, tag(1)); r.Code != wire.CodeNotAllowed {
			t.Errorf("got %+v", r)
		}
	}
	b.bye()
	a.left(tag(1), b)
	stranger.quiet()
}

func TestSameUserOnTwoNodes(t *testing.T) {
	bus := signaling.NewMemBus()
	limits := signaling.Limits{DevicesPerUser: 2}
	n1 := startNode(t, bus, "one", signaling.Config{Limits: limits})
	n2 := startNode(t, bus, "two", signaling.Config{Limits: limits})
	u := newUser(t)
	a, b := connect(t, n1, u.device(t)), connect(t, n2, u.device(t))
	meet(t, a, b, tag(1)) // so that both nodes know both
	if r := a.offer(b.id(), peercrypto.Tag{}); r.Code != wire.CodeDelivered {
		t.Fatal(r)
	}
	read[*wire.Signal](b)
	c := dial(t, n1)
	c.refused(u.device(t).auth(t, c.hello.Nonce, n1.name, time.Now()), wire.CodeTooManyDevices)
}

func TestTakeoverAcrossNodes(t *testing.T) {
	bus := signaling.NewMemBus()
	n1, n2 := startNode(t, bus, "one", signaling.Config{}), startNode(t, bus, "two", signaling.Config{})
	watcher := connect(t, n1, newDevice(t))
	d := newDevice(t)
	old := connect(t, n1, d)
	old.hold(tag(1))
	watcher.hold(tag(1))
	watcher.joined(tag(1), old)
	old.joined(tag(1), watcher)
	fresh := connect(t, n2, d)
	if m := read[*wire.Notice](old); m.Code != wire.CodeReplaced {
		t.Errorf("got %+v", m)
	}
	old.wantClose(wire.CloseReplaced)
	watcher.left(tag(1), old)
	fresh.hold(tag(1))
	watcher.joined(tag(1), fresh)
	fresh.joined(tag(1), watcher)
	if r := watcher.offer(d.cert.DeviceID, tag(1)); r.Code != wire.CodeDelivered {
		t.Error(r)
	}
	read[*wire.Signal](fresh)
}

// TestLateNode joins a cluster that has sessions, some with more tags than fit
// one message of the bus.
func TestLateNode(t *testing.T) {
	bus := signaling.NewMemBus()
	n1 := startNode(t, bus, "one", signaling.Config{})
	a := connect(t, n1, newDevice(t))
	many := tags(9000)
	a.hold(many...)
	n2 := startNode(t, bus, "two", signaling.Config{})
	b := connect(t, n2, newDevice(t))
	b.hold(many[8999], many[0])
	for range 2 {
		if p := read[*wire.Present](b); len(p.Join) != 1 || p.Join[0].Cert.DeviceID != a.id() {
			t.Errorf("got %+v", p)
		}
	}
	// A node that stops takes its sessions along.
	n1.stop()
	for range 2 {
		if p := read[*wire.Present](b); len(p.Leave) != 1 {
			t.Errorf("got %+v", p)
		}
	}
}

// TestLostAnnouncements loses most announcements: the heartbeats repair it.
func TestLostAnnouncements(t *testing.T) {
	mem := signaling.NewMemBus()
	var count atomic.Int64
	lossy := &flakyBus{Bus: mem, lose: func(_ string, p []byte) bool {
		switch kindOf(p) {
		case "up", "tags", "down":
			return count.Add(1)%3 != 0
		case "snap":
			return count.Add(1)%3 == 0
		}
		return false
	}}
	const beat = 250 * time.Millisecond // three missed by a busy machine would be a node lost
	n1 := startNode(t, lossy, "one", signaling.Config{Heartbeat: beat})
	n2 := startNode(t, mem, "two", signaling.Config{Heartbeat: beat})
	b := connect(t, n2, newDevice(t))
	b.hold(tag(1))
	for range 5 {
		a := connect(t, n1, newDevice(t))
		a.hold(tag(1))
		if p := read[*wire.Present](a); !p.Full && len(p.Join) != 1 {
			t.Fatalf("got %+v", p)
		}
		b.joined(tag(1), a)
		a.bye()
		b.left(tag(1), a)
	}
}

// TestSilentNode loses everything that a node sends: it is forgotten, and what
// is sent to it in the meantime is answered.
func TestSilentNode(t *testing.T) {
	mem := signaling.NewMemBus()
	var silent atomic.Bool
	bus := &flakyBus{Bus: mem, lose: func(string, []byte) bool { return silent.Load() }}
	cfg := signaling.Config{Heartbeat: 500 * time.Millisecond}
	n1, n2 := startNode(t, mem, "one", cfg), startNode(t, bus, "two", cfg)
	a, b := connect(t, n1, newDevice(t)), connect(t, n2, newDevice(t))
	meet(t, a, b, tag(1))
	silent.Store(true)
	a.left(tag(1), b)
	if r := a.offer(b.id(), tag(1)); r.Code != wire.CodeNotAllowed {
		t.Error(r)
	}
	// It speaks again: everything is back.
	silent.Store(false)
	a.joined(tag(1), b)
}

func TestMalformedBusMessages(t *testing.T) {
	bus := signaling.NewMemBus()
	n := startNode(t, bus, "one", signaling.Config{})
	a := connect(t, n, newDevice(t))
	a.hold(tag(1))
	for _, p := range []string{
		"", "\n", "null\n", "{}\n", `{"v":1,"k":"up","n":"x"}` + "\n", `{"v":1,"k":"sig","n":"x"}` + "\n",
		`{"v":2,"k":"beat","n":"x"}` + "\n", `{"v":1,"k":"tags","n":"x","id":null}` + "\n",
		`{"v":1,"k":"snap","n":"x","ss":[{"id":"AAAAAAAAAAAAAAAAAAAAAA"}],"l":true}` + "\n",
		`{"v":1,"k":"ack","n":"x","r":77}` + "\n", `{"v":1,"k":"what","n":"x"}` + "\n",
	} {
		if err := bus.Publish(context.Background(), "one", []byte(p)); err != nil {
			t.Fatal(err)
		}
	}
	a.quiet()
}

func TestMemBus(t *testing.T) {
	bus := signaling.NewMemBus()
	got := make(chan string, 8)
	cancel, err := bus.Subscribe("a", func(p []byte) { got <- string(p) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bus.Subscribe("a", nil); err == nil {
		t.Error("a name can be taken twice")
	}
	ctx := context.Background()
	for _, to := range []string{"a", "", "b"} {
		if err := bus.Publish(ctx, to, []byte("to "+to)); err != nil {
			t.Error(err)
		}
	}
	if one, two := <-got, <-got; one != "to a" || two != "to " {
		t.Errorf("got %q, %q", one, two)
	}
	cancel()
	cancel()
	if len(got) != 0 {
		t.Error("got what is for another node")
	}
	done, stop := context.WithCancel(ctx)
	stop()
	if err := bus.Publish(done, "a", nil); err == nil {
		t.Error("the context counts for nothing")
	}
}
