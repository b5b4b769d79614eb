package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/peersignal/peersignal/internal/doctor"
)

func examination(t *testing.T, cfg doctor.Config) map[string]doctor.Check {
	t.Helper()
	checks, err := doctor.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]doctor.Check{}
	for _, c := range checks {
		byName[c.Name] = c
		if c.Status == doctor.Failed && c.Advice == "" {
			t.Errorf("%s failed without advice", c.Name)
		}
	}
	return byName
}

// starting finds a check by how its name begins: addresses of tests change.
func starting(checks map[string]doctor.Check, prefix string) doctor.Check {
	for name, c := range checks {
		if strings.HasPrefix(name, prefix) {
			return c
		}
	}
	return doctor.Check{}
}

func TestDoctorOfAHealthyServer(t *testing.T) {
	pair := certFiles(t)
	s := startServer(t, "--tls-cert="+pair.cert, "--tls-key="+pair.key, "--turn-tls-listen=127.0.0.1:0")
	checks := examination(t, doctor.Config{URL: s.url, RootCAs: testRoots, PushHosts: []string{strings.TrimPrefix(s.url, "https://")}})
	for _, name := range []string{
		"TCP over IPv4", "readiness", "WebSocket", "clock", "authentication", "two devices meet", "STUN over UDP, IPv4",
		"TURN over UDP, IPv4", "TURN over TCP, IPv4", "TURN over TLS, IPv4", "data through the relay", "forbidden peers", "push service",
	} {
		if c := starting(checks, name); c.Status != doctor.OK {
			t.Errorf("%s: %+v", name, c)
		}
	}
	// The certificate of the test is valid for an hour only.
	if c := checks["TLS"]; c.Status != doctor.Warning {
		t.Errorf("TLS: %+v", c)
	}
	for name, c := range checks {
		if c.Status == doctor.Failed {
			t.Errorf("%s failed: %s", name, c.Detail)
		}
	}
}

// Each defect is found by its own check, and what depends on it is left out.
func TestDoctorFindsDefects(t *testing.T) {
	const address = "127.0.0.1:1" // nobody listens there
	pages := httptest.NewServer(http.NotFoundHandler())
	defer pages.Close()
	pair := certFiles(t)
	secure := startServer(t, "--tls-cert="+pair.cert, "--tls-key="+pair.key, "--turn=false")
	named := startServer(t, "--name=signal.example.org", "--turn=false")
	open := startServer(t, "--turn-allow-peer=10.0.0.0/8")
	for _, c := range []struct {
		name, url, check, detail, advice string
		absent                           string
	}{
		{"no such name", "https://nobody.invalid", "DNS", "nobody.invalid", "record", "TCP over IPv4"},
		{"nothing there", "http://" + address, "TCP over IPv4", "refused", "running", "WebSocket"},
		{"another web server", pages.URL, "WebSocket", "404", "proxy", "authentication"},
		{"unknown authority", secure.url, "TLS", "unknown authority", "--ca-file", "WebSocket"},
		{"no TLS there", "https://" + strings.TrimPrefix(named.url, "http://"), "TLS", "", "does not speak TLS", "WebSocket"},
		{"name not configured", named.url, "authentication", "unknown-name", "--name", "two devices meet"},
		{"relay into the inner network", open.url, "forbidden peers", "10.0.0.1", "--turn-allow-peer", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.check == "DNS" {
				_, err := net.DefaultResolver.LookupHost(t.Context(), "nobody.invalid")
				if missing, ok := errors.AsType[*net.DNSError](err); !ok || !missing.IsNotFound {
					t.Skipf("this machine's DNS does not say that there is no such name: %v", err)
				}
			}
			checks := examination(t, doctor.Config{URL: c.url})
			got := checks[c.check]
			if got.Status != doctor.Failed || !strings.Contains(got.Detail, c.detail) || !strings.Contains(got.Advice, c.advice) {
				t.Errorf("%+v", got)
			}
			if a, there := checks[c.absent]; there {
				t.Errorf("went on: %+v", a)
			}
		})
	}
	roots := doctor.Config{URL: secure.url, RootCAs: testRoots}
	if c := examination(t, roots)["ICE servers"]; c.Status != doctor.Warning {
		t.Errorf("no relay: %+v", c)
	}
	if _, err := doctor.Run(t.Context(), doctor.Config{URL: "signal"}); err == nil {
		t.Error("a URL that is none was examined")
	}
}

func TestDoctorCommand(t *testing.T) {
	pair := certFiles(t)
	s := startServer(t, "--tls-cert="+pair.cert, "--tls-key="+pair.key)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	write(t, ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: testCA.Raw}))
	run := func(args ...string) (string, error) {
		cmd := newCommand()
		var out bytes.Buffer
		cmd.SetArgs(append([]string{"doctor"}, args...))
		cmd.SetOut(&out)
		err := cmd.ExecuteContext(context.Background())
		return out.String(), err
	}
	text, err := run(s.url, "--ca-file", ca)
	if err != nil || !strings.Contains(text, "ok    two devices meet") {
		t.Errorf("%v\n%s", err, text)
	}
	text, err = run(s.url, "--json")
	var report struct {
		OK     bool
		Checks []doctor.Check
	}
	if jsonErr := json.Unmarshal([]byte(text), &report); jsonErr != nil || err == nil || report.OK || len(report.Checks) == 0 {
		t.Errorf("%v, %v: %s", err, jsonErr, text)
	}
	// The configuration says where the own server is.
	t.Setenv("PEERSIGNAL_LISTEN", strings.TrimPrefix(s.url, "https://"))
	t.Setenv("PEERSIGNAL_TLS_CERT", pair.cert)
	t.Setenv("PEERSIGNAL_TLS_KEY", pair.key)
	if text, err := run("--ca-file", ca); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
}
