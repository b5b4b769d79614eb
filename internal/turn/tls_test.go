package turn_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/peersignal/peersignal/internal/turn"
)

// testCertificate is for 127.0.0.1, trusted by testRoots.
var testCertificate, testRoots = makeCertificate()

func makeCertificate() (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

func withTLS(c *turn.Config) {
	c.TLSListen = []string{"127.0.0.1:0"}
	c.TLSConfig = &tls.Config{Certificates: []tls.Certificate{testCertificate}}
}

func TestTLSListener(t *testing.T) {
	r := start(t, withTLS)
	_, a := r.allocate("tls", "s1", "alice")
	_, b := r.allocate("udp", "s2", "bob")
	meet(t, a, b)
	if got := r.metric("allocations", "transport", "tls"); got != 1 {
		t.Errorf("%v allocations over TLS counted, want 1", got)
	}
	if got := r.Revoke("s1"); got != 1 {
		t.Errorf("%d allocations ended, want 1", got)
	}
}

func TestTLSVersionsAndProtocols(t *testing.T) {
	r := start(t, withTLS)
	addr := r.TLSAddrs()[0].String()
	for name, c := range map[string]struct {
		client *tls.Config
		ok     bool
		alpn   string
	}{
		"TLS 1.1":       {&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false, ""},
		"TLS 1.2":       {&tls.Config{MaxVersion: tls.VersionTLS12}, true, ""},
		"stun.turn":     {&tls.Config{NextProtos: []string{"stun.turn"}}, true, "stun.turn"},
		"a web browser": {&tls.Config{NextProtos: []string{"h2", "http/1.1"}}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c.client.RootCAs = testRoots
			conn, err := tls.Dial("tcp", addr, c.client)
			if (err == nil) != c.ok {
				t.Fatalf("got %v, want success %v", err, c.ok)
			}
			if err != nil {
				return
			}
			defer func() { _ = conn.Close() }()
			if got := conn.ConnectionState().NegotiatedProtocol; got != c.alpn {
				t.Errorf("negotiated %q, want %q", got, c.alpn)
			}
			_ = conn.SetDeadline(time.Now().Add(waitFor))
			if _, err := conn.Write(bindingRequest(t)); err != nil {
				t.Fatal(err)
			}
			bound(t, conn)
		})
	}
	// Plain text where TLS is expected.
	plain := dialTCP(t, addr)
	if _, err := plain.Write(bindingRequest(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "three failed handshakes were counted", func() bool {
		return r.metric("tcp_connections_closed_total", "reason", "handshake") == 3
	})
}

// Handshakes cost the network that makes them its tokens.
func TestHandshakesAreLimited(t *testing.T) {
	r := start(t, func(c *turn.Config) {
		withTLS(c)
		c.UnauthenticatedPerSecond = 1
	})
	for range 8 {
		_ = dialTCP(t, r.TLSAddrs()[0].String())
	}
	eventually(t, "some were refused", func() bool {
		return r.metric("tcp_connections_closed_total", "reason", "source_rate") >= 1
	})
}

// One port serves the web and, by the protocol name, TURN.
func TestSharedPort(t *testing.T) {
	r := start(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{
		ReadHeaderTimeout: waitFor,
		TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{testCertificate}, NextProtos: []string{"http/1.1", turn.ALPN},
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) }),
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){
			turn.ALPN: func(_ *http.Server, c *tls.Conn, _ http.Handler) { _ = r.ServeConn(c) },
		},
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = web.ServeTLS(l, "", "") })
	defer serving.Wait()
	defer func() { _ = web.Close() }()

	conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: testRoots, NextProtos: []string{turn.ALPN}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(waitFor))
	if _, err := conn.Write(bindingRequest(t)); err != nil {
		t.Fatal(err)
	}
	bound(t, conn)

	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: testRoots}}}
	defer client.CloseIdleConnections()
	response, err := client.Get("https://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("the web server answered %s", response.Status)
	}
}

func TestServeConnOfAStoppedServer(t *testing.T) {
	s, err := turn.New(turn.Config{Listen: []string{"127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	ours, theirs := net.Pipe()
	defer func() { _ = theirs.Close() }()
	if err := s.ServeConn(ours); !errors.Is(err, turn.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}
