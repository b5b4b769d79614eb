package load_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/peersignal/peersignal/internal/load"
	"github.com/peersignal/peersignal/internal/signaling"
	"github.com/peersignal/peersignal/test/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// startServer serves signaling on loopback, and gives its URL and name.
func startServer(t *testing.T, limits signaling.Limits) (url, name string) {
	t.Helper()
	s, err := signaling.New(signaling.Config{Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s.Handler())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		web.Close()
	})
	return web.URL, strings.TrimPrefix(web.URL, "http://")
}

var unlimited = signaling.Limits{MessagesPer10s: 1 << 40, OffersPerMinute: 1 << 40}

func runLoad(t *testing.T, cfg load.Config) *load.Report {
	t.Helper()
	report, err := load.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := report.Print(&text); err != nil {
		t.Fatal(err)
	}
	t.Log(text.String())
	if _, err := json.Marshal(report); err != nil {
		t.Fatal(err)
	}
	return report
}

func TestScenarios(t *testing.T) {
	url, name := startServer(t, unlimited)
	for _, c := range []struct {
		cfg   load.Config
		check func(r *load.Report) bool
	}{
		{load.Config{Scenario: load.Pairs}, func(r *load.Report) bool {
			return r.Delivered > 0 && r.Arrived > 0 && r.Received.Count > 0 && r.Result.P50 <= r.Result.Max
		}},
		{load.Config{Scenario: load.Pairs, Rate: 200}, func(r *load.Report) bool { return r.Arrived > 0 && r.Received.Count > 0 }},
		{load.Config{Scenario: load.Groups, GroupsOf: 5}, func(r *load.Report) bool { return r.Received.Count > 0 && r.Arrived > r.Sent }},
		{load.Config{Scenario: load.Newcomers, Count: 10, Burst: 3}, func(r *load.Report) bool {
			return r.Newcomers.Joined == 10 && r.Newcomers.WholeList.Count == 10
		}},
		{load.Config{Scenario: load.Idle}, func(r *load.Report) bool { return r.Up == 20 && r.Sent == 0 }},
		{load.Config{Scenario: load.Auth, Devices: 4}, func(r *load.Report) bool { return r.Logins.Done > 0 && r.Auth.Count >= r.Logins.Done }},
		{load.Config{Scenario: load.Storm, Count: 2}, func(r *load.Report) bool {
			return len(r.Storms.BackAfter) == 2 && r.Up == 20 && r.Auth.Count == 40
		}},
	} {
		t.Run(string(c.cfg.Scenario), func(t *testing.T) {
			cfg := c.cfg
			cfg.URL, cfg.Dialect, cfg.Duration = url, load.Peersignal{Server: name}, time.Second
			if cfg.Count > 0 {
				cfg.Duration = time.Minute // it ends by itself
			}
			if cfg.Devices == 0 {
				cfg.Devices = 20
			}
			lines := 0
			cfg.Progress = func(string) { lines++ }
			r := runLoad(t, cfg)
			if r.Errors != 0 || !c.check(r) {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestLimitsAreExplained runs into a server's limits, counts what was refused,
// and says what to do.
func TestLimitsAreExplained(t *testing.T) {
	url, name := startServer(t, signaling.Limits{})
	r := runLoad(t, load.Config{URL: url, Dialect: load.Peersignal{Server: name}, Devices: 2, Duration: time.Second})
	if r.Refused["rate-limited"] == 0 || r.Errors == 0 || !strings.Contains(strings.Join(r.Advice, "\n"), "--offers-per-minute") {
		t.Errorf("%+v", r)
	}
}

// TestServerGoes ends the server's side: the devices come back.
func TestServerGoes(t *testing.T) {
	url, name := startServer(t, signaling.Limits{Sessions: 3})
	r := runLoad(t, load.Config{
		URL: url, Dialect: load.Peersignal{Server: name}, Devices: 6, Scenario: load.Idle, Duration: time.Second,
	})
	if r.Connected != 3 || r.Failed["server-full"] < 3 || len(r.Advice) == 0 {
		t.Errorf("%+v", r)
	}
}

func TestNoServer(t *testing.T) {
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	for name, c := range map[string]struct{ url, says string }{
		"another server": {web.URL, "http-404"},
		"nobody":         {"http://127.0.0.1:1", "connection-refused"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load.Run(t.Context(), load.Config{URL: c.url, Dialect: load.Peersignal{Server: "localhost:1"}, Devices: 2})
			if !errors.Is(err, load.ErrNobodyConnected) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want one that says %q", err, c.says)
			}
			_, err = load.Run(t.Context(), load.Config{
				URL: c.url, Dialect: load.Peersignal{Server: "localhost:1"}, Devices: 2, Scenario: load.Auth, Duration: 100 * time.Millisecond,
			})
			if !errors.Is(err, load.ErrNobodyConnected) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestInterrupted(t *testing.T) {
	url, name := startServer(t, unlimited)
	ctx, cancel := context.WithCancel(t.Context())
	r, err := load.Run(ctx, load.Config{
		URL: url, Dialect: load.Peersignal{Server: name}, Devices: 4, Duration: time.Hour, Connected: cancel,
	})
	if err != nil || !r.Interrupted || r.Errors != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	ok := load.Config{URL: "http://localhost:1", Dialect: load.Peersignal{Server: "localhost:1"}, Devices: 2}
	for name, change := range map[string]func(c *load.Config){
		"scenario":  func(c *load.Config) { c.Scenario = "walk" },
		"dialect":   func(c *load.Config) { c.Dialect = nil },
		"odd":       func(c *load.Config) { c.Devices = 3 },
		"negative":  func(c *load.Config) { c.Devices = -2 },
		"group":     func(c *load.Config) { c.Scenario, c.GroupsOf = load.Groups, 5 },
		"size":      func(c *load.Config) { c.Size = 1 << 20 },
		"rate":      func(c *load.Config) { c.Rate = -1 },
		"URL":       func(c *load.Config) { c.URL = "localhost:1" },
		"from":      func(c *load.Config) { c.From = []string{"here"} },
		"no host":   func(c *load.Config) { c.URL = "http://" },
		"no number": func(c *load.Config) { c.Topics = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := ok
			change(&cfg)
			if _, err := load.Run(t.Context(), cfg); !errors.Is(err, load.ErrConfig) {
				t.Errorf("got %v, want ErrConfig", err)
			}
		})
	}
}
