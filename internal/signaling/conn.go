package signaling

import (
	"errors"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peersignal/peersignal/internal/signaling/ws"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// transport carries the messages of a connection: *ws.Conn, whose methods say
// more. Whatever else speaks to clients one day implements the same.
type transport interface {
	// Serve reads until the connection ends, Finish closes it.
	Serve() error
	Finish()
	SetLimit(bytes int)
	// Send writes at once when nothing waits, Reply when all that was read is
	// handled or even later, the others queue.
	Send(message []byte) error
	SendFramed(framed []byte) error
	SendBelow(message []byte, most int) bool
	Reply(message []byte, late bool)
	FlushReplies()
	Queue(message []byte) error
	QueueSoon(message []byte, most int) bool
	QueueOver(message []byte) error
	Queued() int
	Kick()
	Ping()
	Probe() // to be called now and then
	Shut(how ws.End)
}

// conn is one connection. The goroutine of Server.serve reads; whoever has
// something to say writes through the transport, which has the mutex and the
// queue. It is the transport's Handler. What each message needs stands first,
// as in member.
type conn struct {
	server    *Server   // static
	transport transport // static

	member atomic.Pointer[member] // set once when ready
	seen   atomic.Int64           // last sign of life, Unix ms by the keeper's clock

	// The reader's.
	in       bucket
	lately   lately
	early    int      // control frames and fragments before auth
	lastWord *closing // how it ends after Message gave false

	// Static.
	limits  *Limits
	metrics *metrics
	addr    string         // the client's address as it is told
	from    netip.Addr     // the same without the port
	addrKey netip.Addr     // under which the gate counts it
	local   netip.AddrPort // our end

	pending *pending    // static
	hello   *wire.Hello // until auth
	begun   int64       // Unix ms by the keeper's clock

	nextPing int64 // the keeper's
	shard    uint8 // the keeper's, static

	mu      sync.Mutex
	closing *closing
}

// closing says how a connection ends.
type closing struct {
	code   wire.CloseCode // 0: without our close code
	reason string         // metric label
	last   wire.Message   // written before closing, or nil
}

var errConnClosed = errors.New("connection is closing")

// ip is the client's address.
func (c *conn) ip() netip.Addr { return c.from }

// network is where the client comes from, see networkOf.
func (c *conn) network() netip.Prefix { return networkOf(c.from) }

// push enqueues a frame, which must not change any more. A full queue ends the
// connection.
func (c *conn) push(frame []byte) error { return c.pushed(c.transport.Queue(frame)) }

// pushNow is push that makes the system call itself if nothing waits, and
// copies what it cannot write: not for use under the hub's lock.
func (c *conn) pushNow(frame []byte) error { return c.pushed(c.transport.Send(frame)) }

func (c *conn) pushed(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ws.ErrFull), errors.Is(err, ws.ErrMemory):
		c.Failed(err)
	}
	return errConnClosed
}

// stampBytes is how long a relayed frame may be for which memory is at hand.
const stampBytes = 4 << 10

var stamps = sync.Pool{New: func() any { return new([stampBytes]byte) }}

// pushStamped is pushNow for a signal from a device, and gives the length of its
// frame.
func (c *conn) pushStamped(sig *wire.SignalRef, from peercrypto.ID) (n int, err error) {
	need := ws.Headroom + sig.StampedSize()
	if need > stampBytes {
		buf := sig.AppendStamped(make([]byte, ws.Headroom, need), from)
		return len(buf) - ws.Headroom, c.pushed(c.transport.SendFramed(buf))
	}
	lent := stamps.Get().(*[stampBytes]byte)
	defer stamps.Put(lent)
	buf := sig.AppendStamped(lent[:ws.Headroom], from)
	return len(buf) - ws.Headroom, c.pushed(c.transport.SendFramed(buf))
}

// pushNowIfIdle is pushIfIdle that makes the system call itself if nothing
// waits.
func (c *conn) pushNowIfIdle(frame []byte) bool {
	return c.transport.SendBelow(frame, c.limits.SendQueueBytes/2)
}

// pushIfIdle is push for what can be said later: it refuses while the queue is
// more than half full. What comes often goes out together.
func (c *conn) pushIfIdle(frame []byte) bool {
	return c.transport.QueueSoon(frame, c.limits.SendQueueBytes/2)
}

// pushList is push for a part of a whole list, which may be longer than the
// queue: it does not count. Lists come one after the other, when the queue is
// empty, see hub.backlog.
func (c *conn) pushList(frame []byte) bool { return c.transport.QueueOver(frame) == nil }

// send encodes and pushes a message.
func (c *conn) send(m wire.Message) error {
	frame, err := wire.Encode(m)
	if err != nil {
		return err
	}
	return c.push(frame)
}

// signal has hub.backlog called when the queue is empty.
func (c *conn) signal() { c.transport.Kick() }

// Drained implements ws.Handler.
func (c *conn) Drained() {
	if m := c.member.Load(); m != nil {
		c.server.hub.backlog(m)
	}
}

// backlogBytes is how much waits in the connection's queue.
func (c *conn) backlogBytes() int { return c.transport.Queued() }

// Failed implements ws.Handler.
func (c *conn) Failed(err error) {
	switch {
	case errors.Is(err, ws.ErrFull), errors.Is(err, os.ErrDeadlineExceeded):
		c.shut(closing{code: wire.CloseSlowReader, reason: wire.CloseSlowReader.String()})
	case errors.Is(err, ws.ErrMemory):
		c.shut(closing{code: ws.CodeTryLater, reason: endMemory})
	default:
		c.shut(closing{reason: endStopped})
	}
}

// shut begins the end of the connection; only the first call counts.
func (c *conn) shut(how closing) {
	c.mu.Lock()
	first := c.closing == nil
	if first {
		c.closing = &how
	}
	c.mu.Unlock()
	if !first {
		return
	}
	c.metrics.closed.WithLabelValues(how.reason).Inc()
	end := ws.End{Code: int(how.code), Drop: how.code == wire.CloseSlowReader || how.code == ws.CodeTryLater}
	switch {
	case how.code >= wire.CloseRefused:
		end.Reason = how.code.String()
	case how.reason == endBye:
		end.Code = ws.CodeNormal
	}
	if how.last != nil {
		end.Last, _ = wire.Encode(how.last) // without it the code has to do
	}
	c.transport.Shut(end)
}

// reason is why the connection ended; shut was called before.
func (c *conn) reason() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing.reason
}

// ending reports whether shut was called.
func (c *conn) ending() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing != nil
}

// alive notes a sign of life.
func (c *conn) alive() {
	if now := c.server.keeper.clock.Load(); c.seen.Load() != now {
		c.seen.Store(now)
	}
}

// lastSeen is when the client last gave a sign of life, about.
func (c *conn) lastSeen() time.Time { return time.UnixMilli(c.seen.Load()) }
