package signaling_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

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

// TestMalformedBusMessages: each is counted and dropped, and what is well-formed and says nothing is not.
func TestMalformedBusMessages(t *testing.T) {
	bus := signaling.NewMemBus()
	registry := prometheus.NewRegistry()
	n := startNode(t, bus, "one", signaling.Config{Registerer: registry})
	a := connect(t, n, newDevice(t))
	a.hold(tag(1))
	const sig = `{"v":1,"k":"sig","n":"x","sig":{"kind":"offer","to":"a","from":"b","conn":"c"}}`
	malformed := []string{
		"", "\n", "null\n", "{}\n", sig, `{"v":1,"k":"beat","n":"x"`, `{"v":1,"k":"beat","n":"x"}`,
		`{"v":2,"k":"beat","n":"x"}` + "\n", `{"v":1,"k":"beat"}` + "\n", `{"v":1,"k":"beat","n":"X"}` + "\n",
		`{"v":1,"k":"beat","n":"a.b"}` + "\n", `{"v":1,"k":"beat","n":"` + strings.Repeat("x", 65) + `"}` + "\n",
		`{"v":1,"k":"up","n":"x"}` + "\n", `{"v":1,"k":"up","n":"x","ss":[{"id":"AAAAAAAAAAAAAAAAAAAAAA"}]}` + "\n",
		`{"v":1,"k":"tags","n":"x","id":null}` + "\n", `{"v":1,"k":"down","n":"x"}` + "\n",
		`{"v":1,"k":"sig","n":"x"}` + "\n{}", sig + "\n", sig + "\n" + strings.Repeat("x", wire.MaxFrame+1),
		`{"v":1,"k":"beat","n":"x"}` + "\n" + strings.Repeat("x", 1<<20),
	}
	for i, p := range malformed {
		if err := bus.Publish(t.Context(), "one", []byte(p)); err != nil {
			t.Fatal(err)
		}
		until(t, fmt.Sprintf("message %d is dropped: %.80q", i, p), func() bool { return dropped(t, registry, "malformed") == i+1 })
	}
	for _, p := range []string{
		`{"v":1,"k":"snap","n":"x","ss":[{"id":"AAAAAAAAAAAAAAAAAAAAAA"}],"l":true}` + "\n",
		`{"v":1,"k":"ack","n":"x","r":77}` + "\n", `{"v":1,"k":"what","n":"x"}` + "\n",
	} {
		if err := bus.Publish(t.Context(), "one", []byte(p)); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the other node", func() bool { return n.Stats().Nodes == 1 })
	a.quiet()
	if got := dropped(t, registry, "malformed"); got != len(malformed) {
		t.Errorf("%d dropped, want %d", got, len(malformed))
	}
}

// dropped counts the messages of the bus that were dropped for a reason.
func dropped(t *testing.T, r *prometheus.Registry, reason string) int {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "peersignal_signaling_bus_dropped_total" && m.GetLabel()[0].GetValue() == reason {
				return int(m.GetCounter().GetValue())
			}
		}
	}
	return 0
}

// TestSignalsWithoutAnswerAreBounded: a node that never answers costs only so much.
func TestSignalsWithoutAnswerAreBounded(t *testing.T) {
	mem := signaling.NewMemBus()
	bus := &flakyBus{Bus: mem, lose: func(_ string, p []byte) bool { return kindOf(p) == "sig" }}
	n1 := startNode(t, bus, "one", signaling.Config{Limits: signaling.Limits{BusPendingSignals: 20}})
	n2 := startNode(t, mem, "two", signaling.Config{})
	a, b := connect(t, n1, newDevice(t)), connect(t, n2, newDevice(t))
	meet(t, a, b, tag(1))
	for range 20 {
		a.ask(wire.KindCandidate, b.id(), tag(1))
	}
	a.want(wire.CodeOffline, a.signal(wire.KindCandidate, b.id(), tag(1), newConnID()))
}

// TestBusQueueIsBounded: a bus that takes nothing any more costs only so much; the sender is told at once.
func TestBusQueueIsBounded(t *testing.T) {
	mem := signaling.NewMemBus()
	stuck := make(chan struct{})
	bus := &flakyBus{Bus: mem, lose: func(_ string, p []byte) bool {
		if kindOf(p) == "sig" {
			<-stuck
		}
		return false
	}}
	n1 := startNode(t, bus, "one", signaling.Config{Limits: signaling.Limits{BusQueueBytes: 512 << 10}})
	n2 := startNode(t, mem, "two", signaling.Config{})
	a, b := connect(t, n1, newDevice(t)), connect(t, n2, newDevice(t))
	t.Cleanup(func() { close(stuck) })
	meet(t, a, b, tag(1))
	big := wire.NewEnvelope(nil, make([]byte, 40<<10))
	const most = 12 // one that the bus has, and as many as fit into the queue
	for range most + 1 {
		a.nextID++
		a.send(&wire.Signal{Kind: wire.KindCandidate, ID: a.nextID, To: b.id(), Via: tag(1), Conn: newConnID(), Env: big})
	}
	if r := read[*wire.Result](a); r.Code != wire.CodeOffline || r.ID <= most/2 {
		t.Errorf("got %+v", r)
	}
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
