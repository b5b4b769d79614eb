package signaling

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/peersignal/peersignal/internal/signaling/ws"
	"github.com/peersignal/peersignal/pkg/wire"
)

// Server is a signaling server. It serves from New on; Run ends it.
type Server struct {
	cfg      Config
	log      *slog.Logger
	live     atomic.Pointer[live]
	metrics  *metrics
	gate     gate
	hub      *hub
	blocks   blocks
	keeper   *keeper
	pendings *pendings
	sockets  ws.Options

	// ctx bounds what sessions ask others for; Run cancels it.
	ctx    context.Context
	cancel context.CancelFunc

	wg sync.WaitGroup // one for each connection

	mu       sync.Mutex
	conns    map[*conn]struct{}
	draining bool
	running  bool
	empty    chan struct{} // closed when draining and without connections
}

// New checks the configuration and makes a server that serves once its Handler
// is. With a Bus it takes part in the cluster when Run is called.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, log: cfg.Logger, conns: make(map[*conn]struct{}), empty: make(chan struct{}),
		gate: gate{limits: cfg.Limits, byAddr: make(map[netip.Addr]*addrCount)},
	}
	l := &s.cfg.Limits
	s.keeper, s.pendings = newKeeper(s), newPendings()
	s.sockets = ws.Options{
		QueueBytes: l.SendQueueBytes, WriteTimeout: l.WriteTimeout, CloseTimeout: closeTimeout,
		Budget: ws.NewBudget(l.MemoryBytes), Late: ws.NewLate(lateResults),
	}
	s.gate.budget = s.sockets.Budget
	s.hub = newHub(l)
	s.hub.introductions = cfg.Introductions
	now, err := newLive(&s.cfg)
	if err != nil {
		return nil, err
	}
	s.live.Store(now)
	if s.metrics, err = newMetrics(s); err != nil {
		return nil, err
	}
	s.hub.metrics = s.metrics
	if cfg.Bus != nil {
		s.hub.cluster = newCluster(s.hub, &s.cfg, s.metrics)
	}
	s.hub.answer, s.hub.over = s.answer, s.ended
	s.hub.vacate = func(c *conn) { s.gate.leave(c.addrKey, true) }
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Handler serves wire.Path and answers 404 for the rest.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(wire.Path, s.accept)
	return mux
}

// Run blocks until ctx ends; then it tells every session that the server is
// draining, with a random time to come back, closes them, and returns when all
// are closed and every goroutine of the server has ended. It can be called
// once. An error of the bus ends it early, too.
func (s *Server) Run(ctx context.Context) error {
	s.mu.Lock()
	again := s.running
	s.running = true
	s.mu.Unlock()
	if again {
		return errors.New("running signaling: it has been run already")
	}
	var err error
	if s.hub.cluster != nil {
		err = s.hub.cluster.run(ctx, s.drain)
	} else {
		<-ctx.Done()
		s.drain()
	}
	return err
}

// start registers a connection and begins to serve it, unless the server is
// draining. Both happen under one lock, so that drain misses none.
func (s *Server) start(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	s.conns[c] = struct{}{}
	s.keeper.add(c)
	s.wg.Add(1)
	go s.serve(c)
	return true
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.emptiedLocked()
	s.keeper.remove(c)
}
