package peer

import (
	"context"
	"fmt"
	"sync"

	"github.com/peersignal/peersignal/pkg/peer/link"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

// Names of the streams of a session; the device with the lower id opens them.
const (
	streamControl = "sync/control"
	streamBulk    = "sync/bulk"
)

// transport carries the two lanes of a session over two streams. Each lane has
// one reader, which holds at most one message: the streams' own back pressure
// does the rest, and a long queue of bulk does not delay control.
type transport struct {
	control, bulk *link.Stream
	in            [2]chan []byte // by lane: control, bulk
	ctx           context.Context
	fail          context.CancelCauseFunc
	wg            sync.WaitGroup
}

func newTransport(control, bulk *link.Stream) *transport {
	t := &transport{control: control, bulk: bulk, in: [2]chan []byte{make(chan []byte), make(chan []byte)}}
	t.ctx, t.fail = context.WithCancelCause(context.Background())
	t.wg.Go(func() { t.read(t.control, t.in[0]) })
	t.wg.Go(func() { t.read(t.bulk, t.in[1]) })
	return t
}

func (t *transport) read(s *link.Stream, to chan<- []byte) {
	for {
		msg, err := s.ReadMessage(t.ctx)
		if err != nil {
			t.fail(fmt.Errorf("stream %s: %w", s.Name(), err))
			return
		}
		select {
		case to <- msg:
		case <-t.ctx.Done():
			return
		}
	}
}

// Send writes one frame; it waits while the lane's stream is full.
func (t *transport) Send(ctx context.Context, lane groupsync.Lane, frame []byte) error {
	if t.ctx.Err() != nil {
		return context.Cause(t.ctx)
	}
	s := t.control
	if lane == groupsync.Bulk {
		s = t.bulk
	}
	return s.WriteMessage(ctx, frame)
}

// Recv returns the next frame of either lane, control first; the caller owns it.
func (t *transport) Recv(ctx context.Context) (groupsync.Lane, []byte, error) {
	select {
	case msg := <-t.in[0]:
		return groupsync.Control, msg, nil
	default:
	}
	select {
	case msg := <-t.in[0]:
		return groupsync.Control, msg, nil
	case msg := <-t.in[1]:
		return groupsync.Bulk, msg, nil
	case <-ctx.Done():
		return 0, nil, ctx.Err()
	case <-t.ctx.Done():
		return 0, nil, context.Cause(t.ctx)
	}
}

// Close closes both streams and returns when the readers have ended.
func (t *transport) Close() error {
	t.fail(link.ErrClosed)
	err := t.control.Close()
	if err2 := t.bulk.Close(); err == nil {
		err = err2
	}
	t.wg.Wait()
	return err
}
