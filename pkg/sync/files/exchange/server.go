package exchange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/peersignal/peersignal/pkg/sync/files"
)

// A Stream is an ordered, reliable sequence of messages in both directions. One
// goroutine reads and one writes. ReadMessage returns io.EOF when the other side
// closed. What it returns belongs to the caller; what is given to WriteMessage
// may be used again when it has returned.
type Stream interface {
	ReadMessage(ctx context.Context) ([]byte, error)
	WriteMessage(ctx context.Context, msg []byte) error
	Close() error
}

// ServerConfig is what a [Server] needs. Store is required; zero means the
// default that is named.
type ServerConfig struct {
	Store *files.Store
	// Rate and PeerRate bound what is sent to all and to each peer, in bytes a
	// second; default no bound. PeerRate counts over all streams of a peer.
	Rate, PeerRate int64
	// MaxStreams and MaxPeerStreams bound streams that are served at once, to
	// all and to one peer; default 32 and 4. More are told to come later.
	MaxStreams, MaxPeerStreams int
	// Damaged is called when a chunk on disk is not what was stored; may be nil.
	Damaged func(*files.DamagedError)
}

const (
	// idleTimeout is how long a stream may be without a question.
	idleTimeout = 2 * time.Minute
	// writeTimeout is how long one answer may take to be written.
	writeTimeout = 2 * time.Minute
	// allowEvery is how many chunks are given until it is asked again whether
	// the peer may have them.
	allowEvery = 16
)

// Server gives files to peers. It is safe for concurrent use.
type Server struct {
	cfg   ServerConfig
	total *rate.Limiter // nil: no bound
	sent  atomic.Int64

	mu      sync.Mutex
	streams int
	peers   map[string]*served
}

// served is a peer with streams.
type served struct {
	streams int
	limit   *rate.Limiter
}

// NewServer returns a server that does nothing until Serve.
func NewServer(cfg ServerConfig) *Server {
	if cfg.MaxStreams <= 0 {
		cfg.MaxStreams = 32
	}
	if cfg.MaxPeerStreams <= 0 {
		cfg.MaxPeerStreams = 4
	}
	return &Server{cfg: cfg, total: limiter(cfg.Rate), peers: map[string]*served{}}
}

// limiter returns a token bucket that lets a chunk through at once, nil for no
// bound.
func limiter(bytesPerSecond int64) *rate.Limiter {
	if bytesPerSecond <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(bytesPerSecond), max(files.ChunkSize, int(min(bytesPerSecond/4, 1<<30))))
}

// Sent returns the bytes of chunks that were sent so far.
func (s *Server) Sent() int64 { return s.sent.Load() }

// Serve answers one stream until it ends or ctx does, and closes it. peer names
// who asks, for the bounds; allow decides, at the beginning and again and again,
// whether it may have a file. It returns nil when the peer closed the stream.
func (s *Server) Serve(ctx context.Context, peer string, allow func(files.Ref) bool, st Stream) error {
	defer func() { _ = st.Close() }()
	g := &giving{server: s, stream: st, allow: allow}
	if err := g.run(ctx, peer); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("giving a file: %w", err)
	}
	return nil
}

// enter takes a place for a stream of a peer.
func (s *Server) enter(peer string) (*served, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.peers[peer]
	if s.streams >= s.cfg.MaxStreams || p != nil && p.streams >= s.cfg.MaxPeerStreams {
		return nil, false
	}
	if p == nil {
		p = &served{limit: limiter(s.cfg.PeerRate)}
		s.peers[peer] = p
	}
	p.streams++
	s.streams++
	return p, true
}

func (s *Server) leave(peer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams--
	p := s.peers[peer]
	if p.streams--; p.streams == 0 {
		delete(s.peers, peer)
	}
}

// giving is one stream that is served.
type giving struct {
	server *Server
	stream Stream
	allow  func(files.Ref) bool
	peer   *served
	source files.Source
	given  int    // chunks
	buf    []byte // an answer with a chunk
}

func (g *giving) run(ctx context.Context, peer string) error {
	b, err := g.read(ctx)
	if err != nil {
		return err
	}
	ref, err := decodeOpen(b)
	if err != nil {
		return err
	}
	var ok bool
	if g.peer, ok = g.server.enter(peer); !ok {
		return g.write(ctx, []byte{byte(tellBusy)})
	}
	defer g.server.leave(peer)
	// Both are looked at in each case, so that the time tells little.
	source, err := g.server.cfg.Store.Source(ref)
	allowed := g.allow(ref)
	if err != nil || !allowed {
		if source != nil {
			_ = source.Close()
		}
		return g.write(ctx, []byte{byte(tellNone)})
	}
	g.source = source
	defer func() { _ = g.source.Close() }()
	if err := g.tellHave(ctx); err != nil {
		return err
	}
	for {
		b, err := g.read(ctx)
		if err != nil {
			return err
		}
		q, err := decodeQuestion(b, ref)
		if err != nil {
			return err
		}
		if err := g.answer(ctx, ref, q); err != nil {
			return err
		}
	}
}

func (g *giving) read(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, idleTimeout)
	defer cancel()
	return g.stream.ReadMessage(ctx)
}

func (g *giving) write(ctx context.Context, b []byte) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return g.stream.WriteMessage(ctx, b)
}

func (g *giving) tellHave(ctx context.Context) error {
	return g.write(ctx, append([]byte{byte(tellHave)}, g.source.Bitmap()...))
}

// errNotAllowed ends a stream whose peer may not have the file any more.
var errNotAllowed = errors.New("the peer may not have the file any more")

func (g *giving) answer(ctx context.Context, ref files.Ref, q question) error {
	switch q.kind {
	case askHave:
		if !g.allow(ref) {
			return errNotAllowed
		}
		return g.tellHave(ctx)
	case askTop:
		if top := g.source.Top(); top != nil {
			return g.write(ctx, append([]byte{byte(tellTop)}, top...))
		}
	case askPage:
		if page, err := g.source.Page(q.number); err == nil {
			return g.write(ctx, append(appendHeader(nil, tellPage, q.number), page...))
		}
	case askChunk:
		return g.chunk(ctx, ref, q)
	}
	return g.write(ctx, encodeLacks(q))
}

func (g *giving) chunk(ctx context.Context, ref files.Ref, q question) error {
	if g.given++; g.given%allowEvery == 0 && !g.allow(ref) {
		return errNotAllowed
	}
	if g.buf == nil {
		g.buf = make([]byte, headerLen+files.ChunkSize)
	}
	n, err := g.source.ReadChunk(q.number, g.buf[headerLen:])
	if errors.Is(err, files.ErrClosed) { // it got complete, or is fetched anew
		if err := g.reopen(ref); err != nil {
			return err
		}
		n, err = g.source.ReadChunk(q.number, g.buf[headerLen:])
	}
	if err != nil {
		if damaged := (*files.DamagedError)(nil); errors.As(err, &damaged) && g.server.cfg.Damaged != nil {
			g.server.cfg.Damaged(damaged)
		}
		return g.write(ctx, encodeLacks(q))
	}
	for _, l := range []*rate.Limiter{g.server.total, g.peer.limit} {
		if l != nil {
			if err := l.WaitN(ctx, n); err != nil {
				return err
			}
		}
	}
	appendHeader(g.buf[:0], tellChunk, q.number)
	if err := g.write(ctx, g.buf[:headerLen+n]); err != nil {
		return err
	}
	g.server.sent.Add(int64(n))
	return nil
}

// reopen looks for the file at its new place.
func (g *giving) reopen(ref files.Ref) error {
	source, err := g.server.cfg.Store.Source(ref)
	if err != nil {
		return err
	}
	_ = g.source.Close()
	g.source = source
	return nil
}
