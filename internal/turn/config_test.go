package turn_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/peersignal/peersignal/internal/turn"
)

func TestConfigErrors(t *testing.T) {
	key := []byte(strings.Repeat("k", 32))
	for want, change := range map[string]func(*turn.Config){
		"realm":                       func(c *turn.Config) { c.Realm = strings.Repeat("r", 200) },
		"ttl":                         func(c *turn.Config) { c.TTL = time.Second },
		"relay ports":                 func(c *turn.Config) { c.RelayPorts = [2]uint16{80, 90} },
		"ascending":                   func(c *turn.Config) { c.RelayPorts = [2]uint16{3000, 2000} },
		"negative":                    func(c *turn.Config) { c.AllocationsTotal = -1 },
		"listen address":              func(c *turn.Config) { c.Listen = []string{"3478"} },
		"allowed peers":               func(c *turn.Config) { c.AllowPeers = []string{"10.0.0.0"} },
		"denied peers":                func(c *turn.Config) { c.DenyPeers = []string{"10.0.0.0/99"} },
		"given twice":                 func(c *turn.Config) { c.Secrets = []turn.Secret{{ID: "a", Key: key}, {ID: "a", Key: key}} },
		"its id must be":              func(c *turn.Config) { c.Secrets = []turn.Secret{{ID: "a:b", Key: key}} },
		"the least is 16":             func(c *turn.Config) { c.Secrets = []turn.Secret{{ID: "a", Key: key[:8]}} },
		"the most is 8":               func(c *turn.Config) { c.Secrets = make([]turn.Secret, 9) },
		"belongs in the public IP":    func(c *turn.Config) { c.RelayIP = netip.MustParseAddr("8.8.8.8") },
		"both be IPv4":                func(c *turn.Config) { c.PublicIP = netip.MustParseAddr("2a00::1") },
		"one address of one host":     func(c *turn.Config) { c.RelayIP = netip.MustParseAddr("0.0.0.0") },
		"listening for turn on 127.0": func(c *turn.Config) { c.Listen = []string{"127.0.0.1:0", "127.0.0.1:99999"} },
	} {
		cfg := turn.Config{Listen: []string{"127.0.0.1:0"}, RelayIP: netip.MustParseAddr("127.0.0.1")}
		change(&cfg)
		s, err := turn.New(cfg)
		if err == nil {
			_ = s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
		if err != nil && strings.Contains(err.Error(), string(key[:8])) {
			t.Errorf("the error shows a key: %v", err)
		}
	}
}

func TestSecretIsNotPrinted(t *testing.T) {
	s := turn.Secret{ID: "a", Key: []byte("0123456789abcdef")}
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%+v", s), fmt.Sprintf("%#v", []turn.Secret{s})} {
		if strings.Contains(text, "0123") || strings.Contains(text, "48 49") || strings.Contains(text, "0x30") {
			t.Errorf("%q holds the key", text)
		}
	}
}

// The zero Config works wherever port 3478 is free; here it gets another port.
func TestDefaults(t *testing.T) {
	s, err := turn.New(turn.Config{Listen: []string{"localhost:0", ":0"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if got := len(s.Addrs()); got != 2 {
		t.Fatalf("%d addresses, want 2", got)
	}
	c, err := s.Credentials("s", "u")
	if err != nil {
		t.Fatal(err)
	}
	if d := time.Until(c.Expires); d < 59*time.Minute || d > time.Hour {
		t.Errorf("credentials expire in %v, want an hour", d)
	}
}

func TestMetricsAreRegisteredOnce(t *testing.T) {
	reg := prometheus.NewRegistry()
	cfg := turn.Config{Listen: []string{"127.0.0.1:0"}, Registerer: reg}
	s, err := turn.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if _, err := turn.New(cfg); err == nil || !strings.Contains(err.Error(), "registering turn metrics") {
		t.Errorf("a second server on one registry: %v", err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) != 18 {
		t.Errorf("%d metrics are there before the first event, want all 18", len(families))
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "peersignal_turn_") || f.GetHelp() == "" {
			t.Errorf("metric %q", f.GetName())
		}
	}
}
