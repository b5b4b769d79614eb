package signaling

import (
	"errors"
	"os"
	"sync"
	"time"

	"github.com/peersignal/peersignal/pkg/wire"
)

// serve is the reader of a connection: handshake, then messages until the end.
func (s *Server) serve(c *conn) {
	defer s.wg.Done()
	written := make(chan struct{})
	go func() {
		defer close(written)
		c.writeLoop()
	}()
	m := s.handshake(c)
	kept := false
	if m != nil {
		stop := s.keepAlive(c, m)
		s.readLoop(c, m)
		var over bool
		if kept, over = s.hub.part(m, c); over {
			s.ended(m, c.reason())
		}
		stop()
	}
	<-written
	if !kept { // a parked session keeps its place
		s.gate.leave(c.addrKey, m != nil)
	}
	s.forget(c)
}

// readLoop handles messages until the connection ends.
func (s *Server) readLoop(c *conn, m *member) {
	in := newBucket(s.cfg.Limits.MessagesPer10s, 10*time.Second, s.cfg.Now())
	for {
		buf, err := c.read(wire.MaxTopicsFrame)
		if err != nil {
			c.shut(endOfRead(err))
			return
		}
		allowed, wait, exhausted := in.take(s.cfg.Now())
		if exhausted {
			release(buf)
			c.shut(closing{code: wire.CloseRate, reason: wire.CloseRate.String()})
			return
		}
		msg, err := wire.DecodeFromClient(buf.Bytes())
		release(buf)
		switch {
		case err != nil:
			if !s.answerBad(c, err) {
				return
			}
		case !allowed:
			s.metrics.messages.WithLabelValues(msg.Type()).Inc()
			s.answer(c, wire.Result{
				ID: requestID(msg), Code: wire.CodeRateLimited,
				Message: "too many messages", RetryAfter: wait.Milliseconds() + 1,
			})
		default:
			s.metrics.messages.WithLabelValues(msg.Type()).Inc()
			s.handle(c, m, msg)
		}
	}
}

// endOfRead says how a connection ends whose read failed.
func endOfRead(err error) closing {
	switch {
	case errors.Is(err, errTooLong):
		return closing{code: wire.CloseTooLarge, reason: wire.CloseTooLarge.String()}
	case errors.Is(err, errBinary):
		return closing{code: wire.CloseProtocol, reason: wire.CloseProtocol.String()}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return closing{code: wire.ClosePingTimeout, reason: wire.ClosePingTimeout.String()}
	default:
		return closing{reason: endGone}
	}
}

// answerBad answers a frame that is no message, or ends the connection.
func (s *Server) answerBad(c *conn, err error) (goOn bool) {
	s.metrics.messages.WithLabelValues("invalid").Inc()
	var d *wire.DecodeError
	if errors.As(err, &d) && d.ID != 0 {
		s.answer(c, wire.Result{ID: d.ID, Code: d.Code, Message: d.Reason})
		return true
	}
	c.shut(closing{code: wire.CloseProtocol, reason: wire.CloseProtocol.String()})
	return false
}

func requestID(msg wire.Message) uint64 {
	switch m := msg.(type) {
	case *wire.Topics:
		return m.ID
	case *wire.Signal:
		return m.ID
	case *wire.ICERequest:
		return m.ID
	default:
		return 0
	}
}

func (s *Server) handle(c *conn, m *member, msg wire.Message) {
	switch msg := msg.(type) {
	case *wire.Topics:
		s.setTopics(c, m, msg)
	case *wire.Signal:
		s.relay(c, m, msg)
	case *wire.ICERequest:
		s.sendICE(c, m, msg.ID)
	case *wire.Ack:
		if !s.hub.ack(m, msg.N) {
			c.shut(closing{code: wire.CloseProtocol, reason: wire.CloseProtocol.String()})
		}
	case *wire.Bye:
		m.finish(c, closing{reason: endBye})
	default:
		// A second auth: the nonce has been used.
		c.shut(closing{code: wire.CloseProtocol, reason: wire.CloseProtocol.String()})
	}
}

func (s *Server) setTopics(c *conn, m *member, msg *wire.Topics) {
	done, err := wire.Encode(&wire.Result{ID: msg.ID, Code: wire.CodeOK})
	if err != nil {
		s.log.Error("result cannot be encoded", "error", err)
		return
	}
	code, text := s.hub.setTopics(m, c, msg.Add, msg.Del, done)
	if code == wire.CodeOK {
		return // done has been sent
	}
	s.answer(c, wire.Result{ID: msg.ID, Code: code, Message: text})
}

// relay routes a signal. One for another node is answered when that node has.
func (s *Server) relay(c *conn, m *member, sig *wire.Signal) {
	r := s.hub.route(m, c, sig, s.cfg.Now())
	if r.forward != nil {
		r.code = s.hub.cluster.forward(m, r.forward, c, sig)
	}
	if r.code == "" || r.code == codeHeld {
		return // the answer comes later
	}
	res := wire.Result{ID: sig.ID, Code: r.code}
	if r.code == wire.CodeRateLimited {
		res.Message, res.RetryAfter = "too many offers to this device", r.wait.Milliseconds()+1
	}
	s.answer(c, res)
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

// keepAlive pings, and renews ICE servers before they expire, until stop
// returns.
func (s *Server) keepAlive(c *conn, m *member) (stop func()) {
	var mu sync.Mutex
	var timer *time.Timer
	stopped := false
	tick := func() {
		mu.Lock()
		defer mu.Unlock()
		if stopped {
			return
		}
		c.ping()
		if m.iceDue(s.cfg.Now()) {
			s.sendICE(c, m, 0)
		}
		timer.Reset(s.cfg.Limits.PingInterval)
	}
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(s.cfg.Limits.PingInterval, tick)
	return func() {
		mu.Lock()
		defer mu.Unlock()
		stopped = true
		timer.Stop()
	}
}

// iceDue tells whether credentials are about to expire.
func (m *member) iceDue(now time.Time) bool {
	m.iceMu.Lock()
	defer m.iceMu.Unlock()
	return !m.iceExpires.IsZero() && m.iceExpires.Sub(now) < iceRenewBefore
}
