package signaling

import (
	"errors"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// Pusher wakes devices that are not connected.
type Pusher interface {
	// PublicKey is the application server key for browsers, base64url.
	PublicKey() string
	// Token makes the token of a subscription that a device has for itself. An
	// error's text is for the device.
	Token(device peercrypto.ID, sub wire.PushSubscription) (token string, expires time.Time, err error)
	// Push queues a notification, or returns ErrPushGone or ErrPushBusy.
	Push(w *wire.Wake, from peercrypto.ID) error
}

// Errors of a Pusher.
var (
	ErrPushGone = errors.New("the push token is not valid (any more)")
	ErrPushBusy = errors.New("too many notifications at once")
)

// push answers a request for the application key and a token.
func (s *Server) push(c *conn, m *member, req *wire.PushRequest) {
	if s.cfg.Push == nil {
		s.answer(c, wire.Result{ID: req.ID, Code: wire.CodeUnavailable, Message: "this server does not push"})
		return
	}
	grant := wire.PushGrant{ID: req.ID, Key: s.cfg.Push.PublicKey()}
	if req.Subscription != nil {
		token, expires, err := s.cfg.Push.Token(m.device, *req.Subscription)
		if err != nil {
			s.answer(c, wire.Result{ID: req.ID, Code: wire.CodeInvalid, Message: err.Error()})
			return
		}
		grant.Token, grant.Expires = token, expires.UnixMilli()
	}
	s.metrics.results.WithLabelValues(string(wire.CodeOK)).Inc()
	if err := c.send(&grant); err != nil && !errors.Is(err, errConnClosed) {
		s.log.Error("push token cannot be encoded", "error", err)
	}
}

// wake has a notification pushed. Who has the token may do that: the device
// gave it away.
func (s *Server) wake(c *conn, m *member, w *wire.Wake) {
	res := wire.Result{ID: w.ID, Code: wire.CodeQueued}
	ok, wait := m.notes.allow(s.cfg.Limits.NotifiesPerMinute, s.cfg.Now())
	switch {
	case s.cfg.Push == nil:
		res.Code, res.Message = wire.CodeUnavailable, "this server does not push"
	case !ok:
		res.Code, res.Message, res.RetryAfter = wire.CodeRateLimited, "too many notifications", wait.Milliseconds()+1
	default:
		switch err := s.cfg.Push.Push(w, m.device); {
		case errors.Is(err, ErrPushBusy):
			res.Code, res.Message, res.RetryAfter = wire.CodeRateLimited, err.Error(), time.Minute.Milliseconds()
		case err != nil:
			res.Code, res.Message = wire.CodeGone, ErrPushGone.Error()
		}
	}
	s.answer(c, res)
}
