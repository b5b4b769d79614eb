package signaling

import (
	"errors"
	"time"

	"github.com/peersignal/peersignal/internal/signaling/ws"
	"github.com/peersignal/peersignal/pkg/wire"
)

// serve is the reader of a connection, from hello to the end.
func (s *Server) serve(c *conn) {
	defer s.wg.Done()
	if s.greet(c) {
		s.pendings.setBusy(c.pending, false)
		err := c.transport.Serve()
		s.endRead(c, err)
	}
	c.shut(closing{reason: endGone}) // unless something else ended it
	s.pendings.leave(c.pending)
	m, kept := c.member.Load(), false
	if m != nil {
		var over bool
		if kept, over = s.hub.part(m, c); over {
			s.ended(m, c.reason())
		}
	}
	c.transport.Finish()
	if !kept { // a parked session keeps its place
		s.gate.leave(c.addrKey, m != nil)
	}
	s.forget(c)
}

// endRead ends a connection after its last read.
func (s *Server) endRead(c *conn, err error) {
	var bad *ws.ProtocolError
	switch {
	case c.lastWord != nil:
		c.shut(*c.lastWord)
	case c.member.Load() == nil && errors.Is(err, ws.ErrTooLong):
		s.refuseAuth(c, nil, &wire.Refused{Code: wire.CodeInvalid, Message: "the first frame is over 8 KiB"})
	case errors.Is(err, ws.ErrTooLong):
		c.shut(closing{code: wire.CloseTooLarge, reason: wire.CloseTooLarge.String()})
	case errors.Is(err, ws.ErrMemory):
		c.Failed(err)
	case !errors.As(err, &bad):
		c.shut(closing{reason: endGone})
	case c.member.Load() == nil && bad.Code != ws.CodeProtocol:
		s.refuseAuth(c, nil, &wire.Refused{Code: wire.CodeInvalid, Message: "frames are text in UTF-8"})
	case bad.Code != ws.CodeProtocol:
		c.shut(badProtocol())
	default:
		c.shut(closing{code: wire.CloseCode(bad.Code), reason: wire.CloseProtocol.String()})
	}
}

// Message implements ws.Handler. Everything but relaying is done on a stack of
// its own, so that the one of a connection that is silent again stays small.
func (c *conn) Message(text []byte) bool {
	c.alive()
	m := c.member.Load()
	if m == nil {
		return aside(func() bool { return c.server.authenticate(c, text) })
	}
	now := c.server.cfg.Now()
	allowed, wait, exhausted := c.in.take(now)
	if exhausted {
		return c.stop(closing{code: wire.CloseRate, reason: wire.CloseRate.String()})
	}
	var sig wire.SignalRef
	if allowed && sig.Scan(text) {
		if sig.Ack != 0 && !c.server.hub.ack(m, sig.Ack) {
			return c.stop(badProtocol())
		}
		c.server.relay(c, m, &sig, now)
		return true
	}
	if n, ok := wire.ScanAck(text); ok && allowed && c.server.hub.ack(m, n) {
		c.metrics.acks.Inc()
		return true
	}
	return aside(func() bool { return c.server.message(c, m, text, allowed, wait) })
}

// Frame implements ws.Handler: control frames and fragments count as messages.
func (c *conn) Frame() bool {
	c.alive()
	if c.member.Load() == nil {
		c.early++
		return c.early < earlyFrames || c.stop(closing{code: wire.CloseRate, reason: wire.CloseRate.String()})
	}
	if _, _, exhausted := c.in.take(c.server.cfg.Now()); exhausted {
		return c.stop(closing{code: wire.CloseRate, reason: wire.CloseRate.String()})
	}
	return true
}

// stop ends the connection when the answers to what was read are written.
func (c *conn) stop(how closing) bool {
	c.lastWord = &how
	return false
}

func aside(f func() bool) bool {
	done := make(chan bool, 1)
	go func() { done <- f() }()
	return <-done
}

// message handles a message of a session that is no plain signal.
func (s *Server) message(c *conn, m *member, text []byte, allowed bool, wait time.Duration) (goOn bool) {
	c.transport.FlushReplies() // before what this one leads to
	msg, err := wire.DecodeFromClient(text)
	switch {
	case err != nil:
		return s.answerBad(c, err)
	case !allowed:
		s.metrics.messages.WithLabelValues(msg.Type()).Inc()
		s.answer(c, wire.Result{
			ID: requestID(msg), Code: wire.CodeRateLimited,
			Message: "too many messages", RetryAfter: wait.Milliseconds() + 1,
		})
	default:
		s.handle(c, m, msg)
	}
	return true
}

// answerBad answers a frame that is no message, or ends the connection.
func (s *Server) answerBad(c *conn, err error) (goOn bool) {
	s.metrics.messages.WithLabelValues("invalid").Inc()
	var d *wire.DecodeError
	if errors.As(err, &d) && d.ID != 0 {
		s.answer(c, wire.Result{ID: d.ID, Code: d.Code, Message: d.Reason})
		return true
	}
	return c.stop(badProtocol())
}

func requestID(msg wire.Message) uint64 {
	switch m := msg.(type) {
	case *wire.Topics:
		return m.ID
	case *wire.Signal:
		return m.ID
	case *wire.ICERequest:
		return m.ID
	case *wire.PushRequest:
		return m.ID
	case *wire.Wake:
		return m.ID
	default:
		return 0
	}
}

func (s *Server) handle(c *conn, m *member, msg wire.Message) {
	if sig, ok := msg.(*wire.Signal); ok {
		if sig.Ack != 0 && !s.hub.ack(m, sig.Ack) {
			c.shut(badProtocol())
			return
		}
		s.relaySpelled(c, m, sig)
		return
	}
	s.metrics.messages.WithLabelValues(msg.Type()).Inc()
	switch msg := msg.(type) {
	case *wire.Topics:
		s.setTopics(c, m, msg)
	case *wire.ICERequest:
		s.sendICE(c, m, msg.ID)
	case *wire.PushRequest:
		s.push(c, m, msg)
	case *wire.Wake:
		s.wake(c, m, msg)
	case *wire.Ack:
		if !s.hub.ack(m, msg.N) {
			c.shut(badProtocol())
		}
	case *wire.Bye:
		m.finish(c, closing{reason: endBye})
	default:
		// A second auth: the nonce has been used.
		c.shut(badProtocol())
	}
}

// badProtocol ends a connection whose client does what the protocol forbids, as
// to acknowledge what it was not sent.
func badProtocol() closing {
	return closing{code: wire.CloseProtocol, reason: wire.CloseProtocol.String()}
}

func (s *Server) setTopics(c *conn, m *member, msg *wire.Topics) {
	done, err := wire.Encode(&wire.Result{ID: msg.ID, Code: wire.CodeOK})
	if err != nil {
		s.log.Error("result cannot be encoded", "error", err)
		return
	}
	code, text, wait := s.hub.setTopics(m, c, msg.Add, msg.Del, done)
	if code == wire.CodeOK {
		return // done has been sent
	}
	s.answer(c, wire.Result{ID: msg.ID, Code: code, Message: text, RetryAfter: wait.Milliseconds()})
}

// relay routes a signal. One for another node is answered when that node has.
func (s *Server) relay(c *conn, m *member, sig *wire.SignalRef, now time.Time) {
	s.metrics.signals[sig.Kind].Inc()
	r := s.hub.route(m, c, sig, now)
	if r.forward != nil {
		r.code = s.hub.cluster.forward(m, r.forward, c, sig.Signal())
	}
	if counted := s.metrics.resultOf[r.code]; counted != nil {
		counted.Inc()
		lent := stamps.Get().(*[stampBytes]byte)
		c.transport.Reply(wire.AppendResult(lent[:0], sig.ID, r.code), r.code == wire.CodeDelivered)
		stamps.Put(lent)
		return
	}
	switch r.code {
	case "", codeHeld: // the answer comes later
	case wire.CodeRateLimited:
		s.answer(c, wire.Result{
			ID: sig.ID, Code: r.code, Message: "too many offers to this device", RetryAfter: r.wait.Milliseconds() + 1,
		})
	default:
		s.answer(c, wire.Result{ID: sig.ID, Code: r.code})
	}
}

// relaySpelled relays a signal whose frame was spelled in another way than
// ours.
func (s *Server) relaySpelled(c *conn, m *member, sig *wire.Signal) {
	frame, err := wire.Encode(sig)
	var ref wire.SignalRef
	if err != nil || !ref.Scan(frame) {
		s.log.Error("signal cannot be encoded again", "error", err)
		s.answer(c, wire.Result{ID: sig.ID, Code: wire.CodeInvalid})
		return
	}
	s.relay(c, m, &ref, s.cfg.Now())
}

func (s *Server) answer(c *conn, r wire.Result) {
	if r.ID == 0 {
		return
	}
	s.metrics.results.WithLabelValues(string(r.Code)).Inc()
	if err := c.send(&r); err != nil && !errors.Is(err, errConnClosed) {
		s.log.Error("result cannot be encoded", "error", err)
	}
}

func (s *Server) sendICE(c *conn, m *member, id uint64) {
	servers, expires, err := s.iceServers(m)
	if err == nil {
		err = c.send(&wire.ICE{ID: id, Servers: servers, Expires: expires})
	}
	switch {
	case err == nil || errors.Is(err, errConnClosed):
	case id != 0:
		s.log.Warn("ICE servers cannot be had", "session", m.session.String()[:8], "error", err)
		s.answer(c, wire.Result{
			ID: id, Code: wire.CodeUnavailable, Message: "no ICE servers now",
			RetryAfter: (5 * time.Second).Milliseconds(),
		})
	default:
		s.log.Warn("ICE servers cannot be renewed", "session", m.session.String()[:8], "error", err)
	}
}

// iceDue tells whether credentials are about to expire.
func (m *member) iceDue(now time.Time) bool {
	m.iceMu.Lock()
	defer m.iceMu.Unlock()
	return !m.iceExpires.IsZero() && m.iceExpires.Sub(now) < iceRenewBefore
}
