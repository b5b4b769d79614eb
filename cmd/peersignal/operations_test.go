package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/peersignal/peersignal/internal/admin"
	"github.com/peersignal/peersignal/internal/audit"
	"github.com/peersignal/peersignal/pkg/wire"
)

// operated is a server with all that operators can have.
type operated struct {
	*server
	dir    string
	socket string
	config string
}

func startOperated(t *testing.T, config string, args ...string) *operated {
	t.Helper()
	o := &operated{dir: t.TempDir(), config: writeConfig(t, config)}
	o.socket = filepath.Join(o.dir, "a.sock")
	o.server = startServer(t, append([]string{
		"--config", o.config, "--admin-socket", o.socket, "--audit-file", o.path("audit.jsonl"), "--block-file", o.path("blocks.json"),
	}, args...)...)
	return o
}

func (o *operated) path(name string) string { return filepath.Join(o.dir, name) }

// admin runs a command of admin.
func (o *operated) admin(args ...string) (string, error) {
	o.t.Helper()
	return run(o.t, append(append([]string{"admin"}, args...), "--socket", o.socket)...)
}

func (o *operated) mustAdmin(want string, args ...string) string {
	o.t.Helper()
	out, err := o.admin(args...)
	if err != nil || !strings.Contains(out, want) {
		o.t.Errorf("admin %v: %v\n%s\nwant %q", args, err, out, want)
	}
	return out
}

func (o *operated) failAdmin(code int, want string, args ...string) {
	o.t.Helper()
	if out, err := o.admin(args...); err == nil || exitCode(err) != code || !strings.Contains(err.Error(), want) {
		o.t.Errorf("admin %v: %v\n%s\nwant %d, %q", args, err, out, code, want)
	}
}

// kinds are the kinds of the audit log, in their order.
func (o *operated) kinds() (kinds []string) {
	o.t.Helper()
	err := audit.Read(func(l audit.Line) error {
		kinds = append(kinds, l.Kind)
		return nil
	}, o.path("audit.jsonl"))
	if err != nil {
		o.t.Fatal(err)
	}
	return kinds
}

// closed reads until the connection ends, and returns the close code.
func (c *client) closed() string {
	for {
		_, _, err := c.ws.Read(c.ctx)
		if err != nil {
			return err.Error()
		}
	}
}

func TestAdmin(t *testing.T) {
	o := startOperated(t, "")
	o.mustAdmin("no session", "sessions")
	a, b := o.connect(), o.connect()
	o.mustAdmin("2 of 50,000", "status")
	o.mustAdmin("ice embedded", "status")
	var s admin.Status
	if err := json.Unmarshal([]byte(o.mustAdmin("{", "status", "--json")), &s); err != nil || !s.Ready || s.Audit.Seq < 3 || len(s.Listeners) != 3 {
		t.Errorf("%+v, %v", s, err)
	}
	device := string(a.device)
	o.mustAdmin(device, "sessions", "--device", device)
	o.mustAdmin("there are more", "sessions", "--limit", "1")
	o.mustAdmin(string(b.device), "sessions", "--network", "127.0.0.1", "--json")
	o.failAdmin(2, "neither an address", "sessions", "--network", "x")
	o.failAdmin(2, "neither connected nor parked", "sessions", "--state", "x")
	o.failAdmin(2, "say whom", "kick")
	o.failAdmin(1, "no session is like that", "kick", "--device", "nobody")
	o.failAdmin(1, "no session is like that", "kick", "--device", "nobody", "--json")

	o.mustAdmin("ended 1 session\n", "kick", "--device", device, "--message", "please update")
	if got := a.closed(); !strings.Contains(got, "4010") {
		t.Errorf("kicked: %s", got)
	}
	o.failAdmin(2, "one of --device", "block")
	o.failAdmin(2, "in the past", "block", "--network", "192.0.2.1", "--for=-1h")
	o.failAdmin(2, "neither an address", "block", "--network", "127.1")
	o.mustAdmin("blocked network 127.0.0.0/8; ended ", "block", "--network", "127.0.0.1/8", "--for", "1h", "--reason", "test")
	if got := b.closed(); !strings.Contains(got, "4010") {
		t.Errorf("blocked: %s", got)
	}
	o.mustAdmin("network 127.0.0.0/8", "blocked")
	o.mustAdmin("lifted the block of network 127.0.0.0/8", "unblock", "--network", "127.1.2.3/8")
	o.failAdmin(1, "is not blocked", "unblock", "--network", "127.0.0.0/8")
	o.mustAdmin("nobody is blocked", "blocked")
	o.mustAdmin("debug", "log-level")
	o.mustAdmin("warn", "log-level", "warn")
	o.failAdmin(2, "none of debug", "log-level", "loud")
	o.mustAdmin("takes no new sessions", "drain", "--window", "10ms")
	o.wait()
	o.failAdmin(3, "no server listens", "status")
	text := strings.Join(o.kinds(), " ")
	for _, want := range []string{"audit-started", "credentials", "registered", "kicked", "blocked", "unblocked", "log-level", "drain", "audit-stopped"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in the audit log: %s", want, text)
		}
	}
}

// Over the listener a token is needed, which can change.
func TestAdminListener(t *testing.T) {
	tokens := filepath.Join(t.TempDir(), "token")
	write(t, tokens, []byte("first-token-first-token\n"))
	o := startOperated(t, "", "--admin-listen=127.0.0.1:0", "--admin-token-file", tokens)
	var s admin.Status
	if err := json.Unmarshal([]byte(o.mustAdmin("{", "status", "--json")), &s); err != nil {
		t.Fatal(err)
	}
	base := ""
	for _, l := range s.Listeners {
		if l.Use == "admin" && strings.HasPrefix(l.Address, "127.") {
			base = "http://" + l.Address
		}
	}
	ask := func(file string) error {
		_, err := run(t, "admin", "status", "--url", base, "--token-file", file)
		return err
	}
	if err := ask(tokens); err != nil {
		t.Error(err)
	}
	old := filepath.Join(t.TempDir(), "old")
	write(t, old, []byte("first-token-first-token"))
	write(t, tokens, []byte("second-token-second-token"))
	o.mustAdmin("admin-token-file", "reload")
	if err := ask(tokens); err != nil {
		t.Error(err)
	}
	if err := ask(old); err == nil || !strings.Contains(err.Error(), "token is missing or wrong") {
		t.Errorf("the old token: %v", err)
	}
	if _, err := run(t, "admin", "status", "--url", base); exitCode(err) != 2 {
		t.Errorf("no token: %v", err)
	}
	if logs := o.logs.String(); strings.Contains(logs, "token-first") || strings.Contains(logs, "token-second") {
		t.Error("a token is in the log")
	}
}

// A reload applies what it can, tells what it cannot, and takes nothing of a
// configuration with a mistake.
func TestReload(t *testing.T) {
	o := startOperated(t, "allow-origin: [old.example]\nlog-format: text\n")
	allowed := func(origin string) bool {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, o.url+wire.Path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{
			"Origin": {"https://" + origin}, "Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
			"Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="}, "Sec-Websocket-Protocol": {wire.Subprotocol},
		}
		resp, err := o.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusSwitchingProtocols
	}
	before := o.connect()
	o.mustAdmin("no setting has changed", "reload")
	write(t, o.config, []byte("allow-origin: [new.example]\nmax-sessions: 7\nlog-format: json\nice-server: [\"stun:new.example\"]\n"+
		"turn-secrets: \"a:0123456789abcdef\"\nturn-ttl: 2h\nturn-deny-peer: [192.0.2.0/24]\n"))
	out := o.mustAdmin("", "reload")
	for _, want := range []string{
		"allow-origin    applied", "max-sessions    applied", "log-format      needs a restart", "ice-server      applied",
		"turn-secrets    applied", "turn-ttl        needs a restart", "turn-deny-peer  applied",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if allowed("old.example") || !allowed("new.example") {
		t.Error("the origins are not the new ones")
	}
	o.mustAdmin("of 7", "status")
	if metrics := o.get("/metrics"); !strings.Contains(metrics, "peersignal_signaling_sessions_limit 7\n") {
		t.Error("the metric has the old limit")
	}
	ready, _ := json.Marshal(o.connect().ready.ICE)
	if !strings.Contains(string(ready), "stun:new.example") || !strings.Contains(string(ready), ":a:") {
		t.Errorf("a new session has the old servers: %s", ready)
	}
	for _, wrong := range []string{
		"allow-origin: [x.example]\nmax-sesions: 7\n", "allow-origin: [x.example]\ntrusted-proxy: [x]\n",
		"allow-origin: [x.example]\nturn-deny-peer: [x]\n", "allow-origin: [x.example]\nice-server: [\"http://x\"]\n", "\tx",
	} {
		write(t, o.config, []byte(wrong))
		o.failAdmin(1, "", "reload")
		if !allowed("new.example") || allowed("x.example") {
			t.Errorf("%q has changed something", wrong)
		}
	}
	write(t, o.config, []byte("allow-origin: [new.example]\n"))
	write(t, o.path("blocks.json"), []byte(`{"version":1,"blocks":[{"network":"x"}]}`))
	o.failAdmin(1, "block", "reload")
	write(t, o.path("blocks.json"), []byte(`{"version":1,"blocks":[{"network":"127.0.0.0/8"}]}`))
	o.mustAdmin("turn-secrets    needs a restart", "reload")
	if got := before.closed(); !strings.Contains(got, "4010") {
		t.Errorf("blocked by the file: %s", got)
	}
	if logs := o.logs.String(); !strings.Contains(logs, "setting=log-format outcome=\"needs a restart\"") ||
		!strings.Contains(logs, "setting=allow-origin outcome=applied") || strings.Contains(logs, "0123456789abcdef") {
		t.Error("the log does not say what was changed, or too much")
	}
}

// The file that leads to the server can have a mistake elsewhere; the server says which.
func TestAdminWithABrokenFile(t *testing.T) {
	o := startOperated(t, "")
	admin := func(config string, args ...string) (int, error) {
		write(t, o.config, []byte(config))
		_, err := run(t, append([]string{"admin", "--config", o.config}, args...)...)
		if err == nil {
			return 0, nil
		}
		return exitCode(err), err
	}
	socket := "admin-socket: " + o.socket + "\n"
	for _, tt := range []struct {
		config string
		code   int
		want   string
	}{
		{socket, 0, ""}, {socket + "lisen: x\n", 1, `unknown key "lisen"; did you mean "listen"?`},
		{socket + "turn-secrets-file: /none/secret\n", 1, "turn-secrets-file"}, {socket + "\tx", 1, "not YAML"},
		{"admin-socket: [x]", 1, "admin-socket"},
	} {
		if code, err := admin(tt.config, "reload"); code != tt.code || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %d, %v, want %d, %q", tt.config, code, err, tt.code, tt.want)
		}
	}
	if code, err := admin(socket+"lisen: x\n", "status"); code != 0 {
		t.Errorf("status: %v", err)
	}
	if _, err := run(t, "admin", "status", "--config", filepath.Join(o.dir, "none")); err == nil || exitCode(err) != exitUsage {
		t.Errorf("no file: %v", err)
	}
}

// systemd is told when the server serves, reloads and stops.
func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Skip("this system has no unixgram")
	}
	defer c.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	told := func(want string) {
		t.Helper()
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		b := make([]byte, 1000)
		n, err := c.Read(b)
		if err != nil || !strings.HasPrefix(string(b[:n]), want) {
			t.Errorf("got %q, %v, want %s", b[:n], err, want)
		}
	}
	o := startOperated(t, "")
	told("READY=1")
	o.mustAdmin("", "reload")
	told("RELOADING=1\nMONOTONIC_USEC=")
	told("READY=1")
	o.stop()
	told("STOPPING=1")
}

// The page at / says how to point an app at the server, and runs nothing.
func TestHome(t *testing.T) {
	srv := startServer(t, "--name=signal.example.org:8443")
	page := srv.get("/")
	if !strings.Contains(page, "peerd up --server https://signal.example.org:8443") || strings.Contains(page, "<script") {
		t.Errorf("%s", page)
	}
	plain := startServer(t)
	if page := plain.get("/"); !strings.Contains(page, plain.url) {
		t.Errorf("no %s in %s", plain.url, page)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, plain.url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "<b>.example"
	resp, err := plain.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if strings.Contains(string(body), "<b>") || !strings.Contains(string(body), "no name yet") && resp.StatusCode == http.StatusOK {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if csp := resp.Header.Get("Content-Security-Policy"); resp.StatusCode == http.StatusOK && !strings.HasPrefix(csp, "default-src 'none'; style-src 'sha256-") {
		t.Errorf("policy %q", csp)
	}
	if _, status := plain.fetch(plain.url + "/debug/pprof/"); status != http.StatusNotFound {
		t.Errorf("profiles are public: %d", status)
	}
}

// Readiness has details, and reasons on the operators' listener only.
func TestReadyDetails(t *testing.T) {
	tw := startTwilio(t)
	tw.failing.Store(http.StatusUnauthorized)
	srv := tw.start(t, "--turn=false", "--ice-required")
	body, status := srv.fetch(srv.url + "/readyz?verbose")
	if status != http.StatusServiceUnavailable || !strings.Contains(body, `"name":"ice","ok":false,"needed":true`) {
		t.Errorf("%d %s", status, body)
	}
	own := tw.start(t, "--turn=false", "--metrics-listen=127.0.0.1:0")
	if body := own.get("/readyz?verbose"); strings.Contains(body, "reason") || !strings.Contains(body, `"ready":true`) {
		t.Errorf("the public is told a reason: %s", body)
	}
	if body, _ := own.fetch(own.metricsURL() + "/readyz?verbose"); !strings.Contains(body, "reason") {
		t.Errorf("the operator is told no reason: %s", body)
	}
}

func (s *server) metricsURL() string {
	_, rest, _ := strings.Cut(s.banner, "metrics at ")
	at, _, _ := strings.Cut(rest, "/metrics")
	return at
}

// A configuration that could be started is valid, and another is not.
func TestOperatorSettings(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"--admin-listen=127.0.0.1:1", "needs a token"}, {"--admin-listen=x", "setting admin-listen"},
		{"--acme-host=a.example", "needs acme-cache"}, {"--audit-max-bytes=1", "audit-max-bytes"},
		{"--acme-host=a.example --acme-cache=/tmp --acme-directory=http://x", "not an https: URL"},
		{"--drain-window=1m", "longer than drain-window"}, {"--max-topics=30000", "max-topics: it is more than 20000"},
		{"--acme-host=a.example --acme-cache=x --tls-cert=a --tls-key=b", "choose one"}, {"--block-file=" + os.Args[0], "block file"},
		{"--ping-timeout=1s", "longer than ping-interval"},
	} {
		_, err := run(t, append([]string{"config", "check"}, strings.Fields(tt.args)...)...)
		if err == nil || exitCode(err) != exitUsage || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.args, err, tt.want)
		}
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The help of each command fits on a screen, and has an example.
func TestHelpIsAScreen(t *testing.T) {
	var look func(cmd *cobra.Command)
	look = func(cmd *cobra.Command) {
		if name := cmd.Name(); name == "help" || name == "completion" {
			return
		}
		help := &strings.Builder{}
		cmd.SetOut(help)
		if err := cmd.Help(); err != nil {
			t.Fatal(err)
		}
		most := 55
		if !cmd.HasParent() {
			most = 40
		}
		if n := strings.Count(help.String(), "\n"); n > most {
			t.Errorf("%s: %d lines", cmd.CommandPath(), n)
		}
		if cmd.Example == "" {
			t.Errorf("%s: no example", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			look(sub)
		}
	}
	look(newCommand())
}
