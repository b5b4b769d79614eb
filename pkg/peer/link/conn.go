package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// Conn is an authenticated connection with one device. Its methods are safe
// for concurrent use.
type Conn struct {
	remote   Remote
	session  peercrypto.Hash
	outgoing bool
	since    time.Time
	arrivals uint64 // offers that had arrived when it was authenticated; guarded by the link

	tr     *transport
	main   *channel
	ctx    context.Context // ends, with the cause, when the connection does
	cancel context.CancelCauseFunc
	accept chan *Stream // capacity maxRemoteStreams
	keeper *keeper

	bytesIn, bytesOut       atomic.Uint64
	messagesIn, messagesOut atomic.Uint64
	unread                  atomic.Int64

	rttMu sync.Mutex
	rtt   time.Duration // shortest of the path; 0 when unknown
	rttAt time.Time     // when it was looked at

	mu      sync.Mutex
	streams map[*Stream]struct{}
	opening int // OpenStream calls that have a place but no channel yet
	ended   bool
	readers sync.WaitGroup
}

func newConn(a *attempt, tr *transport, main *channel, remote Remote, session peercrypto.Hash) *Conn {
	return &Conn{
		remote: remote, session: session, outgoing: a.outgoing, since: a.link.cfg.Now(),
		tr: tr, main: main, ctx: a.ctx, cancel: a.cancel, keeper: a.keeper,
		accept: make(chan *Stream, maxRemoteStreams), streams: make(map[*Stream]struct{}),
	}
}

// Remote says who is at the other end. All of it is proven: the device signed
// this channel, the user's key signed the device's certificate and the user
// document, and the user id is derived from Genesis.
func (c *Conn) Remote() Remote { return c.remote }

// SessionID returns the hash of the authentication transcript: the same on both
// sides, different for each connection.
func (c *Conn) SessionID() peercrypto.Hash { return c.session }

// Outgoing reports whether this device made the offer.
func (c *Conn) Outgoing() bool { return c.outgoing }

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.ctx.Done() }

// Err returns why the connection ended, nil before.
func (c *Conn) Err() error {
	if c.ctx.Err() == nil {
		return nil
	}
	return context.Cause(c.ctx)
}

// Close ends the connection. The reason is for this side's log and event; the
// peer sees that the connection was closed. Data that is on its way may be
// lost. Close does not wait and may be called again.
func (c *Conn) Close(reason string) error {
	if reason == "" {
		c.fail(ErrClosed)
	} else {
		c.fail(fmt.Errorf("%w: %s", ErrClosed, reason))
	}
	return nil
}

// fail ends the connection with err; the first reason stays.
func (c *Conn) fail(err error) { c.cancel(err) }

// serve runs the connection until it has ended and all its goroutines have.
func (c *Conn) serve() {
	var wg sync.WaitGroup
	wg.Go(c.readMain)
	wg.Go(c.acceptLoop)
	wg.Go(func() { c.keeper.run(c) })
	<-c.ctx.Done()
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.tr.close() // ends every read
	wg.Wait()
	c.drainIncoming()
	c.readers.Wait()
}

// readMain reads what comes on the main channel after authentication. Nothing
// is defined for it yet; it is ignored, so that later versions may.
func (c *Conn) readMain() {
	for {
		_, err := mainChannel{c.main}.ReadFrame()
		if err != nil && !errors.Is(err, ErrAuthFrame) {
			if !errors.Is(err, ErrPeerClosed) {
				err = fmt.Errorf("%w: %w", ErrPeerClosed, err)
			}
			c.fail(err)
			return
		}
		if errors.Is(err, ErrAuthFrame) {
			c.fail(fmt.Errorf("main channel: %w", err))
			return
		}
	}
}

// acceptLoop makes streams of the channels that the peer opens.
func (c *Conn) acceptLoop() {
	for {
		select {
		case ch := <-c.tr.incoming:
			s := newStream(c, ch, ch.label[len(streamPrefix):], false)
			if !c.adopt(s) {
				_ = ch.raw.Close()
				return
			}
			c.accept <- s // never full: the transport counts
		case <-c.ctx.Done():
			return
		}
	}
}

// adopt registers a stream and starts its reader.
func (c *Conn) adopt(s *Stream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	c.streams[s] = struct{}{}
	c.readers.Go(s.receive)
	return true
}

func (c *Conn) forget(s *Stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.streams, s)
	s.gone = true
	if s.taken {
		c.tr.remoteEnded()
	}
}

// take hands out a stream that the peer opened. Its place is free again when
// it has ended and was taken, which bounds the streams that wait.
func (c *Conn) take(s *Stream) *Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.taken = true
	if s.gone {
		c.tr.remoteEnded()
	}
	return s
}

// drainIncoming closes channels that nobody made a stream of.
func (c *Conn) drainIncoming() {
	for {
		select {
		case ch := <-c.tr.incoming:
			_ = ch.raw.Close()
		default:
			return
		}
	}
}

// OpenStream opens a stream with a name of [a-z0-9/-]{1,64}, which the peer
// gets from AcceptStream. It returns when the stream can be written; the peer
// need not have heard of it. At most MaxStreams may be open that this side
// opened (ErrTooManyStreams). Close every stream.
func (c *Conn) OpenStream(ctx context.Context, name string) (*Stream, error) {
	if !validStreamName(name) {
		return nil, fmt.Errorf("opening stream: %w", ErrStreamName)
	}
	if err := c.reserve(); err != nil {
		return nil, fmt.Errorf("opening stream %s: %w", name, err)
	}
	opened := make(chan *channel, 1)
	dc, err := c.tr.pc.CreateDataChannel(streamPrefix+name, nil)
	if err != nil {
		c.release()
		return nil, fmt.Errorf("opening stream %s: %w", name, errors.Join(err, c.Err()))
	}
	c.tr.onOpen(dc, func(ch *channel) { opened <- ch })
	select {
	case ch := <-opened:
		s := newStream(c, ch, name, true)
		ok := c.adopt(s)
		c.release()
		if !ok {
			return nil, fmt.Errorf("opening stream %s: %w", name, c.Err())
		}
		return s, nil
	case <-c.ctx.Done():
		c.release()
		return nil, fmt.Errorf("opening stream %s: %w", name, c.Err())
	case <-ctx.Done():
		// The channel may still open; the connection ends it then.
		c.abandon(opened)
		return nil, fmt.Errorf("opening stream %s: %w", name, ctx.Err())
	}
}

// reserve takes a place for a stream of this side.
func (c *Conn) reserve() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	n := c.opening
	for s := range c.streams {
		if s.opened {
			n++
		}
	}
	if n >= MaxStreams {
		return ErrTooManyStreams
	}
	c.opening++
	return nil
}

func (c *Conn) release() {
	c.mu.Lock()
	c.opening--
	c.mu.Unlock()
}

// abandon closes the channel of an OpenStream that gave up, and frees its place
// then.
func (c *Conn) abandon(opened <-chan *channel) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		c.opening--
		return
	}
	c.readers.Go(func() {
		defer c.release()
		select {
		case ch := <-opened:
			_ = ch.raw.Close()
		case <-c.ctx.Done():
		}
	})
}

// AcceptStream waits for a stream that the peer opens.
func (c *Conn) AcceptStream(ctx context.Context) (*Stream, error) {
	select {
	case s := <-c.accept:
		return c.take(s), nil
	default:
	}
	select {
	case s := <-c.accept:
		return c.take(s), nil
	case <-c.ctx.Done():
		return nil, fmt.Errorf("accepting stream: %w", c.Err())
	case <-ctx.Done():
		return nil, fmt.Errorf("accepting stream: %w", ctx.Err())
	}
}

// Stats returns the counters and the network path.
func (c *Conn) Stats() Stats {
	st := Stats{
		BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(),
		MessagesIn: c.messagesIn.Load(), MessagesOut: c.messagesOut.Load(),
	}
	c.mu.Lock()
	st.Streams = len(c.streams)
	ended := c.ended
	c.mu.Unlock()
	if ended {
		return st
	}
	st.Restarts, st.Lost = c.keeper.state()
	p := c.tr.path()
	st.LocalCandidateType, st.RemoteCandidateType, st.Protocol, st.RTT = p.Local, p.Remote, p.Protocol, p.RTT
	return st
}

// LogValue returns the short ids, for logs.
func (c *Conn) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("device", c.remote.DeviceID.Short()), slog.String("user", c.remote.UserID.Short()),
		slog.String("session", c.session.Short()),
	)
}
