package notify_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/peersignal/peersignal/internal/notify"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/test/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// browser is the other end: a subscription and what it takes to read its pushes (RFC 8291).
type browser struct {
	key  *ecdh.PrivateKey
	auth []byte
	sub  notify.Subscription
}

func newBrowser(t *testing.T, endpoint string) browser {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b := browser{key: key, auth: make([]byte, 16)}
	if _, err := rand.Read(b.auth); err != nil {
		t.Fatal(err)
	}
	b.sub = notify.Subscription{
		Endpoint: endpoint, P256dh: base64.RawURLEncoding.EncodeToString(key.PublicKey().Bytes()),
		Auth: base64.RawURLEncoding.EncodeToString(b.auth),
	}
	return b
}

// read opens a push as a browser does.
func (b browser) read(t *testing.T, body []byte) []byte {
	t.Helper()
	salt, id := body[:16], body[21:21+int(body[20])]
	server, err := ecdh.P256().NewPublicKey(id)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := b.key.ECDH(server)
	if err != nil {
		t.Fatal(err)
	}
	derive := func(secret, salt []byte, info string, n int) []byte {
		out, err := hkdf.Key(sha256.New, secret, salt, info, n)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	ikm := derive(secret, b.auth, "WebPush: info\x00"+string(b.key.PublicKey().Bytes())+string(id), 32)
	block, err := aes.NewCipher(derive(ikm, salt, "Content-Encoding: aes128gcm\x00", 16))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	text, err := gcm.Open(nil, derive(ikm, salt, "Content-Encoding: nonce\x00", 12), body[21+len(id):], nil)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSuffix(bytes.TrimRight(text, "\x00"), []byte{2})
}

// service is a push service on loopback, under the name push.example.org.
type service struct {
	*httptest.Server
	got    chan *http.Request
	bodies chan []byte
	status chan int // answers; 201 when there is none
}

func newService(t *testing.T) *service {
	t.Helper()
	s := &service{got: make(chan *http.Request, 64), bodies: make(chan []byte, 64), status: make(chan int, 64)}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.got <- r
		s.bodies <- body
		select {
		case code := <-s.status:
			w.WriteHeader(code)
		default:
			w.WriteHeader(http.StatusCreated)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// client sends everything to the service: names of tests don't resolve.
func (s *service) client() *http.Client {
	c := s.Client()
	transport := c.Transport.(*http.Transport).Clone()
	transport.TLSClientConfig.InsecureSkipVerify = true // the test's certificate is for another name
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, s.Listener.Addr().String())
	}
	return &http.Client{Transport: transport}
}

const endpoint = "https://push.example.org/send/abc"

var device = peercrypto.ID("00mwrj0xzzdevice000000001")

type world struct {
	*notify.Sender
	service  *service
	registry *prometheus.Registry
	client   *http.Client
}

func start(t *testing.T, change func(*notify.Config)) *world {
	t.Helper()
	key, err := notify.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{service: newService(t), registry: prometheus.NewRegistry()}
	w.client = w.service.client()
	cfg := notify.Config{
		Key: key, Contact: "mailto:operator@example.org", AllowHosts: []string{"push.example.org", "*.push.example.com"},
		Client: w.client, Registerer: w.registry, Workers: 2,
	}
	if change != nil {
		change(&cfg)
	}
	if w.Sender, err = notify.New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		w.client.CloseIdleConnections()
	})
	return w
}

func (w *world) token(t *testing.T, b browser) string {
	t.Helper()
	token, _, err := w.Token(device, b.sub)
	if err != nil {
		t.Fatal(err)
	}
	if len(token) > notify.MaxToken {
		t.Errorf("a token of %d bytes", len(token))
	}
	return token
}

// outcome waits until a push has ended.
func (w *world) outcome(t *testing.T, outcome string, n float64) {
	t.Helper()
	for {
		if w.value(t, "peersignal_notify_pushes_total", outcome) >= n {
			return
		}
		select {
		case <-t.Context().Done():
			t.Fatal("no outcome")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (w *world) value(t *testing.T, metric, label string) float64 {
	t.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == metric && len(m.Label) == 1 && m.Label[0].GetValue() == label {
				return m.Counter.GetValue()
			}
		}
	}
	t.Fatalf("no %s %s", metric, label)
	return 0
}

func TestPush(t *testing.T) {
	w := start(t, nil)
	b := newBrowser(t, endpoint)
	text := strings.Repeat("abcdefghij", 700) // three parts
	err := w.Push(w.token(t, b), device, notify.Message{ID: "m1", From: "00mwrj0xzzdevice000000002", Sealed: text, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	type part struct {
		ID, From, CT string
		Part, Parts  int
	}
	parts := make([]string, 3)
	for range 3 {
		r := <-w.service.got
		body := <-w.service.bodies
		if r.Header.Get("Content-Encoding") != "aes128gcm" || !strings.HasPrefix(r.Header.Get("Authorization"), "vapid ") ||
			r.Header.Get("TTL") == "0" || r.URL.Path != "/send/abc" {
			t.Errorf("request: %v %v", r.URL, r.Header)
		}
		if len(body) > 4096 {
			t.Errorf("a push of %d bytes", len(body))
		}
		if bytes.Contains(body, []byte(text[:40])) {
			t.Error("the text is readable")
		}
		var p part
		if err := json.Unmarshal(b.read(t, body), &p); err != nil || p.Parts != 3 || p.ID != "m1" {
			t.Fatalf("%+v, %v", p, err)
		}
		parts[p.Part] = p.CT
	}
	if got := strings.Join(parts, ""); got != text {
		t.Errorf("joined %d bytes of %d", len(got), len(text))
	}
	w.outcome(t, "pushed", 3)
}

// Only what a device registered for itself is pushed to, and only by who was given its token.
func TestTokens(t *testing.T) {
	now := time.Now()
	w := start(t, func(c *notify.Config) { c.Now = func() time.Time { return now } })
	other := start(t, nil)
	b := newBrowser(t, endpoint)
	token := w.token(t, b)
	m := notify.Message{ID: "m", From: device, Sealed: "x"}
	flipped := []byte(token)
	flipped[20] ^= 1
	for name, err := range map[string]error{
		"empty":          w.Push("", device, m),
		"altered":        w.Push(string(flipped), device, m),
		"too long":       w.Push(strings.Repeat("A", 4096), device, m),
		"of a stranger":  w.Push(token, "00mwrj0xzzdevice000000009", m),
		"of another key": other.Push(token, device, m),
	} {
		if !errors.Is(err, notify.ErrToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	now = now.Add(31 * 24 * time.Hour)
	if err := w.Push(token, device, m); !errors.Is(err, notify.ErrToken) {
		t.Errorf("expired: %v", err)
	}
	if got := w.value(t, "peersignal_notify_refused_total", "token"); got != 5 {
		t.Errorf("counted %v", got)
	}
}

func TestSubscriptions(t *testing.T) {
	w := start(t, nil)
	good := newBrowser(t, endpoint).sub
	for name, change := range map[string]func(*notify.Subscription){
		"http":             func(s *notify.Subscription) { s.Endpoint = "http://push.example.org/" },
		"other host":       func(s *notify.Subscription) { s.Endpoint = "https://evil.example.org/" },
		"address":          func(s *notify.Subscription) { s.Endpoint = "https://127.0.0.1/" },
		"metadata":         func(s *notify.Subscription) { s.Endpoint = "https://169.254.169.254/latest" },
		"suffix":           func(s *notify.Subscription) { s.Endpoint = "https://xpush.example.org/" },
		"suffix of a star": func(s *notify.Subscription) { s.Endpoint = "https://evilpush.example.com/" },
		"the star itself":  func(s *notify.Subscription) { s.Endpoint = "https://push.example.com/" },
		"user":             func(s *notify.Subscription) { s.Endpoint = "https://push.example.org@evil.example/" },
		"port":             func(s *notify.Subscription) { s.Endpoint = "https://push.example.org:8443/" },
		"fragment":         func(s *notify.Subscription) { s.Endpoint = "https://push.example.org/#x" },
		"long":             func(s *notify.Subscription) { s.Endpoint = endpoint + strings.Repeat("a", 2000) },
		"no URL":           func(s *notify.Subscription) { s.Endpoint = "::" },
		"empty":            func(s *notify.Subscription) { s.Endpoint = "" },
		"no point":         func(s *notify.Subscription) { s.P256dh = "AAAA" },
		"short auth":       func(s *notify.Subscription) { s.Auth = "AAAA" },
		"auth no base64":   func(s *notify.Subscription) { s.Auth = "!" },
	} {
		sub := good
		change(&sub)
		if _, _, err := w.Token(device, sub); !errors.Is(err, notify.ErrSubscription) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, fine := range []string{endpoint, "https://PUSH.example.org:443/x", "https://a.b.push.example.com/x"} {
		sub := good
		sub.Endpoint = fine
		if _, _, err := w.Token(device, sub); err != nil {
			t.Errorf("%s: %v", fine, err)
		}
	}
}

func TestDeadEndpointIsForgotten(t *testing.T) {
	w := start(t, nil)
	b := newBrowser(t, endpoint)
	token := w.token(t, b)
	m := notify.Message{ID: "m", From: device, Sealed: "x", TTL: time.Minute}
	w.service.status <- http.StatusGone
	if err := w.Push(token, device, m); err != nil {
		t.Fatal(err)
	}
	w.outcome(t, "gone", 1)
	if err := w.Push(token, device, m); !errors.Is(err, notify.ErrGone) {
		t.Errorf("pushing to a dead endpoint: %v", err)
	}
	// Who registers it again knows better.
	if err := w.Push(w.token(t, b), device, m); err != nil {
		t.Error(err)
	}
	w.outcome(t, "pushed", 1)
}

func TestRetries(t *testing.T) {
	w := start(t, nil)
	token := w.token(t, newBrowser(t, endpoint))
	w.service.status <- http.StatusServiceUnavailable
	if err := w.Push(token, device, notify.Message{ID: "m", From: device, Sealed: "x", TTL: time.Minute}); err != nil {
		t.Fatal(err)
	}
	w.outcome(t, "pushed", 1)
	// What is worth nothing later is not tried again.
	w.service.status <- http.StatusServiceUnavailable
	if err := w.Push(token, device, notify.Message{ID: "m", From: device, Sealed: "x"}); err != nil {
		t.Fatal(err)
	}
	w.outcome(t, "failed", 1)
	w.service.status <- http.StatusForbidden
	if err := w.Push(token, device, notify.Message{ID: "m", From: device, Sealed: "x", TTL: time.Minute}); err != nil {
		t.Fatal(err)
	}
	w.outcome(t, "refused", 1)
}

func TestLimits(t *testing.T) {
	w := start(t, func(c *notify.Config) { c.PerMinute = 3 })
	token := w.token(t, newBrowser(t, endpoint))
	m := notify.Message{ID: "m", From: device, Sealed: "x"}
	for range 3 {
		if err := w.Push(token, device, m); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Push(token, device, m); !errors.Is(err, notify.ErrBusy) {
		t.Errorf("fourth in a minute: %v", err)
	}
	m.Sealed = strings.Repeat("x", notify.MaxMessage+1)
	if err := w.Push(token, device, m); !errors.Is(err, notify.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	problems, err := testutil.GatherAndLint(w.registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v, %v", problems, err)
	}
	idle, err := notify.New(notify.Config{
		Key: mustKey(t), Contact: "https://example.org", AllowHosts: []string{"push.example.org"}, Queue: 1, PerMinute: 100,
	})
	if err != nil {
		t.Fatal(err)
	}
	token, _, err = idle.Token(device, newBrowser(t, endpoint).sub)
	if err != nil {
		t.Fatal(err)
	}
	m.Sealed = "x"
	if err := idle.Push(token, device, m); err != nil {
		t.Fatal(err)
	}
	if err := idle.Push(token, device, m); !errors.Is(err, notify.ErrBusy) {
		t.Errorf("a full queue: %v", err)
	}
}

func mustKey(t *testing.T) string {
	t.Helper()
	key, err := notify.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// The default client refuses to connect to addresses that are not public, whatever a name resolves to.
func TestPrivateAddressesAreNotReached(t *testing.T) {
	s := newService(t)
	registry := prometheus.NewRegistry()
	w := &world{registry: registry}
	var err error
	w.Sender, err = notify.New(notify.Config{
		Key: mustKey(t), Contact: "mailto:operator@example.org", AllowHosts: []string{"localhost"}, Registerer: registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	token, _, err := w.Token(device, newBrowser(t, "https://localhost/x").sub)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Push(token, device, notify.Message{ID: "m", From: device, Sealed: "x", TTL: time.Hour}); err != nil {
		t.Fatal(err)
	}
	w.outcome(t, "refused", 1)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	select {
	case <-s.got:
		t.Error("a private address was reached")
	default:
	}
}

func TestConfigMistakes(t *testing.T) {
	key := mustKey(t)
	for name, cfg := range map[string]notify.Config{
		"no key":     {Contact: "mailto:a@example.org"},
		"short key":  {Key: "AAAA", Contact: "mailto:a@example.org"},
		"no contact": {Key: key},
		"bad host":   {Key: key, Contact: "mailto:a@example.org", AllowHosts: []string{"https://push.example.org"}},
		"all hosts":  {Key: key, Contact: "mailto:a@example.org", AllowHosts: []string{"*"}},
	} {
		if _, err := notify.New(cfg); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func FuzzToken(f *testing.F) {
	f.Add("", "https://push.example.org/", "AAAA", "AAAA")
	f.Add("AAAA", "https://push.example.org:443/x?y#z", "BA", "")
	s, err := notify.New(notify.Config{
		Key: strings.Repeat("A", 42) + "E", Contact: "mailto:a@example.org", AllowHosts: []string{"push.example.org"},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, token, endpoint, p256dh, auth string) {
		if err := s.Push(token, device, notify.Message{Sealed: "x"}); !errors.Is(err, notify.ErrToken) {
			t.Fatalf("a made-up token: %v", err)
		}
		_, _, err := s.Token(device, notify.Subscription{Endpoint: endpoint, P256dh: p256dh, Auth: auth})
		if err != nil && !errors.Is(err, notify.ErrSubscription) {
			t.Fatal(err)
		}
	})
}
