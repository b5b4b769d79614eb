package turn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const retryDelay = 10 * time.Millisecond

// Server is an embedded STUN/TURN server. New binds its sockets, Run serves
// them. All methods may be called from several goroutines.
type Server struct {
	// Static, but for what Reload changes in minter and policy.
	cfg       Config
	minter    *minter
	ledger    *ledger
	policy    atomic.Pointer[Policy]
	sources   *sources
	names     *names
	metrics   *metrics
	family4   *family // nil: not relayed; one of the two is there
	family6   *family
	listeners []listener
	tls       []net.Listener
	tlsConfig *tls.Config

	// running counts what Run waits for: accept loops, fronts, and relays
	// until pion's goroutine for them ends. It grows only under mu and while
	// not stopped.
	running sync.WaitGroup

	mu        sync.Mutex
	started   bool
	serving   bool // between start and stop
	stopped   bool
	relays    map[*net.UDPAddr]*relay // by relay.addr
	fronts    map[*front]struct{}
	tcpConns  int
	tcpByNet  map[netip.Prefix]int
	capLogged bool

	closeOnce sync.Once
	closing   chan struct{}
}

// New validates cfg and binds the listeners, so that Addrs is known and
// clients can already queue; nothing is answered before Run. The caller must
// call Run or Close.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg:      cfg,
		minter:   newMinter(cfg.Secrets, cfg.TTL),
		ledger:   newLedger(cfg),
		sources:  newSources(cfg.UnauthenticatedPerSecond),
		names:    newNames(),
		metrics:  newMetrics(),
		relays:   make(map[*net.UDPAddr]*relay),
		fronts:   make(map[*front]struct{}),
		tcpByNet: make(map[netip.Prefix]int),
		closing:  make(chan struct{}),
	}
	if err := s.resolveFamilies(); err != nil {
		return nil, fmt.Errorf("configuring turn: %w", err)
	}
	if err := s.setPolicy(cfg.AllowPeers, cfg.DenyPeers); err != nil {
		return nil, fmt.Errorf("configuring turn: %w", err)
	}
	if err := s.listenAll(); err != nil {
		s.closeListeners()
		return nil, err
	}
	if err := s.metrics.register(cfg.Registerer, cfg, s.sources); err != nil {
		s.closeListeners()
		return nil, err
	}
	return s, nil
}

// Run serves until ctx ends or Close is called, ends every allocation, and
// returns after every goroutine it started. It may be called once.
func (s *Server) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.started {
		s.mu.Unlock()
		return errors.New("running turn: Run or Close was called before")
	}
	s.started = true
	s.mu.Unlock()

	err := s.start()
	if err == nil {
		s.cfg.Logger.Info("turn is serving", "listen", s.Addrs(), "tls", s.TLSAddrs(), "relays", s.relayAddresses(),
			"ports", slog.GroupValue(slog.Int("first", int(s.cfg.RelayPorts[0])), slog.Int("last", int(s.cfg.RelayPorts[1]))))
		select {
		case <-ctx.Done():
		case <-s.closing:
		}
	}
	s.stop()
	s.running.Wait()
	return err
}

func (s *Server) start() error {
	s.mu.Lock()
	s.serving = true
	s.mu.Unlock()
	for _, l := range s.listeners {
		for _, u := range l.udp {
			w, err := u.wire(s)
			if err != nil {
				return fmt.Errorf("running turn: %w", err)
			}
			if err := s.addFront(transportUDP, w); err != nil {
				return fmt.Errorf("running turn: %w", err)
			}
		}
		s.acceptFrom(l.tcp, transportTCP)
	}
	for _, l := range s.tls {
		s.acceptFrom(l, transportTLS)
	}
	return nil
}

func (s *Server) acceptFrom(l net.Listener, transport string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.running.Go(func() { s.accept(l, transport) })
	}
}

// stop refuses what is new and closes what is open. It does not wait.
func (s *Server) stop() {
	_ = s.Close()
	s.mu.Lock()
	s.stopped = true
	fronts := make([]*front, 0, len(s.fronts))
	for f := range s.fronts {
		fronts = append(fronts, f)
	}
	s.mu.Unlock()
	s.endRelays(endShutdown, func(*relay) bool { return true })
	for _, f := range fronts {
		_ = f.Close()
	}
	s.closeListeners()
}

func (s *Server) closeListeners() {
	for _, l := range s.listeners {
		for _, u := range l.udp {
			_ = u.Close()
		}
		_ = l.tcp.Close()
	}
	for _, l := range s.tls {
		_ = l.Close()
	}
}

// Close makes Run return, and closes the listeners at once when Run was not
// called. It is idempotent and does not wait for Run.
func (s *Server) Close() error {
	s.closeOnce.Do(func() {
		close(s.closing)
		s.mu.Lock()
		started := s.started
		s.started = true
		s.mu.Unlock()
		if !started {
			s.closeListeners()
		}
	})
	return nil
}

// Addrs returns the bound addresses, one for each Config.Listen; UDP and TCP
// share the port.
func (s *Server) Addrs() []netip.AddrPort {
	addrs := make([]netip.AddrPort, len(s.listeners))
	for i, l := range s.listeners {
		addrs[i] = addrPortOf(l.udp[0].LocalAddr())
	}
	return addrs
}

// TLSAddrs returns the bound addresses, one for each Config.TLSListen.
func (s *Server) TLSAddrs() []netip.AddrPort {
	addrs := make([]netip.AddrPort, len(s.tls))
	for i, l := range s.tls {
		addrs[i] = addrPortOf(l.Addr())
	}
	return addrs
}

// Credentials mints credentials for one signaling session of one user, valid
// for Config.TTL. The error is ErrRevoked after Revoke(session), ErrClosed
// after Close.
func (s *Server) Credentials(session, user string) (Credentials, error) {
	select {
	case <-s.closing:
		return Credentials{}, fmt.Errorf("minting turn credentials: %w", ErrClosed)
	default:
	}
	c, tag, err := s.minter.mint(session, user, s.cfg.Now())
	if err != nil {
		return Credentials{}, err
	}
	if s.cfg.Introductions != nil {
		s.names.add(tag, session)
	}
	s.metrics.credentials.Inc()
	return c, nil
}

// Revoke ends the live allocations of the session at once, and refuses its
// credentials from now on. It returns how many allocations it ended.
func (s *Server) Revoke(session string) int {
	tags := make(map[string]bool)
	for _, t := range s.minter.revoke(session, s.cfg.Now()) {
		tags[t] = true
	}
	return s.endRelays(endRevoked, func(r *relay) bool { return tags[r.tag] })
}

// RevokeUser ends the live allocations of all sessions of the user, and refuses
// the credentials that they have got so far. It returns how many it ended.
func (s *Server) RevokeUser(user string) int {
	tags := make(map[string]bool)
	for _, t := range s.minter.revokeUser(user, s.cfg.Now()) {
		tags[t] = true
	}
	return s.endRelays(endRevoked, func(r *relay) bool { return tags[r.place.user.tag] })
}

// RevokeNetwork ends the live allocations of clients in the network and returns
// how many. Config.Barred keeps them from making others.
func (s *Server) RevokeNetwork(clients netip.Prefix) int {
	return s.endRelays(endRevoked, func(r *relay) bool { return clients.Contains(r.source.Addr().Unmap()) })
}

// endUser ends the user's allocations: the day's bytes are used up.
func (s *Server) endUser(u *user) {
	s.endRelays(endDay, func(r *relay) bool { return r.place.user == u })
}

func (s *Server) endRelays(reason string, which func(*relay) bool) int {
	s.mu.Lock()
	var ending []*relay
	for _, r := range s.relays {
		if which(r) {
			ending = append(ending, r)
		}
	}
	s.mu.Unlock()
	n := 0
	for _, r := range ending {
		if r.end(reason) {
			n++
		}
	}
	return n
}

// withRelay calls fn with the relay that pion names by its address.
func (s *Server) withRelay(at net.Addr, fn func(*relay)) {
	addr, ok := at.(*net.UDPAddr)
	if !ok {
		return
	}
	s.mu.Lock()
	r := s.relays[addr]
	s.mu.Unlock()
	if r != nil {
		fn(r)
	}
}

func (s *Server) forget(r *relay) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.relays, r.addr)
}

// retry says whether to read on after an error. Only a closed socket ends a
// reader; anything else passes, and the wait keeps a lasting error cheap.
func (s *Server) retry(err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return false
	}
	select {
	case <-s.closing:
		return false
	case <-time.After(retryDelay):
		return true
	}
}
