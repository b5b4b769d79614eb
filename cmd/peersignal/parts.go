package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/peersignal/peersignal/internal/buildinfo"
	"github.com/peersignal/peersignal/internal/ice"
	"github.com/peersignal/peersignal/internal/signaling"
	"github.com/peersignal/peersignal/internal/turn"
)

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

func (a *app) register(what string, all ...prometheus.Collector) error {
	for _, c := range all {
		if err := a.registry.Register(c); err != nil {
			return fmt.Errorf("registering metrics of %s: %w", what, err)
		}
	}
	return nil
}

// newCertificate reads a certificate and exports its expiry.
func (a *app) newCertificate(listener string, files keyPair) (*certificate, error) {
	c, err := newCertificate(listener, files, a.log.With("part", "tls"))
	if err != nil {
		return nil, usageError{err}
	}
	a.certificates = append(a.certificates, c)
	return c, a.register("TLS", c.collectors()...)
}

// newTURN binds the relay's listeners.
func (a *app) newTURN(ctx context.Context, s *settings) (*turn.Server, error) {
	cfg := s.relay
	cfg.Registerer, cfg.Logger = a.registry, a.log.With("part", "turn")
	if s.turnDiscover != "" {
		seen, err := turn.Discover(ctx, s.turnDiscover, cfg.RelayIP)
		if err != nil {
			return nil, fmt.Errorf("%w (set --turn-public-ip instead, or choose another server with --turn-public-ip-from)", err)
		}
		cfg.PublicIP = seen
	}
	cfg.Barred = func(client netip.Addr) bool { return a.signaling.BlocksAddr(client) }
	if a.introductions != nil {
		cfg.Introductions = a.introductions
	}
	switch {
	case len(cfg.TLSListen) == 0:
	case s.turnTLS.isSet():
		c, err := a.newCertificate("turn", s.turnTLS)
		if err != nil {
			return nil, err
		}
		cfg.TLSConfig = c.config()
	default:
		cfg.TLSConfig = a.acme.config()
	}
	t, err := turn.New(cfg)
	if err == nil {
		return t, nil
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return nil, fmt.Errorf("%w (choose another address with --turn-listen, --turn-tls-listen or --turn-relay-ip, or go without a relay: --turn=false)", err)
	}
	return nil, usageError{err}
}

// relayPorts are those that the relay listens on.
func relayPorts(t *turn.Server, host string) ice.EmbeddedPorts {
	port := t.Addrs()[0].Port()
	p := ice.EmbeddedPorts{UDP: port, TCP: port, Host: host}
	if tls := t.TLSAddrs(); len(tls) > 0 {
		p.TLS = tls[0].Port()
	}
	return p
}

// newChain makes the sources of ICE servers; embedded is nil without a relay.
func newChain(s *settings, embedded *ice.Embedded, log *slog.Logger) (*ice.Chain, error) {
	cfg := s.ice
	cfg.Embedded, cfg.Logger = embedded, log
	chain, err := ice.Build(cfg)
	if err != nil {
		return nil, fmt.Errorf("%w (peersignal config doc explains the settings)", err)
	}
	if s.iceRequired && len(chain.Health()) == 0 {
		return nil, errors.New("setting ice-required: no source of ICE servers is configured, so that the server could never be ready")
	}
	return chain, nil
}

func (s *settings) signalingConfig() signaling.Config {
	return signaling.Config{Names: s.names, AllowedOrigins: s.origins, TrustedProxies: s.proxies, Limits: s.limits}
}
