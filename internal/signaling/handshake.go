package signaling

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// greet says hello; false when there is nobody to hear it any more.
func (s *Server) greet(c *conn) bool {
	c.hello = s.hello()
	frame, err := wire.Encode(c.hello)
	if err != nil {
		s.log.Error("hello cannot be encoded", "error", err)
		return false
	}
	return c.pushNow(frame) == nil
}

// authenticate takes the first message, and makes the connection a session or
// refuses it.
func (s *Server) authenticate(c *conn, text []byte) bool {
	s.pendings.setBusy(c.pending, true)
	hello := c.hello
	c.hello = nil
	auth, refused := readAuth(text)
	if refused == nil {
		refused = auth.Verify(wire.AuthCheck{
			Nonce: hello.Nonce, Issued: time.UnixMilli(hello.Time), Now: s.cfg.Now(),
			CheckName: func(name string) *wire.Refused { return checkName(s.cfg.Names, c.local, name) },
		})
	}
	if refused == nil {
		refused = s.blocked(c, auth)
	}
	if refused == nil {
		c.in = newBucket(s.live.Load().limits.MessagesPer10s, 10*time.Second, s.cfg.Now())
		c.transport.SetLimit(wire.MaxTopicsFrame)
		refused = s.open(c, auth)
	}
	s.pendings.leave(c.pending)
	if refused != nil {
		s.refuseAuth(c, auth, refused)
	}
	if refused == nil && s.blocked(c, auth) != nil { // meanwhile, and Block may have missed the session
		c.shut(closing{code: wire.CloseKicked, reason: EndKicked, last: blockedNotice()})
	}
	return refused == nil
}

// blocked is the refusal of who is blocked now, or nil.
func (s *Server) blocked(c *conn, auth *wire.Auth) *wire.Refused {
	return s.blocks.refusal(auth.A.DeviceID, auth.A.UserKey, c.ip(), s.cfg.Now())
}

func (s *Server) hello() *wire.Hello {
	h := &wire.Hello{
		V: wire.Version, Time: s.cfg.Now().UnixMilli(), Caps: []string{wire.CapRV1},
		Limits: wire.Limits{Frame: wire.MaxFrame, TopicsFrame: wire.MaxTopicsFrame, Topics: s.live.Load().limits.Topics},
	}
	if s.cfg.Limits.ResumeWindow > 0 {
		h.Caps = append(h.Caps, wire.CapResume)
	}
	h.Caps = append(h.Caps, wire.CapNotify)
	if s.cfg.Push != nil {
		h.Caps = append(h.Caps, wire.CapPush)
	}
	if len(s.cfg.Names) > 0 {
		h.Name = s.cfg.Names[0]
	}
	_, _ = rand.Read(h.Nonce[:]) // never fails, see crypto/rand
	return h
}

// readAuth decodes the first message.
func readAuth(text []byte) (*wire.Auth, *wire.Refused) {
	m, err := wire.DecodeFromClient(text)
	if err != nil {
		return nil, &wire.Refused{Code: wire.CodeInvalid, Message: reasonOf(err)}
	}
	auth, ok := m.(*wire.Auth)
	if !ok {
		return nil, &wire.Refused{Code: wire.CodeInvalid, Message: "the first message is auth"}
	}
	return auth, nil
}

// open makes an authenticated connection a session, or the connection of one
// that goes on.
func (s *Server) open(c *conn, auth *wire.Auth) *wire.Refused {
	old, goesOn := s.hub.previous(c, auth, s.cfg.Now())
	if r := s.seat(c, old); r != nil {
		return r
	}
	if goesOn && s.goOn(c, old, auth) {
		return nil
	}
	m := s.newMember(c, auth)
	if r := s.hub.add(m, s.readyFor(m, c), auth.Resume); r != nil {
		s.gate.unready(c.addrKey)
		s.unbind(m, wire.CloseRefused.String())
		return r
	}
	s.auditMember(AuditRegistered, m, "", "")
	return nil
}

// seat counts the connection as a session, or refuses.
func (s *Server) seat(c *conn, old *member) *wire.Refused {
	var spare *conn
	if old != nil {
		spare = old.conn.Load()
	}
	ok, full := s.gate.ready(c.addrKey, spare)
	if ok {
		return nil
	}
	r := &wire.Refused{
		Code: wire.CodeTooManySessions, Message: "too many sessions from this address",
		RetryAfter: time.Minute.Milliseconds(),
	}
	if full {
		r.Code, r.Message = wire.CodeServerFull, "the server has as many sessions as it can"
	}
	return r
}

func (s *Server) newMember(c *conn, auth *wire.Auth) *member {
	l := &s.live.Load().limits
	m := &member{
		session: peercrypto.NewNonce(), device: auth.A.DeviceID, deviceKey: auth.A.DeviceKey,
		userKey: auth.A.UserKey, cert: auth.Cert.Canonical(), host: hostOf(auth.A.Server),
		started:   s.cfg.Now().UnixMilli(),
		resumable: l.ResumeWindow > 0 && slices.Contains(auth.A.Caps, wire.CapResume),
		offers:    offers{perMinute: l.OffersPerMinute, concurrent: l.ConcurrentOffers},
	}
	if m.resumable {
		m.token, m.expires = peercrypto.NewNonce(), auth.Cert.Expires
	}
	m.conn.Store(c)
	return m
}

// readyFor is what a session is told first over a connection, without what it
// has back.
func (s *Server) readyFor(m *member, c *conn) *wire.Ready {
	ready := &wire.Ready{Session: m.session, You: wire.You{Addr: c.addr}}
	if m.resumable {
		ready.Resume, ready.ResumeExpires = m.token.String(), m.expires
	}
	servers, expires, err := s.iceServers(m)
	if err == nil {
		ready.ICE, ready.ICEExpires = servers, expires
		_, err = wire.Encode(ready)
	}
	if err != nil {
		s.log.Warn("session starts without ICE servers", "session", m.session.String()[:8], "error", err)
		ready.ICE, ready.ICEExpires = nil, 0
	}
	return ready
}

// goOn gives a session another connection; false when it has ended meanwhile.
func (s *Server) goOn(c *conn, m *member, auth *wire.Auth) bool {
	ready := s.readyFor(m, c)
	ready.Resumed = true
	if !s.hub.resume(m, c, auth, ready, s.cfg.Now()) {
		return false
	}
	s.auditMember(AuditResumed, m, "", "")
	return true
}

// refuseAuth is refuse, with a line in the audit log. auth is nil when there
// was none.
func (s *Server) refuseAuth(c *conn, auth *wire.Auth, r *wire.Refused) {
	e := AuditEvent{Kind: AuditRefused, Address: c.addr, Code: string(r.Code), Detail: r.Message}
	if auth != nil {
		e.Device, e.User = string(auth.A.DeviceID), auth.A.UserKey.String()
	}
	s.audit(e)
	s.refuse(c, r)
}

func (s *Server) refuse(c *conn, r *wire.Refused) {
	s.metrics.refused.WithLabelValues(string(r.Code)).Inc()
	code := wire.CloseRefused
	switch r.Code {
	case wire.CodeAuthTimeout:
		code = wire.CloseAuthTimeout
	case wire.CodeDraining:
		code = wire.CloseDraining
	}
	c.shut(closing{code: code, reason: code.String(), last: r})
}

// iceServers asks for a session's ICE servers and notes when they expire.
func (s *Server) iceServers(m *member) ([]wire.ICEServer, int64, error) {
	if s.cfg.ICE == nil {
		return nil, 0, nil
	}
	m.iceMu.Lock()
	defer m.iceMu.Unlock()
	if s.cfg.Introductions != nil {
		s.cfg.Introductions.enroll(m) // before it has credentials for a relay
	}
	ctx, cancel := context.WithTimeout(s.ctx, iceTimeout)
	defer cancel()
	servers, expires, err := s.cfg.ICE.ICEServers(ctx, ICERequest{
		Session: m.session.String(), User: m.userKey.String(), Host: m.host,
	})
	if err != nil {
		s.metrics.iceErrors.Inc()
		return nil, 0, err
	}
	s.auditCredentials(m, servers)
	m.iceExpires = expires
	if expires.IsZero() {
		return servers, 0, nil
	}
	return servers, expires.UnixMilli(), nil
}

// ended takes note that a session is over.
func (s *Server) ended(m *member, reason string) {
	if m.kicked.Load() {
		reason = EndKicked // also when its connection broke just before
	}
	s.auditMember(AuditEnded, m, reason, "")
	s.unbind(m, reason)
}

// unbind tells whoever bound something to the session.
func (s *Server) unbind(m *member, reason string) {
	if s.cfg.OnSessionEnd != nil {
		s.cfg.OnSessionEnd(m.session.String(), reason)
	}
}

func reasonOf(err error) string {
	var d *wire.DecodeError
	if errors.As(err, &d) {
		return d.Reason
	}
	return "not a message"
}
