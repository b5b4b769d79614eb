//go:build linux

package lab_test

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/peersignal/peersignal/test/nat/lab"
)

func need(t *testing.T) {
	t.Helper()
	if missing := lab.Missing(); len(missing) > 0 {
		t.Skipf("a network laboratory needs %s", strings.Join(missing, "; "))
	}
}

func ip(text string) netip.Addr { return netip.MustParseAddr(text) }

// TestRoutersBehaveAsNamed sends real packets through a router of each kind.
func TestRoutersBehaveAsNamed(t *testing.T) {
	need(t)
	for _, tt := range []struct {
		name string
		cfg  lab.RouterConfig
		want string
	}{
		{"full cone", lab.RouterConfig{Kind: lab.FullCone}, "full cone"},
		{"port-restricted", lab.RouterConfig{Kind: lab.PortRestricted}, "port-restricted"},
		{"symmetric", lab.RouterConfig{Kind: lab.Symmetric}, "symmetric"},
		{"no UDP", lab.RouterConfig{Kind: lab.PortRestricted, BlockUDP: true}, "no UDP"},
		{"only TCP", lab.RouterConfig{Kind: lab.PortRestricted, OnlyTCP: []uint16{443}}, "no UDP"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, l := t.Context(), lab.New()
			t.Cleanup(func() {
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			})
			host, server := site(t, ctx, l, tt.cfg)
			b, err := lab.Probe(host, server, ip("203.0.113.10"), ip("203.0.113.11"))
			if err != nil {
				t.Fatal(err)
			}
			if b.Kind() != tt.want {
				t.Errorf("measured %s (%+v)", b.Kind(), b)
			}
			if b.Reaches && b.Mapped.Addr() != ip("203.0.113.21") {
				t.Errorf("seen as %s", b.Mapped)
			}
		})
	}
}

func site(t *testing.T, ctx context.Context, l *lab.Lab, cfg lab.RouterConfig) (host, server *lab.Node) {
	t.Helper()
	internet, err := l.Internet(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s, err := internet.Host(ctx, "server", ip("203.0.113.1"), ip("203.0.113.10"), ip("203.0.113.11"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Outside, cfg.Inside = ip("203.0.113.21"), ip("192.168.1.2")
	router, err := l.Router(ctx, "nat", internet, ip("203.0.113.1"), cfg)
	if err != nil {
		t.Fatal(err)
	}
	h, err := router.Host(ctx, "host", ip("192.168.1.1"), ip("192.168.1.2"))
	if err != nil {
		t.Fatal(err)
	}
	return h.Host, s.Host
}

// TestSweepFindsWhatAKilledRunLeft makes a namespace as a process that is gone would have left it.
func TestSweepFindsWhatAKilledRunLeft(t *testing.T) {
	need(t)
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	left := fmt.Sprintf("psnat-%d-1-1-0-left", dead.ProcessState.Pid())
	if out, err := exec.Command("ip", "netns", "add", left).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	orphan := exec.Command("ip", "netns", "exec", left, "sleep", "60")
	if err := orphan.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- orphan.Wait() }()

	mine := lab.New()
	defer func() { _ = mine.Close() }()
	n, err := mine.Node(t.Context(), "mine")
	if err != nil {
		t.Fatal(err)
	}
	inside := func() bool {
		out, _ := exec.Command("ip", "netns", "pids", left).Output()
		return strings.Contains(string(out), fmt.Sprint(orphan.Process.Pid))
	}
	for end := time.Now().Add(time.Minute); !inside(); time.Sleep(10 * time.Millisecond) {
		if len(ended) > 0 || time.Now().After(end) {
			t.Skip("somebody else has swept the namespace, or ip does not enter it")
		}
	}
	if _, err := lab.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ip", "netns", "list").Output()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), left) || !strings.Contains(string(out), n.Name) {
		t.Errorf("after sweeping there are\n%s", out)
	}
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("what ran in the namespace still runs")
		_ = orphan.Process.Kill()
	}
}

// TestLimits: a lab cannot grow without end, and is over after Close.
func TestLimits(t *testing.T) {
	need(t)
	l := lab.New()
	for range lab.MaxNodes {
		if _, err := l.Node(t.Context(), "n"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Node(t.Context(), "n"); err == nil {
		t.Error("one more than the limit")
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := l.Node(t.Context(), "n"); err == nil {
		t.Error("a node after Close")
	}
}
