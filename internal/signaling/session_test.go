package signaling_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/peersignal/peersignal/internal/signaling"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

func TestPresenceOnlyToSharers(t *testing.T) {
	n := start(t, signaling.Config{})
	a, b, stranger := connect(t, n, newDevice(t)), connect(t, n, newDevice(t)), connect(t, n, newDevice(t))
	a.hold(tag(1), tag(2))
	stranger.hold(tag(3))
	b.hold(tag(1))
	b.joined(tag(1), a)
	a.joined(tag(1), b)
	stranger.quiet()

	if r := b.topics(nil, []peercrypto.Tag{tag(1)}); r.Code != wire.CodeOK {
		t.Fatal(r)
	}
	a.left(tag(1), b)
	b.hold(tag(1), tag(2))
	got := map[peercrypto.Tag]bool{}
	for range 2 {
		p := read[*wire.Present](a)
		got[p.Tag] = len(p.Join) == 1 && p.Join[0].Cert.DeviceID == b.id() && !p.Full
	}
	if !got[tag(1)] || !got[tag(2)] {
		t.Errorf("got %v", got)
	}
	for range 2 {
		if p := read[*wire.Present](b); !p.Full || len(p.Join) != 1 {
			t.Errorf("got %+v", p)
		}
	}
	b.bye()
	for range 2 {
		if p := read[*wire.Present](a); len(p.Leave) != 1 || p.Leave[0] != b.id() {
			t.Errorf("got %+v", p)
		}
	}
	stranger.quiet()
	a.quiet()
}

func TestRelayStampsSender(t *testing.T) {
	n := start(t, signaling.Config{})
	a, b := connect(t, n, newDevice(t)), connect(t, n, newDevice(t))
	a.hold(tag(1))
	b.hold(tag(1))
	b.joined(tag(1), a)
	a.joined(tag(1), b)
	conn := newConnID()
	for _, kind := range []wire.Kind{wire.KindOffer, wire.KindCandidate, wire.KindAnswer} {
		from, to := a, b
		if kind == wire.KindAnswer {
			from, to = b, a
		}
		if r := from.signal(kind, to.id(), tag(1), conn); r.Code != wire.CodeDelivered {
			t.Fatalf("%s: %+v", kind, r)
		}
		got := read[*wire.Signal](to)
		want := wire.Signal{Kind: kind, From: from.id(), Via: tag(1), Conn: conn, Env: envelope(kind)}
		if *got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	// A from in the payload is refused, whatever it says.
	frame := fmt.Sprintf(`{"type":"answer","id":77,"to":%q,"from":%q,"via":%q,"conn":%q,"env":{"ct":"AAAA"}}`,
		b.id(), b.id(), tag(1), conn)
	a.write([]byte(frame))
	if r := a.result(77); r.Code != wire.CodeInvalid {
		t.Errorf("got %+v", r)
	}
	b.quiet()
}

func TestNotAllowedIsOneAnswer(t *testing.T) {
	n := start(t, signaling.Config{})
	a, b := connect(t, n, newDevice(t)), connect(t, n, newDevice(t))
	a.hold(tag(1), tag(4))
	b.hold(tag(2))
	unknown := newDevice(t).cert.DeviceID
	want := wire.Result{Code: wire.CodeNotAllowed}
	for _, try := range []struct {
		name string
		to   peercrypto.ID
		via  peercrypto.Tag
	}{
		{"unknown device", unknown, tag(1)},
		{"known device, my tag", b.id(), tag(1)},
		{"known device, its tag", b.id(), tag(2)},
		{"known device, nobody's tag", b.id(), tag(3)},
		{"known device of another user", b.id(), peercrypto.Tag{}},
		{"unknown device, same user", unknown, peercrypto.Tag{}},
		{"myself", a.id(), tag(1)},
	} {
		for range 25 { // more than the limit of offers: that must not tell either
			got := *a.offer(try.to, try.via)
			got.ID = 0
			if got != want {
				t.Fatalf("%s: got %+v, want %+v", try.name, got, want)
			}
		}
	}
	b.quiet()
}

func TestSameUserNeedsNoTag(t *testing.T) {
	n := start(t, signaling.Config{})
	u := newUser(t)
	a, b := connect(t, n, u.device(t)), connect(t, n, u.device(t))
	if r := a.offer(b.id(), peercrypto.Tag{}); r.Code != wire.CodeDelivered {
		t.Fatal(r)
	}
	if got := read[*wire.Signal](b); got.From != a.id() || !got.SameUser() {
		t.Errorf("got %+v", got)
	}
}

func TestTakeover(t *testing.T) {
	ended := make(chan string, 4)
	n := start(t, signaling.Config{OnSessionEnd: func(s, reason string) { ended <- s + reason }})
	watcher := connect(t, n, newDevice(t))
	watcher.hold(tag(1))
	d := newDevice(t)
	old := connect(t, n, d)
	old.hold(tag(1))
	watcher.joined(tag(1), old)
	old.joined(tag(1), watcher)

	fresh := connect(t, n, d)
	if m := read[*wire.Notice](old); m.Code != wire.CodeReplaced {
		t.Fatalf("got %+v", m)
	}
	old.wantClose(wire.CloseReplaced)
	if got := <-ended; got != old.ready.Session.String()+"replaced" {
		t.Errorf("session %s ended, want the old one", got)
	}
	watcher.left(tag(1), old)
	fresh.hold(tag(1))
	watcher.joined(tag(1), fresh)
	fresh.joined(tag(1), watcher)
	// The end of the old connection took nothing from the new one.
	if r := watcher.offer(d.cert.DeviceID, tag(1)); r.Code != wire.CodeDelivered {
		t.Fatal(r)
	}
	read[*wire.Signal](fresh)
	watcher.quiet()
}

func TestBadFrames(t *testing.T) {
	deep := strings.Repeat("[", 100) + strings.Repeat("]", 100)
	for _, tt := range []struct {
		name, frame string
		code        wire.Code // of the result of id 5; "": closed with CloseProtocol
	}{
		{"null", `null`, ""},
		{"array", `[1,2]`, ""},
		{"no type", `{"id":5}`, wire.CodeInvalid},
		{"notify null", `{"type":"notify","id":null}`, ""},
		{"type null", `{"type":null,"id":5}`, wire.CodeInvalid},
		{"unknown type", `{"type":"notify","id":5}`, wire.CodeInvalid},
		{"missing id", `{"type":"topics","add":[]}`, ""},
		{"id zero", `{"type":"topics","id":0}`, ""},
		{"id negative", `{"type":"topics","id":-1}`, ""},
		{"id fraction", `{"type":"topics","id":1.5}`, ""},
		{"id string", `{"type":"topics","id":"5"}`, ""},
		{"id huge", `{"type":"topics","id":9007199254740993}`, ""},
		{"unknown member", `{"type":"topics","id":5,"x":1}`, wire.CodeInvalid},
		{"__proto__", `{"type":"topics","id":5,"__proto__":{}}`, ""},
		{"constructor deep", `{"type":"topics","id":5,"add":[{"constructor":1}]}`, ""},
		{"duplicate key", `{"type":"topics","id":5,"id":5}`, ""},
		{"deep", `{"type":"topics","id":5,"add":` + deep + `}`, ""},
		{"truncated", `{"type":"topics","id":5,"add":[`, ""},
		{"trailing", `{"type":"topics","id":5}{}`, ""},
		{"not UTF-8", "{\"type\":\"topics\",\"id\":5,\"add\":[\"\xff\"]}", ""},
		{"lone surrogate", `{"type":"topics","id":5,"add":["\ud800"]}`, ""},
		{"tag too short", `{"type":"topics","id":5,"add":["AAAA"]}`, wire.CodeInvalid},
		{"tag zero", `{"type":"topics","id":5,"add":["AAAAAAAAAAAAAAAAAAAAAA"]}`, wire.CodeInvalid},
		{"tag null", `{"type":"topics","id":5,"add":[null]}`, wire.CodeInvalid},
		{"offer without anything", `{"type":"offer","id":5}`, wire.CodeInvalid},
		{"env null", `{"type":"offer","id":5,"to":"0mfwhzmt5c1234567890abcde","via":"","conn":"0mfwhzmt5c1234567890abcde","env":null}`, wire.CodeInvalid},
		{"to __proto__", `{"type":"offer","id":5,"to":"__proto__","via":"","conn":"0mfwhzmt5c1234567890abcde","env":{"ct":"AAAA"}}`, wire.CodeInvalid},
		{"ready", `{"type":"ready","id":5}`, wire.CodeInvalid},
		{"over 64 KiB", `{"type":"ice","id":5` + strings.Repeat(" ", wire.MaxFrame) + `}`, wire.CodeTooLarge},
		{"empty", ``, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := start(t, signaling.Config{})
			c := connect(t, n, newDevice(t))
			c.write([]byte(tt.frame))
			if tt.code == "" {
				c.wantClose(wire.CloseProtocol)
			} else if r := c.result(5); r.Code != tt.code {
				t.Errorf("got %+v, want %s", r, tt.code)
			} else {
				c.quiet()
			}
			// The server lives.
			connect(t, n, newDevice(t)).quiet()
		})
	}
}

func TestBinaryAndOversized(t *testing.T) {
	n := start(t, signaling.Config{})
	c := connect(t, n, newDevice(t))
	if err := c.ws.Write(deadline(t), websocket.MessageBinary, []byte(`{"type":"bye"}`)); err != nil {
		t.Fatal(err)
	}
	c.wantClose(wire.CloseProtocol)

	c = connect(t, n, newDevice(t))
	go func() {
		// The server may close before it has taken everything.
		_ = c.ws.Write(deadline(t), websocket.MessageText, make([]byte, 2<<20))
	}()
	for c.next() != nil {
	}
	if got := websocket.CloseStatus(c.closed); got != -1 && got != websocket.StatusCode(wire.CloseTooLarge) {
		t.Errorf("closed with %v", c.closed)
	}

	c = connect(t, n, newDevice(t))
	c.send(c.device.auth(t, c.hello.Nonce, n.name, time.Now()))
	c.wantClose(wire.CloseProtocol) // a second auth
}

func TestOrigins(t *testing.T) {
	n := start(t, signaling.Config{AllowedOrigins: []string{"app.example.org", "https://only.example.org"}})
	for origin, want := range map[string]int{
		"":                          http.StatusSwitchingProtocols,
		"http://" + n.name:          http.StatusSwitchingProtocols,
		"https://app.example.org":   http.StatusSwitchingProtocols,
		"https://only.example.org":  http.StatusSwitchingProtocols,
		"http://only.example.org":   http.StatusForbidden,
		"https://evil.example.org":  http.StatusForbidden,
		"https://app.example.org.x": http.StatusForbidden,
		"null":                      http.StatusForbidden,
		"%":                         http.StatusForbidden,
	} {
		h := http.Header{}
		if origin != "" {
			h.Set("Origin", origin)
		}
		if got := httpStatus(t, n, h); got != want {
			t.Errorf("origin %q: status %d, want %d", origin, got, want)
		}
	}
	resp, err := http.Get("http://" + n.name + wire.Path)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("plain GET: %d", resp.StatusCode)
	}
	_, resp, err = websocket.Dial(deadline(t), n.url, &websocket.DialOptions{Subprotocols: []string{"other"}})
	if err == nil || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("other subprotocol: %v", err)
	}
}

func TestDrain(t *testing.T) {
	n := start(t, signaling.Config{})
	c, pending := connect(t, n, newDevice(t)), dial(t, n)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		n.stop()
	}()
	if m := read[*wire.Notice](c); m.Code != wire.CodeDraining {
		t.Errorf("got %+v", m)
	}
	c.wantClose(wire.CloseDraining)
	if m := read[*wire.Refused](pending); m.Code != wire.CodeDraining {
		t.Errorf("got %+v", m)
	}
	pending.wantClose(wire.CloseDraining)
	<-stopped
}

func TestKick(t *testing.T) {
	n := start(t, signaling.Config{})
	c := connect(t, n, newDevice(t))
	if kick(t, n, "nobody") != 0 || kick(t, n, c.id()) != 1 {
		t.Error("Kick reports the wrong thing")
	}
	if m := read[*wire.Notice](c); m.Code != wire.CodeKicked || m.Message != "go away" {
		t.Errorf("got %+v", m)
	}
	c.wantClose(wire.CloseKicked)
}
