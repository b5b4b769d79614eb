package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/peersignal/peersignal/internal/admin"
	"github.com/peersignal/peersignal/internal/audit"
	"github.com/peersignal/peersignal/internal/ice"
	notifier "github.com/peersignal/peersignal/internal/notify"
	"github.com/peersignal/peersignal/internal/signaling"
	"github.com/peersignal/peersignal/internal/turn"
	"github.com/peersignal/peersignal/pkg/wire"
)

// settings are the configuration after flags, environment and file, checked as
// far as that is possible without the packages that use it.
type settings struct {
	listen           string
	tls              keyPair
	acme             acmeSettings
	names            []string
	origins, proxies []string
	limits           signaling.Limits

	drainWindow, drainTimeout time.Duration

	metricsListen string
	adminSocket   string // "": none
	adminListen   string
	adminToken    ice.Secret
	blockFile     string
	audit         audit.Config // lacks metrics and logger; without a path there is no log

	turn               bool
	turnTLS            keyPair
	turnHost           string
	turnDiscover       string // STUN server that tells the public address
	turnIntroducedOnly bool
	// relay lacks what the running server adds: certificate, introductions, metrics, logger.
	relay turn.Config

	// push lacks metrics and logger; without a key there is no Web Push.
	push notifier.Config

	// ice lacks what the running server adds: the embedded relay and the logger.
	ice         ice.Config
	iceRequired bool

	logJSON  bool
	logLevel slog.Level
}

// acmeSettings say how to get a certificate; without hosts there is none to
// get.
type acmeSettings struct {
	hosts                       []string
	cache, email, directory, ca string
	httpListen                  string
}

func (a acmeSettings) isSet() bool { return len(a.hosts) > 0 }

// names are what clients dial, when nothing else is said: a certificate for a
// name is there to be dialled by it.
func (a acmeSettings) names(listen string) []string {
	var names []string
	for _, host := range a.hosts {
		if _, port, err := net.SplitHostPort(listen); err == nil && port != "443" && port != "0" {
			host = net.JoinHostPort(host, port)
		}
		names = append(names, host)
	}
	return names
}

// secure reports whether clients speak TLS to the server itself.
func (s *settings) secure() bool { return s.tls.isSet() || s.acme.isSet() }

// keyPair is the files of a certificate and its key; both are empty, or none.
type keyPair struct{ cert, key string }

func (p keyPair) isSet() bool { return p.cert != "" }

// settings reads all settings.
func (v *values) settings() (*settings, error) {
	r := &reader{v: v.viper, files: v.files}
	s := &settings{
		listen: r.str("listen"), tls: r.keyPair("tls-cert", "tls-key"), acme: r.acme(),
		names: r.list("name"), origins: r.list("allow-origin"), proxies: r.list("trusted-proxy"), limits: r.limits(),
		drainWindow: r.duration("drain-window"), drainTimeout: r.duration("drain-timeout"),
	}
	r.checkListen("listen", s.listen)
	if s.acme.isSet() && s.tls.isSet() {
		r.fail("acme-host", "it is set, and so is tls-cert; choose one")
	}
	if len(s.names) == 0 {
		s.names = s.acme.names(s.listen)
	}
	if s.drainTimeout <= s.drainWindow {
		r.fail("drain-timeout", "it has to be longer than drain-window")
	}
	r.operators(s)
	r.push(s)
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

func (r *reader) acme() acmeSettings {
	a := acmeSettings{
		hosts: r.list("acme-host"), cache: r.str("acme-cache"), email: r.str("acme-email"), directory: r.str("acme-directory"),
		ca: r.str("acme-ca"), httpListen: r.str("acme-http-listen"),
	}
	if a.httpListen != "" {
		r.checkListen("acme-http-listen", a.httpListen)
	}
	if a.isSet() && a.cache == "" {
		r.fail("acme-host", "it needs acme-cache, a folder that is kept: authorities limit how often they answer")
	}
	for _, host := range a.hosts {
		// An authority gives wildcards only over DNS, and addresses by a profile: neither is asked for here.
		if _, err := netip.ParseAddr(host); err == nil || strings.ContainsAny(host, "*:/ ") {
			r.fail("acme-host", "it is not a host name like signal.example.org")
		}
	}
	if u, err := url.Parse(a.directory); a.isSet() && (err != nil || u.Scheme != "https" || u.Host == "") {
		r.fail("acme-directory", "it is not an https: URL")
	}
	return a
}

func (r *reader) limits() signaling.Limits {
	l := signaling.Limits{
		Sessions: r.integer("max-sessions", 0), SessionsPerAddress: r.integer("max-sessions-per-address", -1),
		DevicesPerUser: r.integer("max-devices-per-user", 0),
		Pending:        r.integer("max-pending", 0), PendingPerAddress: r.integer("max-pending-per-address", -1),
		Topics: r.integer("max-topics", 0), TopicsTotal: r.integer("max-topics-total", 0),
		TopicMembers:   r.integer("max-topic-members", 0),
		MessagesPer10s: r.integer("messages-per-10s", 0), OffersPerMinute: r.integer("offers-per-minute", 0),
		ConcurrentOffers: r.integer("offers-at-once", 0), SendQueueBytes: r.integer("send-queue-bytes", 0),
		AuthTimeout: r.duration("auth-timeout"), PingInterval: r.duration("ping-interval"),
		PingTimeout: r.duration("ping-timeout"), WriteTimeout: r.duration("write-timeout"),
		MemoryBytes:  int64(r.integer("memory-bytes", 0)),
		ResumeWindow: r.duration("resume-window"), Parked: r.integer("max-parked", 0), ResumeBytes: r.integer("resume-bytes", 0),
		RememberTime: r.duration("remember-time"), RememberedTopics: r.integer("max-remembered-topics", 0),
		NotifyTime: r.duration("notify-time"), NotifyBytes: r.integer("notify-bytes", 0),
		NotifiesPerMinute: r.integer("notifies-per-minute", 0),
	}
	r.checkLimits(l)
	if !r.boolean("resume") {
		l.ResumeWindow, l.RememberTime = -1, -1
	}
	return l
}

// checkLimits finds what the signaling server would refuse, by the names that
// the settings have here.
func (r *reader) checkLimits(l signaling.Limits) {
	if l.PingTimeout > 0 && l.PingTimeout <= l.PingInterval {
		r.fail("ping-timeout", "it has to be longer than ping-interval")
	}
	if l.Topics > wire.MaxTopics {
		r.fail("max-topics", fmt.Sprintf("it is more than %d", wire.MaxTopics))
	}
	if l.SendQueueBytes > 0 && l.SendQueueBytes < 2*wire.MaxFrame {
		r.fail("send-queue-bytes", fmt.Sprintf("it is less than two frames, %d", 2*wire.MaxFrame))
	}
	if least := int64(1 << 20); l.MemoryBytes > 0 && l.MemoryBytes < least {
		r.fail("memory-bytes", fmt.Sprintf("it is less than %d", least))
	}
}

func (r *reader) push(s *settings) {
	s.push = notifier.Config{
		Key: r.secret("push-key").Reveal(), Contact: r.str("push-contact"), AllowHosts: r.list("push-host"),
		Queue: r.integer("push-queue", 0),
	}
}

func (r *reader) operators(s *settings) {
	s.metricsListen, s.adminListen = r.str("metrics-listen"), r.str("admin-listen")
	s.adminSocket, s.blockFile = r.socket(), r.str("block-file")
	s.adminToken = r.secret("admin-token")
	for key, listen := range map[string]string{"metrics-listen": s.metricsListen, "admin-listen": s.adminListen} {
		if listen != "" {
			r.checkListen(key, listen)
		}
	}
	switch n := len(s.adminToken.Reveal()); {
	case n > 0 && n < admin.MinTokenBytes:
		r.fail("admin-token", fmt.Sprintf("it has less than %d bytes", admin.MinTokenBytes))
	case n == 0 && s.adminListen != "":
		r.fail("admin-listen", "it needs a token: set admin-token-file, or use admin-socket")
	}
	s.audit = audit.Config{
		Path: r.str("audit-file"), MaxBytes: int64(r.integer("audit-max-bytes", 0)), Keep: r.integer("audit-keep", -1),
	}
	if s.audit.MaxBytes != 0 && s.audit.MaxBytes < audit.MinMaxBytes {
		r.fail("audit-max-bytes", fmt.Sprintf("it is less than %d", audit.MinMaxBytes))
	}
}

// socket is the path of the admin socket, or "".
func (r *reader) socket() string {
	switch path := r.str("admin-socket"); {
	case path == "off":
		return ""
	case path != "":
		return path
	}
	// systemd gives a list of folders.
	if dir, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":"); dir != "" {
		return filepath.Join(dir, adminSocketName)
	}
	return ""
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

		MaxTCPConns: r.integer("turn-tcp-connections", 1), UnauthenticatedPerSecond: r.integer("turn-unauthenticated-per-second", -1),
	}
	if ttl := s.relay.TTL; ttl > 0 && (ttl < turn.MinTTL || ttl > turn.MaxTTL) {
		r.fail("turn-ttl", fmt.Sprintf("it is not from %s to %s", shortDuration(turn.MinTTL), shortDuration(turn.MaxTTL)))
	}
	if s.turnTLS = r.keyPair("turn-tls-cert", "turn-tls-key"); !s.turnTLS.isSet() {
		s.turnTLS = s.tls
	}
	if s.turn && len(s.relay.TLSListen) > 0 && !s.turnTLS.isSet() && !s.acme.isSet() {
		r.fail("turn-tls-listen", "it needs a certificate: set turn-tls-cert and turn-tls-key, tls-cert and tls-key, or acme-host")
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
