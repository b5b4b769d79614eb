package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pionturn "github.com/pion/turn/v4"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

const (
	twilioSID    = "ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	twilioSecret = "tell-nobody-tell-nobody"
)

// twilio answers as Twilio's API does, until it is told to fail.
type twilio struct {
	*httptest.Server
	failing atomic.Int32 // status
	asked   atomic.Int32
}

func startTwilio(t *testing.T) *twilio {
	t.Helper()
	tw := &twilio{}
	tw.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tw.asked.Add(1)
		user, password, _ := r.BasicAuth()
		switch status := int(tw.failing.Load()); {
		case status != 0:
			w.WriteHeader(status)
			_, _ = fmt.Fprintf(w, `{"code":20003,"message":"Authenticate %s","status":%d}`, twilioSecret, status)
		case r.URL.Path != "/2010-04-01/Accounts/"+twilioSID+"/Tokens.json" || user != twilioSID || password != twilioSecret:
			w.WriteHeader(http.StatusUnauthorized)
		default:
			w.WriteHeader(http.StatusCreated)
			_, _ = fmt.Fprintf(w, `{"username":"from-twilio","password":"pw","ttl":"%s","ice_servers":[
				{"url":"stun:global.stun.twilio.com:3478","urls":"stun:global.stun.twilio.com:3478"},
				{"url":"turn:global.turn.twilio.com:443?transport=tcp","urls":"turn:global.turn.twilio.com:443?transport=tcp",
				 "username":"from-twilio","credential":"pw"}]}`, r.PostFormValue("Ttl"))
		}
	}))
	t.Cleanup(tw.Close)
	return tw
}

// start runs a server that asks tw.
func (tw *twilio) start(t *testing.T, args ...string) *server {
	t.Helper()
	t.Setenv("PEERSIGNAL_TWILIO_AUTH_TOKEN", twilioSecret)
	return startServer(t, append([]string{"--twilio-base-url", tw.URL, "--twilio-account-sid", twilioSID}, args...)...)
}

// wantSecret checks that the secret is nowhere to be seen.
func (s *server) wantSecret() {
	s.t.Helper()
	for _, path := range []string{"/", "/status", "/readyz", "/metrics"} {
		if strings.Contains(s.get(path), "tell-nobody") {
			s.t.Errorf("%s tells a secret", path)
		}
	}
	if strings.Contains(s.logs.String()+s.banner, "tell-nobody") {
		s.t.Errorf("a secret is in the logs:\n%s", s.logs)
	}
}

func TestTwilioThenEmbedded(t *testing.T) {
	tw := startTwilio(t)
	srv := tw.start(t, "--ice-order=twilio,embedded", "--twilio-ttl=20m")
	for range 3 {
		ready := srv.connect().ready
		urls, username, credential := relays(ready)
		if strings.Join(urls, " ") != "turn:global.turn.twilio.com:443?transport=tcp" || username != "from-twilio" || credential != "pw" {
			t.Fatalf("clients are told %v", ready.ICE)
		}
		if left := time.Until(time.UnixMilli(ready.ICEExpires)); left <= 15*time.Minute || left > 20*time.Minute {
			t.Errorf("the servers expire in %v", left)
		}
	}
	if n := tw.asked.Load(); n != 1 {
		t.Errorf("Twilio was asked %d times for all clients", n)
	}
	if status := srv.get("/status"); !strings.Contains(status, "twilio      ok\n  embedded    ok") {
		t.Errorf("status:\n%s", status)
	}
	srv.wantSecret()
	srv.stop()
	if strings.Contains(srv.logs.String(), "cannot be had") || !strings.Contains(srv.logs.String(), "draining") {
		t.Errorf("logs:\n%s", srv.logs)
	}
}

func TestTwilioDown(t *testing.T) {
	for _, status := range []int{http.StatusInternalServerError, http.StatusUnauthorized} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			tw := startTwilio(t)
			tw.failing.Store(int32(status))
			srv := tw.start(t, "--ice-order=twilio,embedded", "--ice-required", "--metrics-listen=127.0.0.1:0")
			urls, _, _ := relays(srv.connect().ready)
			if len(urls) != 2 || !strings.HasPrefix(urls[0], "turn:127.0.0.1:") {
				t.Errorf("clients are told %v", urls)
			}
			if !strings.Contains(srv.logs.String(), "leaving it out until it answers") {
				t.Errorf("logs:\n%s", srv.logs)
			}
			if body, status := srv.fetch(srv.url + "/readyz"); status != http.StatusOK || body != "ready\n" {
				t.Errorf("readyz: %d %q", status, body)
			}
			operators := strings.TrimSuffix(srv.banner[strings.LastIndex(srv.banner, "http://"):], "/metrics\n")
			page, _ := srv.fetch(operators + "/status")
			if !strings.Contains(page, fmt.Sprintf("twilio      down: Twilio answered %d", status)) || strings.Contains(page, "tell-nobody") {
				t.Errorf("status:\n%s", page)
			}
			srv.wantSecret()
		})
	}
}

func TestTwilioBesideEmbedded(t *testing.T) {
	tw := startTwilio(t)
	srv := tw.start(t, "--ice-order=embedded+twilio", "--ice-server=stun:stun.example:3478", "--ice-order=static")
	urls, _, _ := relays(srv.connect().ready)
	if len(urls) != 3 || !strings.HasPrefix(urls[0], "turn:127.0.0.1:") || !strings.Contains(urls[2], "twilio") {
		t.Errorf("clients are told %v", urls)
	}
}

// Readiness follows the sources when that is asked for.
func TestICERequired(t *testing.T) {
	tw := startTwilio(t)
	tw.failing.Store(http.StatusServiceUnavailable)
	srv := tw.start(t, "--turn=false", "--ice-required")
	if body, status := srv.fetch(srv.url + "/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, "no source of ICE servers") {
		t.Errorf("readyz: %d %q", status, body)
	}
	if ready := srv.connect().ready; len(ready.ICE) != 0 {
		t.Errorf("clients are told %v", ready.ICE)
	}
	if page := srv.get("/status"); !strings.Contains(page, "twilio      down, see the log") {
		t.Errorf("status:\n%s", page)
	}
	tw.failing.Store(0)
	patience := time.After(time.Minute)
	for status := 0; status != http.StatusOK; { // Twilio is asked again within seconds
		select {
		case <-patience:
			t.Fatal("never ready")
		case <-time.After(50 * time.Millisecond):
			_, status = srv.fetch(srv.url + "/readyz")
		}
	}
	if urls, _, _ := relays(srv.connect().ready); len(urls) != 1 {
		t.Errorf("clients are told %v", urls)
	}
	srv.wantSecret()
}

// relay allocates a relay with what a client was told.
func (c *client) relay() net.PacketConn {
	c.t.Helper()
	urls, username, credential := relays(c.ready)
	addr := strings.TrimSuffix(strings.TrimPrefix(urls[0], "turn:"), "?transport=udp")
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	t, err := pionturn.NewClient(&pionturn.ClientConfig{
		STUNServerAddr: addr, TURNServerAddr: addr, Conn: conn, Username: username, Password: credential,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	if err := t.Listen(); err != nil {
		c.t.Fatal(err)
	}
	relayed, err := t.Allocate()
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		_ = relayed.Close()
		t.Close()
		_ = conn.Close()
	})
	return relayed
}

// Two relays carry data between devices once these have exchanged an offer.
func TestIntroducedOnly(t *testing.T) {
	srv := startServer(t, "--turn-introduced-only")
	a, b := srv.connect(), srv.connect()
	ra, rb := a.relay(), b.relay()
	buf := make([]byte, 64)
	say := func(word string) {
		t.Helper()
		for _, way := range [][2]net.PacketConn{{rb, ra}, {ra, rb}} { // b first, which opens a's way in
			if _, err := way[0].WriteTo([]byte(word), way[1].LocalAddr()); err != nil {
				t.Fatal(err)
			}
		}
	}
	say("strangers")
	const dropped = `peersignal_turn_relayed_packets_dropped_total{direction="to_peer",reason="not_introduced"} `
	for !strings.Contains(srv.get("/metrics"), dropped+"2\n") {
		if a.ctx.Err() != nil {
			t.Fatal("packets of strangers are not dropped")
		}
	}
	tags := []peercrypto.Tag{{1}}
	for i, c := range []*client{a, b} {
		c.send(&wire.Topics{ID: uint64(i + 1), Add: tags})
		if r := c.result(uint64(i + 1)); r.Code != wire.CodeOK {
			t.Fatalf("topics: %+v", r)
		}
	}
	a.send(&wire.Signal{
		Kind: wire.KindOffer, ID: 9, To: b.device, Via: tags[0], Conn: peercrypto.NewID(time.Now()),
		Env: wire.NewEnvelope(&peercrypto.BoxPublicKey{9}, []byte("sealed")),
	})
	if r := a.result(9); r.Code != wire.CodeDelivered {
		t.Fatalf("offer: %+v", r)
	}
	// New relays: what the first ones were told about each other lasts until
	// their permissions are refreshed.
	ra, rb = a.relay(), b.relay()
	say("acquaintances")
	_ = rb.SetReadDeadline(time.Now().Add(time.Minute))
	if n, _, err := rb.ReadFrom(buf); err != nil || string(buf[:n]) != "acquaintances" {
		t.Errorf("read %q, %v", buf[:n], err)
	}
	if !strings.Contains(srv.get("/metrics"), "peersignal_signaling_introductions 1\n") {
		t.Error("the introduction is not counted")
	}
}

// Whoever is blocked loses the relays of sessions that ended before, too: they
// would go on as long as their clients refresh them.
func TestBlockEndsRelays(t *testing.T) {
	o := startOperated(t, "")
	gone := func(c *client) {
		t.Helper()
		c.relay()
		c.send(&wire.Bye{})
		c.closed()
	}
	open := func(n int) bool {
		return strings.Contains(o.get("/metrics"), fmt.Sprintf("peersignal_turn_allocations{transport=\"udp\"} %d\n", n))
	}
	a, b, c := o.connect(), o.connect(), o.connect()
	gone(a)
	gone(b)
	c.relay()
	if !open(3) {
		t.Fatal("the relays ended with their sessions")
	}
	o.mustAdmin("blocked user", "block", "--user", a.user.String())
	if !open(2) {
		t.Error("a blocked user's relay is still there, or another one has gone")
	}
	o.mustAdmin("blocked network", "block", "--network", "127.0.0.0/8")
	if !open(0) {
		t.Error("relays of a blocked network are still there")
	}
}
