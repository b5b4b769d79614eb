package world

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

// errCut is how a transport fails whose connection was cut.
var errCut = errors.New("the connection was cut")

// A conn is one connection between two devices.
type conn struct {
	number int
	ends   [2]*endpoint
	rng    *rand.Rand // of the scheduler
	// left is how many frames arrive before the connection is cut; -1: all.
	left    int
	latency time.Duration
	jitter  time.Duration
	hostile bool // one end is a malicious member's
}

// An endpoint is the Transport of one end. The world's mutex guards its fields; the scheduler alone moves frames.
type endpoint struct {
	w     *World
	c     *conn
	dev   *device
	peer  *endpoint
	lanes [3]lane // going out, by groupsync.Lane

	arrived []frame
	come    chan struct{} // something arrived, or the end came
	room    chan struct{} // there is room on the bulk lane
	done    chan struct{}
	closed  bool  // by this side
	end     error // what Recv returns behind the last frame

	key      peercrypto.PublicKey // with which the other side came
	lookedAt time.Duration        // when key was compared last
	staleAt  time.Duration        // since when another one is known

	session *groupsync.Session
	cancel  context.CancelFunc
	ended   bool // Run returned
	result  error
	handled bool // the scheduler has seen that it ended
}

// A lane is what is on its way in one direction.
type lane struct {
	staged []frame // sent in this step
	queued []frame
	due    time.Duration // of the last one
}

type frame struct {
	lane  groupsync.Lane
	raw   []byte
	plain []byte // what a PACKED frame holds; else raw
}

func newFrame(l groupsync.Lane, raw []byte) frame { return frame{l, raw, unpack(raw)} }

// bulkRoom is how many frames of the bulk lane are on their way before Send blocks.
const bulkRoom = 16

func newEndpoint(w *World, c *conn, d *device) *endpoint {
	return &endpoint{
		w: w, c: c, dev: d,
		come: make(chan struct{}, 1), room: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// Send stages a frame.
func (e *endpoint) Send(ctx context.Context, l groupsync.Lane, raw []byte) error {
	for {
		e.w.mu.Lock()
		out := &e.lanes[l]
		switch {
		case e.closed || e.end != nil:
			e.w.mu.Unlock()
			return io.ErrClosedPipe
		case l != groupsync.Bulk || len(out.staged)+len(out.queued) < bulkRoom:
			out.staged = append(out.staged, newFrame(l, bytes.Clone(raw)))
			e.w.dirty[e] = true
			e.w.mu.Unlock()
			poke(e.w.wake)
			return nil
		}
		e.w.mu.Unlock()
		select {
		case <-e.room:
		case <-e.done:
			return io.ErrClosedPipe
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Recv returns what has arrived.
func (e *endpoint) Recv(ctx context.Context) (groupsync.Lane, []byte, error) {
	for {
		e.w.mu.Lock()
		switch {
		case e.closed:
			e.w.mu.Unlock()
			return 0, nil, io.ErrClosedPipe
		case len(e.arrived) > 0:
			f := e.arrived[0]
			e.arrived = e.arrived[1:]
			e.w.mu.Unlock()
			return f.lane, f.raw, nil
		case e.end != nil:
			err := e.end
			e.w.mu.Unlock()
			return 0, nil, err
		}
		e.w.mu.Unlock()
		select {
		case <-e.come:
		case <-e.done:
		case <-ctx.Done():
			return 0, nil, ctx.Err()
		}
	}
}

// Close ends this side; what it sent before still arrives.
func (e *endpoint) Close() error {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	if !e.closed {
		e.closed = true
		close(e.done)
		e.w.dirty[e] = true
		poke(e.w.wake)
	}
	return nil
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// order makes the frames that were sent in one step on the control lane independent of which goroutine came first: HELLO, then
// by group with the order within each kept, then ACK. Any of these orders could have happened.
func order(frames []frame) {
	rank := func(f frame) (int, string) {
		switch f.plain[0] {
		case frameHello:
			return 0, ""
		case frameAck:
			return 2, ""
		}
		return 1, string(groupOf(f.plain))
	}
	slices.SortStableFunc(frames, func(a, b frame) int {
		ra, ga := rank(a)
		rb, gb := rank(b)
		return cmp.Or(cmp.Compare(ra, rb), cmp.Compare(ga, gb))
	})
}

// flush gives what was sent in the last step its time of arrival.
func (w *World) flush() {
	w.mu.Lock()
	list := make([]*endpoint, 0, len(w.dirty))
	for e := range w.dirty {
		list = append(list, e)
	}
	clear(w.dirty)
	w.mu.Unlock()
	slices.SortFunc(list, func(a, b *endpoint) int {
		return cmp.Or(cmp.Compare(a.c.number, b.c.number), cmp.Compare(a.side(), b.side()))
	})
	for _, e := range list {
		for _, l := range []groupsync.Lane{groupsync.Control, groupsync.Bulk} {
			w.send(e, l)
		}
		w.mu.Lock()
		closed := e.closed
		w.mu.Unlock()
		if closed {
			last := max(e.lanes[groupsync.Control].due, e.lanes[groupsync.Bulk].due, w.now())
			w.schedule(last+e.c.latency, func() { w.hangUp(e.peer, io.EOF) })
		}
	}
}

func (e *endpoint) side() int {
	if e.c.ends[0] == e {
		return 0
	}
	return 1
}

// send moves staged frames onto the way.
func (w *World) send(e *endpoint, l groupsync.Lane) {
	w.mu.Lock()
	out := &e.lanes[l]
	staged := out.staged
	out.staged = nil
	w.mu.Unlock()
	if len(staged) == 0 {
		return
	}
	if l == groupsync.Control {
		order(staged)
	}
	if e.dev.evil {
		staged = w.mangle(e, staged)
	} else {
		w.audit(e, staged)
	}
	for _, f := range staged {
		out.due = max(out.due, w.now()+e.c.latency+time.Duration(e.c.rng.Int64N(int64(e.c.jitter)))) + 1
		w.mu.Lock()
		out.queued = append(out.queued, f)
		w.mu.Unlock()
		w.schedule(out.due, func() { w.arrive(e, l) })
	}
}

// arrive hands the next frame of a lane to the other end.
func (w *World) arrive(e *endpoint, l groupsync.Lane) {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := &e.lanes[l]
	if len(out.queued) == 0 || e.peer.end != nil {
		return // it was cut
	}
	f := out.queued[0]
	out.queued = out.queued[1:]
	poke(e.room)
	if e.c.left == 0 {
		w.cutLocked(e.c)
		return
	}
	e.c.left--
	w.trace("frame %d.%d %d %#02x %d", e.c.number, e.side(), l, f.raw[0], len(f.raw))
	w.stats.Frames++
	if !e.c.hostile && e.moves(f.plain) {
		w.lastBusy = w.now()
	}
	if e.peer.closed {
		return
	}
	w.touched[e.peer.dev] = true
	e.peer.arrived = append(e.peer.arrived, f)
	poke(e.peer.come)
}

// hangUp lets one end learn that the other is gone.
func (w *World) hangUp(e *endpoint, why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hangUpLocked(e, why)
}

func (w *World) hangUpLocked(e *endpoint, why error) {
	if e.end != nil {
		return
	}
	e.end = why
	if !e.closed { // Send must not wait for room any more
		poke(e.room)
	}
	poke(e.come)
}

// cutLocked ends a connection with all that is on its way.
func (w *World) cutLocked(c *conn) {
	for _, e := range c.ends {
		for l := range e.lanes {
			e.lanes[l].queued, e.lanes[l].staged = nil, nil
		}
		w.hangUpLocked(e, errCut)
	}
}

// cut ends a connection.
func (w *World) cut(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cutLocked(c)
}
