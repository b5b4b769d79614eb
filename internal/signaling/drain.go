package signaling

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/peersignal/peersignal/pkg/wire"
)

// Drain empties the server. From now on it takes no new sessions. Every session
// is told to come back, to whoever serves this name then, at a time of its own:
// random within the window, which spreads the load. Until then it is served;
// what waits for sessions that are parked is answered expired. Drain returns
// when all connections have ended. Those that are left at the end of the window
// are closed with 4008 once they were sent what they had coming, at once when
// ctx ends. Run still has to be ended.
func (s *Server) Drain(ctx context.Context, window time.Duration) error {
	if window < 0 {
		return errors.New("draining: the window is negative")
	}
	if s.stopAccepting() {
		s.audit(AuditEvent{Kind: AuditDrain, Detail: "window " + window.String()})
	}
	s.announceDrain(window)
	over := time.NewTimer(window)
	defer over.Stop()
	select {
	case <-s.empty:
		return nil
	case <-over.C:
	case <-ctx.Done():
	}
	s.closeAll(false, 0)
	select {
	case <-s.empty:
		return nil
	case <-ctx.Done():
	}
	s.closeAll(true, 0)
	<-s.empty
	return nil
}

// stopAccepting refuses new connections and sessions, and says whether it did so
// for the first time.
func (s *Server) stopAccepting() (first bool) {
	s.mu.Lock()
	first = !s.draining
	s.draining = true
	s.emptiedLocked()
	s.mu.Unlock()
	s.hub.close()
	return first
}

// emptiedLocked tells when a draining server has no connection any more.
func (s *Server) emptiedLocked() {
	if !s.draining || len(s.conns) > 0 {
		return
	}
	select {
	case <-s.empty:
	default:
		close(s.empty)
	}
}

// announceDrain tells each session when to go, and refuses who is none yet.
func (s *Server) announceDrain(window time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		after := spread(window)
		if c.member.Load() == nil {
			c.shut(closing{code: wire.CloseDraining, reason: wire.CloseDraining.String(), last: drainMessage(c, after)})
		} else {
			_ = c.send(drainMessage(c, after)) // one that is ending needs no notice
		}
	}
}

// spread is a random time within a window, in ms: no secret.
func spread(window time.Duration) int64 {
	return rand.Int64N(max(window.Milliseconds(), 1))
}

// closeAll ends every connection: at once, or when its client was sent what it
// has coming. With a window, clients are told to come back within it.
func (s *Server) closeAll(atOnce bool, window time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		how := closing{code: wire.CloseDraining, reason: wire.CloseDraining.String()}
		if window > 0 {
			how.last = drainMessage(c, spread(window))
		}
		if m := c.member.Load(); m != nil && !atOnce {
			m.finish(c, how)
		} else {
			c.shut(how)
		}
	}
}

// drain ends every connection and waits for all of them.
func (s *Server) drain() {
	s.stopAccepting()
	s.closeAll(false, drainSpread)
	force := time.AfterFunc(closeTimeout, func() { s.closeAll(true, drainSpread) })
	defer force.Stop()
	s.cancel()
	s.wg.Wait()
}

// drainMessage is a notice for a session, and a refusal for what is none yet.
func drainMessage(c *conn, after int64) wire.Message {
	if c.member.Load() != nil {
		return &wire.Notice{Code: wire.CodeDraining, Message: "this server is stopping", RetryAfter: after}
	}
	r := drainingRefusal()
	r.RetryAfter = after
	return r
}
