package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// Link is one device's connections. Its methods are safe for concurrent use.
type Link struct {
	cfg       Config
	device    peercrypto.ID
	user      peercrypto.ID
	userKey   peercrypto.PublicKey
	client    *http.Client
	events    chan Event
	queue     *eventQueue
	seen      *replayCache
	notes     *replayCache // counts notifications of each device
	notesSeen seenNotes
	ids       *userIDs
	refused   refusals
	inbound   chan struct{} // holds a token for each offer that is looked at
	redial    chan struct{} // signalled by Reconnect
	urgent    chan struct{} // signalled when a session is wanted more than usual
	network   chan struct{} // signalled by NetworkChanged
	changed   chan struct{} // signalled when the topics changed
	started   atomic.Bool
	lost      atomic.Int64 // connections without a path

	mu       sync.Mutex
	ctx      context.Context // of Run; nil before, ended after
	cert     peercrypto.DeviceCert
	session  *session      // nil while there is none
	last     *session      // the one before that
	upped    chan struct{} // closed and replaced when there is a session
	server   serverState
	ice      iceState
	topics   map[peercrypto.Tag]Topic
	order    []peercrypto.Tag // of topics, as the caller gave them
	peers    presence
	attempts map[peercrypto.ID]*attempt // by device: at most one each
	conns    map[peercrypto.ID]*Conn    // by device: authenticated
	byConn   map[peercrypto.ID]*attempt // by connection id, until the connection ends
	early    earlyCandidates
	arrivals uint64 // counts offers as they arrive
	wg       sync.WaitGroup

	before continuity // of the session with the server
}

// serverState is what Status says about the server.
type serverState struct {
	name, session, addr, lastError string
	since                          time.Time
	published                      int
}

// iceState is what the server said about ICE.
type iceState struct {
	servers []wire.ICEServer
	expires time.Time // zero: never
}

// New validates cfg and returns a link that does nothing until Run.
func New(cfg Config) (*Link, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	name, _, err := wire.CanonicalServer(cfg.Server)
	if err != nil {
		return nil, fmt.Errorf("link configuration: Server: %w", err)
	}
	if t := cfg.TLS; t != nil && t.InsecureSkipVerify && t.VerifyConnection == nil && t.VerifyPeerCertificate == nil {
		return nil, errors.New("link configuration: TLS skips verification; the server's certificate has to be verified")
	}
	cert, err := cfg.Identity.Cert(cfg.Now(), cfg.CertLife)
	if err != nil {
		return nil, fmt.Errorf("link configuration: Identity: %w", err)
	}
	doc, err := peercrypto.ParseUserDoc(cfg.UserDoc)
	if err != nil {
		return nil, fmt.Errorf("link configuration: UserDoc: %w", err)
	}
	if doc.ID != cert.UserID || doc.PublicKey != cert.UserKey {
		return nil, errors.New("link configuration: UserDoc is not the identity's own user document")
	}
	if len(doc.Canonical) > maxUserDoc {
		return nil, fmt.Errorf("link configuration: UserDoc has %d bytes, limit is %d", len(doc.Canonical), maxUserDoc)
	}
	cfg.UserDoc = doc.Canonical
	return &Link{
		cfg: cfg, device: cert.DeviceID, user: cert.UserID, userKey: cert.UserKey, cert: cert,
		client: httpClient(cfg.TLS), events: make(chan Event), queue: newEventQueue(),
		seen: newReplayCache(), notes: newReplayCache(), ids: newUserIDs(2), inbound: make(chan struct{}, MaxInbound),
		redial: make(chan struct{}, 1), changed: make(chan struct{}, 1),
		urgent: make(chan struct{}, 1), network: make(chan struct{}, 1),
		peers: newPresence(), topics: make(map[peercrypto.Tag]Topic),
		attempts: make(map[peercrypto.ID]*attempt), conns: make(map[peercrypto.ID]*Conn),
		byConn: make(map[peercrypto.ID]*attempt), early: newEarlyCandidates(),
		server: serverState{name: name}, upped: make(chan struct{}),
	}, nil
}

// Run connects to the signaling server, and again whenever that ends, and
// serves connections until ctx ends. Then it closes all connections and the
// channel of events, and returns nil after all its goroutines have ended. It
// may be called once.
func (l *Link) Run(ctx context.Context) error {
	if !l.started.CompareAndSwap(false, true) {
		return errors.New("running link: Run was called before")
	}
	// Connections end with ErrClosed rather than with the caller's cause.
	runCtx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { cancel(ErrClosed) })
	defer stop()
	l.mu.Lock()
	l.ctx = runCtx
	l.mu.Unlock()
	l.wg.Go(func() { l.supervise(runCtx) })
	l.wg.Go(func() { l.watchNetwork(runCtx) })
	l.wg.Go(func() { l.queue.pump(runCtx, l.events) })
	<-runCtx.Done()
	l.wg.Wait()
	l.client.CloseIdleConnections()
	close(l.events)
	return nil
}

// runContext returns the context of Run.
func (l *Link) runContext() context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ctx
}

// spawn starts a goroutine that Run waits for, unless Run is not running.
func (l *Link) spawn(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.spawnLocked(f)
}

// spawnLocked is spawn with l.mu held: the context is looked at under the lock,
// so no goroutine starts after Run has begun to wait.
func (l *Link) spawnLocked(f func()) bool {
	if l.ctx == nil || l.ctx.Err() != nil {
		return false
	}
	l.wg.Go(f)
	return true
}

// Events returns the channel of events, for one consumer. It is closed when Run
// returns. Events that wait are bounded by what they tell about; a consumer
// that is late gets the latest state, not its history.
func (l *Link) Events() <-chan Event { return l.events }

// DeviceID returns this device's id.
func (l *Link) DeviceID() peercrypto.ID { return l.device }

// UserID returns this user's id.
func (l *Link) UserID() peercrypto.ID { return l.user }

// ServerName returns the server's canonical name ("host:port"), from which tags
// are derived. Before the first session it is the configured one.
func (l *Link) ServerName() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.server.name
}

// SetTopics replaces the set of topics that this device holds. What changed is
// sent to the server, now and after every reconnect. Of a tag that occurs twice
// the last counts; the server takes at most wire.MaxTopics, and the first ones
// are held. When the server's name changes, the set is emptied: see ServerUp.
func (l *Link) SetTopics(topics []Topic) {
	l.mu.Lock()
	defer l.mu.Unlock()
	set := make(map[peercrypto.Tag]Topic, len(topics))
	order := make([]peercrypto.Tag, 0, len(topics))
	for _, t := range topics {
		if t.Tag == (peercrypto.Tag{}) {
			continue
		}
		if _, twice := set[t.Tag]; !twice {
			if len(order) >= wire.MaxTopics {
				l.refused.add("topics over the limit")
				continue
			}
			order = append(order, t.Tag)
		}
		set[t.Tag] = t
	}
	for _, tag := range l.order {
		if _, kept := set[tag]; !kept {
			l.dropTopicLocked(tag)
		}
	}
	l.topics, l.order = set, order
	l.wakeAllLocked()
	signal(l.changed)
}

// Conns returns the authenticated connections, in no particular order.
func (l *Link) Conns() []*Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]*Conn, 0, len(l.conns))
	for _, c := range l.conns {
		out = append(out, c)
	}
	return out
}

// Conn returns the authenticated connection with a device, or nil.
func (l *Link) Conn(device peercrypto.ID) *Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conns[device]
}

// Reconnect tries to reach the server now instead of when the delay is over,
// also after the server said not to come back. It does nothing while there is
// a session.
func (l *Link) Reconnect() { signal(l.redial) }

// Status returns a snapshot.
func (l *Link) Status() Status {
	conns := l.Conns()
	l.mu.Lock()
	st := Status{
		Server: l.server.name, Session: l.server.session, Since: l.server.since, Addr: l.server.addr,
		LastError: l.server.lastError, Topics: len(l.topics), Published: l.server.published,
		Peers: len(l.peers.devices), Attempts: len(l.attempts),
	}
	l.mu.Unlock()
	for _, c := range conns {
		st.Conns = append(st.Conns, ConnStatus{
			DeviceID: c.remote.DeviceID, UserID: c.remote.UserID, Since: c.since,
			Outgoing: c.outgoing, Stats: c.Stats(),
		})
	}
	st.Refused = l.refused.snapshot()
	return st
}

// log returns the logger with a device's short id.
func (l *Link) log(device peercrypto.ID) *slog.Logger {
	return l.cfg.Logger.With("device", device.Short())
}

// refusals counts refused input by reason; reasons are literals of this package.
type refusals struct {
	mu sync.Mutex
	n  map[string]uint64
}

func (r *refusals) add(reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n == nil {
		r.n = make(map[string]uint64)
	}
	r.n[reason]++
}

func (r *refusals) snapshot() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[string]uint64, len(r.n))
	for k, v := range r.n {
		out[k] = v
	}
	return out
}
