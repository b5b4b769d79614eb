package signaling

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/peersignal/peersignal/pkg/wire"
)

// SessionState says whether a session has a connection.
type SessionState string

// States of a session.
const (
	StateConnected SessionState = "connected"
	StateParked    SessionState = "parked" // its connection broke; it may come back
)

// SessionInfo is what an operator may know about a session of this node. It
// is a copy.
type SessionInfo struct {
	Session string       `json:"session"`
	Device  string       `json:"device"`
	User    string       `json:"user"`    // user key, base64
	Address string       `json:"address"` // ip:port, of the last connection
	Since   time.Time    `json:"since"`   // of the session, over all its connections
	Topics  int          `json:"topics"`
	Queued  int          `json:"queuedBytes"` // bytes that wait for the client
	State   SessionState `json:"state"`
}

// Selector chooses sessions; all that is set has to match. The zero Selector
// matches every session.
type Selector struct {
	Session string       // session id
	Device  string       // device id
	User    string       // user key, base64
	Network netip.Prefix // of the client's address
	State   SessionState
}

// IsZero reports whether it matches every session.
func (s Selector) IsZero() bool { return s == Selector{} }

// Stats are a server's figures at one moment.
type Stats struct {
	Node           string `json:"node"`
	Draining       bool   `json:"draining"`
	Sessions       int    `json:"sessions"` // connected and parked, of this node
	Parked         int    `json:"parked"`
	Pending        int    `json:"pending"` // connections that are not authenticated yet
	Topics         int    `json:"topics"`
	Users          int    `json:"users"`          // of this and the other nodes
	Nodes          int    `json:"nodes"`          // other nodes on the bus
	RemoteSessions int    `json:"remoteSessions"` // sessions of other nodes
	Blocks         int    `json:"blocks"`
}

// ErrNoSelection is what Kick gives for a Selector that would match everybody.
var ErrNoSelection = errors.New("kicking: say whom: a session, a device, a user or a network")

// Stats gives the server's figures.
func (s *Server) Stats() Stats {
	st := s.hub.stats()
	pending, sessions := s.gate.counts()
	return Stats{
		Node: s.cfg.Node, Draining: s.Draining(), Sessions: sessions, Pending: pending, Topics: st.held,
		Parked: st.parked, Users: st.users, Nodes: st.nodes, RemoteSessions: st.remote, Blocks: len(s.Blocked()),
	}
}

// Draining reports whether the server takes no new sessions.
func (s *Server) Draining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// Sessions gives the sessions of this node that match, oldest first, at most
// limit of them (all for a limit that is not positive).
func (s *Server) Sessions(sel Selector, limit int) []SessionInfo {
	found := s.hub.find(sel)
	slices.SortFunc(found, func(a, b SessionInfo) int { return a.Since.Compare(b.Since) })
	if limit > 0 && len(found) > limit {
		found = found[:limit]
	}
	return found
}

// Kick ends the sessions of this node that match, connected or parked, with
// close code 4010 and reason EndKicked, and says how many there were. message
// is for the people at the other end.
func (s *Server) Kick(sel Selector, message string) (int, error) {
	if sel.IsZero() {
		return 0, ErrNoSelection
	}
	return s.end(sel, &wire.Notice{
		Code: wire.CodeKicked, Message: message, RetryAfter: time.Minute.Milliseconds(),
	}), nil
}

// Block keeps somebody out from now on, ends the sessions of this node that it
// concerns, and says how many. A block of the same target is replaced. Blocks
// are kept in memory, those in force at most MaxBlocks.
func (s *Server) Block(b Block) (ended int, err error) {
	b, err = b.normal()
	if err != nil {
		return 0, err
	}
	now := s.cfg.Now()
	if b.Created.IsZero() {
		b.Created = now
	}
	if err := s.blocks.put([]Block{b}, false, now); err != nil {
		return 0, err
	}
	s.audit(AuditEvent{Kind: AuditBlocked, Device: b.Device, User: b.User, Detail: b.Target()})
	return s.endBlocked(b), nil
}

// SetBlocks replaces all blocks, ends the sessions that they concern, and says
// how many. Invalid ones are an error, and change nothing.
func (s *Server) SetBlocks(list []Block) (ended int, err error) {
	now := s.cfg.Now()
	list = slices.Clone(list)
	for i := range list {
		if list[i], err = list[i].normal(); err != nil {
			return 0, err
		}
		if list[i].Created.IsZero() {
			list[i].Created = now
		}
	}
	if err := s.blocks.put(list, true, now); err != nil {
		return 0, err
	}
	for _, b := range list {
		if b.inForce(now) {
			ended += s.endBlocked(b)
		}
	}
	return ended, nil
}

// Unblock lifts the block of the same target and says whether there was one.
func (s *Server) Unblock(b Block) (bool, error) {
	b, err := b.normal()
	if err != nil {
		return false, err
	}
	if !s.blocks.remove(b.Target()) {
		return false, nil
	}
	s.audit(AuditEvent{Kind: AuditUnblocked, Device: b.Device, User: b.User, Detail: b.Target()})
	return true, nil
}

// Blocked gives the blocks that are in force, sorted by target.
func (s *Server) Blocked() []Block { return s.blocks.list(s.cfg.Now()) }

// BlocksAddr reports whether a network that is blocked now has the address.
func (s *Server) BlocksAddr(client netip.Addr) bool {
	s.blocks.mu.RLock()
	defer s.blocks.mu.RUnlock()
	return len(s.blocks.networks) > 0 && s.blocks.addrLocked(client, s.cfg.Now())
}

func (s *Server) endBlocked(b Block) int {
	return s.end(Selector{Device: b.Device, User: b.User, Network: b.Network}, blockedNotice())
}

func blockedNotice() *wire.Notice {
	return &wire.Notice{
		Code: wire.CodeKicked, Message: "the operator of this server does not let you in",
		RetryAfter: time.Hour.Milliseconds(),
	}
}

// end ends sessions of this node with a notice.
func (s *Server) end(sel Selector, notice *wire.Notice) int {
	return s.hub.kick(sel, closing{code: wire.CloseKicked, reason: EndKicked, last: notice}, func(m *member) {
		s.auditMember(AuditKicked, m, string(notice.Code), notice.Message)
	})
}

// kick ends the sessions of this node that match, after note. One that is
// connected is over when its connection has ended.
func (h *hub) kick(sel Selector, how closing, note func(*member)) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	var found []*member
	h.eachLocked(sel, func(m *member) { found = append(found, m) })
	for _, m := range found {
		note(m)
		m.kicked.Store(true)
		if m.parked {
			h.removeLocked(m, how.reason)
		} else {
			m.conn.Load().shut(how)
		}
	}
	return len(found)
}

// find describes the sessions of this node that match.
func (h *hub) find(sel Selector) []SessionInfo {
	h.mu.RLock()
	defer h.mu.RUnlock()
	var out []SessionInfo
	h.eachLocked(sel, func(m *member) { out = append(out, m.infoLocked()) })
	return out
}

// eachLocked calls f for the sessions of this node that match.
func (h *hub) eachLocked(sel Selector, f func(*member)) {
	for _, m := range h.devices {
		if m.local() && sel.matches(m) {
			f(m)
		}
	}
}

func (s Selector) matches(m *member) bool {
	switch {
	case s.Session != "" && s.Session != m.session.String(),
		s.Device != "" && s.Device != string(m.device),
		s.User != "" && s.User != m.userKey.String(),
		s.State != "" && s.State != m.stateLocked():
		return false
	}
	return !s.Network.IsValid() || s.Network.Contains(m.conn.Load().ip().Unmap())
}

// infoLocked describes a session of this node. hub.mu is held.
func (m *member) infoLocked() SessionInfo {
	return SessionInfo{
		Session: m.session.String(), Device: string(m.device), User: m.userKey.String(), Address: m.conn.Load().addr,
		Since: time.UnixMilli(m.started), Topics: len(m.tags), Queued: m.queued(), State: m.stateLocked(),
	}
}

func (m *member) stateLocked() SessionState {
	if m.parked {
		return StateParked
	}
	return StateConnected
}

// queued is how much waits for the client.
func (m *member) queued() int {
	n := m.conn.Load().backlogBytes()
	m.box.mu.Lock()
	defer m.box.mu.Unlock()
	for i := m.box.next; i < len(m.box.signals); i++ {
		n += len(m.box.signals[i].frame)
	}
	return n
}
