package ice_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/peersignal/peersignal/internal/ice"
	"github.com/peersignal/peersignal/test/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

func TestStatic(t *testing.T) {
	servers := []ice.Server{
		{URLs: []string{"stun:stun.example.org:3478", "stun:[2001:db8::1]"}},
		{URLs: []string{"turn:turn.example.org:3478?transport=udp", "turns:turn.example.org"}, Username: "u", Credential: "c"},
	}
	s, err := ice.NewStatic(servers)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := json.Marshal(servers)
	servers[0].URLs[0] = "changed by the caller"
	for range 2 {
		got, err := s.ICEServers(t.Context(), ice.Request{})
		if err != nil || !got.Expires.IsZero() {
			t.Fatalf("got %v, %v", got, err)
		}
		text, _ := json.Marshal(got.Servers)
		if string(text) != string(want) {
			t.Fatalf("got %s, want %s", text, want)
		}
		got.Servers[0].URLs[0] = "changed by the receiver"
	}
}

func TestStaticErrors(t *testing.T) {
	stun := ice.Server{URLs: []string{"stun:a"}}
	for want, servers := range map[string][]ice.Server{
		"has no query":         {{URLs: []string{"stun:a:1?transport=udp"}}},
		"needs username":       {stun, {URLs: []string{"turn:a"}, Username: "u"}},
		"takes no username":    {{URLs: []string{"stun:a"}, Credential: "c"}},
		"it has 0 URLs":        {{}},
		"it has 17 URLs":       {{URLs: make([]string, 17)}},
		"33 given":             make([]ice.Server, 33),
		"must begin with":      {{URLs: []string{"http://a"}}},
		"ICE server 2":         {stun, {URLs: []string{"stun:"}}},
		"the port must be":     {{URLs: []string{"stun:a:0"}}},
		"the query can only":   {{URLs: []string{"turn:a?transport=sctp"}, Username: "u", Credential: "c"}},
		"needs brackets":       {{URLs: []string{"stun:2001:db8::1"}}},
		"one IPv6 address":     {{URLs: []string{"stun:[fe80::1%eth0]"}}},
		"its closing bracket":  {{URLs: []string{"stun:[::1"}}},
		"can follow":           {{URLs: []string{"stun:[::1]3478"}}},
		"neither a name":       {{URLs: []string{"stun://a"}}},
		"the most is 512":      {{URLs: []string{"stun:" + strings.Repeat("a", 600)}}},
		"a name nor":           {{URLs: []string{"stun:user@a"}}},
		"neither a name nor a": {{URLs: []string{"stun:a/b"}}},
	} {
		_, err := ice.NewStatic(servers)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}

func TestParseURL(t *testing.T) {
	for text, want := range map[string]ice.URL{
		"stun:a.example":              {Scheme: "stun", Host: "a.example"},
		"STUNS:a_b:5349":              {Scheme: "stuns", Host: "a_b", Port: 5349},
		"turn:192.0.2.1:3478":         {Scheme: "turn", Host: "192.0.2.1", Port: 3478},
		"turn:[2001:DB8::1]:3478":     {Scheme: "turn", Host: "2001:db8::1", Port: 3478},
		"turns:a:443?transport=tcp":   {Scheme: "turns", Host: "a", Port: 443, Transport: "tcp"},
		"turn:[::1]?transport=udp":    {Scheme: "turn", Host: "::1", Transport: "udp"},
		"turn:xn--bcher-kva.example.": {Scheme: "turn", Host: "xn--bcher-kva.example."},
	} {
		got, err := ice.ParseURL(text)
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", text, got, err, want)
		}
	}
	if _, err := ice.ParseURL("x"); !errors.Is(err, ice.ErrURL) {
		t.Errorf("got %v, want ErrURL", err)
	}
}

func FuzzParseURL(f *testing.F) {
	for _, s := range []string{"stun:a", "turn:[::1]:1?transport=udp", "turns:a.b:65535?transport=tcp", "stun:a:+1", "turn:[::ffff:1.2.3.4]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ice.ParseURL(s)
		if err != nil {
			return
		}
		again, err := ice.ParseURL(u.String())
		if err != nil || again != u {
			t.Fatalf("%q became %q, which reads as %+v, %v", s, u, again, err)
		}
		if strings.ContainsAny(u.String(), " \r\n\"<>@/\\") {
			t.Fatalf("%q was accepted", s)
		}
	})
}

type minter struct {
	session, user string
	err           error
}

var expiry = time.Unix(1_900_000_000, 0)

func (m *minter) Credentials(session, user string) (string, string, time.Time, error) {
	m.session, m.user = session, user
	return "name", "secret", expiry, m.err
}

func TestEmbedded(t *testing.T) {
	both := ice.EmbeddedPorts{UDP: 3478, TCP: 3479}
	for _, c := range []struct {
		name, host string
		ports      ice.EmbeddedPorts
		want       []ice.Server
	}{
		{"name", "signal.example.org", both, []ice.Server{
			{URLs: []string{"stun:signal.example.org:3478"}},
			{URLs: []string{"turn:signal.example.org:3478?transport=udp", "turn:signal.example.org:3479?transport=tcp"},
				Username: "name", Credential: "secret"}}},
		{"name with port", "localhost:8080", ice.EmbeddedPorts{UDP: 1}, []ice.Server{
			{URLs: []string{"stun:localhost:1"}},
			{URLs: []string{"turn:localhost:1?transport=udp"}, Username: "name", Credential: "secret"}}},
		{"IPv6", "2001:db8::1", ice.EmbeddedPorts{TCP: 5}, []ice.Server{
			{URLs: []string{"turn:[2001:db8::1]:5?transport=tcp"}, Username: "name", Credential: "secret"}}},
		{"IPv6 with port", "[2001:db8::1]:443", ice.EmbeddedPorts{TCP: 5}, []ice.Server{
			{URLs: []string{"turn:[2001:db8::1]:5?transport=tcp"}, Username: "name", Credential: "secret"}}},
		{"bracketed IPv6", "[::1]", ice.EmbeddedPorts{TCP: 5}, []ice.Server{
			{URLs: []string{"turn:[::1]:5?transport=tcp"}, Username: "name", Credential: "secret"}}},
		{"configured host", "signal.example.org", ice.EmbeddedPorts{TCP: 5, Host: "192.0.2.7"}, []ice.Server{
			{URLs: []string{"turn:192.0.2.7:5?transport=tcp"}, Username: "name", Credential: "secret"}}},
		{"TLS", "signal.example.org", ice.EmbeddedPorts{UDP: 3478, TLS: 5349}, []ice.Server{
			{URLs: []string{"stun:signal.example.org:3478"}},
			{URLs: []string{"turn:signal.example.org:3478?transport=udp", "turns:signal.example.org:5349?transport=tcp"},
				Username: "name", Credential: "secret"}}},
		{"nothing served", "signal.example.org", ice.EmbeddedPorts{}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &minter{}
			got, err := ice.NewEmbedded(m, c.ports).ICEServers(t.Context(), ice.Request{Session: "s", User: "u", Host: c.host})
			if err != nil || !reflect.DeepEqual(got.Servers, c.want) {
				t.Fatalf("got %v, %v, want %v", got.Servers, err, c.want)
			}
			if c.want != nil && (!got.Expires.Equal(expiry) || m.session != "s" || m.user != "u") {
				t.Errorf("expires %v, minted for %q of %q", got.Expires, m.session, m.user)
			}
			for _, s := range got.Servers {
				for _, u := range s.URLs {
					if _, err := ice.ParseURL(u); err != nil {
						t.Errorf("it advertises %v", err)
					}
				}
			}
		})
	}
}

func TestEmbeddedErrors(t *testing.T) {
	cause := errors.New("revoked")
	ports := ice.EmbeddedPorts{UDP: 1}
	_, err := ice.NewEmbedded(&minter{err: cause}, ports).ICEServers(t.Context(), ice.Request{Host: "a"})
	if !errors.Is(err, cause) {
		t.Errorf("got %v, want the minter's error", err)
	}
	for _, host := range []string{"", "a b", "a?transport=tcp", "a/b", "[::1", "fe80::1%eth0", "a\r\nb", "x@y", strings.Repeat("a.", 400)} {
		if got, err := ice.NewEmbedded(&minter{}, ports).ICEServers(t.Context(), ice.Request{Host: host}); err == nil {
			t.Errorf("%q: got %v", host, got)
		}
	}
}
