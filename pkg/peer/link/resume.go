package link

import (
	"context"
	"errors"
	"fmt"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

const (
	// ackDelay is well below wire.AckDelay, since the acknowledgement travels.
	ackDelay = wire.AckDelay / 2
	// leaveTimeout bounds the wait for what the server has yet to send.
	leaveTimeout = 2 * time.Second
	// resendTimeout bounds the wait for another connection of the session.
	resendTimeout = 10 * time.Second
)

// continuity is what a link keeps of its session with the server from one
// connection to the next. The supervisor owns it, and what serves a connection
// for it; peers is guarded by the link's mutex.
type continuity struct {
	name   string // of the server
	token  string // "": nothing to go on with
	until  time.Time
	got    uint64 // counted frames
	nextID uint64 // request ids do not repeat

	held   map[peercrypto.Tag]struct{} // tags that the server has for us
	unsure map[peercrypto.Tag]struct{} // tags whose last change had no result

	peers presence // as it was when the connection ended
}

// forget makes the session one that nothing is known about.
func (c *continuity) forget() {
	c.token, c.got = "", 0
	c.held, c.unsure = make(map[peercrypto.Tag]struct{}), make(map[peercrypto.Tag]struct{})
}

// resumeFor gives the token to show to a server, if there is one for it.
func (c *continuity) resumeFor(name string, now time.Time) (token string, got uint64) {
	if c.token == "" || c.name != name || !now.Before(c.until) {
		return "", 0
	}
	return c.token, c.got
}

// begin takes note of a session that is ready.
func (c *continuity) begin(s *session) {
	r := s.ready
	if c.held == nil || c.name != s.name || !r.Resumed && r.Topics == 0 {
		c.forget()
	}
	if !r.Resumed {
		c.got = 0
	}
	s.got.Store(c.got)
	c.name, c.token, c.until = s.name, r.Resume, time.UnixMilli(r.ResumeExpires)
}

// end takes note of what came over a connection.
func (c *continuity) end(s *session) {
	c.got = s.got.Load()
	s.mu.Lock()
	c.nextID = s.nextID
	s.mu.Unlock()
	var bad *wire.DecodeError
	if cause := context.Cause(s.ctx); said(cause) || errors.As(cause, &bad) {
		c.token = "" // it was ended with bye, or would send again what cannot be read
	}
}

// changed notes what became of a change of topics.
func (c *continuity) changed(add, del []peercrypto.Tag, err error) {
	for _, t := range append(append([]peercrypto.Tag(nil), add...), del...) {
		delete(c.held, t)
		delete(c.unsure, t)
		if err != nil {
			c.unsure[t] = struct{}{}
		}
	}
	if err == nil {
		for _, t := range add {
			c.held[t] = struct{}{}
		}
	}
}

// restoreLocked brings back who was seen before the connection ended, of the
// topics that are held still. The server tells what has changed.
func (l *Link) restoreLocked(p presence) {
	for tag, devices := range p.topics {
		if _, ours := l.topics[tag]; !ours {
			continue
		}
		for id := range devices {
			cert := p.devices[id].cert
			l.peers.join(tag, cert)
			r := remoteOf(cert)
			r.Via = []peercrypto.Tag{tag}
			l.queue.push(Discovered{Remote: r, Tag: tag})
		}
	}
}

// errMoved ends a session whose server is about to stop, at the time that it
// chose for us.
var errMoved = errors.New("the signaling server is about to stop")

// said tells the ends of a session of which the server is told with bye.
func said(cause error) bool {
	return errors.Is(cause, errMoved) || errors.Is(cause, errRenew) || errors.Is(cause, ErrClosed)
}

// count takes note of a counted frame, and sees to its acknowledgement. It is of
// the reader.
func (s *session) count(m wire.Message) {
	switch m := m.(type) {
	case *wire.Present:
		s.got.Add(1)
	case *wire.Signal:
		s.got.Add(1)
		if s.ready.Resume == "" {
			return
		}
		if acked := s.acked.Load(); acked != s.ackSeen {
			s.ackSeen, s.unacked = acked, 0
		}
		if s.unacked == 0 {
			s.ackTimer.Reset(ackDelay)
		}
		if s.unacked += len(m.Env.CT) + 256; s.unacked >= wire.AckBytes {
			s.unacked = 0
			s.ack()
		}
	}
}

// ack tells the server what has been received. It does not block: when there is
// much to send, the next one will do.
func (s *session) ack() {
	n := s.toAck()
	if n == 0 {
		return // a signal has brought it along
	}
	frame, err := wire.Encode(&wire.Ack{N: n})
	if err != nil {
		return
	}
	select {
	case s.out <- frame:
	default:
		s.acked.Store(0)
		s.ackTimer.Reset(ackDelay)
	}
}

// toAck gives what is to be acknowledged now, which the caller sends, or 0.
func (s *session) toAck() uint64 {
	n := s.got.Load()
	if s.ready.Resume == "" || s.acked.Swap(n) == n {
		return 0
	}
	return n
}

// leaveLater takes note of when the server wants this session to go. Until then
// it is served.
func (s *session) leaveLater(n *wire.Notice) {
	after := time.Duration(n.RetryAfter) * time.Millisecond
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leave != nil {
		return
	}
	s.notice, s.leaveAt = n, time.Now().Add(after)
	s.leave = time.AfterFunc(after, func() { s.cancel(errMoved) })
}

// moved gives the reason of a session that ended after the server had said that
// it would stop: what is left of the time until the next one.
func (s *session) moved(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leave == nil {
		return err
	}
	s.leave.Stop()
	if errors.Is(err, ErrClosed) {
		return err
	}
	return &noticeError{s.notice.Code, s.notice.Message, max(time.Until(s.leaveAt), 0)}
}

// deliver sends a signal and waits within that time for its result. If the connection ends before
// that, and the session goes on over another one, the signal is sent again: the
// receiver ignores what it has seen.
func (l *Link) deliver(ctx context.Context, within time.Duration, build func(id uint64) wire.Message) error {
	l.mu.Lock()
	s, last := l.session, l.last
	l.mu.Unlock()
	if s == nil && last != nil {
		s = l.nextConnection(ctx, last)
	}
	if s == nil {
		return ErrServerDown
	}
	for {
		_, err := s.call(ctx, within, build)
		if err == nil || !errors.Is(err, ErrServerDown) {
			return err
		}
		if s = l.nextConnection(ctx, s); s == nil {
			return err
		}
	}
}

// nextConnection waits for another connection of the session of s, or gives nil.
func (l *Link) nextConnection(ctx context.Context, s *session) *session {
	if s.ready.Resume == "" {
		return nil
	}
	timer := time.NewTimer(resendTimeout)
	defer timer.Stop()
	for {
		l.mu.Lock()
		next, fresh := l.session, l.upped
		l.mu.Unlock()
		if next != nil && next != s {
			if next.ready.Session != s.ready.Session {
				return nil
			}
			return next
		}
		select {
		case <-fresh:
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// insecureQuery marks the URL of a server that may be reached without TLS.
const insecureQuery = "?insecure=1"

// aliasOf gives name and URL for a canonical name that a server told, over the
// same kind of connection: a TLS server cannot send its client to an open one,
// and one on this machine not to an open one elsewhere, unless that was allowed.
func aliasOf(wsURL, told string, insecure bool) (name, url string, err error) {
	scheme, query := "wss://", ""
	if len(wsURL) > 5 && wsURL[:5] == "ws://" {
		scheme = "ws://"
		if insecure {
			query = insecureQuery
		}
	}
	// Of what the server told, nothing but host and port gets into the URL.
	if name, err = wire.CanonicalName(told); err == nil {
		name, url, err = wire.CanonicalServer(scheme + name + query)
	}
	if err != nil {
		return "", "", fmt.Errorf("following the server's canonical name: %w", err)
	}
	return name, url, nil
}
