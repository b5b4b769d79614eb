package ws

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// batchBytes is about how much is written at once.
const batchBytes = 16 << 10

var batches = sync.Pool{New: func() any { return new([batchBytes]byte) }}

// Send writes a message, at once if the socket takes it and nothing waits, and
// queues a copy otherwise. The caller keeps payload. It makes system calls:
// not for use under locks that others wait for.
func (c *Conn) Send(payload []byte) error {
	if len(payload) > batchBytes/2 {
		return c.Queue(append([]byte(nil), payload...))
	}
	b := batches.Get().(*[batchBytes]byte)
	err := c.SendFramed(append(b[:Headroom], payload...))
	batches.Put(b)
	return err
}

// SendFramed is Send for a payload that stands behind Headroom bytes, which it
// overwrites.
func (c *Conn) SendFramed(framed []byte) error {
	payload := framed[Headroom:]
	start := Headroom - headSize(len(payload))
	appendHead(framed[start:start], opText, len(payload))
	c.mu.Lock()
	if err := c.admitLocked(len(payload)); err != nil {
		c.mu.Unlock()
		return err
	}
	if !c.idleLocked() {
		err := c.queueLocked(append([]byte(nil), payload...))
		c.mu.Unlock()
		return err
	}
	return c.unlockAfterWrite(framed[start:])
}

// sendWire is Send for whole frames. What does not fit any more is lost: then
// the connection is ending.
func (c *Conn) sendWire(frames []byte) {
	c.mu.Lock()
	if err := c.admitLocked(len(frames)); err != nil {
		c.mu.Unlock()
		if !errors.Is(err, ErrClosing) {
			c.h.Failed(err)
		}
		return
	}
	if !c.idleLocked() {
		c.wire = append(c.wire, frames...)
		c.queued += len(frames)
		c.o.Budget.force(len(frames))
		c.startLocked()
		c.mu.Unlock()
		return
	}
	_ = c.unlockAfterWrite(frames)
}

// waitsLocked tells whether anything waits.
func (c *Conn) waitsLocked() bool {
	return len(c.late)+len(c.wire)+len(c.queue)+len(c.tail) > 0
}

// idleLocked tells whether a write may be tried: nobody writes, and what waits,
// because it may be late, is little enough to be written with it.
func (c *Conn) idleLocked() bool {
	if c.raw == nil || c.flushing || c.kicked {
		return false
	}
	n := len(c.late) + len(c.wire) + len(c.tail)
	for _, m := range c.queue {
		n += Headroom + len(m.message)
	}
	return n <= batchBytes/2
}

// admitLocked tells whether so many bytes more may wait.
func (c *Conn) admitLocked(n int) error {
	switch {
	case c.end != nil || c.dead:
		return ErrClosing
	case c.queued+n > c.o.QueueBytes:
		return ErrFull
	default:
		return nil
	}
}

// takeLocked puts all that waits together, which is less than a half of scratch
// when the connection is idle.
func (c *Conn) takeLocked(scratch *[batchBytes]byte) []byte {
	if !c.waitsLocked() {
		return scratch[:0]
	}
	b := c.batchLocked(scratch[:0])
	c.queued -= b.waited
	c.o.Budget.Give(b.held)
	return b.wire
}

// unlockAfterWrite tries to write what waits and frames, keeps what the socket
// does not take, and releases the lock. The connection must be idle.
func (c *Conn) unlockAfterWrite(frames []byte) error {
	if c.waitsLocked() {
		scratch := batches.Get().(*[batchBytes]byte)
		defer batches.Put(scratch)
		frames = append(c.takeLocked(scratch), frames...)
	}
	return c.unlockAfterTry(frames)
}

// unlockAfterTry is unlockAfterWrite when nothing waits.
func (c *Conn) unlockAfterTry(frames []byte) error {
	n, err := c.tryLocked(frames)
	if err != nil {
		c.failLocked()
		c.mu.Unlock()
		c.h.Failed(err)
		return ErrClosing
	}
	if rest := frames[n:]; len(rest) > 0 {
		c.tail = append([]byte(nil), rest...)
		c.queued += len(rest)
		c.o.Budget.force(len(rest))
		c.startLocked()
	}
	c.mu.Unlock()
	return nil
}

// Queue queues a message without writing it now, for use under locks. The
// message must not change any more.
func (c *Conn) Queue(message []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.admitLocked(len(message)); err != nil {
		return err
	}
	return c.queueLocked(message)
}

// QueueBelow is Queue for what can be said later: it refuses when more than
// most bytes would wait then. After that Drained is asked as after Kick.
func (c *Conn) QueueBelow(message []byte, most int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queueBelowLocked(message, most)
}

func (c *Conn) queueBelowLocked(message []byte, most int) bool {
	if c.end != nil || c.dead {
		return false
	}
	if c.queued+len(message) > most || c.queueLocked(message) != nil {
		c.kicked = true // it can be said when the queue is empty
		c.startLocked()
		return false
	}
	return true
}

// SendBelow is QueueBelow that writes at once if nothing waits, as Send does. The
// caller keeps message.
func (c *Conn) SendBelow(message []byte, most int) bool {
	c.mu.Lock()
	if len(message) > batchBytes/2 || c.end != nil || c.dead || !c.idleLocked() {
		defer c.mu.Unlock()
		if c.queued+len(message) <= most { // else it is refused
			message = append([]byte(nil), message...)
		}
		return c.queueBelowLocked(message, most)
	}
	scratch := batches.Get().(*[batchBytes]byte)
	err := c.unlockAfterTry(appendFrame(c.takeLocked(scratch), opText, message))
	batches.Put(scratch)
	return err == nil
}

// bulkBytes is the memory of a long message of Drained. Whole lists are half a
// megabyte for a member of a large group: left to the garbage collector they
// cost more than being written.
const bulkBytes = 64 << 10

var bulks = sync.Pool{New: func() any { return new([bulkBytes]byte) }}

// Bulk gives an empty slice with room for n bytes, for QueueOver.
func Bulk(n int) []byte {
	if n <= bulkBytes/2 || n > bulkBytes {
		return make([]byte, 0, n) // less than half of the memory would be used
	}
	return bulks.Get().(*[bulkBytes]byte)[:0]
}

// QueueOver is Queue for what the Handler's Drained adds: it does not count. The
// message's memory is the connection's from now on, and of Bulk again when it is
// written.
func (c *Conn) QueueOver(message []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != nil || c.dead {
		return ErrClosing
	}
	c.o.Budget.force(len(message))
	c.queue = append(c.queue, queued{message, true})
	c.startLocked()
	return nil
}

func (c *Conn) queueLocked(message []byte) error {
	if !c.o.Budget.Take(len(message)) {
		return ErrMemory
	}
	c.queue = append(c.queue, queued{message, false})
	c.queued += len(message)
	c.startLocked()
	return nil
}

// Kick makes Drained be asked once what waits now is written.
func (c *Conn) Kick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end == nil && !c.dead {
		c.kicked = true
		c.startLocked()
	}
}

// Ping sends a ping, or nothing while something else is being written: what
// answers that is a sign of life, too.
func (c *Conn) Ping() {
	c.mu.Lock()
	if c.end != nil || c.dead || c.flushing {
		c.mu.Unlock()
		return
	}
	ping := [2]byte{0x80 | byte(opPing), 0}
	if c.idleLocked() {
		_ = c.unlockAfterWrite(ping[:])
		return
	}
	c.wire = append(c.wire, ping[:]...)
	c.queued += len(ping)
	c.o.Budget.force(len(ping))
	c.startLocked()
	c.mu.Unlock()
}

// startLocked starts flush when it does not run.
func (c *Conn) startLocked() {
	if !c.flushing {
		c.flushing = true
		go c.flush()
	}
}

// failLocked notes that nothing more can be written.
func (c *Conn) failLocked() {
	c.dropLocked()
	c.dead = true
	_ = c.nc.SetReadDeadline(time.Unix(1, 0)) // Serve returns
}

// flush writes what waits until there is nothing more.
func (c *Conn) flush() {
	scratch := batches.Get().(*[batchBytes]byte)
	defer batches.Put(scratch)
	for {
		c.mu.Lock()
		b := c.batchLocked(scratch[:0])
		if b.empty() {
			if !c.flushMoreLocked() {
				return
			}
			continue
		}
		c.mu.Unlock()
		err := c.write(b)
		c.mu.Lock()
		c.queued -= b.waited
		c.o.Budget.Give(b.held)
		if err != nil {
			c.failLocked()
		}
		c.mu.Unlock()
		if err != nil {
			c.h.Failed(err) // calls Shut
		}
	}
}

// flushMoreLocked is called when nothing waits: it releases the lock and says
// whether there may be more. Otherwise flush has ended.
func (c *Conn) flushMoreLocked() bool {
	defer c.mu.Unlock()
	switch {
	case c.end != nil && (c.dead || c.endSent || !c.endingLocked()):
		close(c.flushed)
		return false // flushing stays: nobody writes any more
	case c.end != nil:
		return true
	case c.dead:
		c.flushing = false
		return false
	case c.kicked:
		c.kicked = false
		c.mu.Unlock()
		c.h.Drained()
		c.mu.Lock()
		c.kicked = c.kicked || len(c.queue) > 0 // there may be more behind that
		return true
	default:
		c.flushing = false
		return false
	}
}

// endingLocked queues the last words, once, if there are any.
func (c *Conn) endingLocked() bool {
	how := c.end
	c.endSent = true
	code := how.Code
	if code == 0 && c.peerEnd != 0 {
		code = c.peerEnd // echo
	}
	if how.Last != nil {
		c.wire = appendFrame(c.wire, opText, how.Last)
	}
	if code != 0 {
		c.wire = appendClose(c.wire, code, how.Reason)
		c.closeSent = true
	}
	c.queued += len(c.wire)
	c.o.Budget.force(len(c.wire))
	return len(c.wire) > 0
}

// batch is what is written at once.
type batch struct {
	wire   []byte
	big    []byte // behind wire, from the queue
	bulk   bool   // big is of QueueOver
	waited int    // bytes that it counts in queued
	held   int    // and on the budget
}

func (b *batch) empty() bool { return len(b.wire) == 0 && len(b.big) == 0 }

// batchLocked takes a batch of what waits; buf is where it is put together.
func (c *Conn) batchLocked(buf []byte) (b batch) {
	if c.tail != nil {
		b.wire, b.waited, b.held, c.tail = c.tail, len(c.tail), len(c.tail), nil
		if len(b.wire) > cap(buf)/2 {
			return b
		}
		b.wire = append(buf, b.wire...)
	} else {
		b.wire = buf
	}
	b.wire, c.late = append(b.wire, c.late...), c.late[:0]
	if len(c.wire) > 0 {
		b.waited, b.held = b.waited+len(c.wire), b.held+len(c.wire)
		b.wire, c.wire = append(b.wire, c.wire...), nil
	}
	for len(c.queue) > 0 {
		next, free := c.queue[0].message, c.queue[0].free
		fits := len(b.wire)+Headroom+len(next) <= cap(buf)
		if !fits && len(b.wire) > Headroom {
			break
		}
		c.queue[0] = queued{}
		c.queue = c.queue[1:]
		b.held += len(next)
		if !free {
			b.waited += len(next)
		}
		if !fits {
			b.wire, b.big, b.bulk = appendHead(b.wire, opText, len(next)), next, free
			break
		}
		b.wire = appendFrame(b.wire, opText, next)
	}
	if len(c.queue) == 0 {
		c.queue = nil
	}
	return b
}

// write writes a batch, first without and then with waiting.
func (c *Conn) write(b batch) error {
	if b.big == nil && c.raw != nil {
		c.mu.Lock()
		n, err := c.tryLocked(b.wire)
		c.mu.Unlock()
		if err != nil || n == len(b.wire) {
			return err
		}
		b.wire = b.wire[n:]
	}
	c.setWriteDeadline(time.Now().Add(c.o.WriteTimeout))
	parts := net.Buffers{b.wire, b.big}
	_, err := parts.WriteTo(c.nc)
	c.setWriteDeadline(time.Time{})
	if b.bulk && cap(b.big) == bulkBytes {
		bulks.Put((*[bulkBytes]byte)(b.big[:bulkBytes]))
	}
	return err
}

// setWriteDeadline does not touch the deadline of Shut.
func (c *Conn) setWriteDeadline(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end == nil {
		_ = c.nc.SetWriteDeadline(t)
	}
}

// tryLocked writes what the socket takes without waiting. That is no Write for
// the runtime, which would look after the socket's readiness each time.
func (c *Conn) tryLocked(wire []byte) (n int, err error) {
	c.out, c.outN, c.outErr = wire, 0, nil
	err = c.raw.Control(c.writeFn)
	n, c.out = c.outN, nil
	if err == nil && c.outErr != nil {
		err = os.NewSyscallError("write", c.outErr)
	}
	return n, err
}
