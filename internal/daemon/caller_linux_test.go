package daemon_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/peersignal/peersignal/internal/daemon/api"
	"github.com/peersignal/peersignal/internal/daemon/client"
)

// TestOtherUser opens the socket's modes, as a careless admin could, and lets
// another user call: the kernel's word counts.
func TestOtherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("becoming another user needs root")
	}
	dir, err := os.MkdirTemp("", "peerd-other-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	other := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	probe := exec.Command("/bin/ls", dir)
	probe.SysProcAttr = other
	if out, err := probe.CombinedOutput(); err != nil {
		t.Skipf("another user cannot be, or not reach the folder for temporary files: %v: %s", err, out)
	}
	w := start(t)
	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "call")
	if err := os.WriteFile(bin, exe, 0o755); err != nil {
		t.Fatal(err)
	}
	for path := w.socket; len(path) > len(os.TempDir()); path = filepath.Dir(path) {
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(bin)
	cmd.Dir = dir
	cmd.Env = []string{"DAEMON_TEST_CALL=" + w.socket}
	cmd.SysProcAttr = other
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.stop()
	if !strings.Contains(w.log.String(), "uid=65534") {
		t.Errorf("the refusal is not in the log: %s", w.log.String())
	}
}

// callAsOther runs in the other user's process.
func callAsOther(socket string) int {
	err := client.New(socket).Do(context.Background(), "GET", "/id", nil, nil)
	var e *api.Error
	if errors.As(err, &e) && e.Code == api.CodeOtherUser {
		return 0
	}
	println("want other-user, got", err.Error())
	return 1
}
