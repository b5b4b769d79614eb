package turn

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Defaults and bounds of Config.
const (
	DefaultListen                   = ":3478"
	DefaultRealm                    = "peersignal"
	DefaultTTL                      = time.Hour
	DefaultAllocationsPerSession    = 4
	DefaultAllocationsPerUser       = 16
	DefaultAllocationsTotal         = 4096
	DefaultBytesPerSecond           = 1_000_000 // 8 Mbit/s
	DefaultBytesPerDay              = 2 << 30   // 2 GiB
	DefaultMaxTCPConns              = 4096
	DefaultUnauthenticatedPerSecond = 100

	// MinTTL and MaxTTL bound Config.TTL.
	MinTTL = time.Minute
	MaxTTL = 24 * time.Hour

	// MinSecretBytes is the shortest key that Config.Secrets may hold.
	MinSecretBytes = 16

	maxSecrets = 8
	maxRealm   = 127

	maxUDPSockets = 64
)

// Secret is a key from which credentials are derived. The ID is public: it
// travels in every username, and says which key made a credential.
type Secret struct {
	ID  string // 1 to 16 characters of A-Z a-z 0-9 _ -
	Key []byte // at least MinSecretBytes
}

// LogValue keeps the key out of logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue("turn secret " + s.ID) }

// String keeps the key out of formatted output.
func (s Secret) String() string { return "turn secret " + s.ID }

// GoString keeps the key out of %#v.
func (s Secret) GoString() string {
	return s.String()
}

// Config configures a Server. The zero value works: it listens on port 3478,
// relays from an address of this host, and signs with a secret made at start.
type Config struct {
	// Listen holds the "host:port" addresses on which UDP and TCP are served;
	// default ":3478". On a host with several addresses list each address:
	// an answer from a wildcard UDP socket may leave from another address than
	// the one that was asked.
	Listen []string

	// TLSListen holds the "host:port" addresses on which TURN over TLS (turns:)
	// is served, usually port 5349; default none. A port that is shared with a
	// web server hands its connections to Server.ServeConn instead.
	TLSListen []string

	// TLSConfig has the certificate of TLSListen, which needs it. The server
	// works on a copy that takes TLS 1.2 or later and, where NextProtos is
	// empty, the protocol names of RFC 7443.
	TLSConfig *tls.Config

	// UDPSockets is how many sockets share each Listen address, each read by a
	// goroutine of its own that forwards for the clients that the kernel gives
	// to it; default one for each processor that Go uses, at most 64. Only
	// Linux has more than one.
	UDPSockets int

	// RelayIP is the address of this host that relay sockets are bound to. The
	// zero value derives it: the first listen address when that is specific,
	// else the address this host uses for outbound traffic, else 127.0.0.1.
	RelayIP netip.Addr

	// PublicIP is what clients are told instead of RelayIP when a one-to-one
	// NAT stands before this host. Zero: RelayIP itself.
	PublicIP netip.Addr

	// RelayIP6 and PublicIP6 are the same for IPv6, beside an IPv4 RelayIP: a
	// client that asks for IPv6 (RFC 8656) gets a relay there. Nothing is
	// derived: without RelayIP6 there is one family only.
	RelayIP6, PublicIP6 netip.Addr

	// RelayPorts is the inclusive range of relay ports, at least 1024; default
	// 49152 to 65535.
	RelayPorts [2]uint16

	// Realm is the STUN realm; default "peersignal".
	Realm string

	// Secrets are the keys of credentials, newest first: the first one signs,
	// all are accepted. Empty: one random key, with which credentials do not
	// outlive the process.
	Secrets []Secret

	// TTL is how long a credential can open allocations; default one hour,
	// from one minute to 24 hours.
	TTL time.Duration

	// AllowPeers and DenyPeers are networks in CIDR form. AllowPeers opens what
	// the built-in list denies; DenyPeers wins over both. See Policy.
	AllowPeers, DenyPeers []string

	// Introductions confines relaying to peers that signaling introduced: the
	// sessions behind other relays of this server, and the addresses that
	// signaling connections come from. Nil: any peer that the policy allows.
	Introductions Introductions

	// Barred says that requests from an address are refused whatever their
	// credentials are; see RevokeNetwork. It is called with each request, from
	// several goroutines. Nil: none is.
	Barred func(client netip.Addr) bool

	// AllocationsPerSession, AllocationsPerUser and AllocationsTotal bound the
	// allocations alive at once; defaults 4, 16 and 4096.
	AllocationsPerSession int
	AllocationsPerUser    int
	AllocationsTotal      int

	// BytesPerSecond bounds what one session relays, both directions together,
	// with a burst of one second; what exceeds it is dropped. Default
	// 1,000,000; negative: no bound.
	BytesPerSecond int

	// BytesPerDay bounds what one user relays in one UTC day, both directions
	// together; at the bound the user's allocations end and new ones are
	// refused. Default 2 GiB; negative: no bound.
	BytesPerDay int64

	// MaxTCPConns bounds the TCP connections of clients; default 4096. One
	// eighth of it, at least 4, is the bound for one source network (/24, /48).
	MaxTCPConns int

	// UnauthenticatedPerSecond bounds, for one source network (/24, /48), the
	// requests that carry no valid credential, with a burst of four seconds.
	// Default 100; negative: no bound.
	UnauthenticatedPerSecond int

	// Registerer receives the metrics; nil: none are exported.
	Registerer prometheus.Registerer

	// Logger is nil for no logs. Addresses of clients and peers are not logged.
	Logger *slog.Logger

	// Now is the clock; nil: time.Now. It decides about expiry and quotas, not
	// about pion's own timers.
	Now func() time.Time

	portable bool // as on other systems than Linux, for tests
}

var secretID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,16}$`)

// withDefaults returns a copy of c with zero values replaced and every field
// but the networks validated.
func (c Config) withDefaults() (Config, error) {
	if len(c.Listen) == 0 {
		c.Listen = []string{DefaultListen}
	}
	setDefault(&c.Realm, DefaultRealm)
	setDefault(&c.TTL, DefaultTTL)
	setDefault(&c.AllocationsPerSession, DefaultAllocationsPerSession)
	setDefault(&c.AllocationsPerUser, DefaultAllocationsPerUser)
	setDefault(&c.AllocationsTotal, DefaultAllocationsTotal)
	setDefault(&c.BytesPerSecond, DefaultBytesPerSecond)
	setDefault(&c.BytesPerDay, DefaultBytesPerDay)
	setDefault(&c.MaxTCPConns, DefaultMaxTCPConns)
	setDefault(&c.UnauthenticatedPerSecond, DefaultUnauthenticatedPerSecond)
	setDefault(&c.RelayPorts, [2]uint16{49152, 65535})
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if len(c.Secrets) == 0 {
		key := make([]byte, 32)
		_, _ = rand.Read(key) // never fails, see crypto/rand
		c.Secrets = []Secret{{ID: "start", Key: key}}
	}
	if err := c.validate(); err != nil {
		return Config{}, fmt.Errorf("configuring turn: %w", err)
	}
	return c, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c *Config) validate() error {
	if len(c.Realm) > maxRealm {
		return fmt.Errorf("realm: %d bytes, the most is %d", len(c.Realm), maxRealm)
	}
	if c.TTL < MinTTL || c.TTL > MaxTTL {
		return fmt.Errorf("ttl %v: must be from %v to %v", c.TTL, MinTTL, MaxTTL)
	}
	if c.RelayPorts[0] < 1024 || c.RelayPorts[0] > c.RelayPorts[1] {
		return fmt.Errorf("relay ports %d-%d: must be an ascending range from 1024 to 65535",
			c.RelayPorts[0], c.RelayPorts[1])
	}
	for _, limit := range []struct {
		name  string
		value int
	}{
		{"allocations per session", c.AllocationsPerSession},
		{"allocations per user", c.AllocationsPerUser},
		{"allocations in total", c.AllocationsTotal},
		{"TCP connections", c.MaxTCPConns},
		{"UDP sockets", c.UDPSockets},
	} {
		if limit.value < 0 {
			return fmt.Errorf("%s: %d is negative", limit.name, limit.value)
		}
	}
	if c.UDPSockets > maxUDPSockets {
		return fmt.Errorf("UDP sockets: %d, the most is %d", c.UDPSockets, maxUDPSockets)
	}
	for _, a := range append(c.Listen[:len(c.Listen):len(c.Listen)], c.TLSListen...) {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return fmt.Errorf("listen address %q: %w", a, err)
		}
	}
	return errors.Join(c.validateAddresses(), c.validateTLS(), validateSecrets(c.Secrets))
}

func (c *Config) validateTLS() error {
	if len(c.TLSListen) == 0 {
		return nil
	}
	if t := c.TLSConfig; t == nil || len(t.Certificates) == 0 && t.GetCertificate == nil && t.GetConfigForClient == nil {
		return fmt.Errorf("TLS listen address %q: needs a certificate", c.TLSListen[0])
	}
	return nil
}

func (c *Config) validateAddresses() error {
	for _, a := range []struct {
		name string
		ip   netip.Addr
	}{{"relay IP", c.RelayIP}, {"public IP", c.PublicIP}, {"relay IP6", c.RelayIP6}, {"public IP6", c.PublicIP6}} {
		ip := a.ip.Unmap()
		if ip.IsValid() && (ip.IsUnspecified() || ip.IsMulticast() || ip.Zone() != "") {
			return fmt.Errorf("%s %s: must be one address of one host, without a zone", a.name, ip)
		}
	}
	if c.RelayIP.IsValid() && c.PublicIP.IsValid() && c.RelayIP.Unmap().Is4() != c.PublicIP.Unmap().Is4() {
		return fmt.Errorf("public IP %s and relay IP %s: must both be IPv4 or both IPv6", c.PublicIP, c.RelayIP)
	}
	if c.RelayIP6.Unmap().Is4() || c.PublicIP6.Unmap().Is4() {
		return fmt.Errorf("relay IP6 %s and public IP6 %s: must be IPv6; IPv4 belongs in the others", c.RelayIP6, c.PublicIP6)
	}
	return nil
}

func validateSecrets(secrets []Secret) error {
	if len(secrets) > maxSecrets {
		return fmt.Errorf("secrets: %d given, the most is %d", len(secrets), maxSecrets)
	}
	seen := make(map[string]bool, len(secrets))
	for i, s := range secrets {
		switch {
		case !secretID.MatchString(s.ID):
			return fmt.Errorf("secret %d: its id must be 1 to 16 of A-Z a-z 0-9 _ -", i+1)
		case seen[s.ID]:
			return fmt.Errorf("secret %d: id %q is given twice", i+1, s.ID)
		case len(s.Key) < MinSecretBytes:
			return fmt.Errorf("secret %q: the key has %d bytes, the least is %d", s.ID, len(s.Key), MinSecretBytes)
		}
		seen[s.ID] = true
	}
	return nil
}
