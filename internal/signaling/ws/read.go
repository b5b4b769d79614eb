package ws

import (
	"encoding/binary"
	"errors"
	"math"
	"sync"
	"time"
	"unicode/utf8"
)

// reader is what reading needs. buf is lent while there is something to read,
// and kept while a frame is incomplete.
type reader struct {
	buf         []byte // read so far: buf[start:end_]
	start, end_ int
	limit       int
	skip        uint64 // bytes of a frame that nobody wants
	charged     int    // bytes of buf and msg on the budget

	replies []byte // frames to write when all that was read has been handled
	prompt  bool   // they must not be late
	inMsg   bool
	over    bool   // nothing more can be read
	msg     []byte // fragments of a message so far
	readErr error
	small   []byte // where the socket cannot be polled: buf of a silent connection
}

// unknown is skip when it is not known where the next frame begins.
const unknown = math.MaxUint64

const (
	lentBytes  = 4 << 10
	smallBytes = 512
)

var lent = sync.Pool{New: func() any { return new([lentBytes]byte) }}

// Serve reads until the connection ends, calls the Handler, and gives the
// reason: *CloseError, *ProtocolError, ErrTooLong, ErrMemory, ErrStopped or an
// error of the socket. The caller then calls Shut and Finish.
func (c *Conn) Serve() error {
	if c.start < c.end_ {
		if err := c.consume(); err != nil {
			return err
		}
	}
	return c.receive()
}

func (c *Conn) receive() error {
	if c.raw == nil {
		return c.receivePlain()
	}
	for {
		c.readErr = nil
		err := c.raw.Read(c.readFn)
		if err == nil {
			return c.readErr
		}
		if !c.wasWoken() {
			return err
		}
	}
}

// wasWoken tells whether it was Probe that ended a read.
func (c *Conn) wasWoken() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	woken := c.woken && c.end == nil && !c.dead
	if c.woken = false; woken {
		_ = c.nc.SetReadDeadline(time.Time{})
	}
	return woken
}

// receivePlain is receive for sockets that cannot be polled.
func (c *Conn) receivePlain() error {
	for {
		if c.buf == nil {
			if c.small == nil {
				c.small = make([]byte, smallBytes)
			}
			c.buf = c.small
		}
		n, err := c.nc.Read(c.buf[c.end_:])
		c.end_ += n
		if n > 0 {
			if err := c.consume(); err != nil {
				return err
			}
			if err := c.settle(); err != nil {
				return err
			}
		}
		if err != nil {
			c.over = true
			return err
		}
	}
}

// lend makes room to read into.
func (c *Conn) lend() {
	if c.buf == nil {
		c.buf = lent.Get().(*[lentBytes]byte)[:]
	}
}

// giveBack gives the buffer back when it is of the pool.
func (c *Conn) giveBack() {
	if cap(c.buf) == lentBytes {
		lent.Put((*[lentBytes]byte)(c.buf[:lentBytes]))
	}
	c.buf, c.start, c.end_ = nil, 0, 0
}

// settle is called when there is nothing to read for now: a silent connection
// holds no buffer, and one in the middle of a message has to be able to afford
// it.
func (c *Conn) settle() error {
	if c.start == c.end_ {
		c.giveBack()
	}
	held := cap(c.msg)
	if c.buf != nil {
		held += cap(c.buf)
	}
	if held <= smallBytes && c.raw == nil {
		held = 0
	}
	if held > c.charged && !c.o.Budget.Take(held-c.charged) {
		return ErrMemory
	}
	if held < c.charged {
		c.o.Budget.Give(c.charged - held)
	}
	c.charged = held
	return nil
}

// letGo gives up what the reader holds, at the very end.
func (c *Conn) letGo() {
	c.giveBack()
	c.msg, c.small = nil, nil
	c.o.Budget.Give(c.charged)
	c.charged = 0
}

// consume handles the whole frames that have been read, writes the replies, and
// makes room for what follows.
func (c *Conn) consume() error {
	need, err := c.frames()
	if c.replies != nil {
		c.flushReplies()
	}
	if noRoom := c.makeRoom(need); err == nil {
		err = noRoom
	}
	return err
}

// frames handles whole frames; need is how long the one is that is not whole
// yet, or 0 when not even that is known.
func (c *Conn) frames() (need int, err error) {
	for {
		if c.skip > 0 {
			n := min(c.skip, uint64(c.end_-c.start))
			c.start += int(n)
			if c.skip != unknown {
				c.skip -= n
			}
		}
		rest := c.buf[c.start:c.end_]
		h, n, err := parseHeader(rest)
		if err != nil {
			c.skip = unknown
			return 0, err
		}
		if n == 0 {
			return 0, nil
		}
		if !h.op.control() {
			if c.ended.Load() {
				c.start, c.skip = c.start+n, h.length
				continue
			}
			if uint64(len(c.msg))+h.length > uint64(c.limit) {
				c.start, c.skip = c.start+n, h.length
				return 0, ErrTooLong
			}
		}
		if uint64(len(rest)-n) < h.length {
			return n + int(h.length), nil
		}
		payload := rest[n : n+int(h.length)]
		c.start += n + len(payload)
		unmask(payload, h.key)
		if err := c.frame(h, payload); err != nil {
			return 0, err
		}
	}
}

// makeRoom makes room behind what has been read of a frame.
func (c *Conn) makeRoom(need int) error {
	have := c.end_ - c.start
	need = max(need, have+1)
	switch {
	case have == 0:
		c.start, c.end_ = 0, 0
		if cap(c.buf) > lentBytes {
			c.giveBack()
		}
		return nil
	case c.start+need <= len(c.buf):
		return nil
	case need <= len(c.buf):
		copy(c.buf, c.buf[c.start:c.end_])
		c.start, c.end_ = 0, have
		return nil
	}
	// Memory follows what has come, not what was announced.
	bigger := make([]byte, max(min(need, 2*len(c.buf)), smallBytes))
	copy(bigger, c.buf[c.start:c.end_])
	c.giveBack()
	c.buf, c.end_ = bigger, have
	return c.settle()
}

// frame handles one frame.
func (c *Conn) frame(h frameHeader, payload []byte) error {
	if h.op == opClose {
		return c.closed(payload)
	}
	if c.ended.Load() {
		return nil // only the peer's close matters now
	}
	switch h.op {
	case opPing:
		c.prompt = true
		c.reply(opPong, payload)
	case opPong:
	case opBinary:
		return &ProtocolError{Code: CodeNotText, Reason: "a message is not text"}
	default:
		if (h.op == opText) == c.inMsg {
			return violation("fragments of a message are out of order")
		}
		if h.fin && !c.inMsg {
			return c.message(payload)
		}
		c.msg, c.inMsg = append(c.msg, payload...), true
		if h.fin {
			whole := c.msg
			c.msg, c.inMsg = nil, false
			return c.message(whole)
		}
	}
	if !c.h.Frame() {
		return ErrStopped
	}
	return nil
}

func (c *Conn) message(text []byte) error {
	if !utf8.Valid(text) {
		return &ProtocolError{Code: CodeBadText, Reason: "a message is not UTF-8"}
	}
	if !c.h.Message(text) {
		return ErrStopped
	}
	return nil
}

// closed takes the peer's close frame.
func (c *Conn) closed(payload []byte) error {
	code := CodeNoStatus
	if len(payload) == 1 {
		return violation("a close frame is too short")
	}
	if len(payload) >= 2 {
		code = int(binary.BigEndian.Uint16(payload))
		if !validCloseCode(code) || !utf8.Valid(payload[2:]) {
			return violation("a close frame is malformed")
		}
	}
	c.over = true
	c.mu.Lock()
	c.peerEnd = code
	c.mu.Unlock()
	return &CloseError{Code: code}
}

// Reply sends a message with the other replies once all that was read has been
// handled, or later still, see Late. It is for the Handler, while Message runs.
// The caller keeps payload.
func (c *Conn) Reply(payload []byte, late bool) {
	if late && c.replies == nil && c.replyLate(payload) {
		return
	}
	c.prompt = c.prompt || !late
	c.reply(opText, payload)
}

func (c *Conn) reply(op opcode, payload []byte) {
	if c.replies == nil {
		c.replies = lent.Get().(*[lentBytes]byte)[:0]
	}
	c.replies = appendFrame(c.replies, op, payload)
	if len(c.replies) > lentBytes/2 {
		c.flushReplies()
	}
}

// FlushReplies writes the replies now, for a Handler that is about to Shut.
func (c *Conn) FlushReplies() {
	c.prompt = true
	if c.replies != nil {
		c.flushReplies()
	}
}

func (c *Conn) flushReplies() {
	if c.prompt {
		c.sendWire(c.replies)
	} else {
		c.sendLate(c.replies)
	}
	if cap(c.replies) == lentBytes {
		lent.Put((*[lentBytes]byte)(c.replies[:lentBytes]))
	}
	c.replies, c.prompt = nil, false
}

// discard reads until the peer closes or the deadline of Shut has passed. A
// peer whose close frame cannot be found is told by the end of the stream.
func (c *Conn) discard() {
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok && c.skip == unknown {
		_ = half.CloseWrite()
	}
	for !c.over {
		var err error
		if c.start < c.end_ {
			err = c.consume()
		}
		if err == nil {
			err = c.receive()
		}
		var bad *ProtocolError
		if !errors.As(err, &bad) {
			return
		}
	}
}
