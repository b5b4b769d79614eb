package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peersignal/peersignal/internal/daemon/api"
	"github.com/peersignal/peersignal/test/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// buffer is written by one goroutine and read by another.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// run runs one command line.
func run(t *testing.T, stdin string, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e buffer
	a := &app{in: strings.NewReader(stdin), out: &o, err: &e}
	code = a.run(t.Context(), args)
	return code, o.String(), e.String()
}

// daemonIn starts a daemon on a folder and returns how to end it.
func daemonIn(t *testing.T, data string, args ...string) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var out, errs buffer
	done := make(chan int, 1)
	go func() {
		a := &app{in: strings.NewReader(""), out: &out, err: &errs}
		done <- a.run(ctx, append([]string{"--data", data, "up"}, args...))
	}()
	for end := time.Now().Add(2 * time.Minute); !strings.Contains(out.String(), "peerd is ready"); time.Sleep(5 * time.Millisecond) {
		select {
		case code := <-done:
			t.Fatalf("the daemon ended with %d: %s", code, errs.String())
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("the daemon is not ready: %s", errs.String())
		}
	}
	stop = sync.OnceValue(func() int { cancel(); return <-done })
	t.Cleanup(func() { stop() })
	return stop
}

func initIn(t *testing.T) string {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	if code, _, errs := run(t, "", "--data", data, "init", "--name", "alice", "--insecure-keystore"); code != 0 {
		t.Fatalf("init: %d: %s", code, errs)
	}
	return data
}

func TestInit(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	code, out, errs := run(t, "", "--data", data, "init", "--name", "alice", "--insecure-keystore", "--json", "--server", "http://127.0.0.1:9")
	var r initResult
	if code != 0 || json.Unmarshal([]byte(out), &r) != nil || len(r.Recovery) != 24 || len(r.User) != 25 || len(r.Device) != 25 {
		t.Fatalf("init: %d %s %s", code, out, errs)
	}
	for path, want := range map[string]os.FileMode{data: 0o700, filepath.Join(data, keystoreName): 0o600, filepath.Join(data, configName): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v %v", path, info, err)
		}
	}
	if code, _, errs := run(t, "", "--data", data, "init", "--name", "eve", "--insecure-keystore"); code != exitFailed || !strings.Contains(errs, "identity in") {
		t.Errorf("second init: %d %s", code, errs)
	}
	text, err := os.ReadFile(filepath.Join(data, configName))
	if err != nil || !strings.Contains(string(text), "alice") || !strings.Contains(string(text), "127.0.0.1:9") {
		t.Errorf("configuration: %s %v", text, err)
	}
}

func TestUsage(t *testing.T) {
	data := initIn(t)
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("servr: http://x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"frobnicate"}, exitUsage, "frobnicate"},
		{[]string{"stats"}, exitUsage, "status"},
		{[]string{"group", "creat", "x"}, exitUsage, "create"},
		{[]string{"get", "garden"}, exitUsage, "get GROUP ID"},
		{[]string{"status", "--nope"}, exitUsage, "--nope"},
		{[]string{"init", "--insecure-keystore", "--data", data + "2"}, exitUsage, "--name"},
		{[]string{"init", "--name", "x", "--insecure-keystore", "--server", "ftp://x"}, exitUsage, "server"},
		{[]string{"init", "--name", "x"}, exitUsage, "--passphrase-file"},
		{[]string{"up", "--ice-transport", "carrier-pigeon"}, exitUsage, "relay"},
		{[]string{"up", "--log-level", "loud"}, exitUsage, "debug"},
		{[]string{"--config", bad, "status"}, exitUsage, `"server"`},
		{[]string{"--config", bad + "x", "status"}, exitUsage, "bad.yamlx"},
		{[]string{"group", "invite", "g", "--expires", "0s"}, exitUsage, "--expires"},
		{[]string{"leave", "garden"}, exitUsage, "--yes"},
		{[]string{"import", "garden", "/nowhere/file"}, exitUsage, "/nowhere/file"},
		{[]string{"join", "nonsense", "--yes"}, exitFailed, "peers:join#"},
		{[]string{"status"}, exitNotRunning, "peerd up"},
		{[]string{"watch", "garden"}, exitNotRunning, "peerd up"},
	} {
		code, _, errs := run(t, "", append([]string{"--data", data}, c.args...)...)
		if code != c.code || !strings.Contains(errs, c.says) {
			t.Errorf("%v: exit %d, want %d: %q should say %q", c.args, code, c.code, errs, c.says)
		}
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if code, _, errs := run(t, "", "--data", empty, "up"); code != exitFailed || !strings.Contains(errs, "peerd init") {
		t.Errorf("up without an identity: %d %s", code, errs)
	}
}

func TestHelpFitsOneScreen(t *testing.T) {
	a := &app{in: strings.NewReader(""), out: io.Discard, err: io.Discard}
	root := a.root()
	for _, cmd := range append(root.Commands(), root) {
		var out bytes.Buffer
		cmd.SetOut(&out)
		if err := cmd.Help(); err != nil {
			t.Fatal(err)
		}
		if lines := strings.Count(out.String(), "\n"); lines > 50 {
			t.Errorf("help of %s has %d lines", cmd.Name(), lines)
		}
		if cmd.Short == "" {
			t.Errorf("%s says nothing about itself", cmd.Name())
		}
	}
}

func TestPassphrase(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	right, wrong, empty := file("right", "correct horse\n"), file("wrong", "battery\n"), file("empty", "\n")
	if code, _, errs := run(t, "", "--data", data, "init", "--name", "a", "--passphrase-file", empty); code != exitUsage {
		t.Errorf("empty passphrase: %d %s", code, errs)
	}
	if code, _, errs := run(t, "", "--data", data, "init", "--name", "a", "--passphrase-file", right); code != 0 {
		t.Fatalf("init: %d %s", code, errs)
	}
	if code, _, errs := run(t, "", "--data", data, "up"); code != exitPassphrase || !strings.Contains(errs, "--passphrase-file") {
		t.Errorf("no passphrase: %d %s", code, errs)
	}
	if code, _, errs := run(t, "", "--data", data, "up", "--passphrase-file", wrong); code != exitPassphrase || !strings.Contains(errs, "passphrase") {
		t.Errorf("wrong passphrase: %d %s", code, errs)
	}
	t.Setenv("PEERD_PASSPHRASE_FILE", right)
	if code := daemonIn(t, data)(); code != 0 {
		t.Errorf("right passphrase: %d", code)
	}
}

func TestDaemon(t *testing.T) {
	data := initIn(t)
	stop := daemonIn(t, data)
	ok := func(stdin string, args ...string) string {
		t.Helper()
		code, out, errs := run(t, stdin, append([]string{"--data", data}, args...)...)
		if code != 0 {
			t.Fatalf("%v: exit %d: %s", args, code, errs)
		}
		return out
	}
	id := strings.TrimSpace(ok("", "group", "create", "garden"))
	doc := strings.TrimSpace(ok(`{"type":"Note","text":"hello"}`, "put", "garden"))
	if out := ok("", "get", "garden", doc); !strings.Contains(out, `"text":"hello"`) {
		t.Errorf("get: %s", out)
	}
	if out := ok(`{"k":"a"}{"k":"b"}`, "import", id[:10], "-", "--type", "T", "--key", "k"); !strings.Contains(out, "2 new") {
		t.Errorf("import: %s", out)
	}
	var i api.Import
	if out := ok(`{"k":"a"}{"k":"b"}`, "import", "garden", "-", "--type", "T", "--key", "k", "--json"); json.Unmarshal([]byte(out), &i) != nil || i.Unchanged != 2 {
		t.Errorf("import again: %s", out)
	}
	if out := ok("", "ls", "garden", "--type", "T"); strings.Count(out, "\n") != 2 {
		t.Errorf("ls: %s", out)
	}
	file := filepath.Join(t.TempDir(), "out.ndjson")
	ok("", "export", "garden", file)
	if text, err := os.ReadFile(file); err != nil || string(text) != ok("", "export", "garden") || bytes.Count(text, []byte("\n")) != 3 {
		t.Errorf("export: %s, %v", text, err)
	}
	ok("", "rm", "garden", doc)
	var st api.Status
	if out := ok("", "status", "--json"); json.Unmarshal([]byte(out), &st) != nil || st.Groups[0].Documents != 2 || st.Data != data {
		t.Errorf("status: %s", out)
	}
	for _, args := range [][]string{{"status"}, {"id"}, {"group", "ls"}, {"group", "members", "garden"}, {"quarantine"}, {"group", "invitations", "garden"}} {
		if out := ok("", args...); out == "" {
			t.Errorf("%v prints nothing", args)
		}
	}
	for _, c := range []struct {
		stdin string
		args  []string
		code  int
		says  string
	}{
		{"", []string{"get", "garden", doc}, exitNotFound, "not found"},
		{"", []string{"get", "nowhere", doc}, exitNotFound, "nowhere"},
		{"", []string{"put", "garden"}, exitFailed, "no document"},
		{`{"type":"N","a":"` + strings.Repeat("x", api.MaxBody) + `"}`, []string{"put", "garden"}, exitFailed, "too large"},
		{`{"type":"N"`, []string{"put", "garden"}, exitFailed, "JSON"},
		{`{"a":1}`, []string{"import", "garden", "-"}, exitFailed, "--type"},
		{"", []string{"leave", "garden", "--yes"}, exitNotAllowed, "owner"},
		{"", []string{"group", "invite", "garden"}, exitFailed, "--server"},
		{"", []string{"up"}, exitInUse, "peerd down"},
	} {
		code, _, errs := run(t, c.stdin, append([]string{"--data", data}, c.args...)...)
		if code != c.code || !strings.Contains(errs, c.says) {
			t.Errorf("%v: exit %d, want %d: %q should say %q", c.args, code, c.code, errs, c.says)
		}
	}
	ok("", "down")
	if code := stop(); code != 0 {
		t.Errorf("the daemon ended with %d", code)
	}
	if _, err := os.Stat(filepath.Join(data, socketName)); err == nil {
		t.Error("the socket is still there")
	}
}

func TestDidYouMean(t *testing.T) {
	for word, want := range map[string]string{
		"servr": `"server"?`, "ice_transport": `"ice-transport"?`, "loglevel": `"log-level"?`, "frob": "keys are api, ",
	} {
		if got := didYouMean(word, fileKeys); !strings.Contains(got, want) {
			t.Errorf("didYouMean(%q) = %q, want %q", word, got, want)
		}
	}
}

// Keys beside the store of another user would replace what is sealed there.
func TestOtherUsersStore(t *testing.T) {
	alice, bob := initIn(t), initIn(t)
	for _, data := range []string{alice, bob} {
		if code := daemonIn(t, data)(); code != exitOK {
			t.Fatalf("the daemon ended with %d", code)
		}
	}
	if err := os.Rename(filepath.Join(alice, storeName), filepath.Join(bob, storeName)); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := run(t, "", "--data", bob, "up"); code != exitFailed || !strings.Contains(errs, "of another user") || !strings.Contains(errs, keystoreName) {
		t.Errorf("exit %d: %s", code, errs)
	}
}
