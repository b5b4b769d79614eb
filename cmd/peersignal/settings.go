package main

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/peersignal/peersignal/internal/ice"
	"github.com/peersignal/peersignal/internal/signaling"
	"github.com/peersignal/peersignal/internal/turn"
)

// settings are the configuration after flags, environment and file, checked as
// far as that is possible without the packages that use it.
type settings struct {
	listen, metricsListen string
	tls                   keyPair
	names                 []string
	origins, proxies      []string
	limits                signaling.Limits

	turn               bool
	turnTLS            keyPair
	turnHost           string
	turnDiscover       string // STUN server that tells the public address
	turnIntroducedOnly bool
	// relay lacks what the running server adds: certificate, introductions, metrics, logger.
	relay turn.Config

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
	s.turn, s.turnHost, s.turnDiscover = r.boolean("turn"), r.str("turn-host"), r.str("turn-public-ip-from")
	s.turnIntroducedOnly = r.boolean("turn-introduced-only")
	s.relay = turn.Config{
		Listen: r.listens("turn-listen"), TLSListen: r.listens("turn-tls-listen"), UDPSockets: r.integer("turn-udp-sockets", 0),
		RelayIP: r.addr("turn-relay-ip"), PublicIP: r.addr("turn-public-ip"),
		RelayIP6: r.addr("turn-relay-ip6"), PublicIP6: r.addr("turn-public-ip6"), RelayPorts: r.ports("turn-ports"),
		AllowPeers: r.list("turn-allow-peer"), DenyPeers: r.list("turn-deny-peer"),
		Secrets: r.relaySecrets(), TTL: r.duration("turn-ttl"),
		AllocationsPerSession: r.integer("turn-allocations-per-session", 1),
		AllocationsPerUser:    r.integer("turn-allocations-per-user", 1),
		AllocationsTotal:      r.integer("turn-allocations", 1),
		BytesPerSecond:        r.integer("turn-bytes-per-second", -1),
		BytesPerDay:           int64(r.integer("turn-bytes-per-day", -1)),
	}
	if s.turnTLS = r.keyPair("turn-tls-cert", "turn-tls-key"); !s.turnTLS.isSet() {
		s.turnTLS = s.tls
	}
	if s.turn && len(s.relay.TLSListen) > 0 && !s.turnTLS.isSet() {
		r.fail("turn-tls-listen", "it needs a certificate: set turn-tls-cert and turn-tls-key, or tls-cert and tls-key")
	}
	if s.turnDiscover != "" && s.relay.PublicIP.IsValid() {
		r.fail("turn-public-ip-from", "it is set, and so is turn-public-ip; choose one")
	}
}

// relaySecrets reads ID:KEY pairs; a KEY alone has the id 0.
func (r *reader) relaySecrets() []turn.Secret {
	const key = "turn-secrets"
	value := r.secret(key)
	if value.IsZero() {
		return nil
	}
	var all []turn.Secret
	for pair := range strings.SplitSeq(value.Reveal(), ",") {
		id, secret, ok := strings.Cut(strings.TrimSpace(pair), ":")
		if !ok {
			id, secret = "0", id
		}
		if len(secret) < turn.MinSecretBytes {
			r.fail(key, fmt.Sprintf("a KEY has less than %d bytes; write ID:KEY, or several of them separated by commas", turn.MinSecretBytes))
			return nil
		}
		all = append(all, turn.Secret{ID: id, Key: []byte(secret)})
	}
	return all
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
