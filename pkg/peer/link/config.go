package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	piontransport "github.com/pion/transport/v4"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// ICETransport says which kinds of network path a connection may use.
type ICETransport string

// The ICE policies. The empty value means ICEAll.
const (
	// ICEAll uses direct paths and, where those fail, a TURN relay.
	ICEAll ICETransport = "all"
	// ICERelay uses TURN relays only: the other device does not learn this
	// device's addresses.
	ICERelay ICETransport = "relay"
	// ICENoRelay uses direct paths only (host and server-reflexive): neither
	// this device's relay nor one that the peer names.
	ICENoRelay ICETransport = "none-relay"
)

// Config is what a [Link] needs. Server, Identity and Admit are required; for
// everything else the zero value means the default that is named.
type Config struct {
	// Server is the URL of the signaling server: https, wss, or http and ws
	// for a loopback host.
	Server string
	// Identity holds the keys of the user and of this device.
	Identity peercrypto.Identity
	// UserDoc is this user's own signed User document in the stock format
	// (peercrypto.SignUserDoc). It is sent to peers during authentication;
	// New refuses one of another user or key.
	UserDoc []byte
	// CheckKeys tells whether key events lead from the key in a genesis body,
	// whose id was checked, to key. Without it only users are met who have the key
	// that they began with. It is called from many goroutines.
	CheckKeys func(genesis peercrypto.UserGenesis, events [][]byte, key peercrypto.PublicKey) error
	// ICETransport limits the paths; default ICEAll.
	ICETransport ICETransport
	// AllowLoopback gathers and accepts 127.0.0.0/8 and ::1, for
	// demonstrations and tests on one machine.
	AllowLoopback bool
	// FilterAddress, if set, says which addresses may be used: others are
	// neither offered to peers nor tried when peers offer them. It is called
	// from many goroutines at once.
	FilterAddress func(netip.Addr) bool
	// ExtraICE is used beside the servers that the signaling server names.
	ExtraICE []wire.ICEServer
	// Admit decides whether this device wants a connection with r. It is
	// called with what a verified, sealed offer says before any
	// PeerConnection is created or any address is disclosed, and once more
	// after authentication, then with Genesis and UserDoc filled in. A non-nil
	// error refuses; the peer learns nothing of it. It is called from many
	// goroutines at once and should return within a second.
	Admit func(ctx context.Context, r Remote) error
	// TLS is used for the signaling connection; nil means system roots. The
	// server's certificate is always verified.
	TLS *tls.Config
	// CertLife is how long a device certificate that this link issues to
	// itself is valid; default 30 days. It is renewed at half of it.
	CertLife time.Duration
	// MaxConns bounds authenticated connections plus attempts; default 1,024.
	MaxConns int
	// MaxConnsPerUser bounds those of one user, who can make any number of
	// devices; default an eighth of MaxConns. Of those that devices made over
	// topics of invitations, which strangers know, a quarter of MaxConns can be.
	MaxConnsPerUser int
	// OffersPerMinute bounds the offers that are looked at of one device;
	// default 20.
	OffersPerMinute int
	// DialTimeout bounds the wait for an answer; default 20 s.
	DialTimeout time.Duration
	// AuthTimeout bounds the authentication of an open channel; default 10 s.
	AuthTimeout time.Duration
	// RestartTimeout is how long a connection whose network path was lost is
	// kept, while new paths are looked for; default 60 s.
	RestartTimeout time.Duration
	// ReconnectMin and ReconnectMax bound the full-jitter delay between two
	// attempts to reach the signaling server; default 1 s and 60 s.
	ReconnectMin, ReconnectMax time.Duration
	// Logger gets short ids and outcomes, never a secret, an SDP or an
	// address; default slog.Default().
	Logger *slog.Logger
	// Now is the clock for certificates, offers and expiry; default time.Now.
	Now func() time.Time
	// Addresses lists the addresses of this machine, for which network changes
	// are looked every 3 s; default those of the interfaces that are up and running.
	Addresses func() ([]netip.Addr, error)

	timing timing // tests have less time
}

// timing is how long a path is trusted and what is done when it is lost. Zero
// means the default that is named.
type timing struct {
	// disconnected without a sign of life is a lost path; 5 s. RFC 7675 would
	// stop sending after 30 s: a path is not much good for any of them.
	disconnected time.Duration
	// keepalive is between two STUN checks of the path in use; 2 s. Two may be
	// lost before disconnected is over, NATs see traffic often enough, and the
	// round-trip time is as old as this.
	keepalive time.Duration
	try       time.Duration // between two attempts to restart; 8 s
	gone      time.Duration // a device without path and presence is given up; 10 s
	poll      time.Duration // between two looks at the addresses; 3 s
	probe     time.Duration // for the server to answer when a path was lost; 5 s
	urgent    time.Duration // most between attempts to reach the server meanwhile; 3 s
	connect   time.Duration // for a first path, from the answer; 30 s

	net func() (piontransport.Net, error) // default the machine's
}

func (t timing) withDefaults() timing {
	setDefault(&t.disconnected, 5*time.Second)
	setDefault(&t.keepalive, 2*time.Second)
	setDefault(&t.try, 8*time.Second)
	setDefault(&t.gone, 10*time.Second)
	setDefault(&t.poll, 3*time.Second)
	setDefault(&t.probe, 5*time.Second)
	setDefault(&t.urgent, 3*time.Second)
	setDefault(&t.connect, 30*time.Second)
	if t.net == nil {
		t.net = machineNet
	}
	return t
}

// Limits of the protocol. What a peer or the server sends beyond them is
// refused as docs/connections.md says.
const (
	MaxMessage        = 2 << 20  // bytes of one message on a stream
	MaxFragment       = 60 << 10 // bytes of one SCTP message, header included
	MaxAuthFrame      = 48 << 10 // bytes of one authentication frame: a history of keys has up to 40 KiB
	maxUserDoc        = 8 << 10  // bytes of the own user document
	MaxStreams        = 16       // streams that one side may have open on a connection
	MaxUnreadStream   = 4 << 20  // received bytes that wait for ReadMessage, one stream
	MaxUnreadConn     = 16 << 20 // the same, all streams of a connection
	MaxStreamName     = 64       // characters of a stream's name
	MaxCandidates     = 64       // remote candidates of a connection, SDP included
	MaxEarly          = 1000     // sealed candidates that wait for their offer
	MaxInbound        = 64       // offers being verified or answered at once
	MaxPeersPerTopic  = 4096     // devices remembered of one topic
	MaxPeers          = 65536    // devices remembered, all topics
	OfferSkew         = 5 * time.Minute
	replayWindow      = 2 * OfferSkew
	earlyLife         = 30 * time.Second
	gatherGrace       = 60 * time.Millisecond
	defaultCertLife   = 30 * 24 * time.Hour
	socketBufferBytes = 4 << 20
)

func (c Config) withDefaults() (Config, error) {
	if c.Admit == nil {
		return c, errors.New("link configuration: Admit is missing; without it every stranger would be connected")
	}
	if c.Identity.User.IsZero() || c.Identity.Device.IsZero() {
		return c, errors.New("link configuration: Identity has no keys")
	}
	switch c.ICETransport {
	case "":
		c.ICETransport = ICEAll
	case ICEAll, ICERelay, ICENoRelay:
	default:
		return c, fmt.Errorf("link configuration: ICETransport %q is none of %q, %q, %q", c.ICETransport, ICEAll, ICERelay, ICENoRelay)
	}
	setDefault(&c.CertLife, defaultCertLife)
	setDefault(&c.MaxConns, 1024)
	setDefault(&c.MaxConnsPerUser, max(c.MaxConns/8, 1))
	setDefault(&c.OffersPerMinute, 20)
	setDefault(&c.DialTimeout, 20*time.Second)
	setDefault(&c.AuthTimeout, 10*time.Second)
	setDefault(&c.RestartTimeout, time.Minute)
	setDefault(&c.ReconnectMin, time.Second)
	setDefault(&c.ReconnectMax, time.Minute)
	if c.CertLife < 0 || c.MaxConns < 0 || c.MaxConnsPerUser < 0 || c.OffersPerMinute < 0 || c.DialTimeout < 0 || c.AuthTimeout < 0 || c.RestartTimeout < 0 || c.ReconnectMin < 0 || c.ReconnectMax < c.ReconnectMin {
		return c, errors.New("link configuration: a limit is negative or ReconnectMax is below ReconnectMin")
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Addresses == nil {
		c.Addresses = machineAddresses
	}
	c.timing = c.timing.withDefaults()
	return c, nil
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}
