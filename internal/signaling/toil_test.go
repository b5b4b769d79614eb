package signaling_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/peersignal/peersignal/internal/signaling"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// attachFrom is attach for a client behind a proxy.
func attachFrom(t *testing.T, n *node, addr string, d device, prev *client) *client {
	t.Helper()
	ws, _, err := websocket.Dial(deadline(t), n.url, &websocket.DialOptions{
		Subprotocols: []string{wire.Subprotocol}, HTTPHeader: http.Header{"X-Forwarded-For": {addr}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	ws.SetReadLimit(-1)
	c := &client{t: t, ws: ws}
	c.hello = read[*wire.Hello](c)
	ready, ok := c.signIn(n, d, prev).(*wire.Ready)
	if !ok {
		t.Fatal("it is not let in")
	}
	c.ready = ready
	return c
}

// TestToilIsBounded: an address that has had many topics changed waits, whether it sends them or has them given back with a session's
// token, which costs it nothing. Others do not.
func TestToilIsBounded(t *testing.T) {
	n := start(t, signaling.Config{TrustedProxies: []string{"127.0.0.0/8"}, Limits: signaling.Limits{SessionsPerAddress: 2}})
	all := tags(20_000)
	a := attachFrom(t, n, "192.0.2.1", newDevice(t), nil)
	a.hold(all...) // 80,000 of 128,000
	back := attachFrom(t, n, "192.0.2.1", a.device, &client{ready: a.ready, got: 1 << 40})
	if back.ready.Resumed || back.ready.Topics != len(all) {
		t.Errorf("%+v", back.ready)
	}
	if r := back.topics(nil, all[:1]); r.Code != wire.CodeRateLimited || r.RetryAfter < 10_000 {
		t.Errorf("%+v", r)
	}
	again := attachFrom(t, n, "192.0.2.1", a.device, &client{ready: back.ready, got: 1 << 40})
	if again.ready.Resumed || again.ready.Topics != 0 {
		t.Errorf("%+v", again.ready)
	}
	for i, addr := range []string{"192.0.2.2", "127.0.0.1"} { // another one, and one without limits
		b := attachFrom(t, n, addr, newDevice(t), nil)
		mine := tags(19_000)
		for j := range mine {
			mine[j][0] = byte(i + 1)
		}
		b.hold(mine...)
		b.hold(peercrypto.Tag{byte(i + 1)})
	}
}

// TestIntroductionsAreToil: an address that has caused too much introduces nobody, and those who are introduced go on.
func TestIntroductionsAreToil(t *testing.T) {
	m := startMatchmakerWith(t, 0, signaling.Limits{SessionsPerAddress: 2})
	a := m.from(t, "192.0.2.1", newDevice(t))
	b, c := m.from(t, "192.0.2.2", newDevice(t)), m.from(t, "192.0.2.3", newDevice(t))
	ask := func(x *client, make func(id uint64) wire.Message) wire.Code {
		t.Helper()
		x.nextID++
		x.send(make(x.nextID))
		for { // presence may come first
			switch r := x.next().(type) {
			case *wire.Result:
				return r.Code
			case nil:
				t.Fatal(x.closed)
			}
		}
	}
	topics := func(x *client, add, del []peercrypto.Tag) {
		t.Helper()
		if code := ask(x, func(id uint64) wire.Message { return &wire.Topics{ID: id, Add: add, Del: del} }); code != wire.CodeOK {
			t.Fatal(code)
		}
	}
	offer := func(to *client) wire.Code {
		t.Helper()
		return ask(a, func(id uint64) wire.Message {
			return &wire.Signal{Kind: wire.KindOffer, ID: id, To: to.id(), Via: tag(1), Conn: newConnID(), Env: envelope(wire.KindOffer)}
		})
	}
	for _, x := range []*client{c, b, a} {
		topics(x, []peercrypto.Tag{tag(1)}, nil)
	}
	if code := offer(b); code != wire.CodeDelivered {
		t.Fatal(code)
	}
	all := tags(19_000)
	topics(a, all, nil)
	topics(a, nil, all)
	topics(a, all, nil)
	if code := offer(b); code != wire.CodeDelivered {
		t.Errorf("to who is introduced: %s", code)
	}
	if code := offer(c); code != wire.CodeRateLimited || m.know(t, a, c) {
		t.Errorf("to somebody else: %s", code)
	}
}

// TestMailIsShared: one address can't fill the memory of notifications for all.
func TestMailIsShared(t *testing.T) {
	n := start(t, signaling.Config{TrustedProxies: []string{"127.0.0.0/8"}, Limits: signaling.Limits{
		NotifyBytes: 16 << 10, ResumeWindow: 10 * time.Millisecond,
	}})
	a := attachFrom(t, n, "192.0.2.1", newDevice(t), nil)
	a.hold(tag(1))
	a.snap()
	over := func() { until(t, "session is over", func() bool { return n.Stats().Sessions == 0 }) }
	over()
	left := func(addr string) (queued int) {
		t.Helper()
		b := attachFrom(t, n, addr, newDevice(t), nil)
		b.hold(tag(1))
		for range 16 {
			if b.notify(a.id(), tag(1)).Code == wire.CodeQueued {
				queued++
			}
		}
		b.bye()
		over()
		return queued
	}
	most := left("192.0.2.2")
	if most == 0 || most == 16 {
		t.Errorf("one address leaves %d", most)
	}
	if got := left("192.0.2.2"); got > 0 {
		t.Errorf("the same one leaves %d more", got)
	}
	if got := left("192.0.2.3"); got != most {
		t.Errorf("another one leaves %d", got)
	}
	again := attachFrom(t, n, "192.0.2.1", a.device, nil)
	for range 2 * most {
		read[*wire.Signal](again)
	}
	again.hold(tag(1))
	again.snap()
	over()
	if got := left("192.0.2.2"); got != most {
		t.Errorf("when the device had been there it leaves %d", got)
	}
}
