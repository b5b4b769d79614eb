package link

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// messageOverhead is what an unread message counts beside its bytes, so that
// empty messages are bounded too.
const messageOverhead = 64

// endGrace is how long the end of a stream without a word may be followed by
// the end of the connection.
const endGrace = 500 * time.Millisecond

// readBuffers holds buffers for one SCTP message; one byte more than a fragment
// may have tells a longer one.
var readBuffers = sync.Pool{New: func() any { b := make([]byte, MaxFragment+1); return &b }}

// receive reads the stream until it ends. It runs in a goroutine of the
// connection. A peer that breaks the rules ends the connection.
func (s *Stream) receive() {
	buf := readBuffers.Get().(*[]byte)
	defer readBuffers.Put(buf)
	var a assembler
	for {
		n, text, err := s.ch.raw.ReadDataChannel(*buf)
		if err == nil && text {
			err = fmt.Errorf("%w: text on a stream", ErrFragment)
			s.conn.fail(err)
		} else if errors.Is(err, io.ErrShortBuffer) {
			err = fmt.Errorf("receiving on stream %s: %w", s.name, ErrMessageTooLarge)
			s.conn.fail(err)
		} else if err == nil {
			if err = s.accept(&a, (*buf)[:n]); err != nil {
				s.conn.fail(err)
			}
		}
		if err != nil {
			s.finish(&a)
			return
		}
	}
}

// accept takes one fragment and queues the message that it completes.
func (s *Stream) accept(a *assembler, fragment []byte) error {
	before := a.pending()
	msg, done, err := a.add(fragment)
	if err != nil {
		return fmt.Errorf("receiving on stream %s: %w", s.name, err)
	}
	grown := a.pending() - before
	if done {
		grown = len(msg) - before + messageOverhead
		s.conn.bytesIn.Add(uint64(len(msg)))
		s.conn.messagesIn.Add(1)
	}
	s.mu.Lock()
	if s.closed { // nobody will read it
		s.mu.Unlock()
		return nil
	}
	s.unread += grown
	slow := s.unread > MaxUnreadStream
	if done {
		s.queue = append(s.queue, msg)
	}
	s.mu.Unlock()
	if s.conn.unread.Add(int64(grown)) > MaxUnreadConn || slow {
		return fmt.Errorf("receiving on stream %s: %w", s.name, ErrSlowReader)
	}
	if done {
		signal(s.reading)
	}
	return nil
}

// finish marks the end of the stream and takes it off the connection. Bytes of a
// message whose rest will not come are no longer counted.
func (s *Stream) finish(a *assembler) {
	partial, err := a.pending(), io.EOF
	if !a.ended {
		// The end of the connection looks like the end of the stream, and is
		// noticed elsewhere a little later.
		t := time.NewTimer(endGrace)
		select {
		case <-s.conn.ctx.Done():
		case <-t.C:
		}
		t.Stop()
		if err = s.conn.Err(); err == nil {
			err = ErrStreamReset
		}
	}
	s.mu.Lock()
	s.end = err
	if s.closed {
		partial = 0 // Close has done it
	}
	s.unread -= partial
	s.mu.Unlock()
	s.conn.unread.Add(-int64(partial))
	close(s.done)
	_ = s.ch.raw.Close()
	s.conn.forget(s)
}
