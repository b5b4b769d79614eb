//go:build linux

package soak

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/peersignal/peersignal/internal/load"
)

// TestRaceUnderLoad runs the server with the race detector under every scenario of the load.
func TestRaceUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds a server with the race detector")
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("the race detector needs cgo, and there is no gcc")
	}
	bin, err := build(t.Context(), t.TempDir(), []string{"CGO_ENABLED=1"}, "-race")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	s := startServer(t, bin)
	for _, cfg := range []load.Config{
		{Scenario: load.Pairs, Devices: 60},
		{Scenario: load.Pairs, Devices: 20, Size: 30_000},
		{Scenario: load.Groups, Devices: 60, GroupsOf: 20, Rate: 300},
		{Scenario: load.Newcomers, Devices: 50, Count: 40, Burst: 5},
		{Scenario: load.Auth, Devices: 16},
		{Scenario: load.Storm, Devices: 60, Count: 4},
		{Scenario: load.Idle, Devices: 100},
	} {
		cfg.Duration = 1500 * time.Millisecond
		if cfg.Count > 0 {
			cfg.Duration = time.Minute // it ends by itself
		}
		if _, err := s.load(ctx, cfg); err != nil {
			t.Error(err)
		}
	}
	if err := s.Stop(30 * time.Second); err != nil {
		t.Errorf("it does not end as it should: %v", err)
	}
	if log := s.Log(); strings.Contains(log, "DATA RACE") || strings.Contains(log, "panic") {
		t.Errorf("the server's output:\n%.20000s", log)
	}
}
