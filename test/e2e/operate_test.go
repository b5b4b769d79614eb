package e2e

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/peersignal/peersignal/test/harness"
)

// operator runs commands of peersignal against the world's server.
type operator struct {
	t   *testing.T
	ctx context.Context
	w   *harness.World
	dir string
}

// operate starts the world's server again with everything that operators can
// have. The socket has a short path, since a Unix address holds little.
func operate(t *testing.T, ctx context.Context, w *harness.World) *operator {
	t.Helper()
	dir, err := os.MkdirTemp("", "ps-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	o := &operator{t: t, ctx: ctx, w: w, dir: dir}
	if err := w.Server.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	o.write("config.yaml", "allow-origin: [old.example]\n")
	o.start()
	return o
}

func (o *operator) path(name string) string { return filepath.Join(o.dir, name) }

func (o *operator) write(name, text string) {
	o.t.Helper()
	if err := os.WriteFile(o.path(name), []byte(text), 0o600); err != nil {
		o.t.Fatal(err)
	}
}

func (o *operator) start() {
	o.t.Helper()
	err := o.w.StartServer(o.ctx, "--config", o.path("config.yaml"), "--log-level", "debug", "--log-format", "json",
		"--admin-socket", o.path("s"), "--audit-file", o.path("audit.jsonl"), "--block-file", o.path("blocks.json"), "--drain-window", "1s")
	if err != nil {
		o.t.Fatal(err)
	}
}

// run runs peersignal and wants an exit code and a text.
func (o *operator) run(code int, want string, args ...string) string {
	o.t.Helper()
	cmd := exec.CommandContext(o.ctx, o.w.Bin.Peersignal, args...)
	cmd.Env = append(os.Environ(), "PEERSIGNAL_ADMIN_SOCKET="+o.path("s"))
	out, _ := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != code || !strings.Contains(string(out), want) {
		o.t.Errorf("peersignal %s: exit code %d, want %d and %q:\n%s", strings.Join(args, " "), cmd.ProcessState.ExitCode(), code, want, out)
	}
	return string(out)
}

// Who operates a server can look at it, change it while it runs, keep people out
// past a kill -9, stop it, and show afterwards what happened.
func TestOperate(t *testing.T) {
	ctx, w := world(t)
	o := operate(t, ctx, w)
	anna, bob := user(t, ctx, w, "anna"), user(t, ctx, w, "bob")
	join(t, ctx, anna, bob, "plans")
	put(t, ctx, anna, "plans", `{"type":"note","title":"hello"}`)
	waitDocs(t, ctx, "plans", 1, anna, bob)

	o.run(0, "2 of 50,000", "admin", "status")
	o.run(0, "connected", "admin", "sessions")
	o.write("config.yaml", "allow-origin: [new.example]\nturn-ttl: 2h\n")
	if err := syscall.Kill(w.Server.PID(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"setting":"allow-origin","outcome":"applied"`, `"setting":"turn-ttl","outcome":"needs a restart"`} {
		if _, err := w.Server.WaitLog(ctx, regexp.QuoteMeta(want)); err != nil {
			t.Error(err)
		}
	}
	o.write("config.yaml", "alow-origin: [x.example]\n")
	o.run(1, `did you mean "allow-origin"`, "admin", "reload")
	o.write("config.yaml", "")

	o.run(0, "blocked network 198.51.100.0/24", "admin", "block", "--network", "198.51.100.0/24")
	w.Server.Kill()
	o.run(3, "no server listens", "admin", "status")
	o.start()
	o.run(0, "network 198.51.100.0/24", "admin", "blocked")
	o.run(0, "in order", "audit", "verify", "--complete", o.path("audit.jsonl"))
	if err := w.Server.Stop(20 * time.Second); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	o.run(0, "audit-stopped", "audit", "show", o.path("audit.jsonl"))
	o.run(0, "changed: allow-origin turn-ttl", "audit", "show", "--kind", "reload", o.path("audit.jsonl"))
	o.discreet()
	o.tamper()
}

// discreet looks for what a server must not write down, in its logs and in the
// audit log, after two daemons connected through it.
func (o *operator) discreet() {
	o.t.Helper()
	log, err := os.ReadFile(filepath.Join(o.w.Dir, "peersignal.log"))
	if err != nil {
		o.t.Fatal(err)
	}
	record, err := os.ReadFile(o.path("audit.jsonl"))
	if err != nil {
		o.t.Fatal(err)
	}
	if !strings.Contains(string(record), `"kind":"credentials"`) {
		o.t.Error("the audit log has no credentials: nothing was exchanged")
	}
	sdp := regexp.MustCompile(`(?i)candidate:|ice-ufrag|ice-pwd|fingerprint:|\bv=0\b|a=setup|typ host`)
	for name, text := range map[string][]byte{"log": log, "audit log": record} {
		if found := sdp.Find(text); found != nil {
			o.t.Errorf("the %s has %q", name, found)
		}
	}
	device := regexp.MustCompile(`\b00[0-9a-z]{23}\b`)
	if found := device.Find(log); found != nil {
		o.t.Errorf("the log has the whole id %s", found)
	}
	if !device.Match(record) {
		o.t.Error("the audit log names no device")
	}
}

// tamper alters, removes and cuts lines, and each is found.
func (o *operator) tamper() {
	o.t.Helper()
	path := o.path("audit.jsonl")
	text, err := os.ReadFile(path)
	if err != nil {
		o.t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	out := o.run(0, "head ", "audit", "verify", path)
	head := strings.TrimSpace(out[strings.Index(out, "head ")+len("head "):])
	for want, tampered := range map[string]string{
		"line 2: it was altered":      strings.Replace(string(text), `"address":"127.`, `"address":"128.`, 1),
		"lines 3 to 4 are missing":    strings.Join(lines[:2], "") + strings.Join(lines[4:], ""),
		"which was noted, is not the": strings.Join(lines[:4], ""),
	} {
		o.write("audit.jsonl", tampered)
		o.run(1, want, "audit", "verify", "--head", head, path)
	}
}

// The second SIGTERM does not wait for anybody.
func TestSecondSignal(t *testing.T) {
	ctx, w := world(t)
	if err := w.Server.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	if err := w.StartServer(ctx, "--drain-window", "1h", "--drain-timeout", "2h"); err != nil {
		t.Fatal(err)
	}
	// A connection that stays silent keeps its place; a session would, too.
	c, err := net.Dial("tcp", strings.TrimPrefix(w.URL(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	user(t, ctx, w, "anna")
	for range 2 {
		if err := syscall.Kill(w.Server.PID(), syscall.SIGTERM); err != nil {
			break // the first was enough
		}
		if _, err := w.Server.WaitLog(ctx, "draining"); err != nil {
			break
		}
	}
	if _, err := w.Server.WaitExit(ctx); err != nil {
		t.Error(err)
	}
}
