package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/peersignal/peersignal/internal/buildinfo"
	"github.com/peersignal/peersignal/internal/ice"
	"github.com/peersignal/peersignal/internal/signaling"
	"github.com/peersignal/peersignal/internal/turn"
)

// drainTimeout bounds the time from the signal to the exit.
const drainTimeout = 15 * time.Second

// app is the wired server. Its sockets are bound; nothing is served yet.
type app struct {
	log       *slog.Logger
	registry  *prometheus.Registry
	signaling *signaling.Server
	turn      *turn.Server // nil when off
	listener  net.Listener
	metrics   net.Listener // nil: /metrics is on listener
	ready     atomic.Bool
}

// serve runs until ctx ends, and drains.
func serve(ctx context.Context, s *settings, out, logs io.Writer) error {
	a, err := build(s, newLogger(s, logs))
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
func build(s *settings, log *slog.Logger) (*app, error) {
	a := &app{log: log, registry: newRegistry()}
	if err := a.bind(s); err != nil {
		a.closeSockets()
		return nil, err
	}
	return a, nil
}

func (a *app) bind(s *settings) (err error) {
	if s.turn {
		if a.turn, err = newTURN(s, a.log, a.registry); err != nil {
			return err
		}
	}
	source, err := a.newICE(s)
	if err != nil {
		return usageError{err}
	}
	a.signaling, err = signaling.New(signaling.Config{
		Names: s.names, AllowedOrigins: s.origins, TrustedProxies: s.proxies, Limits: s.limits,
		ICE: iceAdapter{source}, Registerer: a.registry, Logger: a.log.With("part", "signaling"), OnSessionEnd: a.sessionEnded,
	})
	if err != nil {
		return usageError{err}
	}
	if a.listener, err = net.Listen("tcp", s.listen); err != nil {
		return fmt.Errorf("listening for HTTP (choose another address with --listen): %w", err)
	}
	if s.metricsListen != "" {
		if a.metrics, err = net.Listen("tcp", s.metricsListen); err != nil {
			return fmt.Errorf("listening for metrics (choose another address with --metrics-listen): %w", err)
		}
	}
	return nil
}

func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "peersignal_build_info", Help: "Always 1; the labels say what was built.",
		ConstLabels: prometheus.Labels{"version": buildinfo.Version, "goversion": buildinfo.Go()},
	})
	info.Set(1)
	r.MustRegister(info, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

func newTURN(s *settings, log *slog.Logger, r prometheus.Registerer) (*turn.Server, error) {
	t, err := turn.New(turn.Config{
		Listen: s.turnListen, RelayIP: s.turnRelayIP, PublicIP: s.turnPublicIP, RelayPorts: s.turnPorts,
		AllowPeers: s.turnAllowPeers, Registerer: r, Logger: log.With("part", "turn"),
	})
	if err == nil {
		return t, nil
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return nil, fmt.Errorf("%w (choose another address with --turn-listen, or --turn=false)", err)
	}
	return nil, usageError{err}
}

// newICE joins the embedded relay and the operator's list.
func (a *app) newICE(s *settings) (ice.Source, error) {
	var sources []ice.Source
	if a.turn != nil {
		port := a.turn.Addrs()[0].Port()
		sources = append(sources, ice.NewEmbedded(minter{a.turn}, ice.EmbeddedPorts{UDP: port, TCP: port, Host: s.turnHost}))
	}
	if len(s.iceServers) > 0 {
		static, err := ice.NewStatic(s.iceServers)
		if err != nil {
			return nil, err
		}
		sources = append(sources, static)
	}
	chain := ice.NewChainWith(ice.ChainConfig{Logger: a.log.With("part", "ice")}, sources...)
	if err := a.registry.Register(chain); err != nil {
		return nil, fmt.Errorf("registering ICE metrics: %w", err)
	}
	return chain, nil
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
	port := a.listener.Addr().(*net.TCPAddr).Port
	url := "http://localhost:" + strconv.Itoa(port)
	relay := "TURN off"
	if a.turn != nil {
		relay = fmt.Sprintf("TURN on %s (udp, tcp)", a.turn.Addrs()[0])
	}
	metrics := url + "/metrics"
	if a.metrics != nil {
		metrics = "http://" + a.metrics.Addr().String() + "/metrics"
	}
	if len(s.names) > 0 {
		url = "https://" + s.names[0] + " (through your TLS proxy to " + a.listener.Addr().String() + ")"
	}
	return fmt.Sprintf("peersignal %s: clients use %s; %s; metrics at %s", buildinfo.Version, url, relay, metrics)
}

// run serves until ctx ends or a part fails, and ends all parts: first the
// sessions are told, then HTTP stops, then the relay.
func (a *app) run(ctx context.Context) error {
	failed := make(chan error, 4) // one for each part
	part := func(name string, f func() error) func() {
		return func() {
			if err := f(); err != nil {
				failed <- fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	sigCtx, endSignaling := context.WithCancel(context.WithoutCancel(ctx))
	defer endSignaling()
	turnCtx, endTURN := context.WithCancel(context.WithoutCancel(ctx))
	defer endTURN()
	servers := a.httpServers()
	var sig, rest sync.WaitGroup
	sig.Go(part("signaling", func() error { return a.signaling.Run(sigCtx) }))
	if a.turn != nil {
		rest.Go(part("turn", func() error { return a.turn.Run(turnCtx) }))
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
	endTURN()
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
	if a.listener != nil {
		_ = a.listener.Close()
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
