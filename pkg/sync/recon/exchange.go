package recon

import (
	"errors"
	"fmt"
)

// Bounds of an exchange.
const (
	// MaxMessage is the longest frame that a side makes, in bytes.
	MaxMessage = 48 << 10
	// maxInput is the longest frame that a side reads.
	maxInput = 64 << 10
	// maxIDs is how many ids a range may list.
	maxIDs = lookThrough
	// reserve is room for the answer to one range, with bounds as long as they can be.
	reserve = Branch*(maxBound+fingerprintSize) + maxIDs*idSize + 1<<10
	// Window is how many frames of the asking side may be on the way, and windowBytes how many bytes: enough for the lists of a million
	// references that differ everywhere, so that they cost no trip more than the lists of few.
	Window      = 256
	windowBytes = 8 << 20
	// maxExpected is how many bytes of answers the asking side asks for at once, if all that it asks about differs.
	maxExpected = 12 << 20
	// maxQueued is how many bytes of answers it keeps.
	maxQueued = 2 * maxExpected
	// stepRanges is how many ranges a step goes into.
	stepRanges = 1024
	// minFrames is how many frames the asking side sends at most, and framesOf for how many references it may send one more.
	minFrames = 1024
	framesOf  = 1024
)

// An Exchange is one side of a reconciliation. It belongs to one goroutine.
type Exchange struct {
	rec  Reconciler
	asks bool

	in     [][]byte // frames that were received and not gone into
	queued int      // their bytes
	at     *decoder // the frame that is being gone into
	held   *span    // a range of it that found no room in out

	out     encoder // the frame that is being made
	answers uint64  // frames of the other side that it finishes

	begun     bool
	flight    []asked // of the asking side: frames without an answer
	size      int     // their bytes
	expected  int     // the sum of theirs
	sent      int64   // frames
	limit     int64   // of sent
	processed uint64  // frames of the other side
}

// An asked frame is on its way.
type asked struct {
	open     bool
	size     int // bytes
	expected int // bytes of the answer, about
}

// A Step is what [Exchange.Next] did.
type Step struct {
	// Frame is to be sent, unless it is nil.
	Frame []byte
	// Open is set when Frame asks something.
	Open bool
	// Send is what the other side lacks.
	Send []Send
	// Needs is how many elements the other side is asked for in Frame.
	Needs int
	// Idle is set when there is nothing to do before the next Receive.
	Idle bool
	// Over is set, for the asking side, when the exchange has ended.
	Over bool
}

// Ask returns the side that begins.
func (r Reconciler) Ask() *Exchange { return &Exchange{rec: r, asks: true} }

// Answer returns the other side.
func (r Reconciler) Answer() *Exchange { return &Exchange{rec: r} }

// Processed is how many frames of the other side were gone into completely.
func (x *Exchange) Processed() uint64 { return x.processed }

// Receive queues a frame of the other side and keeps it. The error matches [ErrMessage].
func (x *Exchange) Receive(frame []byte) error {
	if len(frame) > maxInput {
		return invalid("%d bytes", len(frame))
	}
	d := decoder{in: frame}
	answers, err := d.uvarint()
	if err != nil {
		return err
	}
	switch {
	case !x.asks && answers > 0:
		return invalid("it answers what nobody asked")
	case !x.asks && (len(x.in) >= Window || x.queued+len(frame) > windowBytes):
		return invalid("more than %d frames or %d bytes on the way", Window, windowBytes)
	case x.asks && (len(x.flight) == 0 || answers > uint64(len(x.flight))):
		return invalid("it answers %d of %d frames", answers, len(x.flight))
	case x.asks && x.queued+len(frame) > maxQueued:
		return invalid("more than %d bytes of answers", maxQueued)
	}
	for _, frame := range x.flight[:answers] {
		x.size -= frame.size
		x.expected -= frame.expected
	}
	x.flight = x.flight[answers:]
	x.in = append(x.in, frame)
	x.queued += len(frame)
	return nil
}

// Next goes on, with bounded work, and makes at most one frame. Call it until it is idle, whenever there is room to send.
func (x *Exchange) Next(src Source) (Step, error) {
	w := &walk{Reconciler: x.rec, src: src, out: x.out}
	step, err := x.next(w)
	if err != nil {
		return Step{}, fmt.Errorf("reconciling: %w", err)
	}
	step.Send, step.Needs = w.send, w.needs
	x.out = w.out
	if step.Frame != nil {
		x.out = encoder{}
		if x.sent++; x.asks && x.sent > x.limit {
			return Step{}, invalid("it does not end")
		}
	}
	step.Over = x.asks && step.Idle && x.at == nil && len(x.in) == 0 && x.out.size() == 0 && !x.waiting()
	return step, nil
}

// waiting tells whether something that was asked is not answered.
func (x *Exchange) waiting() bool {
	for _, frame := range x.flight {
		if frame.open {
			return true
		}
	}
	return false
}

var errFlush = errors.New("the frame is full")

func (x *Exchange) next(w *walk) (Step, error) {
	if x.asks && !x.begun {
		if err := x.begin(w); err != nil {
			return Step{}, err
		}
	}
	for range stepRanges {
		if x.full() {
			return Step{Idle: true}, nil // answers make room
		}
		if x.at == nil && len(x.in) == 0 {
			return x.flush(w, true), nil
		}
		err := x.one(w)
		if errors.Is(err, errFlush) {
			return x.flush(w, false), nil
		}
		if err != nil {
			return Step{}, err
		}
	}
	return Step{}, nil
}

// full tells whether the asking side has as much on the way as it may.
func (x *Exchange) full() bool {
	return len(x.flight) >= Window || x.size > windowBytes-MaxMessage || (x.expected+x.queued > maxExpected && len(x.flight) > 0)
}

// begin asks about everything.
func (x *Exchange) begin(w *walk) error {
	sum, err := w.src.Summary(Ref{}, End)
	if err != nil {
		return err
	}
	x.begun, x.limit = true, minFrames+sum.Count/framesOf
	return w.differ(Ref{}, End, sum.Count)
}

// one goes into one range, or into the end of a frame.
func (x *Exchange) one(w *walk) error {
	if x.at == nil {
		x.at = &decoder{in: x.in[0]}
		x.queued -= len(x.in[0])
		x.in = x.in[1:]
		_, err := x.at.uvarint()
		return err
	}
	if len(x.at.in) == 0 && x.held == nil {
		if !x.asks {
			x.answers++
		}
		x.processed++
		x.at = nil
		return nil
	}
	if x.held == nil {
		s, err := x.at.next()
		if err != nil {
			return err
		}
		if s.mode == skip {
			return nil
		}
		x.held = &s
	}
	s := *x.held
	if w.out.size() > MaxMessage-reserve || (w.out.size() > 0 && s.lo.Compare(w.out.at) < 0) {
		return errFlush
	}
	x.held = nil
	if w.out.size() == 0 {
		w.out = encoder{} // what is skipped at the end of a frame is not written
	}
	w.out.skip(s.lo)
	return w.answer(s)
}

// flush takes the frame that was made, if it says anything.
func (x *Exchange) flush(w *walk, idle bool) Step {
	step := Step{Idle: idle, Open: w.out.open}
	if w.out.size() > 0 || x.answers > 0 {
		step.Frame = w.out.frame(x.answers)
		x.answers = 0
		if x.asks {
			x.flight = append(x.flight, asked{step.Open, len(step.Frame), w.out.expected})
			x.size += len(step.Frame)
			x.expected += w.out.expected
		}
	}
	return step
}
