// Package daemon is peerd's local API: HTTP and JSON over a Unix socket that
// only the user who runs the daemon may use. docs/api.md describes it.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/peersignal/peersignal/internal/daemon/api"
	"github.com/peersignal/peersignal/pkg/peer"
)

// Config is what a Server needs. Peer, Socket and Shutdown are required.
type Config struct {
	// Peer is served; it stays the caller's.
	Peer *peer.Peer
	// Socket is the path of the Unix socket.
	Socket string
	// Shutdown is called when a client asks the daemon to end.
	Shutdown func()
	// Ended is closed when everything has ended, the store of Peer included; the answer to who asked for the end is complete then. Nil: it
	// is when the server has ended.
	Ended <-chan struct{}
	// ServerURL, Data, Version and IDs are told by status and id.
	ServerURL, Data, Version string
	ID                       api.ID
	// MaxRequests bounds requests that are served at once; default 256. More
	// are answered "busy".
	MaxRequests int
	// Logger gets refusals and internal errors; default slog.Default().
	Logger *slog.Logger
	// Now is the clock; default time.Now.
	Now func() time.Time
}

const (
	headerTimeout = 5 * time.Second
	bodyTimeout   = 30 * time.Second // of a request that is no stream
	idleTimeout   = 2 * time.Minute
	writeTimeout  = 5 * time.Minute // of one piece of an answer: who reads slower is cut off
	drainTimeout  = 5 * time.Second // of requests that run when the server ends
	maxHeader     = 16 << 10
)

// A Server serves the API.
type Server struct {
	cfg     Config
	log     *slog.Logger
	started time.Time
	slots   chan struct{}
	lis     net.Listener
	http    *http.Server
	ctx     context.Context // of streams; ends when the server drains
	ended   chan struct{}   // closed when Run has ended
	stop    context.CancelFunc
}

// New validates cfg and opens the socket: from then on clients can connect.
func New(cfg Config) (*Server, error) {
	if cfg.Peer == nil || cfg.Socket == "" || cfg.Shutdown == nil {
		return nil, errors.New("daemon configuration: Peer, Socket and Shutdown are required")
	}
	if cfg.MaxRequests <= 0 {
		cfg.MaxRequests = 256
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	lis, err := listen(cfg.Socket)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: cfg.Logger, started: cfg.Now(), slots: make(chan struct{}, cfg.MaxRequests), lis: lis, ended: make(chan struct{})}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler: s.guard(s.routes()), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, callerKey{}, callerOf(c))
		},
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Run serves until ctx ends, then ends streams, waits for other requests for a
// few seconds and removes the socket.
func (s *Server) Run(ctx context.Context) error {
	defer close(s.ended)
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.lis) }()
	select {
	case err := <-served:
		s.stop()
		return fmt.Errorf("serving the local API: %w", err)
	case <-ctx.Done():
	}
	s.stop()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	err := s.http.Shutdown(drain)
	if err != nil {
		err = errors.Join(fmt.Errorf("ending requests of the local API: %w", err), s.http.Close())
	}
	if served := <-served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("serving the local API: %w", served))
	}
	return err
}

// Close removes the socket of a server that does not run.
func (s *Server) Close() error {
	s.stop()
	return errors.Join(s.http.Close(), ignoreClosed(s.lis.Close()))
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

type callerKey struct{}

// A caller is who is at the other end of the socket, by the kernel's word.
type caller struct {
	uid   int
	known bool // false where the system can't tell: the socket's modes have to do
	err   error
}

// guard refuses other users, bounds what runs, and makes sure that no mistake
// ends the daemon.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, _ := r.Context().Value(callerKey{}).(caller)
		if who.err != nil || who.known && who.uid != ownUID() {
			s.log.Warn("local API refused another user", "uid", who.uid, "path", r.URL.Path, "error", who.err)
			s.fail(w, &api.Error{Code: api.CodeOtherUser, Message: "this daemon serves only the user who runs it"})
			return
		}
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		default:
			s.fail(w, &api.Error{Code: api.CodeBusy, Message: "too many requests at once", Hint: "End some `peerd watch` or wait."})
			return
		}
		defer func() {
			if v := recover(); v != nil {
				s.log.Error("local API handler failed", "path", r.URL.Path, "panic", v)
				panic(http.ErrAbortHandler)
			}
		}()
		next.ServeHTTP(w, r)
	})
}
