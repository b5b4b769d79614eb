package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/peersignal/peersignal/internal/load"
)

// runLoadCommand gives standard output, the progress and what the command said.
func runLoadCommand(t *testing.T, args ...string) (out, told string, err error) {
	t.Helper()
	cmd := newCommand()
	var o, e bytes.Buffer
	cmd.SetArgs(append([]string{"load"}, args...))
	cmd.SetOut(&o)
	cmd.SetErr(&e)
	err = cmd.ExecuteContext(t.Context())
	return o.String(), e.String(), err
}

func TestLoadCommand(t *testing.T) {
	s := startServer(t, "--messages-per-10s=1000000", "--offers-per-minute=1000000")
	file := filepath.Join(t.TempDir(), "report.json")
	out, told, err := runLoadCommand(t, s.url, "--devices", "10", "--duration", "1100ms", "--json", file)
	if err != nil || !strings.Contains(out, "10 devices of 10 connected") || !strings.Contains(told, " of 10 up") {
		t.Fatalf("%v\n%s\n%s", err, out, told)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	out, told, err = runLoadCommand(t, s.url, "--devices", "10", "--duration", "200ms", "--json", "-", "--quiet", "--resume=false", "--ramp", "100ms")
	if err != nil || told != "" {
		t.Fatalf("%v\n%s", err, told)
	}
	for _, text := range [][]byte{content, []byte(out)} {
		var r load.Report
		if err := json.Unmarshal(text, &r); err != nil || r.Up != 10 || r.Arrived == 0 || r.Errors != 0 || r.Result.P99 == 0 {
			t.Errorf("%v: %s", err, text)
		}
	}
}

// TestLoadCommandFails checks what is a failure, and what a mistake in the
// command line.
func TestLoadCommandFails(t *testing.T) {
	s := startServer(t)
	args := []string{s.url, "--devices", "2", "--duration", "300ms", "--quiet"}
	out, _, err := runLoadCommand(t, args...)
	var usage usageError
	if err == nil || errors.As(err, &usage) || !strings.Contains(out, "--messages-per-10s") {
		t.Errorf("a server's limits: %v\n%s", err, out)
	}
	if _, _, err := runLoadCommand(t, append(args, "--max-errors", "1000000")...); err != nil {
		t.Errorf("as many errors as may be: %v", err)
	}
	s.stop()
	if _, _, err := runLoadCommand(t, args...); !errors.Is(err, load.ErrNobodyConnected) || errors.As(err, &usage) {
		t.Errorf("no server: %v", err)
	}
	for _, args := range [][]string{
		{"http://192.0.2.1:8080"}, {"ftp://localhost"}, {"--scenario", "walk"}, {"--devices", "many"}, {"--devices", "3"}, {"--walk"},
		{"http://localhost:1", "http://localhost:2"}, {"--ca-file", "/nowhere.pem"}, {"--size", "9999999"}, {"--from", "here"},
		{"--ramp", "1s", "--connections-per-second", "5"}, {"--ramp", "-1s"},
	} {
		if _, _, err := runLoadCommand(t, append(args, "--quiet")...); !errors.As(err, &usage) {
			t.Errorf("%v: %v is no mistake in the command line", args, err)
		}
	}
}
