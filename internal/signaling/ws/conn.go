package ws

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Handler is told what happens on a connection.
type Handler interface {
	// Message takes a text message, on the goroutine of Serve; text is valid
	// until it returns. False ends Serve with ErrStopped.
	Message(text []byte) bool
	// Frame is told of every frame that is not a whole message: control frames
	// and fragments. Same goroutine, same result.
	Frame() bool
	// Drained is called after Kick, once all that was queued before is written.
	// It may queue more, and is called again when that is written. No locks are
	// held.
	Drained()
	// Failed is told once, from any goroutine, that writing has failed. It has
	// to call Shut.
	Failed(err error)
}

// Options are shared by connections and must not change.
type Options struct {
	QueueBytes   int           // most bytes of messages that wait
	WriteTimeout time.Duration // for what was waiting to be taken by the socket
	CloseTimeout time.Duration // from Shut to the end
	Budget       *Budget       // nil: no limit in all
	Late         *Late         // nil: nothing is late
}

// Errors of writing.
var (
	// ErrClosing: the connection ends, nothing more can be sent.
	ErrClosing = errors.New("websocket: the connection is closing")
	// ErrFull: the message does not fit into the queue.
	ErrFull = errors.New("websocket: the send queue is full")
	// ErrStopped is what Serve gives when the Handler wanted no more.
	ErrStopped = errors.New("websocket: stopped")
)

// End says how Shut ends a connection.
type End struct {
	Last   []byte // message that is written behind all others; nil: none
	Code   int    // of the close frame; 0: no closing handshake
	Reason string
	Drop   bool // what waits in the queue is not written
}

// Conn is one connection. Upgrade makes it; one goroutine calls Serve and then
// Finish, which closes the socket. Everything else may be called from several
// goroutines until then.
type Conn struct {
	nc  net.Conn
	raw syscall.RawConn // nil: the socket cannot be polled
	h   Handler
	o   *Options

	// Bound once, since binding a method allocates.
	readFn  func(fd uintptr) bool
	writeFn func(fd uintptr)

	reader // owned by the goroutine of Serve and Finish

	ended  atomic.Bool   // Shut was called
	unsure atomic.Uint32 // see Probe

	mu        sync.Mutex // the socket's writes and all below
	flushing  bool       // flush runs, and is the only one that writes
	kicked    bool       // ask Drained when the queue is empty
	woken     bool       // Probe has moved the read deadline
	dead      bool       // writing has failed
	endSent   bool       // what end wants is in the queue
	closeSent bool       // a close frame is among it
	lateNoted bool
	lateSoon  bool
	lateShard uint8 // static
	lateSince uint32
	replied   uint32 // see Late.replies
	queued    int    // bytes in tail, wire and queue, and in what flush is writing, that count
	late      []byte // replies that go out with the next frame, see Late
	end       *End
	tail      []byte   // wire bytes that have to come first
	wire      []byte   // whole frames that wait, in wire form
	queue     []queued // messages that wait
	toldAt    int64    // Unix ms, see QueueSoon

	// Arguments and results of tryWrite.
	out    []byte
	outN   int
	outErr error

	peerEnd int           // the peer's close code, once it has closed
	flushed chan struct{} // made with end; closed when flush has written it or given up
}

// queued is a message that waits.
type queued struct {
	message []byte
	free    bool // it does not count
}

func newConn(nc net.Conn, read []byte, h Handler, o *Options) *Conn {
	c := &Conn{nc: nc, h: h, o: o, raw: pollable(nc)}
	c.readFn, c.writeFn = c.readable, c.tryWrite
	c.limit = 1 << 16
	if o.Late != nil {
		c.lateShard = uint8(o.Late.next.Add(1) % lateShards)
	}
	if len(read) > 0 {
		c.buf, c.end_ = read, len(read)
	}
	return c
}

// SetLimit bounds the messages that are read from now on. It is for the
// goroutine of Serve, and before it.
func (c *Conn) SetLimit(bytes int) { c.limit = bytes }

// Queued is how many bytes of messages wait.
func (c *Conn) Queued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queued
}

// Shut begins the end of the connection: what waits, the last message and a
// close frame are written within CloseTimeout, Serve returns, and nothing more
// can be sent. Only the first call counts.
func (c *Conn) Shut(how End) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != nil {
		return
	}
	c.end, c.flushed = &how, make(chan struct{})
	c.ended.Store(true)
	if how.Drop {
		c.dropLocked()
	}
	if c.dead {
		if !c.flushing {
			close(c.flushed)
		}
		return
	}
	limit := time.Now().Add(c.o.CloseTimeout)
	_ = c.nc.SetWriteDeadline(limit)
	if how.Code == 0 && how.Last == nil {
		limit = time.Unix(1, 0) // there is nothing to wait for
	}
	_ = c.nc.SetReadDeadline(limit)
	if !c.flushing {
		c.flushing = true
		go c.flush()
	}
}

// dropLocked forgets what waits; a frame that has begun has to be ended.
func (c *Conn) dropLocked() {
	counts, all := len(c.wire), len(c.wire)
	for _, m := range c.queue {
		all += len(m.message)
		if !m.free {
			counts += len(m.message)
		}
	}
	c.queue, c.wire, c.late = nil, nil, nil
	c.queued -= counts
	c.o.Budget.Give(all)
}

// Finish waits until what Shut wants is written and the peer has closed its
// side, at most CloseTimeout, and closes the socket. Without a Shut before it
// closes at once.
func (c *Conn) Finish() {
	c.Shut(End{Drop: true})
	<-c.flushed
	c.mu.Lock()
	wait := c.closeSent && !c.dead
	c.mu.Unlock()
	if wait {
		c.discard()
	}
	_ = c.nc.Close()
	c.letGo()
}

// Abort closes the socket at once. Serve returns, and Finish still has to be
// called.
func (c *Conn) Abort() { _ = c.nc.Close() }
