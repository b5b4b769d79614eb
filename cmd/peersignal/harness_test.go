package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/peersignal/peersignal/internal/throwaway"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// server is a whole server that serves on loopback until the test ends.
type server struct {
	t      *testing.T
	banner string
	url    string // http://127.0.0.1:port, or https
	http   *http.Client
	logs   *output
	stop   func()
	wait   func() // until it has ended by itself
}

// output can be read while it is written to.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// startServer runs the command with the arguments, on loopback, until stop is
// called or the test ends.
func startServer(t *testing.T, args ...string) *server {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, w := io.Pipe()
	s := &server{t: t, logs: &output{}, http: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: testRoots},
	}}}
	cmd := newCommand()
	cmd.SetArgs(append([]string{
		"--listen=127.0.0.1:0", "--turn-listen=127.0.0.1:0", "--turn-relay-ip=127.0.0.1", "--log-level=debug",
		"--drain-window=50ms",
	}, args...))
	cmd.SetOut(w)
	cmd.SetErr(s.logs)
	done := make(chan error, 1)
	go func() {
		done <- cmd.ExecuteContext(ctx)
		_ = w.Close()
	}()
	s.wait = sync.OnceFunc(func() {
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	s.stop = func() {
		cancel()
		s.wait()
	}
	t.Cleanup(s.stop)
	var err error
	if s.banner, err = bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("no banner: %v", err)
	}
	s.url = strings.Replace(regexp.MustCompile(`https?://localhost:\d+`).FindString(s.banner), "localhost", "127.0.0.1", 1)
	if s.url == "" {
		t.Fatalf("banner %q", s.banner)
	}
	return s
}

func (s *server) get(path string) string {
	s.t.Helper()
	body, _ := s.fetch(s.url + path)
	return body
}

func (s *server) fetch(url string) (body string, status int) {
	s.t.Helper()
	resp, err := s.http.Get(url)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b), resp.StatusCode
}

// client is a device's session.
type client struct {
	t      *testing.T
	ctx    context.Context
	ws     *websocket.Conn
	device peercrypto.ID
	user   peercrypto.PublicKey
	ready  *wire.Ready
}

// connect makes a session for a new device of a new user.
func (s *server) connect() *client {
	s.t.Helper()
	name, wsURL, err := wire.CanonicalServer(s.url)
	if err != nil {
		s.t.Fatal(err)
	}
	// Before the connection, which has a time to authenticate in.
	d, err := throwaway.NewDevice(time.Hour)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	s.t.Cleanup(cancel)
	ws, _, err := websocket.Dial(ctx, wsURL, &websocket.DialOptions{Subprotocols: []string{wire.Subprotocol}, HTTPClient: s.http})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = ws.CloseNow() })
	c := &client{t: s.t, ctx: ctx, ws: ws, device: d.Cert.DeviceID, user: d.Cert.UserKey}
	auth, err := wire.SignAuth(wire.AuthBody{
		Server: name, Nonce: c.next().(*wire.Hello).Nonce, CNonce: peercrypto.NewNonce(), Time: time.Now().UnixMilli(),
	}, d.Key, d.Cert)
	if err != nil {
		s.t.Fatal(err)
	}
	c.send(auth)
	m := c.next()
	ready, ok := m.(*wire.Ready)
	if !ok {
		s.t.Fatalf("got %T %+v", m, m)
	}
	c.ready = ready
	return c
}

func (c *client) next() wire.Message {
	c.t.Helper()
	_, frame, err := c.ws.Read(c.ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	m, err := wire.DecodeFromServer(frame)
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

func (c *client) send(m wire.Message) {
	c.t.Helper()
	frame, err := wire.Encode(m)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.ws.Write(c.ctx, websocket.MessageText, frame); err != nil {
		c.t.Fatal(err)
	}
}

// result reads until the answer to a request.
func (c *client) result(id uint64) *wire.Result {
	c.t.Helper()
	for {
		if r, ok := c.next().(*wire.Result); ok && r.ID == id {
			return r
		}
	}
}

// relays are the TURN URLs that a client was told, with their credentials.
func relays(ready *wire.Ready) (urls []string, username, credential string) {
	for _, s := range ready.ICE {
		for _, u := range s.URLs {
			if strings.HasPrefix(u, "turn") {
				urls, username, credential = append(urls, u), s.Username, s.Credential
			}
		}
	}
	return urls, username, credential
}
