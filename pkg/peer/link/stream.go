package link

import "context"

// Stream is an ordered, reliable sequence of messages in both directions.
type Stream struct{}

// Name returns the name that the opener gave.
func (s *Stream) Name() string { return "" }

// Conn returns the connection of the stream.
func (s *Stream) Conn() *Conn { return nil }

// WriteMessage queues one message of at most MaxMessage bytes.
func (s *Stream) WriteMessage(ctx context.Context, msg []byte) error { return ErrClosed }

// ReadMessage returns the next message; the caller owns it. io.EOF after the
// peer closed the stream.
func (s *Stream) ReadMessage(ctx context.Context) ([]byte, error) { return nil, ErrClosed }

// Close closes the stream in both directions.
func (s *Stream) Close() error { return nil }
