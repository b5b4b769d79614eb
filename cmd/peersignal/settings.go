package main

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"

	"github.com/peersignal/peersignal/internal/ice"
	"github.com/peersignal/peersignal/internal/signaling"
)

// settings are the configuration after flags, environment and file, checked as
// far as that is possible without the packages that use it.
type settings struct {
	listen, metricsListen string
	tls                   keyPair
	names                 []string
	origins, proxies      []string
	limits                signaling.Limits

	turn                        bool
	turnListen, turnTLSListen   []string
	turnTLS                     keyPair
	turnHost                    string
	turnRelayIP, turnPublicIP   netip.Addr
	turnRelayIP6, turnPublicIP6 netip.Addr
	turnPorts                   [2]uint16
	turnAllowPeers              []string
	turnDenyPeers               []string
	turnIntroducedOnly          bool

	// ice lacks what the running server adds: the embedded relay and the logger.
	ice         ice.Config
	iceRequired bool

	logJSON  bool
	logLevel slog.Level
}

// keyPair is the files of a certificate and its key; both are empty, or none.
type keyPair struct{ cert, key string }

func (p keyPair) isSet() bool { return p.cert != "" }

// settings reads all settings.
func (v *values) settings() (*settings, error) {
	r := &reader{v: v.viper}
	s := &settings{
		listen: r.str("listen"), metricsListen: r.str("metrics-listen"), tls: r.keyPair("tls-cert", "tls-key"),
		names: r.list("name"), origins: r.list("allow-origin"), proxies: r.list("trusted-proxy"),
		limits: signaling.Limits{
			Sessions: r.integer("max-sessions", 0), SessionsPerAddress: r.integer("max-sessions-per-address", -1),
			DevicesPerUser: r.integer("max-devices-per-user", 0), MessagesPer10s: r.integer("messages-per-10s", 0),
			OffersPerMinute: r.integer("offers-per-minute", 0),
		},
	}
	r.checkListen("listen", s.listen)
	if s.metricsListen != "" {
		r.checkListen("metrics-listen", s.metricsListen)
	}
	r.relay(s)
	r.logs(s)
	s.iceRequired = r.boolean("ice-required")
	s.ice = ice.Config{
		Order: r.list("ice-order"), Static: r.servers(), REST: r.rest(), Endpoint: r.endpoint(), Twilio: r.twilio(),
		Cloudflare: r.cloudflare(),
	}
	if err := errors.Join(r.errs...); err != nil {
		return nil, err
	}
	return s, nil
}

func (r *reader) relay(s *settings) {
	s.turn, s.turnHost = r.boolean("turn"), r.str("turn-host")
	s.turnListen, s.turnTLSListen = r.listens("turn-listen"), r.listens("turn-tls-listen")
	s.turnRelayIP, s.turnPublicIP = r.addr("turn-relay-ip"), r.addr("turn-public-ip")
	s.turnRelayIP6, s.turnPublicIP6 = r.addr("turn-relay-ip6"), r.addr("turn-public-ip6")
	s.turnPorts = r.ports("turn-ports")
	s.turnAllowPeers, s.turnDenyPeers = r.list("turn-allow-peer"), r.list("turn-deny-peer")
	s.turnIntroducedOnly = r.boolean("turn-introduced-only")
	if s.turnTLS = r.keyPair("turn-tls-cert", "turn-tls-key"); !s.turnTLS.isSet() {
		s.turnTLS = s.tls
	}
	if s.turn && len(s.turnTLSListen) > 0 && !s.turnTLS.isSet() {
		r.fail("turn-tls-listen", "it needs a certificate: set turn-tls-cert and turn-tls-key, or tls-cert and tls-key")
	}
}

func (r *reader) logs(s *settings) {
	switch r.str("log-format") {
	case "text":
	case "json":
		s.logJSON = true
	default:
		r.fail("log-format", "it is neither text nor json")
	}
	if err := s.logLevel.UnmarshalText([]byte(r.str("log-level"))); err != nil {
		r.fail("log-level", "it is none of debug, info, warn and error")
	}
}

// A source is there when one of the settings that it cannot do without is.

func (r *reader) twilio() *ice.TwilioConfig {
	c := &ice.TwilioConfig{
		AccountSID: r.str("twilio-account-sid"), AuthToken: r.secret("twilio-auth-token"),
		APIKeySID: r.str("twilio-api-key-sid"), APIKeySecret: r.secret("twilio-api-key-secret"),
		TTL: r.duration("twilio-ttl"), BaseURL: r.str("twilio-base-url"),
	}
	if c.AccountSID == "" && c.APIKeySID == "" && unset(c.AuthToken, c.APIKeySecret) {
		return nil
	}
	return c
}

func (r *reader) cloudflare() *ice.CloudflareConfig {
	c := &ice.CloudflareConfig{
		KeyID: r.str("cloudflare-key-id"), APIToken: r.secret("cloudflare-api-token"), TTL: r.duration("cloudflare-ttl"),
	}
	if c.KeyID == "" && unset(c.APIToken) {
		return nil
	}
	return c
}

func (r *reader) rest() *ice.RESTConfig {
	c := &ice.RESTConfig{
		URLs: r.list("turn-rest-urls"), Secret: r.secret("turn-rest-secret"), TTL: r.duration("turn-rest-ttl"),
	}
	if len(c.URLs) == 0 && unset(c.Secret) {
		return nil
	}
	return c
}

func (r *reader) endpoint() *ice.EndpointConfig {
	c := &ice.EndpointConfig{URL: r.str("turn-endpoint-url"), Key: r.secret("turn-endpoint-key")}
	if c.URL == "" && unset(c.Key) {
		return nil
	}
	return c
}

func unset(secrets ...ice.Secret) bool {
	return !slices.ContainsFunc(secrets, func(s ice.Secret) bool { return !s.IsZero() })
}
