package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/peersignal/peersignal/internal/daemon/api"
)

// TestRecoverHere replaces the key of a folder that has everything, with and without a passphrase.
func TestRecoverHere(t *testing.T) {
	dir := t.TempDir()
	pass := filepath.Join(dir, "pass")
	if err := os.WriteFile(pass, []byte("correct horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, how := range map[string][]string{"open": {"--insecure-keystore"}, "locked": {"--passphrase-file", pass}} {
		data := filepath.Join(dir, name)
		code, out, errs := run(t, "", append([]string{"--data", data, "init", "--name", "alice", "--json"}, how...)...)
		var made initResult
		if code != 0 || json.Unmarshal([]byte(out), &made) != nil {
			t.Fatalf("init: %d %s", code, errs)
		}
		words := strings.Join(made.Recovery, "  ")
		other := strings.Join(append([]string{made.Recovery[1], made.Recovery[0]}, made.Recovery[2:]...), " ")
		if name == "locked" {
			t.Setenv("PEERD_PASSPHRASE_FILE", pass)
		}
		for stdin, want := range map[string]string{"": "24 words", "abandon": "24 words", other: "word"} {
			if code, _, errs := run(t, stdin, "--data", data, "recover"); code != exitUsage || !strings.Contains(errs, want) {
				t.Errorf("recover with wrong words: %d %s", code, errs)
			}
		}
		if code, _, errs := run(t, words, "--data", data, "recover", "--reason", "boredom"); code != exitUsage || !strings.Contains(errs, "lost or compromised") {
			t.Errorf("reason: %d %s", code, errs)
		}
		if code, _, errs := run(t, words, "--data", data, "recover", "peers:card#AAAA"); code != exitUsage || !strings.Contains(errs, "card") {
			t.Errorf("card: %d %s", code, errs)
		}
		stop := daemonIn(t, data)
		if code, _, errs := run(t, words, "--data", data, "recover"); code != exitInUse {
			t.Errorf("recover beside a daemon: %d %s", code, errs)
		}
		if code, _, errs := run(t, "", "--data", data, "group", "create", "garden"); code != 0 {
			t.Fatal(errs)
		}
		stop()
		if code, out, errs := run(t, words, "--data", data, "recover", "--reason", "compromised"); code != 0 || !strings.Contains(out, made.User) {
			t.Fatalf("recover: %d %s", code, errs)
		}
		stop = daemonIn(t, data)
		if code, _, errs := run(t, `{"type":"Note"}`, "--data", data, "put", "garden"); code != 0 {
			t.Errorf("put after recover: %s", errs)
		}
		var k api.UserKeys
		if _, out, _ := run(t, "", "--data", data, "key", "show", "--json"); json.Unmarshal([]byte(out), &k) != nil || len(k.Events) != 1 || k.Events[0].By != "recovery" || !k.Self {
			t.Errorf("key show: %s", out)
		}
		for _, args := range [][]string{{"key", "show"}, {"key", "card"}, {"key", "card", "--json"}} {
			if code, out, errs := run(t, "", append([]string{"--data", data}, args...)...); code != 0 || out == "" {
				t.Errorf("%v: %d %s", args, code, errs)
			}
		}
		if code, _, errs := run(t, "", "--data", data, "key", "safety-number", "me"); code != exitNotFound {
			t.Errorf("safety number of oneself: %d %s", code, errs)
		}
		stop()
	}
	if code, _, errs := run(t, "x", "--data", filepath.Join(dir, "none"), "recover"); code != exitUsage || !strings.Contains(errs, "card") {
		t.Errorf("an empty folder without a card: %d %s", code, errs)
	}
}
