package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"golang.org/x/crypto/acme"

	"github.com/peersignal/peersignal/internal/admin"
	"github.com/peersignal/peersignal/internal/audit"
	"github.com/peersignal/peersignal/internal/buildinfo"
	"github.com/peersignal/peersignal/internal/ice"
	notifier "github.com/peersignal/peersignal/internal/notify"
	"github.com/peersignal/peersignal/internal/signaling"
	"github.com/peersignal/peersignal/internal/turn"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// app is the wired server. Its sockets are bound; nothing is served yet.
type app struct {
	// Static.
	started       time.Time
	log           *slog.Logger
	level         *slog.LevelVar
	registry      *prometheus.Registry
	signaling     *signaling.Server
	introductions *signaling.Introductions // nil: the relay serves all
	sources       *iceSources
	embedded      *ice.Embedded // nil without a relay
	turn          *turn.Server  // nil when off
	certificates  []*certificate
	acme          *acmeCertificates // nil without
	audit         *audit.Log        // nil without
	push          *notifier.Sender  // nil without
	blocks        *admin.Blocklist
	admin         *admin.Server
	quiet         *quietConns
	listeners     listeners
	secure        bool // clients speak TLS to the server itself

	ready       atomic.Bool
	draining    atomic.Bool
	iceRequired atomic.Bool
	adminToken  atomic.Pointer[ice.Secret]
	proxies     atomic.Pointer[[]string] // that are trusted
	drains      chan time.Duration       // asked for by operators

	reloading sync.Mutex // over one reload, and:
	values    *values    // as they were read last
	settings  *settings
}

// listeners are the sockets for HTTP; all but the first can be nil.
type listeners struct {
	clients, metrics, adminSocket, adminTCP, acme net.Listener
}

func (l listeners) all() []net.Listener {
	return []net.Listener{l.clients, l.metrics, l.adminSocket, l.adminTCP, l.acme}
}

// serve runs until ctx ends or an operator says so, and drains.
func serve(ctx context.Context, flags *pflag.FlagSet, out, logs io.Writer) error {
	v, err := loadValues(flags, nil)
	if err != nil {
		return usageError{err}
	}
	s, err := v.settings()
	if err != nil {
		return usageError{err}
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	a, err := build(ctx, v, s, logs)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintln(out, a.banner(s))
	return a.run(ctx, hangups)
}

func newLogger(s *settings, level *slog.LevelVar, w io.Writer) *slog.Logger {
	level.Set(s.logLevel)
	o := &slog.HandlerOptions{Level: level}
	if s.logJSON {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// build makes the parts and binds their sockets.
func build(ctx context.Context, v *values, s *settings, logs io.Writer) (*app, error) {
	a := &app{
		started: time.Now(), level: new(slog.LevelVar), registry: newRegistry(), drains: make(chan time.Duration, 1),
		values: v, settings: s, secure: s.secure(),
	}
	a.log = newLogger(s, a.level, logs)
	a.iceRequired.Store(s.iceRequired)
	a.adminToken.Store(&s.adminToken)
	a.proxies.Store(&s.proxies)
	if err := a.bind(ctx, s); err != nil {
		a.closeSockets()
		return nil, err
	}
	return a, nil
}

func (a *app) bind(ctx context.Context, s *settings) (err error) {
	if s.acme.isSet() {
		if a.acme, err = newACME(s.acme, a.log.With("part", "acme")); err != nil {
			return usageError{err}
		}
		if err := a.register("ACME", a.acme.collectors()...); err != nil {
			return err
		}
	}
	if s.turn {
		if s.turnIntroducedOnly {
			if a.introductions, err = signaling.NewIntroductions(signaling.IntroductionsConfig{}); err != nil {
				return err
			}
		}
		if a.turn, err = a.newTURN(ctx, s); err != nil {
			return err
		}
		a.embedded = ice.NewEmbedded(minter{a.turn}, relayPorts(a.turn, s.turnHost))
	}
	chain, err := newChain(s, a.embedded, a.log.With("part", "ice"))
	if err != nil {
		return usageError{err}
	}
	a.sources = newICESources(chain)
	if err := a.register("ICE", a.sources); err != nil {
		return err
	}
	if err := a.listen(s); err != nil {
		return err
	}
	if err := a.newAudit(s); err != nil {
		return err
	}
	if err := a.newSignaling(s); err != nil {
		return err
	}
	return a.newAdmin(s)
}

func (a *app) newSignaling(s *settings) (err error) {
	cfg := s.signalingConfig()
	cfg.ICE, cfg.Introductions, cfg.OnSessionEnd = iceAdapter{a.sources}, a.introductions, a.sessionEnded
	cfg.Registerer, cfg.Logger = a.registry, a.log.With("part", "signaling")
	if a.audit != nil {
		cfg.Audit = auditor{a.audit}
	}
	if s.push.Key != "" {
		push := s.push
		push.Registerer, push.Logger = a.registry, a.log.With("part", "push")
		if a.push, err = notifier.New(push); err != nil {
			return usageError{err}
		}
		cfg.Push = pusher{a.push}
	}
	if a.signaling, err = signaling.New(cfg); err != nil {
		return usageError{err}
	}
	// More than one that is silent for each that may wait for its session is a flood.
	a.quiet = newQuietConns(max(2*s.limits.Pending, 2048))
	return a.register("HTTP", append(a.quiet.collectors(), a.readyGauge())...)
}

func (a *app) listen(s *settings) (err error) {
	l := &a.listeners
	if l.clients, err = net.Listen("tcp", s.listen); err != nil {
		return fmt.Errorf("listening for HTTP (choose another address with --listen): %w", err)
	}
	switch {
	case s.tls.isSet():
		c, err := a.newCertificate("http", s.tls)
		if err != nil {
			return err
		}
		l.clients = tls.NewListener(l.clients, httpTLS(c.config()))
	case a.acme != nil:
		l.clients = tls.NewListener(l.clients, httpTLS(a.acme.config(), acme.ALPNProto))
	}
	for _, more := range []struct {
		listener   *net.Listener
		address    string
		what, flag string
	}{
		{&l.metrics, s.metricsListen, "metrics", "metrics-listen"},
		{&l.adminTCP, s.adminListen, "operators", "admin-listen"},
		{&l.acme, s.acme.httpListen, "ACME challenges", "acme-http-listen"},
	} {
		if more.address == "" || more.listener == &l.acme && a.acme == nil {
			continue
		}
		if *more.listener, err = net.Listen("tcp", more.address); err != nil {
			return fmt.Errorf("listening for %s (choose another address with --%s): %w", more.what, more.flag, err)
		}
	}
	if s.adminSocket != "" {
		if l.adminSocket, err = admin.Listen(s.adminSocket); err != nil {
			return fmt.Errorf("%w (choose another path with --admin-socket)", err)
		}
	}
	return nil
}

// httpTLS offers HTTP/1.1 only: a WebSocket needs it, and there is little else.
func httpTLS(cfg *tls.Config, more ...string) *tls.Config {
	cfg.NextProtos = append([]string{"http/1.1"}, more...)
	return cfg
}

// sessionEnded cuts the relays of a session that an operator ended. A session
// that only lost its WebSocket keeps them: data flows on while it reconnects.
func (a *app) sessionEnded(session, reason string) {
	if a.turn != nil && reason == signaling.EndKicked {
		a.turn.Revoke(session)
	}
}

// cutRelays ends the relays of who is blocked, also those that sessions before
// the last one left behind, and what their credentials could still open.
func (a *app) cutRelays(b signaling.Block) {
	switch {
	case a.turn == nil:
	case b.Network.IsValid():
		a.turn.RevokeNetwork(b.Network.Masked())
	case b.User != "":
		if k, err := peercrypto.ParsePublicKey(b.User); err == nil {
			a.turn.RevokeUser(k.String()) // in the form of sessions
		}
	}
}

// banner says where to go.
func (a *app) banner(s *settings) string {
	scheme, own := "http", a.listeners.clients.Addr().String()
	if a.secure {
		scheme = "https"
	}
	local := fmt.Sprintf("%s://localhost:%d", scheme, a.listeners.clients.Addr().(*net.TCPAddr).Port)
	url, metrics := local, local+"/metrics"
	switch {
	case len(s.names) > 0 && a.secure:
		url = "https://" + s.names[0] + " (on " + own + ")"
	case len(s.names) > 0 && isLocal(s.names[0]):
		url = "http://" + s.names[0] + " (on " + own + ")"
	case len(s.names) > 0:
		url = "https://" + s.names[0] + " (through your TLS proxy to " + own + ")"
	}
	if a.listeners.metrics != nil {
		metrics = "http://" + a.listeners.metrics.Addr().String() + "/metrics"
	}
	relay := "TURN off"
	if a.turn != nil {
		relay = fmt.Sprintf("TURN on %s (udp, tcp)", a.turn.Addrs()[0])
		if secure := a.turn.TLSAddrs(); len(secure) > 0 {
			relay += fmt.Sprintf(" and %s (tls)", secure[0])
		}
	}
	operators := ""
	if s.adminSocket != "" {
		operators = "; admin at " + s.adminSocket
	}
	return fmt.Sprintf("peersignal %s: clients use %s; %s; metrics at %s%s", buildinfo.Version, url, relay, metrics, operators)
}

func (a *app) closeSockets() {
	if a.turn != nil {
		_ = a.turn.Close()
	}
	if a.audit != nil {
		_ = a.audit.Close()
	}
	for _, l := range a.listeners.all() {
		if l != nil {
			_ = l.Close()
		}
	}
}

// httpServer is an http.Server on its listener.
type httpServer struct {
	*http.Server
	listener net.Listener
}
