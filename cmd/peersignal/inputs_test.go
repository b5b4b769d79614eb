package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// pipe is the path of a pipe that holds a text, as <(…) of a shell is.
func pipe(t *testing.T, text string) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	if _, err := w.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("/dev/fd/%d", r.Fd())
}

// A pipe is read once, and says the same at a reload; a file is read again.
func TestPipes(t *testing.T) {
	file := writeConfig(t, "0123456789abcdef")
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	addFlags(flags, nil)
	err := flags.Parse([]string{
		"--config", pipe(t, "max-sessions: 7\n"), "--turn-secrets-file", pipe(t, strings.Repeat("s", 32)), "--admin-token-file", file,
	})
	if err != nil {
		t.Fatal(err)
	}
	var before *values
	for _, token := range []string{"0123456789abcdef", "another of 16 bytes"} {
		write(t, file, []byte(token))
		v, err := loadValues(flags, before)
		if err != nil {
			t.Fatal(err)
		}
		s, err := v.settings()
		if err != nil {
			t.Fatal(err)
		}
		if s.limits.Sessions != 7 || len(s.relay.Secrets) != 1 || s.adminToken.Reveal() != token {
			t.Errorf("%d sessions, %d keys, token %q", s.limits.Sessions, len(s.relay.Secrets), s.adminToken.Reveal())
		}
		if before != nil {
			if changed := changedKeys(before, v); len(changed) != 1 || changed[0].name != "admin-token-file" {
				t.Errorf("changed: %v", changed)
			}
		}
		before = v
	}
}

// A file of settings is bounded.
func TestLargeConfig(t *testing.T) {
	if _, err := settingsOf(t, "--config", writeConfig(t, strings.Repeat("# much\n", 1<<20))); err == nil ||
		!strings.Contains(err.Error(), "more than") {
		t.Error(err)
	}
}
