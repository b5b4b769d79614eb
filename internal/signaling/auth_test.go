package signaling_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/peersignal/peersignal/internal/signaling"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// refused sends an auth and expects a refusal and the close that follows.
func (c *client) refused(a *wire.Auth, want wire.Code) *wire.Refused {
	c.t.Helper()
	c.send(a)
	r := read[*wire.Refused](c)
	if r.Code != want || r.Message == "" {
		c.t.Errorf("got %+v, want %s", r, want)
	}
	c.wantClose(wire.CloseRefused)
	return r
}

func TestRefusals(t *testing.T) {
	n := start(t, signaling.Config{})
	d, other := newDevice(t), newDevice(t)
	now := time.Now()
	certOf := func(change func(*peercrypto.DeviceCert)) device {
		u := newUser(t)
		x := u.device(t)
		change(&x.cert)
		cert, err := peercrypto.SignDeviceCert(u.user, x.cert)
		if err != nil {
			t.Fatal(err)
		}
		x.cert = cert
		return x
	}
	expired := certOf(func(c *peercrypto.DeviceCert) {
		c.Issued, c.Expires = now.Add(-48*time.Hour).UnixMilli(), now.Add(-24*time.Hour).UnixMilli()
	})
	forged := newDevice(t)
	forged.cert.Expires++
	for _, tt := range []struct {
		name string
		make func(nonce wire.Nonce) *wire.Auth
		want wire.Code
	}{
		{"another nonce", func(wire.Nonce) *wire.Auth { return d.auth(t, wire.Nonce{1}, n.name, now) }, wire.CodeBadNonce},
		{"another server", func(x wire.Nonce) *wire.Auth { return d.auth(t, x, "evil.example:443", now) }, wire.CodeUnknownName},
		{"another port", func(x wire.Nonce) *wire.Auth { return d.auth(t, x, "127.0.0.1:1", now) }, wire.CodeUnknownName},
		{"clock behind", func(x wire.Nonce) *wire.Auth { return d.auth(t, x, n.name, now.Add(-6*time.Minute)) }, wire.CodeBadTime},
		{"clock ahead", func(x wire.Nonce) *wire.Auth { return d.auth(t, x, n.name, now.Add(6*time.Minute)) }, wire.CodeBadTime},
		{"another's device id", func(x wire.Nonce) *wire.Auth {
			a := d.auth(t, x, n.name, now)
			a.A.DeviceID = other.cert.DeviceID
			return a
		}, wire.CodeBadDeviceID},
		{"expired certificate", func(x wire.Nonce) *wire.Auth { return expired.auth(t, x, n.name, now) }, wire.CodeBadCertificate},
		{"forged certificate", func(x wire.Nonce) *wire.Auth { return forged.auth(t, x, n.name, now) }, wire.CodeBadCertificate},
		{"another's certificate", func(x wire.Nonce) *wire.Auth {
			a := d.auth(t, x, n.name, now)
			a.Cert = other.cert
			return a
		}, wire.CodeCertMismatch},
		{"another's user key", func(x wire.Nonce) *wire.Auth {
			a := d.auth(t, x, n.name, now)
			a.A.UserKey = other.cert.UserKey
			return a
		}, wire.CodeCertMismatch},
		{"another's signature", func(x wire.Nonce) *wire.Auth {
			a := d.auth(t, x, n.name, now)
			a.Sig = other.auth(t, x, n.name, now).Sig
			return a
		}, wire.CodeBadSignature},
		{"changed after signing", func(x wire.Nonce) *wire.Auth {
			a := d.auth(t, x, n.name, now)
			a.A.CNonce = peercrypto.NewNonce()
			return a
		}, wire.CodeBadSignature},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, n)
			c.refused(tt.make(c.hello.Nonce), tt.want)
		})
	}
}

func TestReplays(t *testing.T) {
	n := start(t, signaling.Config{})
	d := newDevice(t)
	first, second := dial(t, n), dial(t, n)
	captured := d.auth(t, first.hello.Nonce, n.name, time.Now())
	first.send(captured)
	read[*wire.Ready](first)
	second.refused(captured, wire.CodeBadNonce)

	// Forwarded by a server in the middle, under whose name it was signed.
	named := start(t, signaling.Config{Names: []string{"signal.example.org"}})
	c := dial(t, named)
	c.refused(d.auth(t, c.hello.Nonce, "evil.example.org:443", time.Now()), wire.CodeUnknownName)
	// The same for a server without a name: neither localhost nor its address.
	c = dial(t, n)
	if r := c.refused(d.auth(t, c.hello.Nonce, "signal.example.org:443", time.Now()), wire.CodeUnknownName); !strings.Contains(r.Message, "--name") {
		t.Errorf("the message does not help: %q", r.Message)
	}
}

func TestNonceExpires(t *testing.T) {
	clock := make(chan time.Time, 8)
	begin := time.Now()
	// hello reads the clock once, then the check of the auth does.
	for _, at := range []time.Duration{0, 61 * time.Second} {
		clock <- begin.Add(at)
	}
	n := start(t, signaling.Config{Now: func() time.Time { return <-clock }})
	c := dial(t, n)
	c.refused(newDevice(t).auth(t, c.hello.Nonce, n.name, begin), wire.CodeNonceExpired)
}

func TestAuthTimeout(t *testing.T) {
	n := start(t, signaling.Config{Limits: signaling.Limits{AuthTimeout: 20 * time.Millisecond}})
	c := dial(t, n)
	if r := read[*wire.Refused](c); r.Code != wire.CodeAuthTimeout || !r.Code.Retry() {
		t.Errorf("got %+v", r)
	}
	c.wantClose(wire.CloseAuthTimeout)
}

func TestBeforeAuth(t *testing.T) {
	n := start(t, signaling.Config{})
	for _, frame := range []string{
		`{"type":"bye"}`, `{"type":"topics","id":1}`, `{"type":"auth"}`, `null`, `{`, "\xff",
		`{"type":"auth","a":{},"sig":"","cert":{}}`, `{"type":"auth"` + strings.Repeat(" ", wire.MaxPreAuthFrame) + `}`,
	} {
		c := dial(t, n)
		c.write([]byte(frame))
		if r := read[*wire.Refused](c); r.Code != wire.CodeInvalid {
			t.Errorf("%.40q: got %+v", frame, r)
		}
		c.wantClose(wire.CloseRefused)
	}
}

func TestNames(t *testing.T) {
	d := newDevice(t)
	named := start(t, signaling.Config{Names: []string{"Signal.Example.org", "alias.example.org:8443"}})
	c := dial(t, named)
	if c.hello.Name != "signal.example.org:443" {
		t.Errorf("name %q", c.hello.Name)
	}
	r := c.refused(d.auth(t, c.hello.Nonce, "alias.example.org:8443", time.Now()), wire.CodeUseName)
	if r.Name != "signal.example.org:443" {
		t.Errorf("name %q", r.Name)
	}
	c = dial(t, named)
	c.refused(d.auth(t, c.hello.Nonce, named.name, time.Now()), wire.CodeUnknownName)
	c = dial(t, named)
	c.send(d.auth(t, c.hello.Nonce, "signal.example.org:443", time.Now()))
	read[*wire.Ready](c)

	free := start(t, signaling.Config{})
	_, port, _ := net.SplitHostPort(free.name)
	c = dial(t, free)
	c.send(d.auth(t, c.hello.Nonce, "localhost:"+port, time.Now()))
	read[*wire.Ready](c)

	if _, err := signaling.New(signaling.Config{Names: []string{"http://x"}}); err == nil {
		t.Error("a URL is no name")
	}
}

// iceSource gives what its fields say.
type iceSource struct {
	expires time.Time
	err     error
	asked   chan signaling.ICERequest
}

func (s *iceSource) ICEServers(_ context.Context, r signaling.ICERequest) ([]wire.ICEServer, time.Time, error) {
	s.asked <- r
	return []wire.ICEServer{{URLs: []string{"stun:127.0.0.1:3478"}}}, s.expires, s.err
}

func TestICE(t *testing.T) {
	src := &iceSource{expires: time.Now().Add(time.Hour), asked: make(chan signaling.ICERequest, 16)}
	n := start(t, signaling.Config{ICE: src})
	d := newDevice(t)
	c := connect(t, n, d)
	want := signaling.ICERequest{Session: c.ready.Session.String(), User: d.cert.UserKey.String(), Host: "127.0.0.1"}
	if got := <-src.asked; got != want {
		t.Errorf("asked %+v, want %+v", got, want)
	}
	if len(c.ready.ICE) != 1 || c.ready.ICEExpires != src.expires.UnixMilli() {
		t.Errorf("ready %+v", c.ready)
	}
	c.send(&wire.ICERequest{ID: 9})
	if got := read[*wire.ICE](c); got.ID != 9 || len(got.Servers) != 1 {
		t.Errorf("got %+v", got)
	}

	failing := &iceSource{err: errors.New("no relay"), asked: make(chan signaling.ICERequest, 16)}
	n = start(t, signaling.Config{ICE: failing})
	c = connect(t, n, newDevice(t)) // there is a session all the same
	c.send(&wire.ICERequest{ID: 9})
	if r := c.result(9); r.Code != wire.CodeUnavailable || r.RetryAfter == 0 {
		t.Errorf("got %+v", r)
	}
}

func TestICEIsRenewed(t *testing.T) {
	src := &iceSource{expires: time.Now().Add(time.Minute), asked: make(chan signaling.ICERequest, 1024)}
	n := start(t, signaling.Config{ICE: src, Limits: signaling.Limits{PingInterval: 5 * time.Millisecond, PingTimeout: time.Minute}})
	c := connect(t, n, newDevice(t))
	if got := read[*wire.ICE](c); got.ID != 0 || len(got.Servers) != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestMetricsArePrimed(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	n := start(t, signaling.Config{Registerer: r})
	value := func(name, label string) float64 {
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() != "peersignal_signaling_"+name {
				continue
			}
			for _, m := range f.GetMetric() {
				if label == "" || m.GetLabel()[0].GetValue() == label {
					return m.GetCounter().GetValue() + m.GetGauge().GetValue()
				}
			}
		}
		t.Errorf("no %s %s", name, label)
		return -1
	}
	for name, labels := range map[string][]string{
		"connections_total":   {"accepted", "origin", "pending", "per-address", "draining", "subprotocol", "upgrade"},
		"refused_total":       {"bad-nonce", "use-name", "unknown-name", "bad-signature", "server-full"},
		"closed_total":        {"gone", "bye", "slow-reader", "replaced", "protocol", "ping-timeout", "kicked"},
		"messages_total":      {"topics", "offer", "invalid"},
		"results_total":       {"ok", "delivered", "not-allowed", "rate-limited"},
		"relayed_bytes_total": {""}, "sessions": {""}, "pending": {""}, "topics": {""}, "nodes": {""},
		"presence_frames_total": {"full", "join", "leave", "deferred"}, "bus_dropped_total": {"queue-full"},
	} {
		for _, l := range labels {
			if got := value(name, l); got != 0 {
				t.Errorf("%s{%s} is %v", name, l, got)
			}
		}
	}
	c := connect(t, n, newDevice(t))
	c.hold(tag(1))
	if value("sessions", "") != 1 || value("topics", "") != 1 || value("results_total", "ok") != 1 {
		t.Error("the metrics do not count")
	}
	c.bye()
	n.stop()
	if value("sessions", "") != 0 || value("topics", "") != 0 || value("pending", "") != 0 || value("closed_total", "bye") != 1 {
		t.Error("the metrics do not count down")
	}
}
