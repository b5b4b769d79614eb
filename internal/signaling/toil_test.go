package signaling_test

import (
	"net/http"
	"testing"

	"github.com/coder/websocket"

	"github.com/peersignal/peersignal/internal/signaling"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// TestToilIsBounded: an address that has had many topics changed waits, whether it sends them or has them given back with a session's
// token, which costs it nothing. Others do not.
func TestToilIsBounded(t *testing.T) {
	n := start(t, signaling.Config{TrustedProxies: []string{"127.0.0.0/8"}, Limits: signaling.Limits{SessionsPerAddress: 2}})
	from := func(addr string, d device, prev *client) *client {
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
	all := tags(20_000)
	a := from("192.0.2.1", newDevice(t), nil)
	a.hold(all...) // 80,000 of 128,000
	back := from("192.0.2.1", a.device, &client{ready: a.ready, got: 1 << 40})
	if back.ready.Resumed || back.ready.Topics != len(all) {
		t.Errorf("%+v", back.ready)
	}
	if r := back.topics(nil, all[:1]); r.Code != wire.CodeRateLimited || r.RetryAfter < 10_000 {
		t.Errorf("%+v", r)
	}
	again := from("192.0.2.1", a.device, &client{ready: back.ready, got: 1 << 40})
	if again.ready.Resumed || again.ready.Topics != 0 {
		t.Errorf("%+v", again.ready)
	}
	for i, addr := range []string{"192.0.2.2", "127.0.0.1"} { // another one, and one without limits
		b := from(addr, newDevice(t), nil)
		mine := tags(19_000)
		for j := range mine {
			mine[j][0] = byte(i + 1)
		}
		b.hold(mine...)
		b.hold(peercrypto.Tag{byte(i + 1)})
	}
}
