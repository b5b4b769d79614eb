package signaling_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/peersignal/peersignal/internal/signaling"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

func TestTopicLimits(t *testing.T) {
	n := start(t, signaling.Config{Limits: signaling.Limits{Topics: 100, TopicsTotal: 150, TopicMembers: 2}})
	a, b := connect(t, n, newDevice(t)), connect(t, n, newDevice(t))
	all := tags(300)
	for _, step := range []struct {
		c        *client
		add, del []peercrypto.Tag
		want     wire.Code
	}{
		{a, all[:101], nil, wire.CodeTooLarge},
		{a, all[:100], nil, wire.CodeOK},
		{a, all[:100], nil, wire.CodeOK}, // again
		{a, all[100:101], nil, wire.CodeTooLarge},
		{a, all[100:101], all[:1], wire.CodeOK},
		{a, all[:1], all[:1], wire.CodeTooLarge}, // dropped before added: nothing changes but one more
		{b, all[200:251], nil, wire.CodeTooLarge},
		{b, all[200:250], nil, wire.CodeOK},
		{b, nil, all[200:250], wire.CodeOK},
	} {
		if r := step.c.topics(step.add, step.del); r.Code != step.want {
			t.Fatalf("got %+v, want %s", r, step.want)
		}
	}
	// The third holder of a tag.
	b.hold(all[50])
	b.joined(all[50], a)
	a.joined(all[50], b)
	c := connect(t, n, newDevice(t))
	if r := c.topics([]peercrypto.Tag{all[50]}, nil); r.Code != wire.CodeTooLarge {
		t.Fatal(r)
	}
	a.quiet()
}

func TestMaxTopicsInOneFrame(t *testing.T) {
	// Nobody reads b's frames while a's are read.
	n := start(t, signaling.Config{Limits: signaling.Limits{WriteTimeout: time.Hour, PingTimeout: time.Hour}})
	a, b := connect(t, n, newDevice(t)), connect(t, n, newDevice(t))
	all := tags(wire.MaxTopics)
	a.hold(all...)
	b.hold(all...)
	// Every tag is told to both, whatever their queues hold.
	for _, c := range []*client{a, b} {
		c.presenceOf(len(all), func(p rawPresent) bool { return len(p.Join) == 1 })
	}
	b.bye()
	a.presenceOf(len(all), func(p rawPresent) bool { return len(p.Join) == 0 && (p.Full || len(p.Leave) == 1) })
	a.quiet()
}

// rawPresent is a present frame read without checking its keys, which would be
// most of the time of a test with tens of thousands of them.
type rawPresent struct {
	Type  string
	Tag   peercrypto.Tag
	Full  bool
	Join  []json.RawMessage
	Leave []string
}

// presenceOf reads presence frames until n tags have been told.
func (c *client) presenceOf(n int, good func(rawPresent) bool) {
	c.t.Helper()
	seen := map[peercrypto.Tag]bool{}
	for len(seen) < n {
		_, frame, err := c.ws.Read(deadline(c.t))
		if err != nil {
			c.t.Fatal(err)
		}
		var p rawPresent
		if err := json.Unmarshal(frame, &p); err != nil || p.Type != "present" || !good(p) {
			c.t.Fatalf("got %s (%v)", frame, err)
		}
		seen[p.Tag] = true
	}
}

func TestLargeTopicIsChunked(t *testing.T) {
	n := start(t, signaling.Config{})
	const others = 200
	for range others {
		connect(t, n, newDevice(t)).hold(tag(1))
	}
	c := connect(t, n, newDevice(t))
	c.hold(tag(1))
	seen := map[peercrypto.ID]bool{}
	for frames := 0; len(seen) < others; frames++ {
		p := read[*wire.Present](c)
		if p.Full != (frames == 0) {
			t.Errorf("frame %d: full is %v", frames, p.Full)
		}
		for _, j := range p.Join {
			seen[j.Cert.DeviceID] = true
		}
		if len(seen) == others && frames == 0 {
			t.Error("the list was not chunked")
		}
	}
	c.quiet()
}

func TestRates(t *testing.T) {
	clock := time.Now()
	n := start(t, signaling.Config{
		Now: func() time.Time { return clock }, // stands still
		Limits: signaling.Limits{
			MessagesPer10s: 30, OffersPerMinute: 5, ConcurrentOffers: 2,
		},
	})
	a, b := connect(t, n, newDevice(t)), connect(t, n, newDevice(t))
	a.hold(tag(1))
	b.hold(tag(1))
	b.joined(tag(1), a)
	a.joined(tag(1), b)

	conns := []peercrypto.ID{newConnID(), newConnID(), newConnID()}
	for i, want := range []wire.Code{wire.CodeDelivered, wire.CodeDelivered, wire.CodeRateLimited} {
		if r := a.signal(wire.KindOffer, b.id(), tag(1), conns[i]); r.Code != want || (r.RetryAfter > 0) != (want == wire.CodeRateLimited) {
			t.Fatalf("offer %d: %+v", i, r)
		}
	}
	read[*wire.Signal](b)
	read[*wire.Signal](b)
	// An answer makes room.
	if r := b.signal(wire.KindAnswer, a.id(), tag(1), conns[0]); r.Code != wire.CodeDelivered {
		t.Fatal(r)
	}
	read[*wire.Signal](a)
	if r := a.signal(wire.KindOffer, b.id(), tag(1), conns[2]); r.Code != wire.CodeDelivered {
		t.Fatal(r)
	}

	limited := 0
	for range 30 {
		if r := a.topics(nil, nil); r.Code == wire.CodeRateLimited {
			if limited++; r.RetryAfter <= 0 {
				t.Errorf("got %+v", r)
			}
		}
	}
	if limited == 0 {
		t.Error("nothing was limited")
	}
	for range 30 {
		_ = a.ws.Write(deadline(t), websocket.MessageText, []byte(`{"type":"topics","id":1}`))
	}
	a.wantClose(wire.CloseRate)
	read[*wire.Signal](b)
	b.left(tag(1), a)
}

func TestPerUserAndPerAddress(t *testing.T) {
	n := start(t, signaling.Config{
		TrustedProxies: []string{"127.0.0.0/8"},
		Limits:         signaling.Limits{DevicesPerUser: 2, SessionsPerAddress: 1, PendingPerAddress: 2, Pending: 8},
	})
	u := newUser(t)
	one, _ := connect(t, n, u.device(t)), connect(t, n, u.device(t))
	third := u.device(t)
	c := dial(t, n)
	c.send(third.auth(t, c.hello.Nonce, n.name, time.Now()))
	if r := read[*wire.Refused](c); r.Code != wire.CodeTooManyDevices || r.RetryAfter == 0 {
		t.Errorf("got %+v", r)
	}
	c.wantClose(wire.CloseRefused)
	connect(t, n, one.device) // takes its own place

	from := func(addr string) (*client, int) {
		ws, resp, err := websocket.Dial(deadline(t), n.url, &websocket.DialOptions{
			Subprotocols: []string{wire.Subprotocol}, HTTPHeader: http.Header{"X-Forwarded-For": {"9.9.9.9, " + addr}},
		})
		if err != nil {
			return nil, resp.StatusCode
		}
		t.Cleanup(func() { _ = ws.CloseNow() })
		c := &client{t: t, ws: ws}
		c.hello = read[*wire.Hello](c)
		return c, 0
	}
	a, _ := from("2001:db8::1")
	d := newDevice(t)
	a.send(d.auth(t, a.hello.Nonce, n.name, time.Now()))
	if r := read[*wire.Ready](a); r.You.Addr != "[2001:db8::1]:0" {
		t.Errorf("addr %q", r.You.Addr)
	}
	b, _ := from("2001:db8::2") // the same /64
	b.send(newDevice(t).auth(t, b.hello.Nonce, n.name, time.Now()))
	if r := read[*wire.Refused](b); r.Code != wire.CodeTooManySessions {
		t.Errorf("got %+v", r)
	}
	b.wantClose(wire.CloseRefused)
	status := 0
	for i := 0; i < 3 && status == 0; i++ {
		_, status = from("192.0.2.1")
	}
	if status != http.StatusTooManyRequests {
		t.Errorf("status %d, want 429", status)
	}
	status = 0
	for i := 0; i < 9 && status == 0; i++ {
		_, status = from(fmt.Sprintf("198.51.100.%d", i))
	}
	if status != http.StatusServiceUnavailable {
		t.Errorf("status %d, want 503", status)
	}
}
