package e2e

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// messageAbuses are messages that no client should send.
var messageAbuses = []abuse{
	{"8", "crash the server with null", "`null`, `[]`, `\"notify\"`, `42[\"notify\",null]`, `{\"type\":\"notify\",\"data\":null}`",
		"closed with 4006; with an `id` result `invalid`", notifyNull},
	{"9", "crash the server by asking without a callback", "each request without `id`, and with `id` 0, -1, 1.5, \"1\", null, 2^53",
		"closed with 4006", missingID},
	{"10", "make the server fetch a URL", "URLs of a listener as push endpoint, callback, ICE server, in `auth`, `notify` and `offer`",
		"refused, results `invalid`; nobody connects to the listener", serverSideRequest},
	{"15", "fill the index of topics", "20,000 topics, and one more; a frame with 30,000",
		"the first are held; then result `too-large`, and nothing of the message is applied", manyTopics},
	{"16", "fill the memory with one message", "the header of a 100 MB message; 600 KB of one",
		"closed with 4004 before it is there", hugeMessage},
	{"16", "use a visitor's browser", "an upgrade with the `Origin` of another page", "HTTP 403", foreignOrigin},
	{"17", "reach what every JavaScript object has", "`__proto__`, `constructor`, `toString` as device id, and as a member",
		"as id result `invalid`, as member closed with 4006", protoIDs},
	{"", "break the parser", "wrong UTF-8, lone surrogates, duplicate members, 30,000 levels, cut and doubled objects, NaN, huge numbers",
		"result `invalid` when there is an `id`, else closed with 4006", badJSON},
	{"", "send what is not text", "a binary message", "closed with 4006", binaryMessage},
	{"", "fill the queue of another device", "offers to one device, faster than 20 a minute", "result `rate-limited`, with a time; other devices are reached", floodOffers},
	{"", "keep the server busy", "messages without end, faster than 200 in 10 s", "result `rate-limited`; who goes on is closed with 4005", floodMessages},
	{"", "have more devices than others", "a ninth device of one user", "refused `too-many-devices`; the eight stay", manyDevices},
	{"", "hide data in an offer", "an offer of 61 KB; one with further members", "result `too-large`; `invalid`", fatOffer},
}

func notifyNull(t *testing.T, v *victim) {
	for _, frame := range []string{
		`null`, `[]`, `"notify"`, `42["notify",null]`, `{"type":"notify","data":null}`, `{}`, `{"type":null}`, `{"type":["offer"]}`, ``,
	} {
		c := v.connect(t, newSomeone(t))
		c.text("%s", frame)
		c.ended(int(wire.CloseProtocol))
	}
	c := v.connect(t, newSomeone(t))
	c.text(`{"type":"notify","id":1,"data":null}`)
	c.result(wire.CodeInvalid)
	c.alive()
}

func missingID(t *testing.T, v *victim) {
	for _, kind := range []string{
		`"topics","add":[]`, `"ice"`, `"offer","to":"0000000000000000000000001"`, `"answer","env":{}`, `"candidate"`,
	} {
		for _, id := range []string{``, `,"id":0`, `,"id":-1`, `,"id":1.5`, `,"id":"1"`, `,"id":null`, `,"id":9007199254740992`} {
			c := v.connect(t, newSomeone(t))
			c.text(`{"type":%s%s}`, kind, id)
			c.ended(int(wire.CloseProtocol))
			_ = c.nc.Close()
		}
	}
}

func serverSideRequest(t *testing.T, v *victim) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	reached := make(chan struct{})
	go func() {
		if c, err := l.Accept(); err == nil {
			_ = c.Close()
			close(reached)
		}
	}()
	url := "http://" + l.Addr().String() + "/push"
	p := v.pair(t)
	c := v.dial(t)
	auth := must[[]byte](t)(wire.Encode(newSomeone(t).auth(t, c.hello.Nonce, v.host)))
	c.text(`%s,"device":{"pushSubscription":{"endpoint":"%s"}}}`, auth[:len(auth)-1], url)
	c.refused(wire.CodeInvalid)
	c = v.connect(t, newSomeone(t))
	c.hold(p.tag)
	for i, frame := range []string{
		`{"type":"notify","id":%d,"to":"%s","via":"%s","endpoint":"URL","device":{"pushSubscription":{"endpoint":"URL"}}}`,
		`{"type":"offer","id":%d,"to":"%s","via":"%s","endpoint":"URL"}`,
	} {
		c.text(strings.ReplaceAll(frame, "URL", url), 900+i, p.bobby.cert.DeviceID, p.tag)
		c.result(wire.CodeInvalid)
	}
	c.text(`{"type":"ice","id":950,"urls":["%s"]}`, url)
	c.result(wire.CodeInvalid)
	c.alive()
	_ = l.Close()
	select {
	case <-reached:
		t.Error("the server connected to a URL that a client named")
	default:
	}
}

func manyTopics(t *testing.T, v *victim) {
	c := v.connect(t, newSomeone(t))
	tags := make([]peercrypto.Tag, wire.MaxTopics)
	for i := range tags {
		tags[i] = freshTag()
	}
	c.hold(tags...)
	extra := freshTag()
	c.id++
	c.say(&wire.Topics{ID: c.id, Add: []peercrypto.Tag{extra}})
	c.result(wire.CodeTooLarge)
	other := v.connect(t, newSomeone(t))
	other.hold(extra)
	other.quiet(`"type":"present"`)

	c = v.connect(t, newSomeone(t))
	var b bytes.Buffer
	for range 30_000 {
		b.WriteString(`,"` + freshTag().String() + `"`)
	}
	c.text(`{"type":"topics","id":1,"add":[%s]}`, b.Bytes()[1:])
	c.ended(int(wire.CloseTooLarge)) // 750 KB are no message at all
}

func hugeMessage(t *testing.T, v *victim) {
	for _, registered := range []bool{false, true} {
		c := v.dial(t)
		if registered {
			c = v.connect(t, newSomeone(t))
		}
		_, _ = c.nc.Write([]byte{0x81, 0xff, 0, 0, 0, 0, 5, 0xf5, 0xe1, 0, 0, 0, 0, 0})
		c.ended()
	}
	c := v.connect(t, newSomeone(t))
	_ = c.frame(0x81, false, bytes.Repeat([]byte{'x'}, 600<<10))
	c.ended(int(wire.CloseTooLarge), 0) // 0: reset, because the server did not read all of it
}

func foreignOrigin(t *testing.T, v *victim) {
	for _, origin := range []string{"https://evil.example", "null", "http://" + v.host + ".evil.example"} {
		_, resp := v.upgrade(t, "Origin: "+origin+"\r\n")
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("origin %s: %s", origin, resp.Status)
		}
	}
}

func protoIDs(t *testing.T, v *victim) {
	c := v.connect(t, newSomeone(t))
	tag := freshTag()
	c.hold(tag)
	for i, id := range []string{"__proto__", "constructor", "toString", "hasOwnProperty", "__proto__0000000000000000", ""} {
		c.text(offerFrame, i+100, id, tag, "")
		c.result(wire.CodeInvalid)
	}
	c.alive()
	for _, member := range []string{`"__proto__":{"a":1}`, `"constructor":1`, `"prototype":null`, `"\u005f_proto__":{}`} {
		c := v.connect(t, newSomeone(t))
		c.text(`{"type":"topics","id":200,"add":[],%s}`, member)
		c.ended(int(wire.CloseProtocol))
	}
}

func badJSON(t *testing.T, v *victim) {
	deep := strings.Repeat("[", 30_000)
	for _, frame := range []string{
		"{\"type\":\"topics\",\"id\":1,\"add\":[\"\xff\xfe\"]}", `{"type":"topics","id":1,"add":["\ud800"]}`,
		`{"type":"topics","id":1,"id":1}`, `{"type":"topics","id":1,"add":` + deep, `{"type":"topics","id":1`,
		`{"type":"topics","id":1,"add":` + deep + strings.Repeat("]", 30_000) + `}`,
		`{"type":"topics","id":1}{"type":"topics","id":2}`, `{"type":"topics","id":1,"add":NaN}`, `{"type":"topics","id":1,"add":[1e999]}`,
		`{"type":"topics","id":1,"add":["AQEBAQEBAQEBAQEBAQEBAQ",]}`, "{\"type\":\"topics\",\"id\":1,\"add\":[\"\x00\"]}",
		"\xef\xbb\xbf{\"type\":\"bye\"}", `{'type':'bye'}`, "{\"type\":\"offer\",\"id\":1,\"to\":\"\xc3\x28\"}",
	} {
		c := v.connect(t, newSomeone(t))
		c.text("%s", frame)
		answer, err := c.next()
		if err == nil && !bytes.Contains(answer, []byte(`"invalid"`)) {
			t.Errorf("%.80q was answered %s", frame, answer)
		}
		if err == nil {
			c.alive()
		} else if code := closeCode(err); code != int(wire.CloseProtocol) && code != 1007 {
			t.Errorf("%.80q: %v", frame, err)
		}
		_ = c.nc.Close()
	}
}

func binaryMessage(t *testing.T, v *victim) {
	c := v.connect(t, newSomeone(t))
	_ = c.frame(0x82, false, []byte(`{"type":"topics","id":1,"add":[]}`))
	c.ended(int(wire.CloseProtocol), 1003)
}

func floodOffers(t *testing.T, v *victim) {
	p, other := v.pair(t), newSomeone(t)
	third := v.connect(t, other)
	third.hold(p.tag)
	limited := 0
	for range 40 {
		p.a.offer(p.bobby.cert.DeviceID, p.tag)
		if r := p.a.result(wire.CodeDelivered, wire.CodeRateLimited); r.Code == wire.CodeRateLimited {
			limited++
			if r.RetryAfter <= 0 {
				t.Error("the result does not say when to try again")
			}
		}
	}
	if limited < 20 {
		t.Errorf("only %d of 40 offers were refused", limited)
	}
	p.a.offer(other.cert.DeviceID, p.tag)
	p.a.result(wire.CodeDelivered)
}

func floodMessages(t *testing.T, v *victim) {
	c := v.connect(t, newSomeone(t))
	go func() {
		for i := range 5_000 {
			if c.frame(0x81, false, []byte(`{"type":"topics","id":`+strings.Repeat("1", 1+i%15)+`,"add":[]}`)) != nil {
				return
			}
		}
	}()
	limited := false
	for {
		frame, err := c.next()
		if err != nil {
			if code := closeCode(err); code != int(wire.CloseRate) && code != 0 || !limited {
				t.Errorf("%v; limited before: %v", err, limited)
			}
			return
		}
		limited = limited || bytes.Contains(frame, []byte(`"rate-limited"`))
	}
}

func manyDevices(t *testing.T, v *victim) {
	first := newSomeone(t)
	all := []*wsConn{v.connect(t, first)}
	for range 7 {
		all = append(all, v.connect(t, newDeviceOf(t, first.user)))
	}
	c := v.dial(t)
	c.say(newDeviceOf(t, first.user).auth(t, c.hello.Nonce, v.host))
	c.refused(wire.CodeTooManyDevices)
	for _, c := range all {
		c.alive()
	}
}

func fatOffer(t *testing.T, v *victim) {
	p := v.pair(t)
	p.a.text(strings.Replace(offerFrame, "c2VhbGVk", strings.Repeat("c2VhbGVk", 7_900), 1), 901, p.bobby.cert.DeviceID, p.tag, "")
	p.a.result(wire.CodeTooLarge, wire.CodeInvalid)
	p.a.text(offerFrame, 902, p.bobby.cert.DeviceID, p.tag, `,"note":"hidden"`)
	p.a.result(wire.CodeInvalid)
	p.b.quiet(`"type":"offer"`)
}

// forgotten waits until the server has no sessions and no pending connections.
func (v *victim) forgotten(t *testing.T, ctx context.Context) {
	t.Helper()
	var left string
	for deadline := time.Now().Add(abusePatience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		_, text, err := v.page(ctx, "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		left = ""
		for _, gauge := range []string{"sessions", "pending", "topics"} {
			if !strings.Contains(text, "\npeersignal_signaling_"+gauge+" 0\n") {
				left += " " + gauge
			}
		}
		if left == "" {
			return
		}
	}
	t.Errorf("the server has not forgotten its%s", left)
}
