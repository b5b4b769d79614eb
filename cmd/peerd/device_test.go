package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/peersignal/peersignal/internal/daemon/api"
)

// parsed runs a command line with --json.
func parsed[T any](t *testing.T, stdin string, args ...string) (v T) {
	t.Helper()
	code, out, errs := run(t, stdin, append(args, "--json")...)
	if code != 0 {
		t.Fatalf("%v: %d %s", args, code, errs)
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("%v: %v in %s", args, err, out)
	}
	return v
}

// TestDeviceAndKeys: a second device, a new key while the daemon runs and while none does, a majority without enough devices, new words.
func TestDeviceAndKeys(t *testing.T) {
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	pass := filepath.Join(dir, "pass")
	if err := os.WriteFile(pass, []byte("correct horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	made := parsed[initResult](t, "", "--data", first, "init", "--name", "alice", "--insecure-keystore")
	stop := daemonIn(t, first)
	card := parsed[api.Card](t, "", "--data", first, "key", "card").Card
	if code, _, errs := run(t, "", "--data", second, "device", "join", "peers:welcome#AAAA"); code != exitUsage || !strings.Contains(errs, "mistyped") {
		t.Errorf("a broken welcome: %d %s", code, errs)
	}
	req := parsed[newDevice](t, "", "--data", second, "device", "new", card, "--name", "alice", "--passphrase-file", pass)
	if req.User != made.User || req.Device == made.Device {
		t.Errorf("%+v", req)
	}
	again := parsed[newDevice](t, "", "--data", second, "device", "new", card, "--again", "--passphrase-file", pass)
	if again.Device != req.Device {
		t.Error("--again made another device")
	}
	if code, _, errs := run(t, "", "--data", first, "device", "add", again.Request); code != exitUsage || !strings.Contains(errs, again.Code) || !strings.Contains(errs, "--yes") {
		t.Errorf("nobody confirmed: %d %s", code, errs)
	}
	added := parsed[api.AddedDevice](t, "", "--data", first, "device", "add", again.Request, "--yes")
	if code, _, errs := run(t, "", "--data", first, "device", "add", again.Request, "--yes"); code != exitFailed || !strings.Contains(errs, "--again") {
		t.Errorf("an old request: %d %s", code, errs)
	}
	joined := parsed[changedKey](t, "", "--data", second, "device", "join", added.Welcome, "--passphrase-file", pass)
	if joined.User != made.User || joined.Device != req.Device {
		t.Errorf("%+v", joined)
	}
	if _, err := os.Stat(filepath.Join(second, requestName)); !os.IsNotExist(err) {
		t.Errorf("the request is still there: %v", err)
	}
	rotated := parsed[changedKey](t, "", "--data", first, "key", "rotate", "--yes")
	if rotated.Key == joined.Key || rotated.User != made.User {
		t.Errorf("%+v", rotated)
	}
	list := parsed[[]api.OwnDevice](t, "", "--data", first, "device", "ls")
	if len(list) != 2 || !list[0].Listed || !list[1].Listed || list[0].HasKey == list[1].HasKey {
		t.Errorf("%+v", list)
	}
	if p := parsed[api.Proposal](t, "", "--data", first, "key", "propose", "--yes"); p.Missing != 1 || p.What != "rotate" {
		t.Errorf("%+v", p)
	}
	if code, out, _ := run(t, "", "--data", first, "key", "proposals"); code != 0 || !strings.Contains(out, "new key") {
		t.Error(out)
	}
	if code, _, errs := run(t, "", "--data", first, "device", "revoke", made.Device, "--yes"); code != exitFailed || !strings.Contains(errs, "itself") {
		t.Errorf("this device: %d %s", code, errs)
	}
	revoked := parsed[changedKey](t, "", "--data", first, "device", "revoke", req.Device[:14], "--yes")
	if revoked.Key == rotated.Key {
		t.Error("the key is the old one")
	}
	stop()
	offline := parsed[changedKey](t, "", "--data", first, "key", "rotate", "--yes")
	if offline.Key == revoked.Key {
		t.Error("the key is the old one")
	}
	testNewWords(t, first, strings.Join(made.Recovery, " "))
}

// testNewWords replaces the 24 words: the old ones recover nothing more.
func testNewWords(t *testing.T, data, old string) {
	t.Helper()
	words := parsed[newRecovery](t, old, "--data", data, "key", "recovery", "new", "--yes")
	if len(words.Recovery) != 24 || strings.Join(words.Recovery, " ") == old {
		t.Errorf("%+v", words)
	}
	if code, _, errs := run(t, old, "--data", data, "key", "recovery", "new", "--yes"); code != exitFailed || !strings.Contains(errs, "replaced before") {
		t.Errorf("old words: %d %s", code, errs)
	}
	if code, _, errs := run(t, old, "--data", data, "recover"); code != exitFailed || !strings.Contains(errs, "recovery key") {
		t.Errorf("old words: %d %s", code, errs)
	}
	if code, _, errs := run(t, strings.Join(words.Recovery, " "), "--data", data, "recover", "--keep", "abcd"); code != exitUsage {
		t.Errorf("a device that is not there is kept: %d %s", code, errs)
	}
	back := parsed[changedKey](t, strings.Join(words.Recovery, " "), "--data", data, "recover")
	stop := daemonIn(t, data)
	defer stop()
	if id := parsed[api.ID](t, "", "--data", data, "id"); id.UserKey != back.Key {
		t.Errorf("%+v", id)
	}
}
