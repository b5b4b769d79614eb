package signaling

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/peersignal/peersignal/pkg/wire"
)

// conn is one WebSocket. Its reader goroutine is Server.serve, its writer
// goroutine is writeLoop; everybody else enqueues with push and ends it with
// shut.
type conn struct {
	// Static.
	ws      *websocket.Conn
	nc      net.Conn
	limits  *Limits
	metrics *metrics
	addr    string         // the client's address as it is told
	addrKey netip.Addr     // under which the gate counts it
	local   netip.AddrPort // our end
	backlog func(*member)  // fills the queue with what waits elsewhere
	wake    chan struct{}  // capacity 1

	member atomic.Pointer[member] // set once when ready

	mu      sync.Mutex
	queue   []queued
	seen    time.Time // last sign of life
	queued  int       // bytes in queue and in the frame that is being written, without lists
	closing *closing
}

// queued is a frame that waits for the writer.
type queued struct {
	frame []byte
	list  bool // it does not count
}

// closing says how a connection ends.
type closing struct {
	code   wire.CloseCode // 0: without our close code
	reason string         // metric label
	last   wire.Message   // written before closing, or nil
}

var (
	errConnClosed = errors.New("connection is closing")
	errTooLong    = errors.New("frame is over the limit")
	errBinary     = errors.New("frame is not text")
)

// ip is the client's address.
func (c *conn) ip() netip.Addr {
	ap, _ := netip.ParseAddrPort(c.addr)
	return ap.Addr()
}

// network is where the client comes from, see networkOf.
func (c *conn) network() netip.Prefix {
	ap, _ := netip.ParseAddrPort(c.addr)
	return networkOf(ap.Addr())
}

// push enqueues a frame, which must not change any more. A full queue ends the
// connection.
func (c *conn) push(frame []byte) error {
	c.mu.Lock()
	if c.closing != nil {
		c.mu.Unlock()
		return errConnClosed
	}
	if c.queued+len(frame) > c.limits.SendQueueBytes {
		c.mu.Unlock()
		c.shut(closing{code: wire.CloseSlowReader, reason: wire.CloseSlowReader.String()})
		return errConnClosed
	}
	c.queue = append(c.queue, queued{frame: frame})
	c.queued += len(frame)
	c.mu.Unlock()
	c.signal()
	return nil
}

// pushIfIdle is push for what can be said later: it refuses while the queue is
// more than half full.
func (c *conn) pushIfIdle(frame []byte) bool {
	c.mu.Lock()
	idle := c.closing == nil && c.queued+len(frame) <= c.limits.SendQueueBytes/2
	if idle {
		c.queue = append(c.queue, queued{frame: frame})
		c.queued += len(frame)
	}
	c.mu.Unlock()
	if idle {
		c.signal()
	}
	return idle
}

// pushList is push for a part of a whole list, which may be longer than the
// queue: it does not count. Lists come one after the other, when the queue is
// empty, see hub.backlog.
func (c *conn) pushList(frame []byte) bool {
	c.mu.Lock()
	ok := c.closing == nil
	if ok {
		c.queue = append(c.queue, queued{frame: frame, list: true})
	}
	c.mu.Unlock()
	c.signal()
	return ok
}

// send encodes and pushes a message.
func (c *conn) send(m wire.Message) error {
	frame, err := wire.Encode(m)
	if err != nil {
		return err
	}
	return c.push(frame)
}

func (c *conn) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// shut begins the end of the connection; only the first call counts.
func (c *conn) shut(how closing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing != nil {
		return
	}
	c.closing = &how
	if how.code == wire.CloseSlowReader {
		c.queue, c.queued = nil, 0
	}
	c.metrics.closed.WithLabelValues(how.reason).Inc()
	// A write that is stuck ends soon.
	_ = c.nc.SetWriteDeadline(time.Now().Add(closeTimeout))
	c.signal()
}

// reason is why the connection ended; shut was called before.
func (c *conn) reason() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing.reason
}

// writeLoop writes until the connection ends, and closes the socket.
func (c *conn) writeLoop() {
	defer func() { _ = c.ws.CloseNow() }()
	for {
		frames, how := c.take()
		if len(frames) == 0 && how == nil {
			if m := c.member.Load(); m != nil {
				c.backlog(m)
			}
			<-c.wake
			continue
		}
		for _, f := range frames {
			if err := c.write(f); err != nil {
				c.shut(closing{reason: endOf(err)})
				return
			}
		}
		if how != nil {
			c.finish(how)
			return
		}
	}
}

// endOf names the reason of a write that failed.
func endOf(err error) string {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return wire.CloseSlowReader.String()
	}
	return endStopped
}

func (c *conn) take() ([]queued, *closing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	frames := c.queue
	c.queue = nil
	return frames, c.closing
}

// ending reports whether shut was called.
func (c *conn) ending() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing != nil
}

// lastSeen is when the client last gave a sign of life.
func (c *conn) lastSeen() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen
}

func (c *conn) write(f queued) error {
	c.extendWrite()
	err := c.ws.Write(context.Background(), websocket.MessageText, f.frame)
	if !f.list {
		c.mu.Lock()
		c.queued = max(0, c.queued-len(f.frame))
		c.mu.Unlock()
	}
	return err
}

// extendWrite gives the next write its time. While the connection ends, the deadline is shut's.
func (c *conn) extendWrite() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing == nil {
		_ = c.nc.SetWriteDeadline(time.Now().Add(c.limits.WriteTimeout))
	}
}

// finish says the last word and makes the closing handshake, within
// closeTimeout.
func (c *conn) finish(how *closing) {
	_ = c.nc.SetDeadline(time.Now().Add(closeTimeout))
	if how.last != nil {
		if frame, err := wire.Encode(how.last); err == nil {
			_ = c.ws.Write(context.Background(), websocket.MessageText, frame)
		}
	}
	switch {
	case how.code != 0:
		_ = c.ws.Close(websocket.StatusCode(how.code), how.code.String())
	case how.reason == endBye:
		_ = c.ws.Close(websocket.StatusNormalClosure, "")
	}
}

// keepBuffer is the largest read buffer that is kept for the next message.
const keepBuffer = 8 << 10

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// read reads one text frame of at most limit bytes. The buffer is lent only
// once there is something to read, because most connections are silent most of
// the time; the caller gives it back with release.
func (c *conn) read(limit int) (*bytes.Buffer, error) {
	typ, r, err := c.ws.Reader(context.Background())
	if err != nil {
		return nil, err
	}
	if typ != websocket.MessageText {
		return nil, errBinary
	}
	buf := buffers.Get().(*bytes.Buffer)
	if _, err := buf.ReadFrom(io.LimitReader(r, int64(limit)+1)); err != nil {
		release(buf)
		return nil, err
	}
	if buf.Len() > limit {
		release(buf)
		return nil, errTooLong
	}
	c.alive()
	return buf, nil
}

func release(buf *bytes.Buffer) {
	if buf.Cap() <= keepBuffer {
		buf.Reset()
		buffers.Put(buf)
	}
}

// alive notes a sign of life. While the connection ends, the deadline is
// finish's.
func (c *conn) alive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing == nil {
		c.seen = time.Now()
		_ = c.nc.SetReadDeadline(c.seen.Add(c.limits.PingTimeout))
	}
}

// ping sends a ping; the pong extends the read deadline (see alive). The write deadline of the last message has long
// passed on a connection that is silent, and would end it.
func (c *conn) ping() {
	c.extendWrite()
	ctx, cancel := context.WithTimeout(context.Background(), c.limits.PingInterval)
	defer cancel()
	_ = c.ws.Ping(ctx)
}
