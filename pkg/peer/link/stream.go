package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Stream is an ordered, reliable sequence of messages in both directions. One
// goroutine may read and any number may write.
type Stream struct {
	conn   *Conn
	ch     *channel
	name   string
	opened bool // by this side

	// Guarded by the connection's mutex; of a stream that the peer opened.
	gone, taken bool

	writing chan struct{} // holds a token while nobody writes
	low     chan struct{} // signalled when the send buffer has drained
	scratch []byte        // of the writer
	window  sendWindow    // of the writer

	reading chan struct{} // signalled when the queue or its end changed

	mu     sync.Mutex
	queue  [][]byte // complete messages
	unread int      // bytes in queue and assembly
	closed bool     // by Close
	end    error    // why no more will come
	done   chan struct{}
}

func newStream(c *Conn, ch *channel, name string, opened bool) *Stream {
	s := &Stream{
		conn: c, ch: ch, name: name, opened: opened,
		writing: make(chan struct{}, 1), low: make(chan struct{}, 1),
		reading: make(chan struct{}, 1), done: make(chan struct{}), window: newSendWindow(),
	}
	s.writing <- struct{}{}
	ch.dc.SetBufferedAmountLowThreshold(uint64(s.window.low()))
	ch.dc.OnBufferedAmountLow(func() { signal(s.low) })
	return s
}

// signal wakes one waiter of a channel of capacity 1.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// validStreamName reports whether name is [a-z0-9/-]{1,64}.
func validStreamName(name string) bool {
	if name == "" || len(name) > MaxStreamName {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '/' && c != '-' {
			return false
		}
	}
	return true
}

// Name returns the name that the opener gave.
func (s *Stream) Name() string { return s.name }

// Conn returns the connection of the stream.
func (s *Stream) Conn() *Conn { return s.conn }

// WriteMessage sends one message of at most MaxMessage bytes, which may be
// empty. It blocks while much is buffered, and returns when the rest is: that
// says nothing about the peer. The caller keeps msg. When ctx ends in the
// middle of a message, the stream cannot go on and is closed.
func (s *Stream) WriteMessage(ctx context.Context, msg []byte) error {
	if len(msg) > MaxMessage {
		return fmt.Errorf("writing to stream %s: %w: %d bytes, limit is %d", s.name, ErrMessageTooLarge, len(msg), MaxMessage)
	}
	if err := s.wait(ctx, s.writing); err != nil {
		return fmt.Errorf("writing to stream %s: %w", s.name, err)
	}
	defer func() { s.writing <- struct{}{} }()
	if s.scratch == nil {
		s.scratch = make([]byte, 0, min(len(msg)+1, MaxFragment))
	}
	begun := false
	err := fragments(s.scratch, msg, func(fragment []byte) error {
		if err := s.drain(ctx); err != nil {
			return err
		}
		s.scratch = fragment[:0]
		begun = true
		if _, err := s.ch.raw.WriteDataChannel(fragment, false); err != nil {
			s.settle(ctx)
			return err
		}
		s.window.written += uint64(len(fragment))
		return nil
	})
	if err != nil {
		err = s.because(err)
		if begun {
			s.shut(false)
		}
		return fmt.Errorf("writing to stream %s: %w", s.name, err)
	}
	s.conn.bytesOut.Add(uint64(len(msg)))
	s.conn.messagesOut.Add(1)
	return nil
}

// drain waits until the channel has buffered little enough to take more.
func (s *Stream) drain(ctx context.Context) error {
	for {
		buffered := int(s.ch.dc.BufferedAmount())
		now := time.Now()
		if s.window.measure(now, buffered, s.conn.baseRTT(now)) {
			s.ch.dc.SetBufferedAmountLowThreshold(uint64(s.window.low()))
		}
		if buffered <= s.window.limit {
			return s.usable()
		}
		if err := s.wait(ctx, s.low); err != nil {
			return err
		}
	}
}

// wait waits for ch, unless the context, the stream or the connection ends.
func (s *Stream) wait(ctx context.Context, ch <-chan struct{}) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.done:
		return s.because(nil)
	case <-s.conn.ctx.Done():
		return s.conn.Err()
	}
}

func (s *Stream) usable() error {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return ErrClosed
	}
	select {
	case <-s.done:
		return s.because(nil)
	case <-s.conn.ctx.Done():
		return s.conn.Err()
	default:
		return nil
	}
}

// because prefers the reason why the stream or connection ended to what an
// operation said.
func (s *Stream) because(err error) error {
	if e := s.conn.Err(); e != nil {
		return e
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return ErrClosed
	case s.end == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(s.end, io.EOF):
		return ErrStreamClosed
	default:
		return s.end
	}
}

// settle waits until the reader has found out why a write failed.
func (s *Stream) settle(ctx context.Context) {
	t := time.NewTimer(2 * endGrace)
	defer t.Stop()
	select {
	case <-s.done:
	case <-s.conn.ctx.Done():
	case <-ctx.Done():
	case <-t.C:
	}
}

// ReadMessage returns the next message, which the caller owns. After the peer
// has closed the stream and everything was read, it returns io.EOF; if the
// stream ended in another way, an error that says so.
func (s *Stream) ReadMessage(ctx context.Context) ([]byte, error) {
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return nil, fmt.Errorf("reading from stream %s: %w", s.name, ErrClosed)
		}
		if len(s.queue) > 0 {
			msg := s.queue[0]
			s.queue[0] = nil
			s.queue = s.queue[1:]
			s.unread -= len(msg) + messageOverhead
			s.mu.Unlock()
			s.conn.unread.Add(-int64(len(msg) + messageOverhead))
			return msg, nil
		}
		end := s.end
		s.mu.Unlock()
		if end != nil {
			if errors.Is(end, io.EOF) {
				return nil, io.EOF
			}
			return nil, fmt.Errorf("reading from stream %s: %w", s.name, end)
		}
		select {
		case <-s.reading:
		case <-s.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("reading from stream %s: %w", s.name, ctx.Err())
		}
	}
}

// Close closes the stream in both directions: what was written before still
// goes out, what was not read is thrown away. It does not block. A WriteMessage
// that is in progress is given up, which the peer sees as ErrStreamReset.
func (s *Stream) Close() error {
	select {
	case <-s.writing:
		s.shut(true)
		s.writing <- struct{}{}
	default:
		s.shut(false)
	}
	return nil
}

// shut closes the channel, properly when no message is under way.
func (s *Stream) shut(properly bool) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	freed := s.unread
	s.queue, s.unread = nil, 0
	s.mu.Unlock()
	s.conn.unread.Add(-int64(freed))
	signal(s.reading)
	signal(s.low)
	if properly {
		_, _ = s.ch.raw.WriteDataChannel([]byte{fragEnd}, false)
	}
	_ = s.ch.raw.Close()
}
