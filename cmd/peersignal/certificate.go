package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// recheck is how often the files of a certificate are looked at, at most.
const recheck = 10 * time.Second

// certificate is a certificate and its key, read again when their files change.
// While the new ones cannot be used, for instance since only one of the two is
// there yet, the old ones are.
type certificate struct {
	files    keyPair
	listener string // for logs and metrics: "http" or "turn"
	log      *slog.Logger
	now      func() time.Time

	mu       sync.Mutex
	current  *tls.Certificate
	state    filesState // when they were last read
	checked  time.Time
	failures uint64
}

// filesState tells whether files have changed. It is comparable.
type filesState struct {
	certTime, keyTime time.Time
	certSize, keySize int64
}

// readRoots reads the certificates that a setting or flag trusts; without a file
// they are those of the system: nil.
func readRoots(name, file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file) //nolint:gosec // the operator names it
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("reading %s: %s has no certificate in PEM", name, file)
	}
	return roots, nil
}

// newCertificate reads the files.
func newCertificate(listener string, files keyPair, log *slog.Logger) (*certificate, error) {
	c := &certificate{files: files, listener: listener, log: log, now: time.Now}
	var err error
	if c.state, err = c.look(); err == nil {
		c.current, err = c.read()
	}
	if err != nil {
		return nil, fmt.Errorf("reading the TLS certificate: %w", err)
	}
	c.checked = c.now()
	if c.current.Leaf.NotAfter.Before(c.checked) {
		log.Warn("TLS certificate has expired", "listener", listener, "expired", c.current.Leaf.NotAfter)
	}
	return c, nil
}

// config serves the certificate that is current at each connection.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.get(), nil },
	}
}

func (c *certificate) get() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); now.Sub(c.checked) >= recheck {
		c.checked = now
		c.refreshLocked()
	}
	return c.current
}

// refreshLocked reads the files if they have changed since they were last
// tried.
func (c *certificate) refreshLocked() {
	state, err := c.look()
	if state == c.state {
		return
	}
	c.state = state
	var fresh *tls.Certificate
	if err == nil {
		fresh, err = c.read()
	}
	if err != nil {
		c.failures++
		c.log.Warn("TLS certificate cannot be read again; the old one stays in use", "listener", c.listener, "error", err,
			"expires", c.current.Leaf.NotAfter)
		return
	}
	c.current = fresh
	c.log.Info("TLS certificate was read again", "listener", c.listener, "expires", fresh.Leaf.NotAfter)
}

// look returns the zero state with its error.
func (c *certificate) look() (filesState, error) {
	cert, err := os.Stat(c.files.cert)
	if err != nil {
		return filesState{}, err
	}
	key, err := os.Stat(c.files.key)
	if err != nil {
		return filesState{}, err
	}
	return filesState{cert.ModTime(), key.ModTime(), cert.Size(), key.Size()}, nil
}

func (c *certificate) read() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(c.files.cert, c.files.key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", c.files.cert, c.files.key, err)
	}
	return &pair, nil
}

// reload looks at the files now.
func (c *certificate) reload() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checked = c.now()
	c.refreshLocked()
}

func (c *certificate) collectors() []prometheus.Collector {
	return certificateCollectors(c.listener, func() float64 { return float64(c.get().Leaf.NotAfter.Unix()) }, func() float64 {
		c.mu.Lock()
		defer c.mu.Unlock()
		return float64(c.failures)
	})
}

func certificateCollectors(listener string, expiry, failures func() float64) []prometheus.Collector {
	labels := prometheus.Labels{"listener": listener}
	return []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "peersignal_tls_certificate_expiry_timestamp_seconds",
			Help:        "When the certificate expires, Unix time; 0 while there is none.",
			ConstLabels: labels,
		}, expiry),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "peersignal_tls_certificate_failures_total", Help: "Certificates that could not be used or not be had.",
			ConstLabels: labels,
		}, failures),
	}
}
