//go:build linux

// Package soak keeps the real server busy for a long time, and under the race detector.
package soak

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/peersignal/peersignal/internal/load"
	"github.com/peersignal/peersignal/internal/throwaway"
	"github.com/peersignal/peersignal/test/harness"
)

// server is a peersignal on loopback with an admin socket, and limits that a load does not reach.
type server struct {
	*harness.Process
	bin    string
	url    string // http://127.0.0.1:port
	name   string // that clients dial
	socket string
	// relayers are the users who relay: the server remembers for a day how much
	// a user has relayed.
	relayers [20]throwaway.Device
}

// build compiles peersignal.
func build(ctx context.Context, dir string, env []string, flags ...string) (string, error) {
	bin := filepath.Join(dir, "peersignal")
	args := append(append([]string{"build", "-buildvcs=false"}, flags...), "-o", bin, "github.com/peersignal/peersignal/cmd/peersignal")
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build peersignal: %w\n%s", err, out)
	}
	return bin, nil
}

// startServer starts a server that ends with the test.
func startServer(t *testing.T, bin string, extra ...string) *server {
	t.Helper()
	// The name of a Unix socket is short, and that of a test's folder may be long.
	dir, err := os.MkdirTemp("", "soak-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &server{bin: bin, socket: filepath.Join(dir, "admin.sock")}
	for i := range s.relayers {
		if s.relayers[i], err = throwaway.NewDevice(time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	args := append([]string{
		"--listen", "127.0.0.1:0", "--admin-socket", s.socket, "--log-level", "error",
		"--turn-listen", "127.0.0.1:0", "--turn-relay-ip", "127.0.0.1", "--turn-allow-peer", "127.0.0.0/8", "--turn-ttl", "1m",
		"--messages-per-10s", "10000000", "--offers-per-minute", "10000000", "--offers-at-once", "10000000",
		"--auth-timeout", "5s", "--ping-interval", "2s", "--ping-timeout", "8s", "--drain-window", "1s", "--drain-timeout", "10s",
	}, extra...)
	if s.Process, err = harness.Start("peersignal", filepath.Join(dir, "log"), nil, nil, bin, args...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.Running() {
			s.Kill()
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	found, err := s.WaitLog(ctx, `http://[^:\s]+:(\d+)`)
	if err != nil {
		t.Fatal(err)
	}
	s.name = "127.0.0.1:" + found[1]
	s.url = "http://" + s.name
	return s
}

// load is a load on the server.
func (s *server) load(ctx context.Context, cfg load.Config) (*load.Report, error) {
	cfg.URL, cfg.Dialect = s.url, load.Peersignal{Server: s.name}
	r, err := load.Run(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", cfg.Scenario, err)
	}
	if r.Errors > 0 {
		var b bytes.Buffer
		_ = r.Print(&b)
		return r, fmt.Errorf("load %s: %d errors\n%s", cfg.Scenario, r.Errors, b.String())
	}
	return r, nil
}

// admin runs peersignal admin.
func (s *server) admin(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, s.bin, append([]string{"admin", "--socket", s.socket}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("peersignal admin %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// page gets a page from the admin socket, or else from the server.
func (s *server) page(ctx context.Context, admin bool, path string) ([]byte, error) {
	transport := &http.Transport{DisableKeepAlives: true}
	if admin {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", s.socket)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", path, resp.Status)
	}
	return io.ReadAll(resp.Body)
}

// metrics are the values of all series.
func (s *server) metrics(ctx context.Context) (map[string]float64, error) {
	text, err := s.page(ctx, false, "/metrics")
	if err != nil {
		return nil, err
	}
	all := make(map[string]float64)
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		if all[name], err = strconv.ParseFloat(value, 64); err != nil {
			return nil, fmt.Errorf("metric %s: %w", name, err)
		}
	}
	return all, nil
}
