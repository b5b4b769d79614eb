package ice_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	pionturn "github.com/pion/turn/v4"

	"github.com/peersignal/peersignal/internal/ice"
)

func everything() ice.Config {
	return ice.Config{
		Embedded: ice.NewEmbedded(&minter{}, ice.EmbeddedPorts{UDP: 1}),
		Static:   []ice.Server{{URLs: []string{"stun:a"}}},
		REST:     &ice.RESTConfig{Secret: ice.NewSecret(theSecret), URLs: []string{"turn:a"}},
		Endpoint: &ice.EndpointConfig{URL: "https://a.example/turn", Key: ice.NewSecret(theSecret)},
		Twilio:   &ice.TwilioConfig{AccountSID: accountSID, APIKeySID: apiKeySID, APIKeySecret: ice.NewSecret(theSecret)},
		Cloudflare: &ice.CloudflareConfig{
			KeyID: "key", APIToken: ice.NewSecret(theSecret),
		},
	}
}

func TestBuildOrder(t *testing.T) {
	free := ice.Config{Embedded: everything().Embedded, Static: everything().Static, REST: everything().REST}
	for _, c := range []struct {
		order []string
		want  string // the servers' kinds, as a client of each sees them
	}{
		{nil, "stun:h:1 turn:h:1?transport=udp stun:a turn:a"},
		{[]string{"rest", "embedded+static"}, "turn:a"},
		{[]string{"static + rest", "embedded"}, "stun:a turn:a"},
		{[]string{"embedded", "static", "rest"}, "stun:h:1 turn:h:1?transport=udp"},
	} {
		free.Order = c.order
		chain, err := ice.Build(free)
		if err != nil {
			t.Fatal(err)
		}
		got, err := chain.ICEServers(t.Context(), ice.Request{Session: "s", User: "u", Host: "h"})
		var urls []string
		for _, s := range got.Servers {
			urls = append(urls, s.URLs...)
		}
		if err != nil || strings.Join(urls, " ") != c.want {
			t.Errorf("%q: got %v, %v, want %s", c.order, urls, err, c.want)
		}
	}
	if _, err := ice.Build(everything()); err != nil {
		t.Error(err)
	}
	chain, err := ice.Build(ice.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := chain.ICEServers(t.Context(), ice.Request{}); err != nil || len(got.Servers) != 0 {
		t.Errorf("nothing: got %v, %v", got, err)
	}
}

func TestBuildErrors(t *testing.T) {
	for want, change := range map[string]func(*ice.Config){
		`"google" is none of embedded, static`: func(c *ice.Config) { c.Order = []string{"google"} },
		`"" is none of`:                        func(c *ice.Config) { c.Order = []string{"twilio+"} },
		"twilio is named twice":                func(c *ice.Config) { c.Order = []string{"twilio", "twilio"} },
		"static is named, and not configured":  func(c *ice.Config) { c.Static, c.Order = nil, []string{"static"} },
		"embedded is configured, and not named": func(c *ice.Config) {
			c.Order = []string{"static", "rest", "endpoint", "twilio", "cloudflare"}
		},
		"AC and 32":               func(c *ice.Config) { c.Twilio.AccountSID = "SK" },
		"either an auth token":    func(c *ice.Config) { c.Twilio.AuthToken = ice.NewSecret("x") },
		"an API key is a SID":     func(c *ice.Config) { c.Twilio.APIKeySecret = ice.Secret{} },
		"the TTL is 25h":          func(c *ice.Config) { c.Twilio.TTL = 25 * time.Hour },
		"the TTL is 1m":           func(c *ice.Config) { c.Cloudflare.TTL = time.Minute },
		"the TTL is -1":           func(c *ice.Config) { c.REST.TTL = -1 },
		"it needs the id":         func(c *ice.Config) { c.Cloudflare.KeyID = "../../x" },
		"begin with https":        func(c *ice.Config) { c.Twilio.BaseURL = "http://api.twilio.com" },
		"must be https://host":    func(c *ice.Config) { c.Cloudflare.BaseURL = "https://u:p@a" },
		"URL is malformed":        func(c *ice.Config) { c.Endpoint.URL = "https://%zz:" + theSecret },
		"the base URL must begin": func(c *ice.Config) { c.Endpoint.URL = "ftp://a/" },
		"the secret has 15 bytes": func(c *ice.Config) { c.REST.Secret = ice.NewSecret(theSecret[:15]) },
		"at least one turn":       func(c *ice.Config) { c.REST.URLs = []string{"stun:a"} },
		"not an ICE server URL":   func(c *ice.Config) { c.REST.URLs = []string{"turn:"} },
		"17 URLs":                 func(c *ice.Config) { c.REST.URLs = make([]string, 17) },
		"the user prefix":         func(c *ice.Config) { c.REST.UserPrefix = "a:b" },
		"more than 1024":          func(c *ice.Config) { c.Static[0].Credential = strings.Repeat("x", 1025) },
	} {
		cfg := everything()
		change(&cfg)
		_, err := ice.Build(cfg)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), theSecret[:15]) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
	for _, base := range []string{"http://127.0.0.1:8080", "http://[::1]/x", "http://localhost", "https://a.example"} {
		cfg := everything()
		cfg.Endpoint.URL = base
		if _, err := ice.Build(cfg); err != nil {
			t.Error(err)
		}
	}
}

// Whatever is done with a configuration or a source, no secret comes out.
func TestSecretsAreNotPrinted(t *testing.T) {
	cfg := everything()
	chain, err := ice.Build(cfg)
	if err != nil {
		t.Fatal(err)
	}
	twilio, _ := ice.NewTwilio(*cfg.Twilio)
	cloudflare, _ := ice.NewCloudflare(*cfg.Cloudflare)
	endpoint, _ := ice.NewEndpoint(*cfg.Endpoint)
	rest, _ := ice.NewREST(*cfg.REST)
	cached := ice.NewCached(rest, ice.CacheConfig{})
	minted, err := rest.ICEServers(t.Context(), ice.Request{Session: "s", User: "u"})
	if err != nil {
		t.Fatal(err)
	}
	credential := minted.Servers[0].Credential
	for _, v := range []any{*cfg.REST, *cfg.Endpoint, *cfg.Twilio, *cfg.Cloudflare, cfg, chain, twilio, cloudflare,
		endpoint, rest, cached, minted, minted.Servers[0], []any{twilio, rest}, struct{ s ice.Source }{twilio}, struct{ s *ice.Endpoint }{endpoint}} {
		text := fmt.Sprintf("%v %+v %#v %s %q", v, v, v, v, v)
		var b strings.Builder
		slog.New(slog.NewTextHandler(&b, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "v", v)
		if encoded, err := json.Marshal(v); err == nil && !strings.Contains(string(encoded), credential) {
			text += string(encoded) // servers are encoded for clients
		}
		if text += b.String(); strings.Contains(text, theSecret) {
			t.Errorf("%T shows the secret: %s", v, text)
		}
	}
	var b strings.Builder
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "server", minted.Servers[0])
	if strings.Contains(b.String(), credential) {
		t.Errorf("a server logs its credential: %s", &b)
	}
}

// A relay that knows the secret, here pion's, accepts what is minted, and a
// changed session or an expired credential is refused.
func TestREST(t *testing.T) {
	rest, err := ice.NewREST(ice.RESTConfig{
		Secret: ice.NewSecret(theSecret), URLs: []string{"stun:a:3478", "turn:a:3478?transport=udp", "turns:a"}, TTL: time.Hour, UserPrefix: "ps-",
	})
	if err != nil {
		t.Fatal(err)
	}
	mint := func(session, user string) ice.Result {
		t.Helper()
		got, err := rest.ICEServers(t.Context(), ice.Request{Session: session, User: user})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	begin := time.Now()
	got := mint("session", "user")
	if len(got.Servers) != 2 || got.Servers[0].Username != "" || len(got.Servers[1].URLs) != 2 ||
		got.Expires.Sub(begin).Round(time.Minute) != time.Hour {
		t.Fatalf("got %v", got)
	}
	s := got.Servers[1]
	expiry, name, _ := strings.Cut(s.Username, ":")
	if n, err := strconv.ParseInt(expiry, 10, 64); err != nil || n != got.Expires.Unix() {
		t.Errorf("username %s ends at %v", s.Username, got.Expires)
	}
	if !strings.HasPrefix(name, "ps-") || strings.Contains(name, "session") || strings.Contains(name, "user") {
		t.Errorf("username %s", s.Username)
	}
	relay := pionturn.LongTermTURNRESTAuthHandler(theSecret, nil)
	from := &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}
	key, ok := relay(s.Username, "realm", from)
	if !ok || string(key) != string(pionturn.GenerateAuthKey(s.Username, "realm", s.Credential)) {
		t.Error("the relay would refuse it")
	}
	userTag, sessionTag, _ := strings.Cut(name, ".")
	for _, c := range []struct {
		session, user         string
		sameSession, sameUser bool
	}{{"session", "user", true, true}, {"other", "user", false, true}, {"session", "other", true, false}} {
		_, name, _ := strings.Cut(mint(c.session, c.user).Servers[1].Username, ":")
		u, s, _ := strings.Cut(name, ".")
		if (u == userTag) != c.sameUser || (s == sessionTag) != c.sameSession {
			t.Errorf("%v is named %s, beside %s.%s", c, name, userTag, sessionTag)
		}
	}
	for _, r := range []ice.Request{{Session: "s"}, {User: "u"}} {
		if got, err := rest.ICEServers(t.Context(), r); err == nil {
			t.Errorf("got %v", got)
		}
	}
}
