package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

func health(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := newCommand()
	var out bytes.Buffer
	cmd.SetArgs(append([]string{"health"}, args...))
	cmd.SetOut(&out)
	err := cmd.ExecuteContext(context.Background())
	return strings.TrimSpace(out.String()), err
}

func TestHealth(t *testing.T) {
	s := startServer(t)
	for _, args := range [][]string{{s.url}, {"--ready", s.url + "/"}} {
		if text, err := health(t, args...); err != nil || text == "" {
			t.Errorf("health %v: %q, %v", args, text, err)
		}
	}
	// The container's health check: the address is from the environment.
	t.Setenv("PEERSIGNAL_LISTEN", strings.TrimPrefix(s.url, "http://"))
	if text, err := health(t); err != nil || text != "ok" {
		t.Errorf("health of the own server: %q, %v", text, err)
	}
	s.stop()
	if _, err := health(t); err == nil {
		t.Error("a server that is not there is healthy")
	}
	for _, url := range []string{"signal.example.org", "ftp://signal.example.org", "http://"} {
		if _, err := health(t, url); err == nil || !strings.Contains(err.Error(), "http://") {
			t.Errorf("health %s: %v", url, err)
		}
	}
}
