package ice_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peersignal/peersignal/internal/ice"
)

func newTwilio(t *testing.T, base string, client *http.Client) *ice.Twilio {
	t.Helper()
	s, err := ice.NewTwilio(ice.TwilioConfig{
		AccountSID: accountSID, AuthToken: ice.NewSecret(theSecret), BaseURL: base, Client: client, Timeout: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newCloudflare(t *testing.T, base string, client *http.Client) *ice.Cloudflare {
	t.Helper()
	s, err := ice.NewCloudflare(ice.CloudflareConfig{
		KeyID: "key", APIToken: ice.NewSecret(theSecret), BaseURL: base, Client: client, Timeout: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newEndpoint(t *testing.T, base string, client *http.Client) *ice.Endpoint {
	t.Helper()
	s, err := ice.NewEndpoint(ice.EndpointConfig{
		URL: base + "/turn?site=1", Key: ice.NewSecret(theSecret), Username: "node", Client: client, Timeout: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTwilio(t *testing.T) {
	double := &twilioDouble{ttl: `"3600"`}
	srv := httptest.NewServer(double)
	defer srv.Close()
	byKey, err := ice.NewTwilio(ice.TwilioConfig{
		AccountSID: accountSID, APIKeySID: apiKeySID, APIKeySecret: ice.NewSecret(theSecret), TTL: time.Hour, BaseURL: srv.URL + "/",
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range []ice.Source{newTwilio(t, srv.URL, nil), byKey} {
		begin := time.Now()
		got, err := s.ICEServers(t.Context(), ice.Request{})
		if err != nil {
			t.Fatal(err)
		}
		text, _ := json.Marshal(got.Servers)
		user := fmt.Sprintf(`"username":"user-%d","credential":"pw"`, i+1)
		want := `[{"urls":["stun:global.stun.twilio.com:3478"]},` +
			`{"urls":["turn:global.turn.twilio.com:3478?transport=udp"],` + user + `},` +
			`{"urls":["turn:global.turn.twilio.com:3478?transport=tcp"],` + user + `},` +
			`{"urls":["turn:global.turn.twilio.com:443?transport=tcp"],` + user + `}]`
		if string(text) != want || got.Ignored != 0 {
			t.Errorf("got %s, want %s", text, want)
		}
		if life := got.Expires.Sub(begin); life < time.Hour-time.Minute || life > time.Hour+time.Minute {
			t.Errorf("it lives for %v", life)
		}
	}
}

// Each shape of a good answer, of which only the URLs and the life matter.
func TestReplyShapes(t *testing.T) {
	const turn = `{"urls":"turn:a","username":"u","credential":"c"}`
	for name, c := range map[string]struct {
		body, urls string
		life       time.Duration
		ignored    int
	}{
		"number":        {`{"ttl":86400,"ice_servers":[` + turn + `]}`, "turn:a", 24 * time.Hour, 0},
		"string":        {`{"ttl":"86400","ice_servers":[` + turn + `]}`, "turn:a", 24 * time.Hour, 0},
		"too long":      {`{"ttl":864000,"ice_servers":[` + turn + `]}`, "turn:a", 48 * time.Hour, 0},
		"only url":      {`{"ttl":600,"ice_servers":[{"url":"turn:a","username":"u","credential":"c"}]}`, "turn:a", 10 * time.Minute, 0},
		"list":          {`{"ttl":600,"ice_servers":[{"urls":["stun:s","turn:a"],"username":"u","credential":"c"}]}`, "stun:s turn:a", 10 * time.Minute, 0},
		"old stun":      {`{"ttl":600,"ice_servers":[{"url":"stun:s:3478?transport=udp","username":null,"credential":null},` + turn + `]}`, "stun:s:3478 turn:a", 10 * time.Minute, 0},
		"one server":    {`{"ttl":600,"ice_servers":` + turn + `}`, "turn:a", 10 * time.Minute, 0},
		"unknown":       {`{"ttl":600,"ice_servers":[{"urls":["quic:x","turn:a","turn:b?transport=dtls"],"username":"u","credential":"c"}]}`, "turn:a", 10 * time.Minute, 2},
		"no credential": {`{"ttl":600,"ice_servers":[{"urls":"turn:b"},` + turn + `]}`, "turn:a", 10 * time.Minute, 1},
		"not canonical": {`{"ttl":600,"ice_servers":[{"urls":"TURN:[2001:DB8::1]:1","username":"u","credential":"c"}]}`, "turn:[2001:db8::1]:1", 10 * time.Minute, 0},
		"more fields":   {`{"ttl":600,"new":{"a":[1]},"ice_servers":[` + turn + `]}`, "turn:a", 10 * time.Minute, 0},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(answer(201, c.body))
			defer srv.Close()
			begin := time.Now()
			got, err := newTwilio(t, srv.URL, nil).ICEServers(t.Context(), ice.Request{})
			if err != nil {
				t.Fatal(err)
			}
			var urls []string
			for _, s := range got.Servers {
				urls = append(urls, s.URLs...)
			}
			if strings.Join(urls, " ") != c.urls || got.Ignored != c.ignored {
				t.Errorf("got %v, %d ignored, want %s, %d", urls, got.Ignored, c.urls, c.ignored)
			}
			if off := got.Expires.Sub(begin) - c.life; off < -time.Minute || off > time.Minute {
				t.Errorf("it lives for %v, want %v", got.Expires.Sub(begin), c.life)
			}
		})
	}
}

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// Everything that can be wrong with an answer, from each provider. No error
// may show the secret, which this server echoes where it can.
func TestProviderErrors(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a redirect was followed to %s", r.URL)
	}))
	defer elsewhere.Close()
	tenMiB() // before a request waits for it
	many := strings.Repeat(`{"urls":"turn:a","username":"u","credential":"c"},`, 16)
	for name, c := range map[string]struct {
		handler  http.HandlerFunc
		want     string // of Twilio's error
		rejected bool
	}{
		"401":          {fail(401, 20003, "Authenticate "+theSecret), `401 (error 20003) "Authenticate [redacted]": check the`, true},
		"403":          {fail(403, 20008, "Resource not accessible with Test Account Credentials"), "403 (error 20008)", true},
		"404":          {fail(404, 20404, "not found"), "404 (error 20404)", true},
		"400":          {fail(400, 20001, "bad"), "400 (error 20001)", true},
		"429":          {fail(429, 20429, "Too Many Requests"), `429 (error 20429) "Too Many Requests"`, false},
		"500":          {answer(500, `{"code":null,"message":["`+theSecret+`"]}`), "answered 500", false},
		"502":          {answer(502, "<html>"+theSecret), "answered 502", false},
		"204":          {answer(204, ""), "answered 204", false},
		"redirect":     {http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect).ServeHTTP, "not followed", false},
		"HTML":         {answer(200, "<html>"+theSecret), "something else than credentials", false},
		"empty":        {answer(200, ""), "something else than credentials", false},
		"null":         {answer(200, "null"), "lacks the lifetime", false},
		"two values":   {answer(200, `{} {}`), "something else than credentials", false},
		"wrong type":   {answer(200, `{"ttl":600,"ice_servers":7,"uris":7,"iceServers":7}`), "something else than credentials", false},
		"ttl text":     {answer(200, `{"ttl":"soon","ice_servers":[]}`), "something else than credentials", false},
		"ttl negative": {answer(200, `{"ttl":-1,"ice_servers":[]}`), "something else than credentials", false},
		"ttl NaN":      {answer(200, `{"ttl":"NaN","ice_servers":[]}`), "something else than credentials", false},
		"ttl huge":     {answer(200, `{"ttl":1e300,"ice_servers":[]}`), "something else than credentials", false},
		"ttl short":    {answer(200, `{"ttl":60,"ice_servers":[{"urls":"turn:a","username":"u","credential":"c"}]}`), "too short to use", false},
		"no server":    {answer(200, `{"ttl":600,"ice_servers":[]}`), "no usable TURN server", false},
		"only stun":    {answer(200, `{"ttl":600,"ice_servers":[{"urls":"stun:a"}]}`), "no usable TURN server", false},
		"only rubbish": {answer(200, `{"ttl":600,"ice_servers":[{"urls":"javascript:a"}]}`), "(1 URLs were not", false},
		"17 servers":   {answer(200, `{"ttl":600,"ice_servers":[`+many+`{}]}`), "17 ICE servers", false},
		"17 URLs":      {answer(200, `{"ttl":600,"ice_servers":[{"urls":[`+strings.Repeat(`"turn:a",`, 16)+`"turn:a"],"username":"u","credential":"c"}]}`), "17 URLs", false},
		"long name":    {answer(200, `{"ttl":600,"ice_servers":[{"urls":"turn:a","credential":"c","username":"`+strings.Repeat("u", 1025)+`"}]}`), "more than 1024", false},
		"huge":         {answer(200, `{"ttl":600,"pad":"`+strings.Repeat("x", 1<<20)+`"}`), "more than 8192 bytes", false},
		"gzip bomb":    {bomb, "more than 8192 bytes", false},
		"truncated":    {truncated, "unexpected EOF", false},
		"cut off":      {cutOff, "EOF", false},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(c.handler)
			defer srv.Close()
			for _, s := range []ice.Source{
				newTwilio(t, srv.URL, nil), newCloudflare(t, srv.URL, nil), newEndpoint(t, srv.URL, nil),
			} {
				got, err := s.ICEServers(t.Context(), ice.Request{})
				if err == nil {
					t.Fatalf("%s: got %v", s.Name(), got)
				}
				if strings.Contains(err.Error(), theSecret) || strings.Contains(err.Error(), srv.URL) {
					t.Errorf("%s: the error tells too much: %v", s.Name(), err)
				}
				if s.Name() == "twilio" && !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want %q", err, c.want)
				}
				if errors.Is(err, ice.ErrRejected) != c.rejected {
					t.Errorf("%s: rejected is %v: %v", s.Name(), !c.rejected, err)
				}
			}
		})
	}
}

func bomb(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Encoding", "gzip")
	_, _ = w.Write(tenMiB())
}

// tenMiB is made once: under the race detector that takes a while.
var tenMiB = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(bytes.Repeat([]byte(" "), 10<<20))
	_ = z.Close()
	return b.Bytes()
})

func truncated(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	_, _ = io.WriteString(w, `{"ttl":600,`)
}

func cutOff(w http.ResponseWriter, _ *http.Request) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = c.Close()
	}
}

// A provider that does not answer, or stops in the middle, costs the timeout.
func TestProviderHangs(t *testing.T) {
	for name, before := range map[string]string{"at once": "", "in the middle": `{"ttl":`} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // else the client's leaving goes unseen
				if before != "" {
					_, _ = io.WriteString(w, before)
					_ = http.NewResponseController(w).Flush()
				}
				<-r.Context().Done()
			}))
			defer srv.Close()
			s, err := ice.NewTwilio(ice.TwilioConfig{
				AccountSID: accountSID, AuthToken: ice.NewSecret(theSecret), BaseURL: srv.URL, Timeout: 50 * time.Millisecond,
			})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := s.ICEServers(t.Context(), ice.Request{}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func TestProviderUnreachable(t *testing.T) {
	const base = "http://127.0.0.1:1" // nobody listens there
	// Nobody vouches for this server's certificate.
	unknown := httptest.NewUnstartedServer(answer(200, "{}"))
	unknown.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	unknown.StartTLS()
	defer unknown.Close()
	for _, at := range []string{base, unknown.URL} {
		for _, s := range []ice.Source{newTwilio(t, at, nil), newCloudflare(t, at, nil), newEndpoint(t, at, nil)} {
			_, err := s.ICEServers(t.Context(), ice.Request{})
			if err == nil || strings.Contains(err.Error(), theSecret) || errors.Is(err, ice.ErrRejected) {
				t.Errorf("%s: got %v", s.Name(), err)
			}
		}
	}
}

func TestCloudflare(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.URL.Path != "/v1/turn/keys/key/credentials/generate-ice-servers" ||
			r.Header.Get("Authorization") != "Bearer "+theSecret || string(body) != `{"ttl":43200}` {
			t.Errorf("asked %s %s, %s", r.Method, r.URL, body)
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"iceServers":[{"urls":["stun:stun.example:3478","stun:stun.example:53"]},`+
			`{"urls":["turn:turn.example:3478?transport=udp","turn:turn.example:53?transport=udp","turns:turn.example:5349?transport=tcp"],`+
			`"username":"u","credential":"c"}]}`)
	}))
	defer srv.Close()
	begin := time.Now()
	got, err := newCloudflare(t, srv.URL, srv.Client()).ICEServers(t.Context(), ice.Request{})
	text, _ := json.Marshal(got.Servers)
	want := `[{"urls":["stun:stun.example:3478"]},{"urls":["turn:turn.example:3478?transport=udp",` +
		`"turns:turn.example:5349?transport=tcp"],"username":"u","credential":"c"}]`
	if err != nil || string(text) != want || got.Expires.Sub(begin).Round(time.Minute) != 12*time.Hour {
		t.Errorf("got %s, %v until %v, want %s", text, err, got.Expires, want)
	}
}

func TestEndpoint(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.String() != "/turn?key="+theSecret+"&service=turn&site=1&username=node" {
			t.Errorf("asked %s %s", r.Method, r.URL)
		}
		_, _ = io.WriteString(w, `{"username":"1900000000:node","password":"p","ttl":86400,"uris":["turn:a.example:80?transport=udp","stun:a.example:80"]}`)
	}))
	defer srv.Close()
	begin := time.Now()
	got, err := newEndpoint(t, srv.URL, nil).ICEServers(t.Context(), ice.Request{})
	text, _ := json.Marshal(got.Servers)
	want := `[{"urls":["turn:a.example:80?transport=udp","stun:a.example:80"],"username":"1900000000:node","credential":"p"}]`
	if err != nil || string(text) != want || got.Expires.Sub(begin).Round(time.Minute) != 24*time.Hour {
		t.Errorf("got %s, %v until %v, want %s", text, err, got.Expires, want)
	}
}

// FuzzReply feeds answers of any kind to the three providers.
func FuzzReply(f *testing.F) {
	f.Add(uint8(0), 201, []byte(twilioReply(1, `"3600"`)), "")
	f.Add(uint8(0), 429, []byte(`{"code":20429,"message":"Too Many Requests"}`), "120")
	f.Add(uint8(0), 401, []byte(`{"code":20003,"message":"`+theSecret+`"}`), "Fri, 31 Dec 1999 23:59:59 GMT")
	f.Add(uint8(0), 200, []byte(`{"ttl":600,"ice_servers":{"url":["stun:a?transport=udp","turn:b"],"username":"u","credential":"c"}}`), "")
	f.Add(uint8(1), 200, []byte(`{"iceServers":{"urls":["stun:a:53","turn:b:53","turns:c"],"username":"u","credential":"c"}}`), "")
	f.Add(uint8(1), 403, []byte(`{"errors":[{"code":1000,"message":"not authorized"}]}`), "")
	f.Add(uint8(2), 200, []byte(`{"username":"u","password":"p","ttl":"600","uris":"turn:a"}`), "")
	f.Fuzz(func(t *testing.T, which uint8, status int, body []byte, retryAfter string) {
		client := &http.Client{Transport: transport(func(*http.Request) (*http.Response, error) {
			return &http.Response{
				StatusCode: status, Body: io.NopCloser(strings.NewReader(string(body))),
				Header: http.Header{"Retry-After": {retryAfter}, "Location": {"https://example.org"}},
			}, nil
		})}
		sources := []ice.Source{
			newTwilio(t, "", client), newCloudflare(t, "", client), newEndpoint(t, "https://example.org", client),
		}
		begin := time.Now()
		got, err := sources[int(which)%len(sources)].ICEServers(t.Context(), ice.Request{})
		if err != nil {
			if len(err.Error()) > 1500 || strings.Contains(err.Error(), theSecret) {
				t.Fatalf("error of %d bytes: %v", len(err.Error()), err)
			}
			return
		}
		if len(got.Servers) == 0 || len(got.Servers) > 16 || relay(got) == "" {
			t.Fatalf("%d servers", len(got.Servers))
		}
		if _, err := ice.NewStatic(got.Servers); err != nil {
			t.Fatalf("clients would refuse it: %v", err)
		}
		if life := got.Expires.Sub(begin); life < time.Minute || life > 49*time.Hour {
			t.Fatalf("it lives for %v", life)
		}
	})
}

type transport func(*http.Request) (*http.Response, error)

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }
