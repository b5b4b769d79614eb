package signaling

import (
	"slices"
	"sync"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// member is one session that the hub knows, of this node or of another.
type member struct {
	// Static once the hub has it.
	session   peercrypto.Nonce
	device    peercrypto.ID
	deviceKey peercrypto.PublicKey
	userKey   peercrypto.PublicKey
	cert      []byte // canonical certificate
	node      string // "" for a session of this node
	conn      *conn  // nil for a session of another node
	host      string // that the client dialled; this node only

	started int64 // ms; the newest session of a device wins

	offers offers // its own lock

	// Guarded by hub.mu.
	tags     map[peercrypto.Tag]struct{}
	deferred []peercrypto.Tag            // whole lists to be told when the reader has caught up
	isDue    map[peercrypto.Tag]struct{} // the same as a set
	gone     bool

	// Owned by whoever fetches ICE servers (guarded by iceMu).
	iceMu      sync.Mutex
	iceExpires time.Time
}

func (m *member) local() bool { return m.node == "" }

// hub is the state of all sessions. Its lock is held for look-ups and updates
// in memory only; what leaves this node goes through queues.
type hub struct {
	limits  *Limits
	metrics *metrics
	cluster *cluster // nil without a bus

	introductions *Introductions // nil when nobody wants to know

	mu      sync.RWMutex
	devices map[peercrypto.ID]*member
	users   map[peercrypto.PublicKey]int // sessions of a user
	topics  map[peercrypto.Tag][]*member
	held    int // tags of local sessions
	remote  int // sessions of other nodes
	closed  bool
}

func newHub(l *Limits) *hub {
	return &hub{
		limits:  l,
		devices: make(map[peercrypto.ID]*member),
		users:   make(map[peercrypto.PublicKey]int),
		topics:  make(map[peercrypto.Tag][]*member),
	}
}

type hubStats struct{ held, users, remote, nodes int }

func (h *hub) stats() hubStats {
	h.mu.RLock()
	defer h.mu.RUnlock()
	s := hubStats{held: h.held, users: len(h.users), remote: h.remote}
	if h.cluster != nil {
		s.nodes = len(h.cluster.peers)
	}
	return s
}

// add makes m a session of this node, of which ready is the first frame, and
// replaces an older session of the same device key.
func (h *hub) add(m *member, ready []byte) *wire.Refused {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return drainingRefusal()
	}
	old := h.devices[m.device]
	if old != nil && old.deviceKey != m.deviceKey {
		return &wire.Refused{Code: wire.CodeDeviceConflict, Message: "another key holds this device id"}
	}
	others := h.users[m.userKey]
	if old != nil && old.userKey == m.userKey {
		others--
	}
	if others >= h.limits.DevicesPerUser {
		return &wire.Refused{
			Code: wire.CodeTooManyDevices, Message: "this user has too many devices connected",
			RetryAfter: time.Minute.Milliseconds(),
		}
	}
	if err := m.conn.push(ready); err != nil {
		return drainingRefusal() // the connection ends anyway
	}
	if old != nil {
		m.started = max(m.started, old.started+1)
		h.replaceLocked(old)
	}
	h.insertLocked(m)
	if h.cluster != nil {
		h.cluster.announceUp(m)
	}
	return nil
}

func drainingRefusal() *wire.Refused {
	return &wire.Refused{
		Code: wire.CodeDraining, Message: "this server is stopping; connect again",
		RetryAfter: time.Second.Milliseconds(),
	}
}

func (h *hub) insertLocked(m *member) {
	m.tags = make(map[peercrypto.Tag]struct{})
	h.devices[m.device] = m
	h.users[m.userKey]++
	if !m.local() {
		h.remote++
	}
}

// replaceLocked ends the older session of a device.
func (h *hub) replaceLocked(old *member) {
	h.removeLocked(old)
	if old.local() {
		old.conn.shut(closing{
			code: wire.CloseReplaced, reason: wire.CloseReplaced.String(),
			last: &wire.Notice{Code: wire.CodeReplaced, Message: "this device connected again"},
		})
	}
}

// remove ends a session of this node, once: if a newer session of the device
// has taken its place, that one stays.
func (h *hub) remove(m *member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.removeLocked(m)
}

func (h *hub) removeLocked(m *member) {
	if m.gone {
		return
	}
	m.gone = true
	if h.devices[m.device] == m {
		delete(h.devices, m.device)
	}
	if h.users[m.userKey]--; h.users[m.userKey] == 0 {
		delete(h.users, m.userKey)
	}
	for tag := range m.tags {
		h.dropTagLocked(m, tag)
	}
	m.deferred, m.isDue = nil, nil
	if !m.local() {
		h.remote--
	} else if h.cluster != nil {
		h.cluster.announceDown(m)
	}
}

// setTopics applies a topics message of a session of this node. When it does,
// it queues done before anything that follows from the change.
func (h *hub) setTopics(m *member, add, del []peercrypto.Tag, done []byte) (wire.Code, string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m.gone {
		return wire.CodeOffline, "the session has ended"
	}
	add, del = effective(m.tags, add, del)
	grow := len(add) - len(del)
	if len(m.tags)+grow > h.limits.Topics {
		return wire.CodeTooLarge, "too many topics for one session"
	}
	if h.held+grow > h.limits.TopicsTotal {
		return wire.CodeTooLarge, "the server holds as many topics as it can"
	}
	for _, tag := range add {
		if len(h.topics[tag]) >= h.limits.TopicMembers {
			return wire.CodeTooLarge, "too many sessions hold one of these topics"
		}
	}
	h.metrics.results.WithLabelValues(string(wire.CodeOK)).Inc()
	_ = m.conn.push(done) // an ending connection needs no answer
	h.changeTopicsLocked(m, add, del)
	if h.cluster != nil {
		h.cluster.announceTopics(m, add, del)
	}
	return wire.CodeOK, ""
}

// effective reduces a change to what changes something: tags to drop that are
// held, and tags to add that are not; a tag that is both stays as it is.
func effective(held map[peercrypto.Tag]struct{}, add, del []peercrypto.Tag) (adds, dels []peercrypto.Tag) {
	adding := make(map[peercrypto.Tag]bool, len(add))
	for _, tag := range add {
		if _, ok := held[tag]; !ok && !adding[tag] {
			adds = append(adds, tag)
		}
		adding[tag] = true
	}
	dropping := make(map[peercrypto.Tag]bool, len(del))
	for _, tag := range del {
		if _, ok := held[tag]; ok && !adding[tag] && !dropping[tag] {
			dels = append(dels, tag)
			dropping[tag] = true
		}
	}
	return adds, dels
}

// changeTopicsLocked applies an effective change and tells the others.
func (h *hub) changeTopicsLocked(m *member, add, del []peercrypto.Tag) {
	for _, tag := range del {
		delete(m.tags, tag)
		h.dropTagLocked(m, tag)
	}
	for _, tag := range add {
		m.tags[tag] = struct{}{}
		others := h.topics[tag]
		h.topics[tag] = append(others, m)
		h.tellLocked(others, tag, "join", func() []byte {
			return wire.AppendPresent(nil, tag, false, [][]byte{m.cert}, nil)
		})
		if m.local() {
			h.held++
			if len(others) > 0 {
				h.deferLocked(m, tag)
			}
		}
	}
}

// dropTagLocked takes m out of a tag's holders and tells the others. The
// caller owns m.tags.
func (h *hub) dropTagLocked(m *member, tag peercrypto.Tag) {
	holders := h.topics[tag]
	i := slices.Index(holders, m)
	if i < 0 {
		return
	}
	last := len(holders) - 1
	holders[i] = holders[last]
	holders[last] = nil
	holders = holders[:last]
	if last == 0 {
		delete(h.topics, tag)
	} else {
		h.topics[tag] = holders
	}
	if m.local() {
		h.held--
	}
	h.tellLocked(holders, tag, "leave", func() []byte {
		return wire.AppendPresent(nil, tag, false, nil, []peercrypto.ID{m.device})
	})
}

// routed is what the hub decided about a signal.
type routed struct {
	code    wire.Code
	wait    time.Duration // with rate-limited
	forward *member       // session of another node that it has to go to
}

// route authorizes a signal of a session of this node and delivers it if its
// target is on this node, too.
func (h *hub) route(from *member, sig *wire.Signal, now time.Time) routed {
	h.mu.RLock()
	to := h.devices[sig.To]
	allowed := !from.gone && to != nil && to != from && shares(from, to, sig)
	h.mu.RUnlock()
	if !allowed {
		return routed{code: wire.CodeNotAllowed}
	}
	if sig.Kind == wire.KindOffer {
		if ok, wait := from.offers.allow(to.device, sig.Conn, now); !ok {
			return routed{code: wire.CodeRateLimited, wait: wait}
		}
	}
	if !to.local() {
		return routed{forward: to}
	}
	if h.introductions != nil && sig.Kind != wire.KindCandidate {
		h.introductions.note(from, to) // before the target can act on it
	}
	return routed{code: h.hand(to, from.device, sig.Kind, sig.Conn, sig.Stamped(from.device))}
}

// shares tells whether both may exchange a signal now. hub.mu is held.
func shares(from, to *member, sig *wire.Signal) bool {
	if sig.SameUser() {
		return from.userKey == to.userKey
	}
	_, a := from.tags[sig.Via]
	_, b := to.tags[sig.Via]
	return a && b
}

// hand puts a stamped frame in a local session's queue.
func (h *hub) hand(to *member, from peercrypto.ID, kind wire.Kind, conn peercrypto.ID, frame []byte) wire.Code {
	if err := to.conn.push(frame); err != nil {
		return wire.CodeOffline
	}
	if kind == wire.KindAnswer {
		to.offers.answered(from, conn)
	}
	h.metrics.relayed.Add(float64(len(frame)))
	return wire.CodeDelivered
}

// close refuses further sessions.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
}
