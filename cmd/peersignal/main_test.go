package main

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/peersignal/peersignal/test/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

func settingsOf(t *testing.T, args ...string) (*settings, error) {
	t.Helper()
	f := pflag.NewFlagSet("test", pflag.ContinueOnError)
	addFlags(f, nil)
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	return loadSettings(f)
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPrecedence(t *testing.T) {
	path := writeConfig(t, `
listen: ":1"
name: [a.example:1, b.example:2]
turn: false
turn-ports: 50000-50010
max-sessions: 7
ice-servers:
  - urls: ["turn:turn.example:3478"]
    username: u
    credential: c
`)
	t.Setenv("PEERSIGNAL_LISTEN", ":2")
	t.Setenv("PEERSIGNAL_TURN_ALLOW_PEER", "10.0.0.0/8, 127.0.0.0/8")
	s, err := settingsOf(t, "--config", path, "--max-sessions", "9")
	if err != nil {
		t.Fatal(err)
	}
	if s.listen != ":2" || s.limits.Sessions != 9 || s.turn || s.relay.RelayPorts != [2]uint16{50000, 50010} {
		t.Errorf("got %+v", s)
	}
	if strings.Join(s.names, " ") != "a.example:1 b.example:2" || strings.Join(s.relay.AllowPeers, " ") != "10.0.0.0/8 127.0.0.0/8" {
		t.Errorf("got %v, %v", s.names, s.relay.AllowPeers)
	}
	if len(s.ice.Static) != 1 || s.ice.Static[0].Credential != "c" {
		t.Errorf("got %v", s.ice.Static)
	}
}

func TestWrongSettings(t *testing.T) {
	for _, tt := range []struct {
		name, config, env string
		args              []string
		want              string
	}{
		{name: "key", config: "lisen: x", want: `unknown key "lisen"; did you mean "listen"?`},
		{name: "nested key", config: "ice-servers: [{url: x}]", want: "ice-servers"},
		{name: "no YAML", config: "{", want: "reading configuration"},
		{name: "config in config", config: "config: x", want: `unknown key "config"`},
		{name: "env", env: "PEERSIGNAL_LISTN", want: "PEERSIGNAL_LISTN"},
		{name: "bool", config: "turn: maybe", want: "setting turn"},
		{name: "number", config: "max-sessions: many", want: "setting max-sessions"},
		{name: "negative", args: []string{"--max-sessions=-1"}, want: "setting max-sessions"},
		{name: "ports", args: []string{"--turn-ports=9000"}, want: "setting turn-ports"},
		{name: "ports descending", args: []string{"--turn-ports=9000-8000"}, want: "setting turn-ports"},
		{name: "address", args: []string{"--turn-public-ip=here"}, want: "setting turn-public-ip"},
		{name: "format", args: []string{"--log-format=xml"}, want: "setting log-format"},
		{name: "level", args: []string{"--log-level=loud"}, want: "setting log-level"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.env != "" {
				t.Setenv(tt.env, "1")
			}
			if tt.config != "" {
				tt.args = append(tt.args, "--config", writeConfig(t, tt.config))
			}
			if _, err := settingsOf(t, tt.args...); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestUsageErrors(t *testing.T) {
	for _, args := range [][]string{
		{"--listn", "x"}, {"bogus"}, {"serve", "x"}, {"--drain-window=5"}, {"--turn-allow-peer", "1.2.3"},
		{"--name", "a b", "--turn=false"},
		{"--ice-server", "http://x", "--turn=false"}, {"--trusted-proxy", "x", "--turn=false"},
	} {
		cmd := newCommand()
		cmd.SetArgs(append(args, "--listen=127.0.0.1:0", "--turn-listen=127.0.0.1:0"))
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		err := cmd.ExecuteContext(t.Context())
		if _, ok := errors.AsType[usageError](err); !ok {
			t.Errorf("%v: got %v, want a usage error", args, err)
		}
	}
}

// A mistake in a command line has exit code 2, and leads to the help of that command.
func TestCommandMistakes(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"health a b", "takes one URL (see peersignal health --help)"}, {"doctor a b", "see peersignal doctor --help"},
		{"load a b", "see peersignal load --help"}, {"version x", "takes no arguments"}, {"help bogus", "see peersignal --help"},
		{"help admin statsu", `did you mean "status"?`}, {"admin statsu", `did you mean "status"?`},
		{"admin status --jsn", `did you mean "--json"? (see peersignal admin status --help)`}, {"audit show", "which files"},
		{"load --devices ten", `--devices "ten": it is not a number`}, {"load --duration 5", "it is not a time with a unit"},
	} {
		_, err := run(t, strings.Fields(tt.args)...)
		if err == nil || exitCode(err) != exitUsage || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.args, err, tt.want)
		}
	}
}

func TestTakenPortIsARuntimeError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, args := range [][]string{
		{"--listen", l.Addr().String(), "--turn-listen", "127.0.0.1:0"},
		{"--listen", "127.0.0.1:0", "--turn-listen", l.Addr().String()},
	} {
		cmd := newCommand()
		cmd.SetArgs(args)
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		err := cmd.ExecuteContext(t.Context())
		if _, usage := errors.AsType[usageError](err); err == nil || usage || !strings.Contains(err.Error(), "choose another address") {
			t.Errorf("%v: got %v", args, err)
		}
	}
}

// TestServe starts the whole server, connects a device, which is given the
// embedded relay, and stops it.
func TestServe(t *testing.T) {
	srv := startServer(t)
	if !strings.Contains(srv.banner, "TURN on 127.0.0.1:") {
		t.Errorf("banner %q", srv.banner)
	}
	for path, want := range map[string]string{
		"/": "signaling server", "/livez": "ok", "/readyz": "ready", "/status": "embedded    ok",
		"/metrics": "peersignal_signaling_sessions_limit 50000",
	} {
		if body := srv.get(path); !strings.Contains(body, want) {
			t.Errorf("%s: %.200q", path, body)
		}
	}
	ready := srv.connect().ready
	if len(ready.ICE) < 2 || ready.ICEExpires == 0 || !strings.HasPrefix(ready.ICE[0].URLs[0], "stun:127.0.0.1:") {
		t.Errorf("ready %+v", ready)
	}
	srv.stop()
}
