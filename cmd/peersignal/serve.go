package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/peersignal/peersignal/internal/buildinfo"
	"github.com/peersignal/peersignal/internal/ice"
	"github.com/peersignal/peersignal/internal/signaling"
	"github.com/peersignal/peersignal/internal/turn"
)

// drainTimeout bounds the time from the signal to the exit.
const drainTimeout = 15 * time.Second

// app is the wired server. Its sockets are bound; nothing is served yet.
type app struct {
	log           *slog.Logger
	registry      *prometheus.Registry
	signaling     *signaling.Server
	introductions *signaling.Introductions // nil: the relay serves all
	chain         *ice.Chain
	iceRequired   bool
	turn          *turn.Server // nil when off
	listener      net.Listener
	secure        bool         // listener speaks TLS
	metrics       net.Listener // nil: /metrics is on listener
	ready         atomic.Bool
}

// serve runs until ctx ends, and drains.
func serve(ctx context.Context, s *settings, out, logs io.Writer) error {
	a, err := build(ctx, s, newLogger(s, logs))
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintln(out, a.banner(s))
	return a.run(ctx)
}

func newLogger(s *settings, w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: s.logLevel}
	if s.logJSON {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// build makes the parts and binds their sockets.
func build(ctx context.Context, s *settings, log *slog.Logger) (*app, error) {
	a := &app{log: log, registry: newRegistry()}
	if err := a.bind(ctx, s); err != nil {
		a.closeSockets()
		return nil, err
	}
	return a, nil
}

func (a *app) bind(ctx context.Context, s *settings) (err error) {
	var embedded *ice.Embedded
	if s.turn {
		if s.turnIntroducedOnly {
			if a.introductions, err = signaling.NewIntroductions(signaling.IntroductionsConfig{}); err != nil {
				return err
			}
		}
		if a.turn, err = a.newTURN(ctx, s); err != nil {
			return err
		}
		embedded = ice.NewEmbedded(minter{a.turn}, relayPorts(a.turn, s.turnHost))
	}
	if a.chain, err = newChain(s, embedded, a.log.With("part", "ice")); err != nil {
		return usageError{err}
	}
	if err := a.register("ICE", a.chain); err != nil {
		return err
	}
	cfg := s.signalingConfig()
	cfg.ICE, cfg.Introductions, cfg.OnSessionEnd = iceAdapter{a.chain}, a.introductions, a.sessionEnded
	cfg.Registerer, cfg.Logger = a.registry, a.log.With("part", "signaling")
	if a.signaling, err = signaling.New(cfg); err != nil {
		return usageError{err}
	}
	a.iceRequired = s.iceRequired
	return a.listen(s)
}

func (a *app) listen(s *settings) (err error) {
	if a.listener, err = net.Listen("tcp", s.listen); err != nil {
		return fmt.Errorf("listening for HTTP (choose another address with --listen): %w", err)
	}
	if s.tls.isSet() {
		c, err := a.newCertificate("http", s.tls)
		if err != nil {
			return err
		}
		a.listener = tls.NewListener(a.listener, httpTLS(c))
		a.secure = true
	}
	if s.metricsListen != "" {
		if a.metrics, err = net.Listen("tcp", s.metricsListen); err != nil {
			return fmt.Errorf("listening for metrics (choose another address with --metrics-listen): %w", err)
		}
	}
	return nil
}

// httpTLS offers HTTP/1.1 only: a WebSocket needs it, and there is little else.
func httpTLS(c *certificate) *tls.Config {
	cfg := c.config()
	cfg.NextProtos = []string{"http/1.1"}
	return cfg
}

// sessionEnded cuts the relays of a session that an operator ended. A session
// that only lost its WebSocket keeps them: data flows on while it reconnects.
func (a *app) sessionEnded(session, reason string) {
	if a.turn != nil && reason == signaling.EndKicked {
		a.turn.Revoke(session)
	}
}

// banner says where to go.
func (a *app) banner(s *settings) string {
	scheme := "http"
	if a.secure {
		scheme = "https"
	}
	local := fmt.Sprintf("%s://localhost:%d", scheme, a.listener.Addr().(*net.TCPAddr).Port)
	url, metrics := local, local+"/metrics"
	switch {
	case len(s.names) > 0 && a.secure:
		url = "https://" + s.names[0] + " (on " + a.listener.Addr().String() + ")"
	case len(s.names) > 0:
		url = "https://" + s.names[0] + " (through your TLS proxy to " + a.listener.Addr().String() + ")"
	}
	if a.metrics != nil {
		metrics = "http://" + a.metrics.Addr().String() + "/metrics"
	}
	relay := "TURN off"
	if a.turn != nil {
		relay = fmt.Sprintf("TURN on %s (udp, tcp)", a.turn.Addrs()[0])
		if secure := a.turn.TLSAddrs(); len(secure) > 0 {
			relay += fmt.Sprintf(" and %s (tls)", secure[0])
		}
	}
	return fmt.Sprintf("peersignal %s: clients use %s; %s; metrics at %s", buildinfo.Version, url, relay, metrics)
}

// run serves until ctx ends or a part fails, and ends all parts: first the
// sessions are told, then HTTP stops, then what sessions use: the relay and the
// sources of ICE servers.
func (a *app) run(ctx context.Context) error {
	failed := make(chan error, 5) // one for each part
	part := func(name string, f func() error) func() {
		return func() {
			if err := f(); err != nil {
				failed <- fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	sigCtx, endSignaling := context.WithCancel(context.WithoutCancel(ctx))
	defer endSignaling()
	usedCtx, endUsed := context.WithCancel(context.WithoutCancel(ctx))
	defer endUsed()
	servers := a.httpServers()
	var sig, rest sync.WaitGroup
	sig.Go(part("signaling", func() error { return a.signaling.Run(sigCtx) }))
	rest.Go(part("ice", func() error { return a.chain.Run(usedCtx) }))
	if a.turn != nil {
		rest.Go(part("turn", func() error { return a.turn.Run(usedCtx) }))
	}
	for _, h := range servers {
		rest.Go(part("http", h.serve))
	}
	a.ready.Store(true)
	var err error
	select {
	case <-ctx.Done():
		a.log.Info("draining")
	case err = <-failed:
	}
	a.ready.Store(false)

	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	endSignaling()
	ended := waited(&sig)
	for _, h := range servers {
		h.stop(drain)
	}
	late := !within(drain, ended)
	endUsed()
	if late = !within(drain, waited(&rest)) || late; late && err == nil {
		err = fmt.Errorf("draining: not finished within %v", drainTimeout)
	}
	return err
}

func waited(wg *sync.WaitGroup) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		wg.Wait()
	}()
	return done
}

func within(ctx context.Context, done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

func (a *app) closeSockets() {
	if a.turn != nil {
		_ = a.turn.Close()
	}
	for _, l := range []net.Listener{a.listener, a.metrics} {
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

func (h httpServer) serve() error {
	if err := h.Serve(h.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// stop lets requests finish until ctx ends.
func (h httpServer) stop(ctx context.Context) {
	if err := h.Shutdown(ctx); err != nil {
		_ = h.Close()
	}
}
