// Package doctor finds out what works between this machine and a peersignal server, as a device would use it: name,
// certificate, WebSocket, authentication, a meeting of two devices, STUN and TURN over every transport and address
// family, what the relay refuses, clocks, and, from the server's own machine, the push services.
//
// Each step is a [Check] with what was found and, if that is not good, with what to do. A step that cannot be made
// because an earlier one failed is left out; what this machine lacks itself (no IPv6) is skipped and said.
package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"time"

	"github.com/peersignal/peersignal/pkg/wire"
)

// Status is the outcome of a check.
type Status string

// Outcomes. Only Failed means that something does not work.
const (
	OK      Status = "ok"
	Warning Status = "warning"
	Failed  Status = "failed"
	Skipped Status = "skipped"
)

// Check is one thing that was tried.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Detail string `json:"detail"`           // what was found
	Advice string `json:"advice,omitempty"` // what to do; empty when it is OK
}

// Config says whom to examine.
type Config struct {
	// URL is the server as clients are given it, see [wire.CanonicalServer].
	URL string
	// RootCAs are trusted instead of the system's; nil: the system's.
	RootCAs *x509.CertPool
	// PushHosts are push services, host or host:port, to which the server must be able to connect. They are asked from
	// this machine, so it should be the server's.
	PushHosts []string
	// Timeout is for each step; default 5 s.
	Timeout time.Duration
	// Report gets each check when it is made, from Run's goroutine; may be nil.
	Report func(Check)
}

// DefaultPushHosts are the push services of the common browsers.
func DefaultPushHosts() []string {
	return []string{
		"fcm.googleapis.com", "updates.push.services.mozilla.com", "web.push.apple.com", "wns2-par02p.notify.windows.com",
	}
}

// examination is one run.
type examination struct {
	cfg    Config
	name   string // that clients sign
	wsURL  string
	host   string
	port   string
	secure bool
	addrs  []netip.Addr
	checks []Check
}

// Run makes all checks and returns them in order. The error is for a Config that cannot be used, or ctx's: a server
// that does not work gives checks that failed.
func Run(ctx context.Context, cfg Config) ([]Check, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = 5 * time.Second
	}
	name, wsURL, err := wire.CanonicalServer(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("examining %q: %w", cfg.URL, err)
	}
	u, err := url.Parse(wsURL)
	if err != nil {
		return nil, fmt.Errorf("examining %q: %w", cfg.URL, err)
	}
	e := &examination{cfg: cfg, name: name, wsURL: wsURL, host: u.Hostname(), port: u.Port(), secure: u.Scheme == "wss"}
	if e.port == "" {
		e.port = "443"
		if !e.secure {
			e.port = "80"
		}
	}
	e.run(ctx)
	if err := ctx.Err(); err != nil {
		return e.checks, fmt.Errorf("examining %q: %w", cfg.URL, err)
	}
	return e.checks, nil
}

func (e *examination) run(ctx context.Context) {
	defer e.push(ctx)
	if !e.dns(ctx) || !e.reach(ctx) || e.secure && !e.tls(ctx) {
		return
	}
	e.health(ctx)
	first, err := e.session(ctx)
	if err != nil {
		return
	}
	defer first.close()
	e.meeting(ctx, first)
	e.relays(ctx, first.ready.ICE)
}

func (e *examination) add(c Check) {
	e.checks = append(e.checks, c)
	if e.cfg.Report != nil {
		e.cfg.Report(c)
	}
}

func (e *examination) ok(name, format string, args ...any) {
	e.add(Check{Name: name, Status: OK, Detail: fmt.Sprintf(format, args...)})
}

func (e *examination) fail(name, advice, format string, args ...any) {
	e.add(Check{Name: name, Status: Failed, Detail: fmt.Sprintf(format, args...), Advice: advice})
}

func (e *examination) warn(name, advice, format string, args ...any) {
	e.add(Check{Name: name, Status: Warning, Detail: fmt.Sprintf(format, args...), Advice: advice})
}

func (e *examination) skip(name, format string, args ...any) {
	e.add(Check{Name: name, Status: Skipped, Detail: fmt.Sprintf(format, args...)})
}

// within gives one step its time.
func (e *examination) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, e.cfg.Timeout, errNoAnswer)
}

var errNoAnswer = errors.New("no answer in time")
