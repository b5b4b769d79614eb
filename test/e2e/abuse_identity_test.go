package e2e

import (
	"encoding/json"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// identityAbuses pretend to be somebody else, or learn what is not theirs.
var identityAbuses = []abuse{
	{"2", "be another user", "a certificate that names the victim's user key, signed with an own one",
		"refused `bad-certificate`", beAnotherUser},
	{"2", "show somebody's public certificate", "the victim's certificate, as presence shows it, with a signature by an own key",
		"refused `bad-signature`", showSomebodysCertificate},
	{"3", "have the offers of a victim's device", "registration of the victim's device id with an own key",
		"refused `bad-device-id`; the victim keeps its session", takeDeviceID},
	{"", "use a registration again", "an `auth` that was valid on another connection", "refused `bad-nonce`", replayAuth},
	{"", "pass a registration on to another server", "an `auth` that a client signed for another name, with that name as Host",
		"refused `unknown-name`", forwardAuth},
	{"", "register with a wrong clock", "an `auth` of an hour ago", "refused `bad-time`", wrongClock},
	{"24", "leak a secret through the registration", "`auth` with a further member `secretKey`", "refused `invalid`, and not repeated", leakSecret},
	{"4", "meet a group by its id", "`topics` with group ids, user ids, the zero tag",
		"result `invalid`: only 16-byte tags that are derived from a group's secret", claimGroupIDs},
	{"4", "guess tags", "`topics` with 5,000 random tags, offers through them", "nothing is present; offers are `not-allowed`", guessTags},
	{"5", "walk the social graph", "one tag that is shared with a victim which holds others",
		"presence of that tag only, with the certificate and nothing else", walkGraph},
	{"6", "send offers without registering", "`offer` instead of `auth`", "refused `invalid`", offerUnregistered},
	{"6", "send offers in somebody's name", "`offer` with `from`", "result `invalid`; the receiver sees nothing", forgeFrom},
	{"6", "send offers to strangers, or find out who is connected", "`offer` to a device without a common tag, and to one that does not exist",
		"both results are `not-allowed`, and look the same", offerToStranger},
	{"7", "inject candidates in others' exchanges", "`candidate` and `answer` with the exchange's id", "result `not-allowed`; the victim sees nothing", injectCandidate},
	{"12", "have TURN credentials without registering", "`ice` instead of `auth`", "refused `invalid`; `hello` holds none", iceUnregistered},
	{"12", "have TURN credentials for long", "a registration, as everybody", "credentials of this session that expire within the hour", iceExpires},
	{"14", "remove a new registration by the end of an old one", "the same device connects again, then the old connection is reset",
		"the old one is told `replaced`, 4002; offers reach the new one", reconnectRace},
	{"14", "register several devices on one connection", "a second `auth` after `ready`", "closed with 4006", secondAuth},
}

func beAnotherUser(t *testing.T, v *victim) {
	known, eve := newSomeone(t), newSomeone(t)
	forged := eve.cert
	forged.UserKey, forged.UserID = known.cert.UserKey, known.cert.UserID // the signature is still eve's
	eve.cert = forged
	c := v.dial(t)
	c.say(eve.auth(t, c.hello.Nonce, v.host))
	c.refused(wire.CodeBadCertificate)
}

func showSomebodysCertificate(t *testing.T, v *victim) {
	known, eve := newSomeone(t), newSomeone(t)
	a := known.auth(t, wire.Nonce{}, v.host)
	c := v.dial(t)
	a.A.Nonce = c.hello.Nonce
	a.Sig = eve.key.SignPurpose(peercrypto.PurposeSignalAuth, must[[]byte](t)(peercrypto.MarshalCanonical(a.A)))
	c.say(a)
	c.refused(wire.CodeBadSignature)
}

func takeDeviceID(t *testing.T, v *victim) {
	p := v.pair(t)
	eve := newSomeone(t)
	c := v.dial(t)
	a := eve.auth(t, c.hello.Nonce, v.host)
	a.A.DeviceID, a.Cert.DeviceID = p.bobby.cert.DeviceID, p.bobby.cert.DeviceID
	a.Sig = eve.key.SignPurpose(peercrypto.PurposeSignalAuth, must[[]byte](t)(peercrypto.MarshalCanonical(a.A)))
	c.say(a)
	c.refused(wire.CodeBadDeviceID)
	p.works()
}

func replayAuth(t *testing.T, v *victim) {
	eve := newSomeone(t)
	first, second := v.dial(t), v.dial(t)
	a := eve.auth(t, first.hello.Nonce, v.host)
	second.say(a)
	second.refused(wire.CodeBadNonce)
	first.say(a)
	expect[*wire.Ready](first)
	first.say(a)
	first.ended(int(wire.CloseProtocol))
}

func forwardAuth(t *testing.T, v *victim) {
	const name = "signal.example.org:443"
	c := (&victim{host: v.host, name: name}).dial(t)
	c.say(newSomeone(t).auth(t, c.hello.Nonce, name))
	c.refused(wire.CodeUnknownName)
}

func wrongClock(t *testing.T, v *victim) {
	eve := newSomeone(t)
	c := v.dial(t)
	c.say(must[*wire.Auth](t)(wire.SignAuth(wire.AuthBody{
		V: 1, Server: v.host, Nonce: c.hello.Nonce, CNonce: peercrypto.NewNonce(), Time: time.Now().Add(-time.Hour).UnixMilli(),
		Caps: []string{wire.CapRV1},
	}, eve.key, eve.cert)))
	c.refused(wire.CodeBadTime)
}

func leakSecret(t *testing.T, v *victim) {
	c := v.dial(t)
	frame := must[[]byte](t)(wire.Encode(newSomeone(t).auth(t, c.hello.Nonce, v.host)))
	c.text(`%s,"secretKey":"hunter2hunter2"}`, frame[:len(frame)-1])
	r := expect[*wire.Refused](c)
	if r.Code != wire.CodeInvalid || strings.Contains(r.Message, "hunter2") {
		t.Errorf("refused %s: %s", r.Code, r.Message)
	}
}

func claimGroupIDs(t *testing.T, v *victim) {
	c := v.connect(t, newSomeone(t))
	for i, tag := range []string{
		"00kqn91s56yt2gu3yf5vnbg67", "AAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAB", "users", "*", "",
	} {
		c.text(`{"type":"topics","id":%d,"add":["%s"]}`, i+1, tag)
		c.result(wire.CodeInvalid)
	}
}

func guessTags(t *testing.T, v *victim) {
	p := v.pair(t)
	c := v.connect(t, newSomeone(t))
	var tags []peercrypto.Tag
	for range 5_000 {
		tags = append(tags, freshTag())
	}
	c.hold(tags...)
	c.offer(p.bobby.cert.DeviceID, tags[7])
	c.result(wire.CodeNotAllowed)
	c.offer(p.bobby.cert.DeviceID, p.tag) // which it does not hold
	c.result(wire.CodeNotAllowed)
	c.quiet(`"type":"present"`)
}

func walkGraph(t *testing.T, v *victim) {
	p := v.pair(t)
	secret := freshTag()
	p.b.hold(secret)
	c := v.connect(t, newSomeone(t))
	c.id++
	c.say(&wire.Topics{ID: c.id, Add: []peercrypto.Tag{p.tag}})
	for seen := 0; seen < 2; {
		frame, err := c.next()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(frame), secret.String()) {
			t.Errorf("the server tells of another tag: %s", frame)
		}
		var m struct {
			Type string
			Join []map[string]json.RawMessage
		}
		if err := json.Unmarshal(frame, &m); err != nil {
			t.Fatal(err)
		}
		for _, peer := range m.Join {
			seen++
			if len(peer) != 1 || peer["cert"] == nil {
				t.Errorf("presence says more than the certificate: %s", frame)
			}
		}
	}
	c.quiet(secret.String())
}

func offerUnregistered(t *testing.T, v *victim) {
	p := v.pair(t)
	c := v.dial(t)
	c.offer(p.bobby.cert.DeviceID, p.tag)
	c.refused(wire.CodeInvalid)
	p.b.quiet(`"type":"offer"`)
}

const offerFrame = `{"type":"offer","id":%d,"to":"%s","via":"%s","conn":"0000000000000000000000001",` +
	`"env":{"eph":"CQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","ct":"c2VhbGVk"}%s}`

func forgeFrom(t *testing.T, v *victim) {
	p := v.pair(t)
	eve := newSomeone(t)
	c := v.connect(t, eve)
	c.hold(p.tag)
	c.text(offerFrame, 77, p.bobby.cert.DeviceID, p.tag, `,"from":"`+string(p.alice.cert.DeviceID)+`"`)
	c.result(wire.CodeInvalid)
	p.b.quiet(`"type":"offer"`)
	c.offer(p.bobby.cert.DeviceID, p.tag)
	if got := expect[*wire.Signal](p.b); got.From != eve.cert.DeviceID {
		t.Errorf("an offer of eve's arrived as one from %s", got.From)
	}
}

func offerToStranger(t *testing.T, v *victim) {
	p := v.pair(t)
	c := v.connect(t, newSomeone(t))
	own := freshTag()
	c.hold(own)
	var results []wire.Result
	for _, to := range []peercrypto.ID{p.bobby.cert.DeviceID, peercrypto.NewID(time.Now())} {
		for _, via := range []peercrypto.Tag{own, p.tag, {}} {
			c.offer(to, via)
			r := c.result(wire.CodeNotAllowed)
			r.ID = 0
			results = append(results, *r)
		}
	}
	for _, r := range results {
		if r != results[0] {
			t.Errorf("results differ: %+v and %+v", results[0], r)
		}
	}
	p.b.quiet(`"type":"offer"`)
}

func injectCandidate(t *testing.T, v *victim) {
	p := v.pair(t)
	p.a.id++
	conn := peercrypto.NewID(time.Now())
	p.a.say(&wire.Signal{
		Kind: wire.KindOffer, ID: p.a.id, To: p.bobby.cert.DeviceID, Via: p.tag, Conn: conn,
		Env: wire.NewEnvelope(&peercrypto.BoxPublicKey{9}, []byte("sealed")),
	})
	expect[*wire.Signal](p.b)
	c := v.connect(t, newSomeone(t))
	for _, kind := range []wire.Kind{wire.KindCandidate, wire.KindAnswer} {
		for _, to := range []peercrypto.ID{p.alice.cert.DeviceID, p.bobby.cert.DeviceID} {
			c.id++
			c.say(&wire.Signal{Kind: kind, ID: c.id, To: to, Via: p.tag, Conn: conn, Env: wire.NewEnvelope(nil, []byte("forged"))})
			c.result(wire.CodeNotAllowed)
		}
	}
	p.a.quiet(string(wire.KindAnswer))
	p.b.quiet(string(wire.KindCandidate))
}

func iceUnregistered(t *testing.T, v *victim) {
	c := v.dial(t)
	c.text(`{"type":"ice","id":1}`)
	c.refused(wire.CodeInvalid)
}

func iceExpires(t *testing.T, v *victim) {
	one, other := v.connect(t, newSomeone(t)).ready, v.connect(t, newSomeone(t)).ready
	latest := time.Now().Add(time.Hour + time.Minute)
	names := map[string]bool{}
	for _, r := range []*wire.Ready{one, other} {
		if r.ICEExpires == 0 || r.ICEExpires > latest.UnixMilli() {
			t.Errorf("ICE servers expire at %d", r.ICEExpires)
		}
		for _, s := range r.ICE {
			if s.Username == "" {
				continue
			}
			names[s.Username] = true
			seconds, _, _ := strings.Cut(s.Username, ":")
			if n, err := strconv.ParseInt(seconds, 10, 64); err != nil || n > latest.Unix() {
				t.Errorf("the user name %q says no time within the hour", s.Username)
			}
		}
	}
	if len(names) != 2 {
		t.Errorf("%d user names for 2 sessions", len(names))
	}
}

func reconnectRace(t *testing.T, v *victim) {
	p := v.pair(t)
	old := p.b
	p.b = v.connect(t, p.bobby)
	p.b.hold(p.tag)
	if n := expect[*wire.Notice](old); n.Code != wire.CodeReplaced {
		t.Errorf("notice %s, want replaced", n.Code)
	}
	old.ended(int(wire.CloseReplaced))
	_ = old.nc.(*net.TCPConn).SetLinger(0)
	_ = old.nc.Close()
	p.works()
}

func secondAuth(t *testing.T, v *victim) {
	known, eve := newSomeone(t), newSomeone(t)
	c := v.connect(t, eve)
	c.say(known.auth(t, c.hello.Nonce, v.host))
	c.ended(int(wire.CloseProtocol))
}
