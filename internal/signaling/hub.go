package signaling

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// member is one session that the hub knows, of this node or of another. What
// each signal needs stands first, side by side: with many sessions a signal
// costs mostly the time to fetch what it needs from memory.
type member struct {
	device    peercrypto.ID // static once the hub has it
	node      string        // static; "" for a session of this node
	resumable bool          // static; the client can go on over another connection

	rights atomic.Uint32 // changes, under hub.mu, whenever tags or gone do

	// conn is the connection, or the last one of a session that is parked; nil
	// for a session of another node. It changes under hub.mu and the outbox's
	// lock.
	conn   atomic.Pointer[conn]
	box    outbox // its own lock; of a session that is resumable
	offers offers // its own lock

	// Static once the hub has it.
	session   peercrypto.Nonce
	deviceKey peercrypto.PublicKey
	userKey   peercrypto.PublicKey
	cert      []byte // canonical certificate
	host      string // that the client dialled; this node only
	token     peercrypto.Nonce
	expires   int64 // of token, Unix ms

	started int64 // ms; the newest session of a device wins

	notes notes // its own lock

	kicked atomic.Bool // an operator ended it, whatever its connection says

	// Guarded by hub.mu.
	tags     map[peercrypto.Tag]struct{}
	deferred []peercrypto.Tag            // whole lists to be told when the reader has caught up
	isDue    map[peercrypto.Tag]struct{} // the same as a set
	parked   bool
	expiry   *time.Timer // of a parked session
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

	// Of the server; none of them may block or call the hub.
	answer func(*conn, wire.Result)
	vacate func(*conn)                    // the place of a connection is free
	over   func(m *member, reason string) // a parked session has ended

	kept atomic.Int64 // bytes of all outboxes
	toil toil

	mu       sync.RWMutex
	live     *Limits // those that Reload can change; the others are in limits
	devices  map[peercrypto.ID]*member
	users    map[peercrypto.PublicKey][]*member
	topics   map[peercrypto.Tag][]*member
	memories memories
	mail     mailbox
	held     int // tags of local sessions
	remote   int // sessions of other nodes
	parked   int // local sessions without a connection
	closed   bool
}

func newHub(l *Limits) *hub {
	return &hub{
		limits: l, live: l,
		devices: make(map[peercrypto.ID]*member),
		users:   make(map[peercrypto.PublicKey][]*member),
		topics:  make(map[peercrypto.Tag][]*member),
	}
}

type hubStats struct{ held, users, remote, nodes, parked, remembered, mail int }

func (h *hub) stats() hubStats {
	h.mu.RLock()
	defer h.mu.RUnlock()
	s := hubStats{held: h.held, users: len(h.users), remote: h.remote, parked: h.parked, remembered: h.memories.tags, mail: h.mail.bytes}
	if h.cluster != nil {
		s.nodes = len(h.cluster.peers)
	}
	return s
}

// add makes m a session of this node and replaces an older session of the same
// device key. ready is its first frame; it says how many topics of an earlier
// session it begins with, if the client has the token of that.
func (h *hub) add(m *member, ready *wire.Ready, token string) *wire.Refused {
	frame, err := wire.Encode(ready)
	if err != nil {
		return &wire.Refused{Code: wire.CodeServerFull, Message: "the server cannot start a session"}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return drainingRefusal()
	}
	old := h.devices[m.device]
	if old != nil && old.deviceKey != m.deviceKey {
		return &wire.Refused{Code: wire.CodeDeviceConflict, Message: "another key holds this device id"}
	}
	others := len(h.users[m.userKey])
	if old != nil && old.userKey == m.userKey {
		others--
	}
	if others >= h.live.DevicesPerUser {
		return &wire.Refused{
			Code: wire.CodeTooManyDevices, Message: "this user has too many devices connected",
			RetryAfter: time.Minute.Milliseconds(),
		}
	}
	tags := h.recallLocked(m, old, token)
	if ready.Topics = len(tags); len(tags) > 0 {
		if frame, err = wire.Encode(ready); err != nil {
			return &wire.Refused{Code: wire.CodeServerFull, Message: "the server cannot start a session"}
		}
	}
	c := m.conn.Load()
	if err := c.push(frame); err != nil {
		return drainingRefusal() // the connection ends anyway
	}
	c.member.Store(m) // now others may have something to say over it
	if old != nil {
		m.started = max(m.started, old.started+1)
		h.replaceLocked(old)
	}
	h.insertLocked(m)
	if h.cluster != nil {
		h.cluster.announceUp(m)
	}
	if token != "" {
		h.metrics.resumed.WithLabelValues(resumedAs(len(tags))).Inc()
	}
	h.toil.add(c.addrKey, h.live.SessionsPerAddress, h.changeTopicsLocked(m, tags, nil), time.Now())
	if h.cluster != nil {
		h.cluster.announceTopics(m, tags, nil)
	}
	h.collectLocked(m, time.Now())
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
	h.users[m.userKey] = append(h.users[m.userKey], m)
	if !m.local() {
		h.remote++
	}
}

// replaceLocked ends the older session of a device.
func (h *hub) replaceLocked(old *member) {
	h.removeLocked(old, wire.CloseReplaced.String())
	if old.local() {
		old.conn.Load().shut(closing{
			code: wire.CloseReplaced, reason: wire.CloseReplaced.String(),
			last: &wire.Notice{Code: wire.CodeReplaced, Message: "this device connected again"},
		})
	}
}

// removeLocked ends a session, once; if a newer session of the device has taken
// its place, that one stays. reason is for one that is parked; the end of one
// that is connected is told by its connection.
func (h *hub) removeLocked(m *member, reason string) {
	if m.gone {
		return
	}
	m.gone = true
	m.rights.Add(1)
	if h.devices[m.device] == m {
		delete(h.devices, m.device)
	}
	h.dropUserLocked(m)
	for tag := range m.tags {
		h.dropTagLocked(m, tag)
	}
	m.deferred, m.isDue = nil, nil
	if !m.local() {
		h.remote--
		return
	}
	if h.cluster != nil {
		h.cluster.announceDown(m)
	}
	h.end(m)
	if m.parked {
		h.unparkLocked(m)
		h.over(m, reason)
	}
}

func (h *hub) dropUserLocked(m *member) {
	sessions := h.users[m.userKey]
	if i := slices.Index(sessions, m); i >= 0 {
		sessions = slices.Delete(sessions, i, i+1)
	}
	if len(sessions) == 0 {
		delete(h.users, m.userKey)
	} else {
		h.users[m.userKey] = sessions
	}
}

// setTopics applies a topics message of a session of this node. When it does,
// it queues done before anything that follows from the change.
func (h *hub) setTopics(m *member, c *conn, add, del []peercrypto.Tag, done []byte) (code wire.Code, text string, wait time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m.gone || m.conn.Load() != c {
		return wire.CodeOffline, "the session has ended", 0
	}
	if wait = h.toil.wait(c.addrKey, h.live.SessionsPerAddress, time.Now()); wait > 0 {
		return wire.CodeRateLimited, "too many changes of topics from this address", wait
	}
	add, del = effective(m.tags, add, del)
	grow := len(add) - len(del)
	if len(m.tags)+grow > h.live.Topics {
		return wire.CodeTooLarge, "too many topics for one session", 0
	}
	if h.held+grow > h.live.TopicsTotal {
		return wire.CodeTooLarge, "the server holds as many topics as it can", 0
	}
	for _, tag := range add {
		if len(h.topics[tag]) >= h.live.TopicMembers {
			return wire.CodeTooLarge, "too many sessions hold one of these topics", 0
		}
	}
	h.metrics.results.WithLabelValues(string(wire.CodeOK)).Inc()
	_ = c.push(done) // an ending connection needs no answer
	h.toil.add(c.addrKey, h.live.SessionsPerAddress, h.changeTopicsLocked(m, add, del), time.Now())
	if h.cluster != nil {
		h.cluster.announceTopics(m, add, del)
	}
	return wire.CodeOK, "", 0
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

// changeTopicsLocked applies an effective change and tells the others. It gives
// the work of it, with that of dropping the new tags later.
func (h *hub) changeTopicsLocked(m *member, add, del []peercrypto.Tag) (work int) {
	work = 2*len(del) + 4*len(add)
	m.rights.Add(1)
	for _, tag := range del {
		delete(m.tags, tag)
		h.dropTagLocked(m, tag)
	}
	m.undeferLocked(del)
	for _, tag := range add {
		m.tags[tag] = struct{}{}
		others := h.topics[tag]
		work += 2 * len(others)
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
	return work
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

// close refuses further sessions and ends those that are parked.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, m := range h.devices {
		if m.parked {
			h.removeLocked(m, wire.CloseDraining.String())
		}
	}
}
