//go:build linux

package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/peersignal/peersignal/internal/load"
)

// TestBareServers checks that every load finds in the bare servers what it needs.
func TestBareServers(t *testing.T) {
	for name, handler := range map[string]http.Handler{"gws": onGWS(), "coder": onCoder()} {
		t.Run(name, func(t *testing.T) {
			web := httptest.NewServer(handler)
			defer web.Close()
			for _, cfg := range []load.Config{
				{Scenario: load.Idle}, {Scenario: load.Pairs}, {Scenario: load.Auth}, {Scenario: load.Newcomers, Count: 4},
			} {
				cfg.URL, cfg.Dialect, cfg.Devices, cfg.Duration = web.URL, bare{}, 10, time.Second
				if cfg.Scenario == load.Newcomers {
					cfg.Duration = time.Minute // it ends by itself
				}
				r, err := load.Run(t.Context(), cfg)
				if err != nil {
					t.Fatal(err)
				}
				if r.Errors > 0 || cfg.Scenario != load.Idle && r.Arrived+r.Sent == 0 || cfg.Scenario == load.Newcomers && r.Newcomers.Joined != 4 {
					t.Errorf("%s: %+v", cfg.Scenario, r)
				}
			}
		})
	}
}

func TestTable(t *testing.T) {
	tab := newTable()
	for _, v := range []float64{3, 1, 2} {
		tab.add(reference, messages, v)
		tab.add("other", messages, 10*v)
	}
	if got := tab.cell("other", messages); got != "20.00 (10.00)" {
		t.Errorf("got %q", got)
	}
	if got := tab.cell("other", cpu); got != "–" {
		t.Errorf("got %q", got)
	}
}
