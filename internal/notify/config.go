package notify

import (
	"crypto/ecdh"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	webpush "github.com/SherClockHolmes/webpush-go"
	"github.com/prometheus/client_golang/prometheus"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// Config says how to push. Zero fields mean their default.
type Config struct {
	// Key is the VAPID private key (RFC 8292): 32 bytes of P-256, base64url without padding. Tokens are sealed under a key
	// derived from it: with another key all tokens are void, and browsers have to subscribe again.
	Key string
	// Contact is told to push services so that they can reach the operator: a mailto: or https: URL.
	Contact string
	// AllowHosts are the hosts of endpoints: a name, or "*." and a name for all below it. Default: DefaultHosts.
	AllowHosts []string
	// TokenLife is how long a token is valid; default 30 days.
	TokenLife time.Duration
	// Queue is how many pushes may wait; default 1,024. Workers is how many are made at once; default 8.
	Queue, Workers int
	// PerMinute is how many messages a device may be pushed in a minute; default 10.
	PerMinute int
	// Client makes the requests. Default: one that connects to public addresses only. Tests replace it.
	Client *http.Client
	// Registerer gets the metrics; default: none.
	Registerer prometheus.Registerer
	// Logger gets failures of push services, without endpoints; default: none.
	Logger *slog.Logger
	// Now tells the time; default time.Now.
	Now func() time.Time
}

// DefaultHosts are the push services of Chrome, Firefox, Safari and Edge.
func DefaultHosts() []string {
	return []string{"fcm.googleapis.com", "updates.push.services.mozilla.com", "*.push.apple.com", "*.notify.windows.com"}
}

// NewKey makes a VAPID private key for Config.Key.
func NewKey() (string, error) {
	private, _, err := webpush.GenerateVAPIDKeys()
	if err != nil {
		return "", fmt.Errorf("making a VAPID key: %w", err)
	}
	return private, nil
}

func (c Config) withDefaults() (Config, error) {
	set(&c.TokenLife, 30*24*time.Hour)
	set(&c.Queue, 1024)
	set(&c.Workers, 8)
	set(&c.PerMinute, 10)
	if len(c.AllowHosts) == 0 {
		c.AllowHosts = DefaultHosts()
	}
	if c.Client == nil {
		c.Client = publicClient()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if !strings.HasPrefix(c.Contact, "mailto:") && !strings.HasPrefix(c.Contact, "https://") {
		return c, fmt.Errorf("the contact %q: push services want a mailto: or https: address of the operator", c.Contact)
	}
	for _, h := range c.AllowHosts {
		name := strings.TrimPrefix(h, "*.")
		if name == "" || strings.ContainsAny(name, "*:/ ") || strings.ToLower(name) != name {
			return c, fmt.Errorf("the push host %q: write a lower-case name, or *. and a name", h)
		}
	}
	return c, nil
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

var errKey = errors.New("the VAPID key is not 32 bytes of a P-256 key in base64url without padding")

// keys are derived from Config.Key.
type keys struct {
	private, public string // as webpush wants them
	token           [32]byte
}

func deriveKeys(private string) (keys, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(private)
	if err != nil || len(raw) != 32 {
		return keys{}, errKey
	}
	k, err := ecdh.P256().NewPrivateKey(raw)
	if err != nil {
		return keys{}, errKey
	}
	return keys{
		private: private, public: base64.RawURLEncoding.EncodeToString(k.PublicKey().Bytes()),
		token: peercrypto.DeriveKey(raw, nil, "peersignal/push-token/1"),
	}, nil
}
