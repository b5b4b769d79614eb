package main

import (
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// sealed is what the envelopes of traffic hold.
const sealed = "tell-nobody: a=candidate:1 1 udp 2 192.0.2.99 5000 typ host"

// traffic has two devices exchange what devices exchange, and some mistakes.
func traffic(t *testing.T, srv *server) (a, b *client) {
	t.Helper()
	a, b = srv.connect(), srv.connect()
	tag := peercrypto.Tag{7}
	for _, c := range []*client{a, b} {
		c.send(&wire.Topics{ID: 1, Add: []peercrypto.Tag{tag}})
		if r := c.result(1); r.Code != wire.CodeOK {
			t.Fatalf("topics: %+v", r)
		}
	}
	for i, to := range []peercrypto.ID{b.device, peercrypto.NewID(time.Now())} {
		id := uint64(i + 2)
		a.send(&wire.Signal{
			Kind: wire.KindOffer, ID: id, To: to, Via: tag, Conn: peercrypto.NewID(time.Now()),
			Env: wire.NewEnvelope(&peercrypto.BoxPublicKey{9}, []byte(sealed)),
		})
		a.result(id)
	}
	a.send(&wire.ICERequest{ID: 10})
	stranger := srv.connect()
	stranger.send(&wire.Topics{ID: 1, Del: []peercrypto.Tag{tag}})
	stranger.result(1)
	if err := stranger.ws.Write(stranger.ctx, 1, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	stranger.closed()
	return a, b
}

// startObserved runs a server with everything that has metrics.
func startObserved(t *testing.T) *operated {
	t.Helper()
	tw := startTwilio(t)
	t.Setenv("PEERSIGNAL_TWILIO_AUTH_TOKEN", twilioSecret)
	files := certFiles(t)
	return startOperated(t, "", "--twilio-base-url", tw.URL, "--twilio-account-sid", twilioSID, "--turn-introduced-only",
		"--turn-tls-listen=127.0.0.1:0", "--tls-cert", files.cert, "--tls-key", files.key)
}

var seriesName = regexp.MustCompile(`(?m)^([a-z_]+(?:\{[^}]*\})?) `)

// series are the names with labels of /metrics. Those of Go's runtime differ
// from moment to moment.
func series(body string) (out []string) {
	for _, m := range seriesName.FindAllStringSubmatch(body, -1) {
		if strings.HasPrefix(m[1], "peersignal_") {
			out = append(out, m[1])
		}
	}
	slices.Sort(out)
	return out
}

// Every series is there from the start, and traffic adds none: labels are
// finite. Names follow Prometheus' rules and ours.
func TestMetrics(t *testing.T) {
	o := startObserved(t)
	before := o.get("/metrics")
	traffic(t, o.server)
	if _, err := run(t, "admin", "reload", "--socket", o.socket); err != nil {
		t.Fatal(err)
	}
	after := o.get("/metrics")
	for _, s := range series(after) {
		if !slices.Contains(series(before), s) {
			t.Errorf("%s came with traffic", s)
		}
	}
	problems, err := promlint.New(strings.NewReader(after)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "peersignal_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	names := map[string]bool{}
	for _, s := range series(after) {
		name, _, _ := strings.Cut(s, "{")
		names[name] = true
	}
	for name := range names {
		if usage, ok := strings.CutSuffix(name, "_limit"); ok && !names[usage] {
			t.Errorf("%s has no gauge of what is used", name)
		}
	}
	for _, part := range []string{"build_info", "ready", "http_", "tls_", "audit_", "signaling_", "turn_", "ice_"} {
		if !slices.ContainsFunc(series(after), func(s string) bool { return strings.HasPrefix(s, "peersignal_"+part) }) {
			t.Errorf("no peersignal_%s", part)
		}
	}
	if strings.Count(after, "_dropped") > 0 {
		for _, s := range series(after) {
			if strings.Contains(s, "_dropped") && !strings.Contains(s, "reason=") {
				t.Errorf("%s has no reason", s)
			}
		}
	}
}

// Neither logs nor the audit log have what was sealed, or a secret; logs have no
// whole ids.
func TestLogsAreDiscreet(t *testing.T) {
	o := startObserved(t)
	a, b := traffic(t, o.server)
	var username, credential string // of our own relay
	for _, server := range a.ready.ICE {
		if len(server.Credential) >= 16 {
			username, credential = server.Username, server.Credential
		}
	}
	if credential == "" {
		t.Fatal("no relay was given")
	}
	o.mustAdmin("ended", "kick", "--device", string(a.device), "--message", "bye")
	o.mustAdmin("", "reload")
	b.ws.CloseNow()
	o.stop()
	auditLog := string(mustRead(t, o.path("audit.jsonl")))
	if !strings.Contains(auditLog, string(a.device)) || !strings.Contains(auditLog, username) {
		t.Error("the audit log does not answer for anything")
	}
	for what, text := range map[string]string{
		"envelope": sealed, "envelope, encoded": peercrypto.EncodeB64u([]byte(sealed))[:20], "candidate": "a=candidate",
		"credential": credential, "Twilio's secret": twilioSecret,
	} {
		if strings.Contains(o.logs.String(), text) || strings.Contains(auditLog, text) {
			t.Errorf("%s is in a log", what)
		}
	}
	for what, text := range map[string]string{
		"device": string(a.device), "session": a.ready.Session.String(), "username": username,
	} {
		if strings.Contains(o.logs.String(), text) {
			t.Errorf("a whole %s is in the log", what)
		}
	}
	if o.logs.String() == "" {
		t.Error("there is no log to look at")
	}
}

// A proxy that is not named is told of, once.
func TestUnknownProxyIsTold(t *testing.T) {
	const text = "a proxy is not known"
	for _, tt := range []struct {
		trusted []string
		want    int
	}{{nil, 1}, {[]string{"--trusted-proxy=127.0.0.0/8"}, 0}} {
		srv := startServer(t, append([]string{"--turn=false"}, tt.trusted...)...)
		for range 3 {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.url+wire.Path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-Forwarded-For", "192.0.2.1")
			resp, err := srv.http.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
		}
		if n := strings.Count(srv.logs.String(), text); n != tt.want {
			t.Errorf("%q: told %d times, want %d", tt.trusted, n, tt.want)
		}
	}
}

// A flood of connections that say nothing, or half of something, ends itself,
// and a client among it gets in.
func TestHalfOpenFlood(t *testing.T) {
	srv := startServer(t, "--max-pending=1100")
	addr := strings.TrimPrefix(srv.url, "http://")
	const flood = 2600
	conns := make([]net.Conn, 0, flood)
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for i := range flood {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Skipf("this system has no %d connections: %v", flood, err)
		}
		conns = append(conns, c)
		if i%2 == 0 {
			_, _ = fmt.Fprintf(c, "GET /v1/signal HTTP/1.1\r\nHost: x\r\n")
		}
		if i == flood/2 {
			srv.connect()
		}
	}
	srv.connect()
	metrics := srv.get("/metrics")
	if !strings.Contains(metrics, "peersignal_http_quiet_connections_limit 2200\n") ||
		strings.Contains(metrics, "peersignal_http_dropped_connections_total{reason=\"quiet\"} 0\n") {
		t.Error("the flood was kept")
	}
}

// A log that was tampered with is found by the command, and the server does not
// go on with it.
func TestAuditCommands(t *testing.T) {
	o := startOperated(t, "")
	o.connect()
	o.stop()
	log := o.path("audit.jsonl")
	out, err := run(t, "audit", "verify", "--complete", log)
	if err != nil || !strings.Contains(out, "in order:") {
		t.Fatalf("%s, %v", out, err)
	}
	_, head, _ := strings.Cut(strings.TrimSpace(out), "head ")
	if out, err := run(t, "audit", "verify", "--head", head, log); err != nil {
		t.Errorf("%s, %v", out, err)
	}
	shown, err := run(t, "audit", "show", "--kind", "registered", "--since", "1h", log)
	if err != nil || strings.Count(shown, "\n") != 1 || !strings.Contains(shown, "registered  device=") {
		t.Errorf("%s, %v", shown, err)
	}
	if shown, err = run(t, "audit", "show", "--json", "--device", "nobody", log); err != nil || shown != "" {
		t.Errorf("%s, %v", shown, err)
	}
	text := string(mustRead(t, log))
	lines := strings.SplitAfter(text, "\n")
	for want, tampered := range map[string]string{
		"line 2: it was altered":    strings.Replace(text, "127.0.0.1", "127.0.0.9", 1),
		"line 2: line 2 is missing": lines[0] + strings.Join(lines[2:], ""),
		"is not there":              strings.Join(lines[:2], ""),
	} {
		write(t, log, []byte(tampered))
		if out, err := run(t, "audit", "verify", "--head", head, log); exitCode(err) != exitFailure || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s, %v", want, out, err)
		}
	}
	for _, args := range [][]string{
		{"audit"}, {"audit", "verify"}, {"audit", "verify", "nowhere"}, {"audit", "show", "--since", "soon", log},
		{"audit", "verify", "--head", "7", log},
	} {
		if _, err := run(t, args...); err == nil || exitCode(err) != exitUsage {
			t.Errorf("%v: %v", args, err)
		}
	}
}
