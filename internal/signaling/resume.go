package signaling

import (
	"bytes"
	"container/list"
	"crypto/subtle"
	"maps"
	"slices"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// EndExpired is the reason of a session that was parked and did not come back.
const EndExpired = "expired"

// isToken compares in constant time.
func (m *member) isToken(token string) bool {
	return m.resumable && subtle.ConstantTimeCompare([]byte(m.token.String()), []byte(token)) == 1
}

// part is called when connection c of m has ended. The session is parked (and
// kept), or over, or neither when it has another connection by now.
func (h *hub) part(m *member, c *conn) (kept, over bool) {
	reason, now := c.reason(), time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if m.conn.Load() != c {
		return false, false
	}
	if m.gone {
		return false, true
	}
	until := now.Add(h.limits.ResumeWindow)
	if silent := c.lastSeen().Add(h.limits.PingTimeout); silent.Before(until) {
		until = silent
	}
	if !m.resumable || !outlives(reason) || m.kicked.Load() || h.closed {
		h.removeLocked(m, reason)
		return false, true
	}
	if h.parked >= h.limits.Parked || !until.After(now) || !m.park() {
		h.rememberLocked(m)
		h.removeLocked(m, reason)
		return false, true
	}
	m.parked = true
	h.parked++
	m.expiry = time.AfterFunc(until.Sub(now), func() { h.expire(m, c) })
	return true, false
}

// outlives tells the ends of a connection after which its session may go on.
func outlives(reason string) bool {
	switch reason {
	case endGone, endStopped, endMemory, wire.CloseSlowReader.String(), wire.CloseTooLarge.String(),
		wire.ClosePingTimeout.String():
		return true
	default:
		return false
	}
}

// park marks the outbox, unless the client could not be sent all that it misses.
func (m *member) park() bool {
	b := &m.box
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.hole > b.acked || b.leaving != nil {
		return false
	}
	b.parked = true
	return true
}

// expire ends a session that has been parked since c ended.
func (h *hub) expire(m *member, c *conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m.gone || !m.parked || m.conn.Load() != c {
		return
	}
	h.rememberLocked(m)
	h.removeLocked(m, EndExpired)
}

// unparkLocked gives back what a parked session holds: its place is counted
// for its last connection.
func (h *hub) unparkLocked(m *member) {
	m.parked = false
	m.expiry.Stop()
	m.expiry = nil
	h.parked--
	h.vacate(m.conn.Load())
}

// previous gives the session of this node whose place a new connection takes,
// and whether that can go on.
func (h *hub) previous(c *conn, auth *wire.Auth, now time.Time) (old *member, goesOn bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	old = h.devices[auth.A.DeviceID]
	if old == nil || !old.local() || old.deviceKey != auth.A.DeviceKey {
		return nil, false
	}
	return old, h.goesOnLocked(old, c, auth, now)
}

func (h *hub) goesOnLocked(m *member, c *conn, auth *wire.Auth, now time.Time) bool {
	if m.gone || m.kicked.Load() || h.closed || m.deviceKey != auth.A.DeviceKey || m.userKey != auth.A.UserKey ||
		!m.isToken(auth.Resume) || now.UnixMilli() >= m.expires || !bytes.Equal(m.cert, auth.Cert.Canonical()) {
		return false
	}
	m.box.mu.Lock()
	defer m.box.mu.Unlock()
	if auth.Got < m.box.floor && len(m.tags) > freeToil && h.toil.wait(c.addrKey, h.live.SessionsPerAddress, time.Now()) > 0 {
		return false // all of them would have to be told
	}
	return m.box.canGoOnLocked(auth.Got)
}

// resume makes c the connection of a session that goes on. ready, without the
// number of topics, is its first frame; false when the session has ended
// meanwhile, and nothing was done.
func (h *hub) resume(m *member, c *conn, auth *wire.Auth, ready *wire.Ready, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.goesOnLocked(m, c, auth, now) {
		return false
	}
	ready.Topics = len(m.tags)
	frame, err := wire.Encode(ready)
	if err != nil {
		return false
	}
	old := m.conn.Load()
	if m.parked {
		h.unparkLocked(m)
	} else {
		old.shut(closing{
			code: wire.CloseReplaced, reason: wire.CloseReplaced.String(),
			last: &wire.Notice{Code: wire.CodeReplaced, Message: "this device connected again"},
		})
	}
	lost, all, held := h.switchTo(m, c, auth.Got, frame)
	if all {
		lost = slices.Collect(maps.Keys(m.tags))
	}
	for _, tag := range lost {
		h.deferLocked(m, tag)
	}
	h.toil.add(c.addrKey, h.live.SessionsPerAddress, len(lost), time.Now())
	for _, r := range held {
		if h.introductions != nil && r.from != nil {
			h.introductions.note(r.from, m) // of where the device is now
		}
		h.settle(r, wire.CodeDelivered)
	}
	c.signal() // for what was deferred while it was away
	h.metrics.resumed.WithLabelValues(resumedSession).Inc()
	return true
}

// switchTo gives the outbox of m another connection and its first frame.
func (h *hub) switchTo(m *member, c *conn, got uint64, ready []byte) (lost []peercrypto.Tag, all bool, held []receipt) {
	b := &m.box
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = c.push(ready) // a connection that has ended already is parked again
	c.member.Store(m)
	m.conn.Store(c)
	b.parked = false
	lost, all, freed := b.rewindLocked(got)
	h.kept.Add(-int64(freed))
	b.pumpLocked(c)
	return lost, all, b.releaseLocked()
}

// memory is what is left of a session that is over: its tags, for when its
// client comes back with the token.
type memory struct {
	device peercrypto.ID
	key    peercrypto.PublicKey
	user   peercrypto.PublicKey
	token  peercrypto.Nonce
	tags   []peercrypto.Tag
	until  time.Time
}

// memories are bounded by their tags; the oldest make room. Guarded by hub.mu.
type memories struct {
	byDevice map[peercrypto.ID]*list.Element // of *memory
	order    list.List                       // by until
	tags     int
}

// rememberLocked keeps the tags of a session that is about to be removed.
func (h *hub) rememberLocked(m *member) {
	most := h.limits.RememberedTopics
	if len(m.tags) == 0 || len(m.tags) > most {
		return
	}
	ms, now := &h.memories, time.Now()
	ms.drop(ms.byDevice[m.device])
	for e := ms.order.Front(); e != nil; e = ms.order.Front() {
		if now.Before(e.Value.(*memory).until) && ms.tags+len(m.tags) <= most {
			break
		}
		ms.drop(e)
	}
	if ms.byDevice == nil {
		ms.byDevice = make(map[peercrypto.ID]*list.Element)
	}
	ms.tags += len(m.tags)
	ms.byDevice[m.device] = ms.order.PushBack(&memory{
		device: m.device, key: m.deviceKey, user: m.userKey, token: m.token, tags: slices.Collect(maps.Keys(m.tags)),
		until: now.Add(h.limits.RememberTime),
	})
}

func (ms *memories) drop(e *list.Element) {
	if e != nil {
		m := ms.order.Remove(e).(*memory)
		delete(ms.byDevice, m.device)
		ms.tags -= len(m.tags)
	}
}

// of gives the memory of a device that its client may have back.
func (ms *memories) of(m *member, token string) *memory {
	e := ms.byDevice[m.device]
	if e == nil {
		return nil
	}
	rest := e.Value.(*memory)
	if rest.key != m.deviceKey || !time.Now().Before(rest.until) ||
		subtle.ConstantTimeCompare([]byte(rest.token.String()), []byte(token)) != 1 {
		return nil
	}
	return rest
}

// recallLocked gives the tags that a new session of a device begins with: those
// of the session whose token it has, if all of them are within the limits. The
// memory of the device is used up.
func (h *hub) recallLocked(m *member, old *member, token string) []peercrypto.Tag {
	var tags []peercrypto.Tag
	room := h.live.TopicsTotal - h.held
	switch rest := h.memories.of(m, token); {
	case !m.resumable || token == "":
	case old != nil && old.local() && !old.kicked.Load() && old.isToken(token):
		tags, room = slices.Collect(maps.Keys(old.tags)), room+len(old.tags)
	case rest != nil:
		tags = rest.tags
	}
	h.memories.drop(h.memories.byDevice[m.device])
	if len(tags) > room || len(tags) > h.live.Topics || h.toil.wait(m.conn.Load().addrKey, h.live.SessionsPerAddress, time.Now()) > 0 {
		return nil
	}
	for _, tag := range tags {
		if len(h.topics[tag]) >= h.live.TopicMembers {
			return nil
		}
	}
	return tags
}
