package main

import (
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/peersignal/peersignal/internal/turn"
)

var update = flag.Bool("update", false, "rewrite config.example.yaml")

const example = "../../config.example.yaml"

// run runs the command line to its end.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	out := &output{}
	cmd := newCommand()
	cmd.SetArgs(args)
	cmd.SetOut(out)
	cmd.SetErr(io.Discard)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

// The example in the repository is what `config doc` prints, is loaded
// strictly, and changes nothing.
func TestExample(t *testing.T) {
	doc, err := run(t, "config", "doc")
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		write(t, example, []byte(doc))
	}
	content, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	if string(content) != doc {
		t.Error("config.example.yaml is out of date; go test ./cmd/peersignal -update")
	}
	file, err := parseFile(content)
	if err != nil {
		t.Fatal(err)
	}
	for k := range eachKey {
		if _, ok := file[k.name]; !ok {
			t.Errorf("%s is not in the example", k.name)
		}
	}
	want, err := settingsOf(t)
	if err != nil {
		t.Fatal(err)
	}
	got, err := settingsOf(t, "--config", example)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("with the example: %v, want the defaults", err)
	}
	if out, err := run(t, "config", "check", "--config", example); err != nil || !strings.Contains(out, "valid") {
		t.Errorf("config check: %q, %v", out, err)
	}
}

// Operators find every setting on one of the pages.
func TestEveryKeyIsDocumented(t *testing.T) {
	var pages []byte
	for _, page := range []string{"signaling.md", "ice.md", "operations.md", "notify.md"} {
		b, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, b...)
	}
	for k := range eachKey {
		name := k.name
		if base := strings.TrimSuffix(name, fileSuffix); isSecret(base) {
			name = base
		}
		if !strings.Contains(string(pages), "`"+name+"`") && !strings.Contains(string(pages), "`--"+name+"`") {
			t.Errorf("%s is on no page", k.name)
		}
	}
}

// Several keys of credentials are read in their order, so that one can take the place of another.
func TestRelaySecrets(t *testing.T) {
	t.Setenv("PEERSIGNAL_TURN_SECRETS", "new:0123456789abcdef, old:fedcba9876543210")
	s, err := settingsOf(t)
	if err != nil {
		t.Fatal(err)
	}
	want := []turn.Secret{{ID: "new", Key: []byte("0123456789abcdef")}, {ID: "old", Key: []byte("fedcba9876543210")}}
	if !reflect.DeepEqual(s.relay.Secrets, want) {
		t.Errorf("got %d secrets, want new and old", len(s.relay.Secrets))
	}
	t.Setenv("PEERSIGNAL_TURN_SECRETS", "new:short")
	if _, err := settingsOf(t); err == nil || strings.Contains(err.Error(), "short,") || !strings.Contains(err.Error(), "turn-secrets") {
		t.Errorf("got %v", err)
	}
}

// A value of another type is a mistake, for every key.
func TestWrongTypes(t *testing.T) {
	wrong := map[kind][]string{
		text: {"7", "1.5", "true", "[a]", "{a: b}", "~", ""}, secret: {"12345678901234567890", "0x1f", "true", "[a]", "{a: b}", ""},
		list: {"7", "[7]", "[[a]]", "{a: b}", ""}, boolean: {"7", "maybe", "[true]", ""},
		number: {"1.5", "many", "[7]", "true", ""}, duration: {"7", "7 hours", "-1h", "0s", "[1h]", ""},
		servers: {"a", "{urls: [a]}", "[a]", "[{url: a}]", "[{urls: a}]", "[{urls: [a], username: 7}]", ""},
	}
	for k := range eachKey {
		for _, value := range wrong[k.kind] {
			_, err := settingsOf(t, "--config", writeConfig(t, k.name+": "+value))
			if err == nil || !strings.Contains(err.Error(), "setting "+k.name+":") {
				t.Errorf("%s: %s: got %v", k.name, value, err)
			}
		}
	}
}

func TestUnknownNames(t *testing.T) {
	for _, tt := range []struct {
		args         []string
		config, want string
	}{
		{args: []string{"--ice-ordr=twilio"}, want: `unknown flag: --ice-ordr; did you mean "--ice-order"?`},
		{args: []string{"--ice-servers=x"}, want: "set ice-servers in the file of --config"},
		{args: []string{"--twilio-auth-token=tell-nobody"}, want: "set PEERSIGNAL_TWILIO_AUTH_TOKEN or --twilio-auth-token-file"},
		{args: []string{"--turn-rest-secret", "tell-nobody"}, want: "set PEERSIGNAL_TURN_REST_SECRET or --turn-rest-secret-file"},
		{config: "twilio-acount-sid: x", want: `did you mean "twilio-account-sid"?`},
		{config: "Listen: x", want: `unknown key "Listen"; did you mean "listen"?`},
		{config: "lisen:", want: `did you mean "listen"?`},
		{config: "listen: \":1\"\nlisten: \":2\"", want: `mapping key "listen" already defined`},
		{config: "listen: \":1\"\n---\nlisten: \":2\"", want: "more than one YAML document"},
		{config: "tell-nobody", want: "not a YAML mapping"},
		{config: "twilio-auth-token: *tell-nobody", want: "in quotes"},
		{config: "7: x", want: "not a YAML mapping"},
	} {
		if tt.config != "" {
			tt.args = append(tt.args, "--config", writeConfig(t, tt.config))
		}
		_, err := run(t, append([]string{"config", "check"}, tt.args...)...)
		if _, ok := errors.AsType[usageError](err); !ok || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v %q: got %v, want %q", tt.args, tt.config, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "tell-nobody") {
			t.Errorf("a secret is in the error: %v", err)
		}
	}
}

func TestConfigCheck(t *testing.T) {
	files := certFiles(t)
	sid := "--twilio-account-sid=AC" + strings.Repeat("0", 32)
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--turn-allow-peer=10.0.0.0"}, "10.0.0.0"},
		{[]string{"--turn-deny-peer=x"}, "x"},
		{[]string{"--name=a b"}, "a b"},
		{[]string{"--trusted-proxy=x"}, "trusted proxy"},
		{[]string{"--ice-server=http://x"}, "ICE server"},
		{[]string{"--ice-order=twilio"}, "twilio is named, and not configured"},
		{[]string{"--ice-order=twillio"}, "is none of embedded, static"},
		{[]string{"--ice-order=embedded,embedded"}, "twice"},
		{[]string{"--turn=false", "--ice-required"}, "ice-required"},
		{[]string{sid}, "either an auth token or an API key"},
		{[]string{sid, "--twilio-api-key-sid=x"}, "API key"},
		{[]string{"--cloudflare-key-id=x"}, "API token"},
		{[]string{"--turn-rest-urls=turn:a.example"}, "secret"},
		{[]string{"--turn-endpoint-url=http://a.example"}, "https://"},
		{[]string{"--listen=8080"}, "setting listen"},
		{[]string{"--listen="}, "setting listen"},
		{[]string{"--metrics-listen=:many"}, "setting metrics-listen"},
		{[]string{"--turn-listen=:1,x"}, "setting turn-listen"},
		{[]string{"--turn-tls-listen=:5349"}, "setting turn-tls-listen: it needs a certificate"},
		{[]string{"--tls-cert=x"}, "setting tls-cert: it needs tls-key"},
		{[]string{"--turn-tls-key=x"}, "setting turn-tls-cert"},
		{[]string{"--tls-cert=" + files.cert, "--tls-key=" + files.cert}, "TLS certificate"},
		{[]string{"--turn-tls-cert=" + files.cert, "--turn-tls-key=nowhere", "--turn-tls-listen=:5349"}, "nowhere"},
		{[]string{"--config=nowhere.yaml"}, "nowhere.yaml"},
		{[]string{"--turn-ttl=30s"}, "setting turn-ttl: it is not from 1m to 24h"},
		{[]string{"--ping-timeout=1s"}, "setting ping-timeout: it has to be longer than ping-interval"},
		{[]string{"--memory-bytes=1000"}, "setting memory-bytes"},
		{[]string{"--send-queue-bytes=1000"}, "setting send-queue-bytes"},
		{[]string{"--max-topics=20001"}, "setting max-topics"},
		{[]string{"--block-file=nowhere/blocks.json"}, "its folder is missing"},
		{[]string{"--acme-host=192.0.2.1", "--acme-cache=acme"}, "setting acme-host: it is not a host name"},
		{[]string{"--acme-host=*.example.org", "--acme-cache=acme"}, "setting acme-host: it is not a host name"},
	} {
		_, err := run(t, append([]string{"config", "check"}, tt.args...)...)
		if _, ok := errors.AsType[usageError](err); !ok || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: got %v, want %q", tt.args, err, tt.want)
		}
	}
	for _, args := range [][]string{
		nil, {"--turn=false"}, {"--turn=false", "--turn-tls-listen=:5349"}, {"--turn-public-ip=192.0.2.1", "--ice-required"},
		{"--tls-cert=" + files.cert, "--tls-key=" + files.key, "--turn-tls-listen=:5349", "--turn-introduced-only"},
		{"--ice-server=stun:a.example", "--ice-order=static,embedded"},
		{"--push-contact=mailto:a@b.example", "--push-host=push.example.org"},
	} {
		if _, err := run(t, append([]string{"config", "check"}, args...)...); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
	if _, err := run(t, "config"); err == nil {
		t.Error("config alone does something")
	}
	if _, err := run(t, "config", "chekc"); err == nil || !strings.Contains(err.Error(), `did you mean "check"?`) {
		t.Errorf("a misspelt command: %v", err)
	}
}

// Each secret can come from the environment, from the configuration and from a
// file of its own, and none is ever printed.
func TestSecrets(t *testing.T) {
	const value = "tell-nobody-tell-nobody-tell-nobody-tell-no" // also 32 bytes in base64url, as push-key has to be
	secretFile := filepath.Join(t.TempDir(), "secret")
	write(t, secretFile, []byte(value+"\n"))
	needs := map[string]string{ // settings that make the others valid
		"twilio-auth-token":     "twilio-account-sid: AC00000000000000000000000000000000",
		"twilio-api-key-secret": "twilio-account-sid: AC00000000000000000000000000000000\ntwilio-api-key-sid: SK00000000000000000000000000000000",
		"cloudflare-api-token":  "cloudflare-key-id: abc",
		"turn-rest-secret":      "turn-rest-urls: [turn:a.example]",
		"push-key":              "push-contact: mailto:a@b.example",
		"turn-endpoint-key":     `turn-endpoint-url: "https://a.example/?key=tell-nobody"`,
	}
	held := func(s *settings) string {
		switch c := s.ice; {
		case c.Twilio != nil:
			return c.Twilio.AuthToken.Reveal() + c.Twilio.APIKeySecret.Reveal()
		case c.Cloudflare != nil:
			return c.Cloudflare.APIToken.Reveal()
		case c.REST != nil:
			return c.REST.Secret.Reveal()
		case c.Endpoint != nil:
			return c.Endpoint.Key.Reveal()
		case s.push.Key != "":
			return s.push.Key
		case !s.adminToken.IsZero():
			return s.adminToken.Reveal()
		case len(s.relay.Secrets) > 0:
			return string(s.relay.Secrets[0].Key)
		}
		return ""
	}
	for k := range eachKey {
		if k.kind != secret {
			continue
		}
		for _, tt := range []struct{ from, config, variable, file string }{
			{from: "file", config: k.name + ": " + value},
			{from: "environment", variable: k.variable()},
			{from: "own file", file: "--" + k.name + "-file=" + secretFile},
		} {
			t.Run(k.name+" from "+tt.from, func(t *testing.T) {
				if tt.variable != "" {
					t.Setenv(tt.variable, value)
				}
				args := []string{"--config", writeConfig(t, needs[k.name]+"\n"+tt.config)}
				if tt.file != "" {
					args = append(args, tt.file)
				}
				s, err := settingsOf(t, args...)
				if err != nil || held(s) != value {
					t.Fatalf("got %v, want the secret", err)
				}
				if err := s.check(); err != nil {
					t.Error(err)
				}
				printed, err := run(t, append([]string{"config", "print"}, args...)...)
				if err != nil || strings.Contains(printed, "tell-nobody") {
					t.Errorf("config print: %v\n%s", err, printed)
				}
				if tt.file == "" && !strings.Contains(printed, "\n# "+k.name+": [hidden]  # "+tt.from+"\n") {
					t.Errorf("config print does not say that there is a secret:\n%s", printed)
				}
				if _, err := parseFile([]byte(printed)); err != nil {
					t.Errorf("what config print says is no configuration: %v", err)
				}
			})
		}
	}
}

func TestSecretMistakes(t *testing.T) {
	dir := t.TempDir()
	path := func(name, content string) string {
		write(t, filepath.Join(dir, name), []byte(content))
		return filepath.Join(dir, name)
	}
	for _, tt := range []struct{ config, file, want string }{
		{"turn-rest-secret: tell-nobody", path("good", "tell-nobody"), "choose one"},
		{"", path("empty", " \n"), "is empty"},
		{"", path("lines", "tell-nobody\ntell-nobody"), "line break"},
		{"", path("large", strings.Repeat("tell-nobody", 1000)), "more than 4096 bytes"},
		{"", dir, "is a directory"},
		{"", filepath.Join(dir, "none"), "no such file"},
		{`turn-rest-secret: "tell-nobody\r\n.x"`, "", "control character"},
	} {
		args := []string{"--turn-rest-urls=turn:a.example", "--turn-rest-secret-file=" + tt.file, "--config", writeConfig(t, tt.config)}
		_, err := run(t, append([]string{"config", "check"}, args...)...)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "tell-nobody") {
			t.Errorf("%q %s: got %v, want %q", tt.config, tt.file, err, tt.want)
		}
	}
}

// What is printed means the same, and says where it is from.
func TestConfigPrint(t *testing.T) {
	t.Setenv("PEERSIGNAL_NAME", "a.example:1,b.example:2")
	config := writeConfig(t, `
max-sessions: 7
twilio-ttl: 90m
turn-endpoint-url: "https://a.example/turn?key=tell-nobody"
ice-servers:
  - urls: ["turn:c.example"]
    username: u
    credential: tell-nobody
`)
	printed, err := run(t, "config", "print", "--config", config, "--turn-host=relay.example")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`name: ["a.example:1","b.example:2"]  # environment`, "\nmax-sessions: 7  # file", "\ntwilio-ttl: \"1h30m\"  # file",
		"\nturn-host: \"relay.example\"  # flag", "\nturn-ports: \"49152-65535\"  # default",
		"\n# turn-endpoint-url: \"https://a.example/turn?[hidden]\"  # file",
		"\n# ice-servers: [{\"credential\":\"[hidden]\",\"urls\":[\"turn:c.example\"],\"username\":\"u\"}]  # file",
	} {
		if !strings.Contains(printed, want) {
			t.Errorf("no %q in\n%s", want, printed)
		}
	}
	if strings.Contains(printed, "tell-nobody") {
		t.Errorf("a secret is printed:\n%s", printed)
	}
	t.Setenv("PEERSIGNAL_NAME", "")
	again, err := settingsOf(t, "--config", writeConfig(t, printed))
	if err != nil || len(again.names) != 2 || again.limits.Sessions != 7 || again.turnHost != "relay.example" {
		t.Errorf("loading what is printed: %v", err)
	}
}

// Whatever limits clients is a setting, and has the default that it says.
func TestEveryLimitIsASetting(t *testing.T) {
	s, err := settingsOf(t)
	if err != nil {
		t.Fatal(err)
	}
	notYet := map[string]bool{"BusQueueBytes": true, "BusPendingSignals": true} // there is no bus to configure
	limits := reflect.ValueOf(s.limits)
	for i := range limits.NumField() {
		if name := limits.Type().Field(i).Name; limits.Field(i).IsZero() && !notYet[name] {
			t.Errorf("signaling.Limits.%s is no setting", name)
		}
	}
	relay := reflect.ValueOf(s.relay)
	for _, name := range []string{
		"AllocationsPerSession", "AllocationsPerUser", "AllocationsTotal", "BytesPerSecond", "BytesPerDay", "MaxTCPConns",
		"UnauthenticatedPerSecond", "TTL",
	} {
		if relay.FieldByName(name).IsZero() {
			t.Errorf("turn.Config.%s is no setting", name)
		}
	}
}

// The file for an environment has every variable, and its lines mean nothing
// until somebody changes them.
func TestConfigEnv(t *testing.T) {
	out, err := run(t, "config", "env")
	if err != nil {
		t.Fatal(err)
	}
	for k := range eachKey {
		if k.hasVariable() != strings.Contains(out, "\n#"+k.variable()+"=") {
			t.Errorf("%s is missing, or there", k.name)
		}
	}
	for line := range strings.Lines(out) {
		if line != "\n" && !strings.HasPrefix(line, "#") {
			t.Errorf("%q is no comment", line)
		}
		if name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "#"), "="); ok && value != "" &&
			strings.HasPrefix(name, envPrefix) {
			t.Setenv(name, value)
		}
	}
	got, err := settingsOf(t)
	if err != nil {
		t.Fatal(err)
	}
	want := *got
	for k := range eachKey {
		if k.hasVariable() {
			t.Setenv(k.variable(), "")
		}
	}
	if defaults, err := settingsOf(t); err != nil || !reflect.DeepEqual(defaults, &want) {
		t.Errorf("the defaults as variables are others: %v", err)
	}
}

// The environment is read as strictly as the file.
func TestWrongEnvironment(t *testing.T) {
	wrong := map[kind][]string{
		boolean: {"7", "maybe"}, number: {"1.5", "many", "1e3", "0x10"}, duration: {"7", "7 hours", "-1h", "0s"},
	}
	for k := range eachKey {
		for _, value := range wrong[k.kind] {
			t.Run(k.variable()+"="+value, func(t *testing.T) {
				t.Setenv(k.variable(), value)
				if _, err := settingsOf(t); err == nil || !strings.Contains(err.Error(), "setting "+k.name+":") {
					t.Errorf("got %v", err)
				}
			})
		}
	}
	for name, want := range map[string]string{
		"PEERSIGNAL_MAX_SESIONS": `did you mean "PEERSIGNAL_MAX_SESSIONS"?`, "PEERSIGNAL_TLSCERT": `did you mean "PEERSIGNAL_TLS_CERT"?`,
		"PEERSIGNAL_ICE_SERVERS": "unknown variable",
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, "tell-nobody")
			if _, err := settingsOf(t); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "tell-nobody") {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
}

// A server with a certificate for a name is dialled by that name.
func TestNamesOfACME(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--listen=:443"}, "[signal.example.org]"},
		{[]string{"--listen=:8443"}, "[signal.example.org:8443]"},
		{[]string{"--listen=:8443", "--name=signal.example.org"}, "[signal.example.org]"},
	} {
		s, err := settingsOf(t, append(tt.args, "--acme-host=signal.example.org", "--acme-cache=acme")...)
		if err != nil || "["+strings.Join(s.names, " ")+"]" != tt.want {
			t.Errorf("%v: names %v, %v, want %s", tt.args, s.names, err, tt.want)
		}
	}
}
