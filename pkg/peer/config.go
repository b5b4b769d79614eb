package peer

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer/link"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/files"
	"github.com/peersignal/peersignal/pkg/wire"
)

// Config is what a [Peer] needs. Identity and Store are required; for
// everything else the zero value means the default that is named.
type Config struct {
	// Identity holds the keys of the user and of this device.
	Identity peercrypto.Identity
	// Store keeps groups and documents. It stays the caller's, who closes it
	// after Close.
	Store groupsync.Store
	// Server is the URL of the signaling server: https, wss, or http and ws.
	// Empty means offline: data can be read and written, nobody is met.
	Server string
	// Name is the user's display name, shown to members of shared groups; at
	// most 128 bytes, may be empty.
	Name string
	// Auto connects to every admitted device that is seen and syncs with it,
	// without calls of Connect and Sync.
	Auto bool
	// ICETransport limits the network paths; default link.ICEAll.
	ICETransport link.ICETransport
	// AllowLoopback lets 127.0.0.0/8 and ::1 through, for demonstrations and
	// tests on one machine.
	AllowLoopback bool
	// ExtraICE is used beside the ICE servers that the signaling server names.
	ExtraICE []wire.ICEServer
	// TLS is used for the signaling connection; nil means system roots.
	TLS *tls.Config
	// DialDelay is how long the device with the higher id waits for the other
	// one's attempt; default 2 s.
	DialDelay time.Duration
	// RetryMin and RetryMax bound the delay between attempts to connect to a
	// device; default 1 s and 60 s.
	RetryMin, RetryMax time.Duration
	// ReconnectMin and ReconnectMax bound the delay between attempts to reach
	// the signaling server; default 1 s and 60 s.
	ReconnectMin, ReconnectMax time.Duration
	// MaxDials bounds attempts that run at once; default 16. Others wait.
	MaxDials int
	// MaxDevices bounds the devices that are pursued or connected at once;
	// default 256. Others wait for room. Connections that others make count, but
	// only the link's limit of 1,024 refuses them.
	MaxDevices int
	// Limits are the engine's; zero means its defaults.
	Limits groupsync.Limits
	// Files keeps files; it stays the caller's, who closes it after Close. Without
	// it files are neither kept, fetched nor given.
	Files *files.Store
	// FileLimits bound the exchange of files.
	FileLimits FileLimits
	// Logger gets short ids and outcomes, never content; default slog.Default().
	Logger *slog.Logger
	// Now is the clock for what is signed; default time.Now.
	Now func() time.Time
}

func (c Config) withDefaults() (Config, error) {
	if c.Identity.User.IsZero() || c.Identity.Device.IsZero() {
		return c, errors.New("peer configuration: Identity has no keys: load a key store or make one with crypto.NewIdentity")
	}
	if c.Store == nil {
		return c, errors.New("peer configuration: Store is missing: open one with sqlite.Open")
	}
	if c.Server != "" {
		if _, _, err := wire.CanonicalServer(c.Server); err != nil {
			return c, fmt.Errorf("peer configuration: Server: %w", err)
		}
	}
	setDefault(&c.DialDelay, 2*time.Second)
	setDefault(&c.RetryMin, time.Second)
	setDefault(&c.RetryMax, time.Minute)
	setDefault(&c.MaxDials, 16)
	setDefault(&c.MaxDevices, 256)
	if c.DialDelay < 0 || c.RetryMin < 0 || c.RetryMax < c.RetryMin || c.MaxDials < 0 || c.MaxDevices < 0 {
		return c, errors.New("peer configuration: a limit is negative or RetryMax is below RetryMin")
	}
	var err error
	if c.FileLimits, err = c.FileLimits.withDefaults(); err != nil {
		return c, err
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, nil
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}
