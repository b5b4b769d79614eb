package signaling_test

import (
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/peersignal/peersignal/internal/signaling"
	"github.com/peersignal/peersignal/pkg/wire"
)

// matchmaker is a node that notes introductions, with a clock for them.
type matchmaker struct {
	*node
	*signaling.Introductions
	registry *prometheus.Registry
	passed   atomic.Int64
}

func startMatchmaker(t *testing.T, limit int) *matchmaker {
	t.Helper()
	return startMatchmakerWith(t, limit, signaling.Limits{})
}

func startMatchmakerWith(t *testing.T, limit int, limits signaling.Limits) *matchmaker {
	t.Helper()
	m := &matchmaker{registry: prometheus.NewRegistry()}
	begin := time.Now()
	var err error
	m.Introductions, err = signaling.NewIntroductions(signaling.IntroductionsConfig{
		Max: limit, Now: func() time.Time { return begin.Add(time.Duration(m.passed.Load())) },
	})
	if err != nil {
		t.Fatal(err)
	}
	m.node = start(t, signaling.Config{
		Introductions: m.Introductions, TrustedProxies: []string{"127.0.0.0/8"}, Registerer: m.registry, Limits: limits,
	})
	return m
}

// from connects a device as one whose address is addr.
func (m *matchmaker) from(t *testing.T, addr string, d device) *client {
	t.Helper()
	ws, _, err := websocket.Dial(deadline(t), m.url, &websocket.DialOptions{
		Subprotocols: []string{wire.Subprotocol}, HTTPHeader: http.Header{"X-Forwarded-For": {addr}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	c := &client{t: t, ws: ws, device: d}
	c.hello = read[*wire.Hello](c)
	c.send(d.auth(t, c.hello.Nonce, m.name, time.Now()))
	c.ready = read[*wire.Ready](c)
	return c
}

func session(c *client) string { return c.ready.Session.String() }

// know says whether two sessions know each other, which is symmetric.
func (m *matchmaker) know(t *testing.T, a, b *client) bool {
	t.Helper()
	got := m.Introduced(session(a), session(b))
	if back := m.Introduced(session(b), session(a)); back != got {
		t.Errorf("introduced is %v, and %v the other way round", got, back)
	}
	return got
}

// introduce lets a offer something to b, who may refuse to hear it.
func introduce(t *testing.T, a, b *client) {
	t.Helper()
	if r := a.signal(wire.KindOffer, b.id(), tag(1), newConnID()); r.Code != wire.CodeDelivered {
		t.Fatalf("offer: %+v", r)
	}
	read[*wire.Signal](b)
}

func TestIntroductions(t *testing.T) {
	m := startMatchmaker(t, 0)
	a := m.from(t, "192.0.2.1", newDevice(t))
	b := m.from(t, "2001:db8:1:2:3::4", newDevice(t))
	eve := m.from(t, "192.0.2.9", newDevice(t))
	a.hold(tag(1))
	b.hold(tag(1))
	b.joined(tag(1), a)
	a.joined(tag(1), b)
	if m.know(t, a, b) {
		t.Error("introduced before an offer")
	}
	if r := eve.offer(a.id(), tag(1)); r.Code != wire.CodeNotAllowed {
		t.Fatalf("offer of a stranger: %+v", r)
	}
	if r := a.signal(wire.KindCandidate, b.id(), tag(1), newConnID()); r.Code != wire.CodeDelivered || m.know(t, a, b) {
		t.Errorf("a candidate introduces, or got %+v", r)
	}
	read[*wire.Signal](b)
	introduce(t, a, b)
	if !m.know(t, a, b) {
		t.Error("not introduced after an offer")
	}
	if m.know(t, a, eve) || m.Introduced(session(a), "") || m.Introduced("x", session(a)) || m.Introduced("", "") {
		t.Error("a stranger is introduced")
	}
	for _, tt := range []struct {
		who  *client
		addr string
		want bool
	}{
		{a, "2001:db8:1:2:3::4", true},
		{a, "2001:db8:1:2:ffff::1", true}, // another address of its network
		{a, "2001:db8:1:3:3::4", false},
		{a, "192.0.2.9", false},
		{a, "192.0.2.1", false}, // its own
		{b, "192.0.2.1", true},
		{b, "192.0.2.2", false},
		{eve, "192.0.2.1", false},
	} {
		if got := m.IntroducedAddr(session(tt.who), netip.MustParseAddr(tt.addr)); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.addr, got, tt.want)
		}
	}
	if m.IntroducedAddr(session(a), netip.Addr{}) {
		t.Error("introduced to no address")
	}
}

// A relay that was opened in an earlier session goes on working.
func TestIntroductionsOutliveSessions(t *testing.T) {
	m := startMatchmaker(t, 0)
	alice, bob := newDevice(t), newDevice(t)
	a1, b1 := m.from(t, "192.0.2.1", alice), m.from(t, "192.0.2.2", bob)
	a1.hold(tag(1))
	b1.hold(tag(1))
	b1.joined(tag(1), a1)
	a1.joined(tag(1), b1)
	introduce(t, a1, b1)
	a1.bye()
	b1.left(tag(1), a1)
	a2 := m.from(t, "192.0.2.3", alice)
	a2.hold(tag(1))
	a2.joined(tag(1), b1)
	b1.joined(tag(1), a2)
	introduce(t, a2, b1)
	if !m.know(t, a1, b1) || !m.know(t, a2, b1) {
		t.Error("a session of an introduced device is a stranger")
	}
	if !m.IntroducedAddr(session(b1), netip.MustParseAddr("192.0.2.3")) {
		t.Error("the new address is a stranger's")
	}
}

func TestIntroductionsFade(t *testing.T) {
	m := startMatchmaker(t, 0)
	a, b := m.from(t, "192.0.2.1", newDevice(t)), m.from(t, "192.0.2.2", newDevice(t))
	a.hold(tag(1))
	b.hold(tag(1))
	b.joined(tag(1), a)
	a.joined(tag(1), b)
	introduce(t, a, b)
	for range 10 { // what is used stays
		m.passed.Add(int64(14 * time.Minute))
		if !m.know(t, a, b) {
			t.Fatal("forgotten while it was used")
		}
	}
	m.passed.Add(int64(30 * time.Minute))
	if m.know(t, a, b) || m.IntroducedAddr(session(a), netip.MustParseAddr("192.0.2.2")) {
		t.Error("remembered for twice its life")
	}
	if n := gauge(t, m.registry, "peersignal_signaling_introductions"); n != 0 {
		t.Errorf("%v introductions are kept", n)
	}
}

// With more introductions than fit, those in use stay.
func TestIntroductionsLimit(t *testing.T) {
	m := startMatchmaker(t, 8)
	a, b := m.from(t, "192.0.2.1", newDevice(t)), m.from(t, "192.0.2.2", newDevice(t))
	a.hold(tag(1))
	b.hold(tag(1))
	b.joined(tag(1), a)
	a.joined(tag(1), b)
	introduce(t, a, b)
	for range 12 {
		x := m.from(t, "192.0.2.3", newDevice(t))
		x.hold(tag(1))
		read[*wire.Present](x)
		read[*wire.Present](a)
		read[*wire.Present](b)
		introduce(t, x, b)
		if !m.know(t, a, b) {
			t.Fatal("forgotten while it was used")
		}
		x.bye()
		a.left(tag(1), x)
		b.left(tag(1), x)
	}
	if n := gauge(t, m.registry, "peersignal_signaling_introductions"); n > 8 {
		t.Errorf("%v introductions are kept, the most is 8", n)
	}
	if n := gauge(t, m.registry, "peersignal_signaling_introductions_forgotten_total"); n == 0 {
		t.Error("nothing was counted as forgotten")
	}
	if n := gauge(t, m.registry, "peersignal_signaling_introductions_limit"); n != 8 {
		t.Errorf("limit %v", n)
	}
}

func TestIntroductionsConfig(t *testing.T) {
	for _, cfg := range []signaling.IntroductionsConfig{{Life: time.Minute}, {Life: -1}, {Max: 1}, {Max: -1}} {
		if _, err := signaling.NewIntroductions(cfg); err == nil {
			t.Errorf("%+v: no error", cfg)
		}
	}
}

func gauge(t *testing.T, r *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue() + f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}
