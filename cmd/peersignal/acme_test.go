package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// acmeHost is a name that the authority of these tests finds on 127.0.0.1.
const acmeHost = "signal.example.org"

// Certificates come from a real ACME server, by either challenge. It is pebble,
// the test authority of Let's Encrypt:
//
//	go install github.com/letsencrypt/pebble/v2/cmd/pebble@v2.10.1
func TestACME(t *testing.T) {
	bin, err := exec.LookPath("pebble")
	if err != nil {
		t.Skip("pebble, an ACME server for tests, is not on PATH")
	}
	for _, challenge := range []string{"tls-alpn-01", "http-01"} {
		t.Run(challenge, func(t *testing.T) {
			port, other := freePort(t), freePort(t)
			args := []string{"--listen=127.0.0.1:" + port, "--acme-host=" + acmeHost, "--turn-tls-listen=127.0.0.1:0"}
			tlsPort, httpPort := port, other
			if challenge == "http-01" {
				args = append(args, "--acme-http-listen=127.0.0.1:"+other)
				tlsPort = freePort(t) // nobody listens there
			}
			authority := startPebble(t, bin, tlsPort, httpPort)
			cache := filepath.Join(t.TempDir(), "acme")
			args = append(args, "--acme-cache="+cache, "--acme-directory="+authority.directory, "--acme-ca="+authority.ca)
			srv := startServer(t, args...)
			leaf := dialACME(t, srv, "127.0.0.1:"+port, authority.roots(t))
			if err := leaf.VerifyHostname(acmeHost); err != nil {
				t.Error(err)
			}
			wantFile(t, cache, acmeHost)
			_, rest, _ := strings.Cut(srv.banner, " and ")
			relay, _, _ := strings.Cut(rest, " (tls)")
			if again := dialACME(t, srv, relay, authority.roots(t)); !again.Equal(leaf) {
				t.Error("the relay has another certificate")
			}
			if challenge == "http-01" {
				wantRedirect(t, "http://127.0.0.1:"+other+"/x")
			}
		})
	}
}

// dialACME connects until there is a certificate.
func dialACME(t *testing.T, srv *server, addr string, roots *x509.CertPool) *x509.Certificate {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		c, err := tls.Dial("tcp", addr, &tls.Config{ServerName: acmeHost, RootCAs: roots})
		if err == nil {
			defer c.Close()
			return c.ConnectionState().PeerCertificates[0]
		}
		if time.Now().After(end) {
			t.Fatalf("no certificate: %v\n%s", err, srv.logs.String())
		}
	}
}

func wantFile(t *testing.T, dir, name string) {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, name))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the certificate is not kept, or not private: %v, %v", info, err)
	}
}

func wantRedirect(t *testing.T, url string) {
	t.Helper()
	c := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if to := resp.Header.Get("Location"); !strings.HasPrefix(to, "https://") {
		t.Errorf("%d to %q", resp.StatusCode, to)
	}
}

// pebble is an authority that runs.
type pebble struct {
	directory, management string
	ca                    string // file
	client                *http.Client
}

func startPebble(t *testing.T, bin, tlsPort, httpPort string) *pebble {
	t.Helper()
	dir := t.TempDir()
	files := certFiles(t)
	p := &pebble{ca: filepath.Join(dir, "ca.pem"), client: &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: testRoots}},
	}}
	write(t, p.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: testCA.Raw}))
	listen, manage := "127.0.0.1:"+freePort(t), "127.0.0.1:"+freePort(t)
	p.directory, p.management = "https://"+listen+"/dir", "https://"+manage
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": listen, "managementListenAddress": manage, "certificate": files.cert, "privateKey": files.key,
		"httpPort": atoi(t, httpPort), "tlsPort": atoi(t, tlsPort), "retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles": map[string]any{"default": map[string]any{"description": "default", "validityPeriod": 7776000}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "config.json"), config)
	cmd := exec.Command(bin, "-config", filepath.Join(dir, "config.json"), "-dnsserver", startDNS(t))
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(out.String())
		}
	})
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		resp, err := p.client.Get(p.directory)
		if err == nil {
			_ = resp.Body.Close()
			return p
		}
		if time.Now().After(end) {
			t.Fatalf("pebble does not answer: %v", err)
		}
	}
}

// roots are what the authority signs with; they are new at each start.
func (p *pebble) roots(t *testing.T) *x509.CertPool {
	t.Helper()
	resp, err := p.client.Get(p.management + "/roots/0")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		t.Fatalf("no roots: %s", text)
	}
	return roots
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

func atoi(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// startDNS answers, over TCP, that every name is on 127.0.0.1.
func startDNS(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = answerDNS(c)
			_ = c.Close()
		}
	}()
	return l.Addr().String()
}

// answerDNS answers one question, which comes behind its length.
func answerDNS(c net.Conn) error {
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return err
	}
	question := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, question); err != nil {
		return err
	}
	answer, err := resolve(question)
	if err != nil {
		return err
	}
	_, err = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
	return err
}

// resolve answers a question of one name, RFC 1035 section 4.
func resolve(question []byte) ([]byte, error) {
	const header = 12
	end := bytes.IndexByte(question[min(header, len(question)):], 0) + header + 5 // name, type and class
	if len(question) < end || end < header+5 {
		return nil, errors.New("this is no question")
	}
	answer := bytes.Clone(question[:end])
	copy(answer[2:header], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}) // one question, no answer
	if kind := binary.BigEndian.Uint16(answer[end-4:]); kind == 1 {
		answer[7] = 1
		answer = append(answer, 0xc0, header, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1)
	}
	return answer, nil
}
