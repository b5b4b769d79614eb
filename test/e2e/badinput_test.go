package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/peersignal/peersignal/test/harness"
)

func waitMembers(t *testing.T, ctx context.Context, name string, want int, all ...*harness.Daemon) {
	t.Helper()
	err := harness.Until(ctx, "the members to be known", func() (bool, error) {
		for _, d := range all {
			if len(group(t, ctx, d, name).Members) != want {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestBadDocuments(t *testing.T) {
	t.Parallel()
	ctx, w := world(t)
	alice := user(t, ctx, w, "alice")
	cli(t, ctx, alice, "group", "create", "garden")
	keep := put(t, ctx, alice, "garden", `{"type":"Note","text":"keep me"}`)
	for _, c := range []struct{ name, doc, says string }{
		{"oversized", `{"type":"Note","text":"` + strings.Repeat("x", 1<<20) + `"}`, "large"},
		{"truncated", `{"type":"Note","text":"half`, "JSON"},
		{"not UTF-8", "{\"type\":\"Note\",\"text\":\"\xff\xfe\"}", "JSON"},
		{"duplicate key", `{"type":"Note","a":1,"a":2}`, "twice"},
		{"deeply nested", `{"type":"Note","a":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, "deep"},
		{"__proto__", `{"type":"Note","__proto__":{"admin":true}}`, "reserved"},
		{"no object", `["Note"]`, "object"},
		{"reserved type", `{"type":"User","name":"eve"}`, "reserved"},
		{"foreign group", `{"type":"Note","group":"00kqn91s56yt2gu3yf5vnbg67"}`, "group"},
		{"bad id", `{"type":"Note","id":"../../etc/passwd"}`, "id"},
		{"empty", ``, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := alice.CLIInput(ctx, strings.NewReader(c.doc), "put", "garden", "-")
			code, message := exitCode(t, err)
			if code == 0 || !strings.Contains(strings.ToLower(message), strings.ToLower(c.says)) {
				t.Errorf("exit %d, message %q: want one that says %q", code, message, c.says)
			}
			if strings.Contains(message, "panic") || len(message) > 1_000 {
				t.Errorf("not a message for a person: %q", message[:min(len(message), 300)])
			}
		})
	}
	cli(t, ctx, alice, "get", "garden", keep)
	if g := group(t, ctx, alice, "garden"); g.Documents != 1 {
		t.Errorf("%d documents, want 1: nothing bad is stored and nothing good is lost", g.Documents)
	}
}

func TestBadInvitations(t *testing.T) {
	t.Parallel()
	ctx, w := world(t)
	alice, bob, eve := user(t, ctx, w, "alice"), user(t, ctx, w, "bob"), user(t, ctx, w, "eve")
	cli(t, ctx, alice, "group", "create", "garden")

	used := invite(t, ctx, alice, "garden").Link
	cli(t, ctx, bob, "join", used, "--yes", "--wait")
	altered := []byte(invite(t, ctx, alice, "garden").Link)
	if altered[len(altered)-30] == 'A' {
		altered[len(altered)-30] = 'B'
	} else {
		altered[len(altered)-30] = 'A'
	}
	expired := invite(t, ctx, alice, "garden", "--expires", "1s").Link
	time.Sleep(1200 * time.Millisecond)
	for _, c := range []struct{ name, link, says string }{
		{"used", used, "used already"},
		{"altered", string(altered), "changed"},
		{"expired", expired, "expired"},
		{"truncated", used[:len(used)/2], "incomplete"},
		{"no invitation", "https://example.org/", "does not begin with"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := eve.CLI(ctx, "join", c.link, "--yes", "--wait", "--timeout", "20s")
			code, message := exitCode(t, err)
			if code == 0 || !strings.Contains(message, c.says) {
				t.Errorf("exit %d, stdout %q, stderr %q: want one that says %q", code, out, message, c.says)
			}
		})
	}
	if has(t, ctx, eve, "garden") {
		t.Error("eve knows the group")
	}
	if g := group(t, ctx, alice, "garden"); len(g.Members) != 2 {
		t.Errorf("%d members, want alice and bob", len(g.Members))
	}
}

func TestSecondDaemonAndWrongPassphrase(t *testing.T) {
	t.Parallel()
	ctx, w := world(t)
	alice := user(t, ctx, w, "alice")
	cmd := exec.CommandContext(ctx, bin.Peerd, "--data", alice.Dir, "up", "--server", w.URL())
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+alice.Dir)
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != 6 {
		t.Errorf("second daemon: exit %d: %s", cmd.ProcessState.ExitCode(), out)
	}
	if !alice.Process.Running() {
		t.Fatal("the first daemon died of the second")
	}

	dir := filepath.Join(w.Dir, "locked")
	right, wrong := filepath.Join(w.Dir, "right"), filepath.Join(w.Dir, "wrong")
	for path, text := range map[string]string{right: "correct horse\n", wrong: "battery staple\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(ctx, bin.Peerd, "--data", dir, "init", "--name", "carol", "--passphrase-file", right).CombinedOutput(); err != nil {
		t.Fatalf("init: %v: %s", err, out)
	}
	cmd = exec.CommandContext(ctx, bin.Peerd, "--data", dir, "up", "--server", w.URL(), "--passphrase-file", wrong)
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir)
	out, err = cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != 7 || !bytes.Contains(out, []byte("passphrase")) {
		t.Errorf("wrong passphrase: exit %d: %s", cmd.ProcessState.ExitCode(), out)
	}
}

// TestFullDisk gives alice a file system of 6 MB and fills it.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	ctx, w := world(t)
	dir := mount(t, w, "alice", "size=6m")
	alice, bob := user(t, ctx, w, "alice"), user(t, ctx, w, "bob")
	join(t, ctx, alice, bob, "garden")
	first := put(t, ctx, alice, "garden", `{"type":"Note","text":"first"}`)
	_, err := alice.CLI(ctx, "import", "garden", records(t, w, 10_000), "--key", "key")
	_, message := exitCode(t, err)
	if !strings.Contains(message, "full") && !strings.Contains(message, "space") {
		t.Errorf("message %q does not say that the disk is full", message)
	}
	cli(t, ctx, alice, "get", "garden", first)
	before := group(t, ctx, alice, "garden").Documents
	if out, err := exec.Command("mount", "-o", "remount,size=64m", dir).CombinedOutput(); err != nil {
		t.Fatalf("remount: %v: %s", err, out)
	}
	cli(t, ctx, alice, "import", "garden", records(t, w, 10_000), "--key", "key")
	if before < 2 {
		t.Errorf("only %d documents before the disk was full", before)
	}
	waitDocs(t, ctx, "garden", 10_001, alice, bob)
}

func TestReadOnlyFolder(t *testing.T) {
	t.Parallel()
	ctx, w := world(t)
	dir := mount(t, w, "alice", "size=32m")
	alice := user(t, ctx, w, "alice")
	cli(t, ctx, alice, "group", "create", "garden")
	if err := alice.Process.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-o", "remount,ro", dir).CombinedOutput(); err != nil {
		t.Fatalf("remount: %v: %s", err, out)
	}
	cmd := exec.CommandContext(ctx, bin.Peerd, "--data", alice.Dir, "up", "--server", w.URL())
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+alice.Dir)
	out, err := cmd.CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("read-only")) {
		t.Errorf("exit %d: %s", cmd.ProcessState.ExitCode(), out)
	}
	if out, err := exec.Command("mount", "-o", "remount,rw", dir).CombinedOutput(); err != nil {
		t.Fatalf("remount: %v: %s", err, out)
	}
	up(t, ctx, alice)
	group(t, ctx, alice, "garden")
}

// mount puts a small file system at the future data folder of a user.
func mount(t *testing.T, w *harness.World, name, options string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir := filepath.Join(w.Dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options+",mode=0700", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("no right to mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		w.Close()
		_ = exec.Command("umount", "-l", dir).Run()
	})
	return dir
}
