package signaling

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/peersignal/peersignal/pkg/wire"
)

// ICESource gives the ICE servers for a session. It is called from several
// goroutines and has to respect ctx. A zero time means that the servers do not
// expire. The result belongs to the caller.
type ICESource interface {
	ICEServers(ctx context.Context, r ICERequest) (servers []wire.ICEServer, expires time.Time, err error)
}

// ICERequest says for whom ICE servers are wanted.
type ICERequest struct {
	Session string // session id, to which credentials are bound
	User    string // user key, on which quotas are counted
	Host    string // host that the client dialled, without port (IPv6 without brackets)
}

// Config configures a Server. Zero values mean the defaults given here.
type Config struct {
	// Names are the names under which clients dial this server, "host:port" or
	// "host" (port 443). The first is canonical, the others are aliases that
	// clients are sent away from. Empty: only localhost and the addresses of
	// the server's own sockets are accepted.
	Names []string
	// AllowedOrigins are the hosts ("app.example.org") or origins
	// ("https://app.example.org") of web pages that may connect. Pages of the
	// host that is dialled always may; programs send no origin.
	AllowedOrigins []string
	// TrustedProxies are the networks (CIDR) whose X-Forwarded-For is believed.
	TrustedProxies []string

	ICE ICESource // nil: no ICE servers
	// Introductions is told who exchanges offers and answers on this node; nil:
	// nobody wants to know.
	Introductions *Introductions
	// Bus connects the nodes of a cluster; nil: this is the only one.
	Bus Bus
	// Node names this node on the bus, 1 to 64 of [0-9a-z-]; default random.
	Node string
	// Heartbeat is how often a node says on the bus that it lives; three missed
	// ones mean that it does not. Default 5 s.
	Heartbeat time.Duration

	// Registerer receives the metrics peersignal_signaling_*; nil: none.
	Registerer prometheus.Registerer
	Logger     *slog.Logger // nil: discard
	// Now is the clock for nonces, certificates and rates; nil: time.Now.
	Now func() time.Time
	// OnSessionEnd is called once for each session id that ICE servers were
	// asked for, when it is over, with the reason as in the metric closed_total,
	// e.g. EndKicked. It must not block.
	OnSessionEnd func(session, reason string)

	// Audit is told who was let in, who was not, and what operators did; nil:
	// nobody.
	Audit Auditor

	// Push wakes devices that are not connected; nil: nobody does.
	Push Pusher

	Limits Limits
}

// Limits bound what clients can use. Zero means the default, negative none
// where that is said.
type Limits struct {
	AuthTimeout  time.Duration // from upgrade to ready; 10 s
	PingInterval time.Duration // 25 s
	PingTimeout  time.Duration // without a sign of life; 60 s
	WriteTimeout time.Duration // for one frame; 10 s

	Sessions int // on this node; 50,000
	Pending  int // connections that are not ready yet; 1,024
	// SessionsPerAddress and PendingPerAddress are per IPv4 address or IPv6 /64;
	// 64 and 32, negative: no limit. Loopback addresses have no such limit.
	SessionsPerAddress int
	PendingPerAddress  int
	DevicesPerUser     int // in the cluster; 8

	// MemoryBytes bounds connections (10 KiB each), their read buffers and their
	// queues together; 1 GiB. Beyond it new connections are refused, and those
	// that need more are closed.
	MemoryBytes int64

	Topics       int // tags of a session; 20,000, which is the most
	TopicsTotal  int // tags of all sessions of this node; 4,000,000
	TopicMembers int // sessions that hold one tag, in the cluster; 4,096

	// ResumeWindow is how long a session is parked whose connection ended; 15 s,
	// negative: not at all. It is over PingTimeout after the last sign of life in
	// any case.
	ResumeWindow time.Duration
	Parked       int // sessions that are parked at once; 10,000
	ResumeBytes  int // kept for clients that have not acknowledged them, or are away; 64 MiB
	// RememberTime is how long the topics of a session that is over are kept for
	// a client that comes back with its token; 5 min, negative: not at all.
	// RememberedTopics is how many in all; 1,000,000.
	RememberTime     time.Duration
	RememberedTopics int

	// NotifyTime is how long notifications are kept for a device that was here
	// minutes ago (RememberTime); 10 min, negative: not at all. NotifyBytes is how
	// much in all; 16 MiB.
	NotifyTime        time.Duration
	NotifyBytes       int
	NotifiesPerMinute int // of a session; 60

	MessagesPer10s    int // of a session; 200
	OffersPerMinute   int // from one device to another; 20
	ConcurrentOffers  int // from one device to another, unanswered for less than 20 s; 4
	SendQueueBytes    int // of a session; 256 KiB
	BusQueueBytes     int // waiting for the bus; 16 MiB
	BusPendingSignals int // signals to other nodes without an answer yet; 65,536
}

const (
	offerLife       = 20 * time.Second
	maxOfferTargets = 4096 // devices to which one session has sent offers lately
	iceTimeout      = 5 * time.Second
	iceRenewBefore  = 5 * time.Minute
	busAckTimeout   = 5 * time.Second
	drainSpread     = 5 * time.Second
	closeTimeout    = 2 * time.Second

	// lateResults is the period of ws.Late for results that say delivered: they
	// travel with the next frame, or wait 200 ms, when hundreds of sessions send.
	lateResults = 25 * time.Millisecond

	earlyFrames = 64 // most control frames and fragments before auth

	connBytes = 10 << 10 // what a connection counts as on the memory budget
)

func (c Config) withDefaults() (Config, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Node == "" {
		b := make([]byte, 8)
		_, _ = rand.Read(b) // never fails, see crypto/rand
		c.Node = hex.EncodeToString(b)
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = 5 * time.Second
	}
	c.Limits.setDefaults()
	c.Names = slices.Clone(c.Names)
	for i, n := range c.Names {
		canonical, err := wire.CanonicalName(n)
		if err != nil {
			return c, fmt.Errorf("configuring signaling: name %q: %w", n, err)
		}
		c.Names[i] = canonical
	}
	if err := c.validate(); err != nil {
		return c, fmt.Errorf("configuring signaling: %w", err)
	}
	return c, nil
}

func (l *Limits) setDefaults() {
	setDefault(&l.AuthTimeout, wire.AuthTimeout)
	setDefault(&l.PingInterval, wire.PingInterval)
	setDefault(&l.PingTimeout, wire.PingTimeout)
	setDefault(&l.WriteTimeout, 10*time.Second)
	setDefault(&l.Sessions, 50_000)
	setDefault(&l.Pending, 1024)
	setDefault(&l.SessionsPerAddress, 64)
	setDefault(&l.PendingPerAddress, 32)
	setDefault(&l.DevicesPerUser, 8)
	setDefault(&l.MemoryBytes, 1<<30)
	setDefault(&l.Topics, wire.MaxTopics)
	setDefault(&l.TopicsTotal, 4_000_000)
	setDefault(&l.TopicMembers, 4096)
	setDefault(&l.ResumeWindow, 15*time.Second)
	setDefault(&l.Parked, 10_000)
	setDefault(&l.ResumeBytes, 64<<20)
	setDefault(&l.RememberTime, 5*time.Minute)
	setDefault(&l.RememberedTopics, 1_000_000)
	setDefault(&l.NotifyTime, 10*time.Minute)
	setDefault(&l.NotifyBytes, 16<<20)
	setDefault(&l.NotifiesPerMinute, 60)
	setDefault(&l.MessagesPer10s, 200)
	setDefault(&l.OffersPerMinute, 20)
	setDefault(&l.ConcurrentOffers, 4)
	setDefault(&l.SendQueueBytes, 256<<10)
	setDefault(&l.BusQueueBytes, 16<<20)
	setDefault(&l.BusPendingSignals, 1<<16)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c *Config) validate() error {
	l := &c.Limits
	for _, v := range []struct {
		name string
		bad  bool
	}{
		{"AuthTimeout", l.AuthTimeout < 0}, {"PingInterval", l.PingInterval < 0},
		{"PingTimeout", l.PingTimeout <= l.PingInterval}, {"WriteTimeout", l.WriteTimeout < 0},
		{"Sessions", l.Sessions < 0}, {"Pending", l.Pending < 0}, {"DevicesPerUser", l.DevicesPerUser < 0},
		{"Topics", l.Topics < 0 || l.Topics > wire.MaxTopics}, {"TopicsTotal", l.TopicsTotal < 0},
		{"MemoryBytes", l.MemoryBytes < 1<<20}, {"Parked", l.Parked < 0}, {"ResumeBytes", l.ResumeBytes < 0}, {"RememberedTopics", l.RememberedTopics < 0},
		{"NotifyBytes", l.NotifyBytes < 0}, {"NotifiesPerMinute", l.NotifiesPerMinute < 0},
		{"TopicMembers", l.TopicMembers < 0}, {"MessagesPer10s", l.MessagesPer10s < 0},
		{"OffersPerMinute", l.OffersPerMinute < 0}, {"ConcurrentOffers", l.ConcurrentOffers < 0},
		{"SendQueueBytes", l.SendQueueBytes < 2*wire.MaxFrame}, {"BusQueueBytes", l.BusQueueBytes < 2*busPart},
		{"BusPendingSignals", l.BusPendingSignals < 0}, {"Heartbeat", c.Heartbeat < 0},
	} {
		if v.bad {
			return fmt.Errorf("%s is out of range", v.name)
		}
	}
	if !validNode(c.Node) {
		return errors.New("the node name is not 1 to 64 of 0-9 a-z -")
	}
	return nil
}

func validNode(node string) bool {
	if node == "" || len(node) > 64 {
		return false
	}
	for _, c := range node {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && c != '-' {
			return false
		}
	}
	return true
}

func parsePrefixes(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("configuring signaling: trusted proxy %q is not a network like 10.0.0.0/8: %w", s, err)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}
