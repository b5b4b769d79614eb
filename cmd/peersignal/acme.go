package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// How often a certificate that could not be had is asked for again. Let's
// Encrypt allows five failures for one host in an hour.
const (
	acmeRetry    = 15 * time.Minute
	acmeRetryMax = 6 * time.Hour
	acmeTimeout  = 5 * time.Minute // for one certificate
)

var errNoCertificate = errors.New("there is no certificate for this name, or not yet")

// acmeCertificates fetches and renews certificates by ACME (RFC 8555). They are
// asked for at the start, so that a mistake shows then and not with the first
// client. A server without them is not "not ready": the authority has to reach
// it to give them.
type acmeCertificates struct {
	hosts   []string
	manager *autocert.Manager
	log     *slog.Logger

	mu       sync.Mutex
	expires  map[string]time.Time // by host
	failures uint64
}

func newACME(s acmeSettings, log *slog.Logger) (*acmeCertificates, error) {
	if err := checkACMECache(s.cache); err != nil {
		return nil, err
	}
	client := &acme.Client{DirectoryURL: s.directory, UserAgent: "peersignal"}
	roots, err := readRoots("acme-ca", s.ca)
	if err != nil {
		return nil, err
	}
	if roots != nil {
		client.HTTPClient = &http.Client{Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		}}
	}
	hosts := make([]string, len(s.hosts))
	for i, h := range s.hosts {
		hosts[i] = strings.ToLower(h)
	}
	return &acmeCertificates{
		hosts: hosts, log: log, expires: make(map[string]time.Time),
		manager: &autocert.Manager{
			Prompt: autocert.AcceptTOS, Cache: autocert.DirCache(s.cache), HostPolicy: onlyHosts(hosts),
			Email: s.email, Client: client,
		},
	}, nil
}

// onlyHosts refuses other names, so that nobody has certificates fetched by
// asking for them. HTTP-01 asks with the port in the name, unless it is 80.
func onlyHosts(hosts []string) autocert.HostPolicy {
	listed := autocert.HostWhitelist(hosts...)
	return func(ctx context.Context, host string) error {
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		return listed(ctx, host)
	}
}

// checkACMECache makes the folder or refuses one that others can read: it will
// hold keys.
func checkACMECache(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making acme-cache: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("looking at acme-cache: %w", err)
	}
	if os.PathSeparator == '/' && info.Mode()&fs.ModePerm&0o077 != 0 {
		return fmt.Errorf("the folder %s of acme-cache is open to others, and keys will be in it: chmod 700 %s", dir, dir)
	}
	return nil
}

// config serves the certificates, and the challenges of TLS-ALPN-01.
func (a *acmeCertificates) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: a.get}
}

// get serves what was fetched; clients without server name, which dial an
// address, get the first host's. Only keep makes the manager ask the authority:
// clients that come while there is no certificate must not use up its patience.
func (a *acmeCertificates) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if slices.Equal(hello.SupportedProtos, []string{acme.ALPNProto}) {
		return a.manager.GetCertificate(hello) // the authority, with a challenge
	}
	own := *hello
	own.ServerName = strings.ToLower(strings.TrimSuffix(own.ServerName, "."))
	if own.ServerName == "" || net.ParseIP(own.ServerName) != nil {
		own.ServerName = a.hosts[0]
	}
	a.mu.Lock()
	_, there := a.expires[own.ServerName]
	a.mu.Unlock()
	if !there {
		return nil, errNoCertificate
	}
	return a.manager.GetCertificate(&own)
}

// challenges answers HTTP-01 and sends everything else to HTTPS.
func (a *acmeCertificates) challenges() http.Handler { return a.manager.HTTPHandler(nil) }

// run asks for each host's certificate until there is one, and looks at them
// from then on: the manager renews what is asked for.
func (a *acmeCertificates) run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, host := range a.hosts {
		wg.Go(func() { a.keep(ctx, host) })
	}
	wg.Wait()
	<-ctx.Done()
	return nil
}

func (a *acmeCertificates) keep(ctx context.Context, host string) {
	wait := acmeRetry
	for {
		err := a.ask(ctx, host)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			a.log.Error("no certificate could be had", "host", host, "error", err, "again", wait.String())
		default:
			wait = acmeRetry
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if err != nil {
			wait = min(2*wait, acmeRetryMax)
		}
	}
}

// ask has the manager fetch the host's certificate, or show the one it has.
func (a *acmeCertificates) ask(ctx context.Context, host string) error {
	type answer struct {
		cert *tls.Certificate
		err  error
	}
	got := make(chan answer, 1) // the manager can't be interrupted
	go func() {
		cert, err := a.manager.GetCertificate(&tls.ClientHelloInfo{
			ServerName: host, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
			SupportedCurves: []tls.CurveID{tls.CurveP256}, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		})
		got <- answer{cert, err}
	}()
	ctx, cancel := context.WithTimeout(ctx, acmeTimeout)
	defer cancel()
	var r answer
	select {
	case r = <-got:
	case <-ctx.Done():
		r.err = ctx.Err()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.err != nil {
		a.failures++
		return r.err
	}
	if r.cert.Leaf == nil {
		return errors.New("the certificate has no leaf")
	}
	if at := r.cert.Leaf.NotAfter; !a.expires[host].Equal(at) {
		a.expires[host] = at
		a.log.Info("a certificate was fetched", "host", host, "expires", at)
	}
	return nil
}

// collectors export the earliest expiry, 0 while a certificate is missing.
func (a *acmeCertificates) collectors() []prometheus.Collector {
	return certificateCollectors("http", func() float64 {
		a.mu.Lock()
		defer a.mu.Unlock()
		first := 0.0
		for _, host := range a.hosts {
			at, ok := a.expires[host]
			if !ok {
				return 0
			}
			if unix := float64(at.Unix()); first == 0 || unix < first {
				first = unix
			}
		}
		return first
	}, func() float64 {
		a.mu.Lock()
		defer a.mu.Unlock()
		return float64(a.failures)
	})
}
