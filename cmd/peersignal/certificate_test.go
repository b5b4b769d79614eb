package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// testRoots trusts testCA, which signs the certificates of tests.
var testCA, testCAKey, testRoots = makeCA()

func makeCA() (*x509.Certificate, *ecdsa.PrivateKey, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	return ca, key, roots
}

// issue returns a certificate for 127.0.0.1 with the serial number, and its
// key, in PEM.
func issue(t *testing.T, serial int64, notAfter time.Time) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotAfter: notAfter, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, testCA, k.Public(), testCAKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
}

// certFiles writes a certificate into a folder of its own.
func certFiles(t *testing.T) keyPair {
	t.Helper()
	dir := t.TempDir()
	p := keyPair{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	cert, key := issue(t, 1, time.Now().Add(time.Hour))
	write(t, p.cert, cert)
	write(t, p.key, key)
	return p
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCertificateIsReadAgain(t *testing.T) {
	files := certFiles(t)
	logs := &output{}
	c, err := newCertificate("http", files, slog.New(slog.NewTextHandler(logs, nil)))
	if err != nil {
		t.Fatal(err)
	}
	passed := time.Duration(0)
	c.now = func() time.Time { return time.Now().Add(passed) }
	serial := func() int64 { return c.get().Leaf.SerialNumber.Int64() }
	cert, key := issue(t, 2, time.Now().Add(time.Hour))

	write(t, files.cert, cert) // its key is not there yet
	passed += recheck
	if got := serial(); got != 1 || c.failures != 1 || !strings.Contains(logs.String(), "the old one stays in use") {
		t.Errorf("with half of the new pair: serial %d, %d failures, log %s", got, c.failures, logs)
	}
	passed += recheck
	if got := serial(); got != 1 || c.failures != 1 {
		t.Errorf("the same mistake was counted again: %d", c.failures)
	}
	write(t, files.key, key)
	if got := serial(); got != 1 {
		t.Errorf("serial %d before it was time to look", got)
	}
	passed += recheck
	if got := serial(); got != 2 {
		t.Errorf("serial %d, want the new one", got)
	}
	if err := os.Remove(files.key); err != nil {
		t.Fatal(err)
	}
	passed += recheck
	if got := serial(); got != 2 || c.failures != 2 {
		t.Errorf("without a key: serial %d, %d failures", got, c.failures)
	}
	write(t, files.key, key)
	passed += recheck
	if got := serial(); got != 2 || strings.Count(logs.String(), "read again\"") != 2 {
		t.Errorf("with the key: serial %d, log %s", got, logs)
	}
}

func TestCertificateMistakes(t *testing.T) {
	files := certFiles(t)
	_, other := issue(t, 3, time.Now().Add(time.Hour))
	wrong := filepath.Join(t.TempDir(), "wrong.pem")
	write(t, wrong, other)
	for _, p := range []keyPair{{files.cert, wrong}, {wrong, files.key}, {files.cert, files.cert}, {files.cert, wrong + "x"}, {wrong + "x", files.key}} {
		_, err := newCertificate("http", p, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), "reading the TLS certificate") {
			t.Errorf("%v: got %v", p, err)
		}
	}
	expired, key := issue(t, 4, time.Now().Add(-time.Minute))
	write(t, files.cert, expired)
	write(t, files.key, key)
	logs := &output{}
	if _, err := newCertificate("http", files, slog.New(slog.NewTextHandler(logs, nil))); err != nil || !strings.Contains(logs.String(), "expired") {
		t.Errorf("expired: got %v, log %s", err, logs)
	}
}

// One certificate makes HTTP, WebSocket and TURN speak TLS, and clients are
// told so.
func TestServeTLS(t *testing.T) {
	files := certFiles(t)
	srv := startServer(t, "--tls-cert", files.cert, "--tls-key", files.key, "--turn-tls-listen=127.0.0.1:0")
	if !strings.HasPrefix(srv.url, "https://") {
		t.Fatalf("banner %q", srv.banner)
	}
	metrics := srv.get("/metrics")
	for _, listener := range []string{"http", "turn"} {
		if !strings.Contains(metrics, `peersignal_tls_certificate_expiry_timestamp_seconds{listener="`+listener+`"} 1.`) {
			t.Errorf("the certificate of %s is not in the metrics", listener)
		}
	}
	urls, _, _ := relays(srv.connect().ready)
	last := urls[len(urls)-1]
	if len(urls) != 3 || !strings.HasPrefix(last, "turns:127.0.0.1:") || !strings.HasSuffix(last, "?transport=tcp") {
		t.Fatalf("clients are told %v", urls)
	}
	addr := strings.TrimSuffix(strings.TrimPrefix(last, "turns:"), "?transport=tcp")
	conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: testRoots, NextProtos: []string{"stun.turn"}})
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}

// A proxy in front of HTTP leaves TURN to this server, with a certificate of its own.
func TestServeTURNOverTLSOnly(t *testing.T) {
	files := certFiles(t)
	srv := startServer(t, "--turn-tls-cert", files.cert, "--turn-tls-key", files.key, "--turn-tls-listen=127.0.0.1:0")
	if !strings.HasPrefix(srv.url, "http://") || !strings.Contains(srv.banner, "(tls)") {
		t.Errorf("banner %q", srv.banner)
	}
	if urls, _, _ := relays(srv.connect().ready); !strings.HasPrefix(urls[len(urls)-1], "turns:") {
		t.Errorf("clients are told %v", urls)
	}
}
