package recon

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Bounds of a message.
const (
	// MaxMessage is the longest message that a side makes, in bytes.
	MaxMessage = 48 << 10
	// maxInput is the longest message that a side reads.
	maxInput = 64 << 10
	// maxIDs is how many ids a range may list. A side lists at most Leaf, but an answer to that may be based on more.
	maxIDs = 1_024

	fingerprintSize = 16
	idSize          = 8
)

// ErrMessage is matched by every refusal of a message.
var ErrMessage = errors.New("invalid reconciliation message")

type mode uint8

const (
	skip mode = iota
	fingerprint
	ids
	need
)

type id [idSize]byte

// A span is a decoded range [lo, hi).
type span struct {
	lo, hi Ref
	mode   mode
	fp     [fingerprintSize]byte
	ids    []id
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMessage}, args...)...)
}

type decoder struct {
	in   []byte
	prev Ref
	end  bool
}

func (d *decoder) uvarint() (uint64, error) {
	v, n := binary.Uvarint(d.in)
	if n <= 0 || v > math.MaxInt64 || (n > 1 && d.in[n-1] == 0) {
		return 0, invalid("bad integer")
	}
	d.in = d.in[n:]
	return v, nil
}

func (d *decoder) take(n int) ([]byte, error) {
	if n > len(d.in) {
		return nil, invalid("cut off")
	}
	b := d.in[:n]
	d.in = d.in[n:]
	return b, nil
}

// bound reads the upper bound of the next range, which must be above the last one.
func (d *decoder) bound() (Ref, error) {
	step, err := d.uvarint()
	if err != nil {
		return Ref{}, err
	}
	if step == 0 {
		d.end = true
		return End, nil
	}
	ref := Ref{Modified: d.prev.Modified + int64(step-1)}
	if ref.Modified < d.prev.Modified || ref.Modified == math.MaxInt64 {
		return Ref{}, invalid("bound out of range")
	}
	n, err := d.uvarint()
	if err != nil {
		return Ref{}, err
	}
	if n > 32 {
		return Ref{}, invalid("hash prefix of %d bytes", n)
	}
	b, err := d.take(int(n))
	if err != nil {
		return Ref{}, err
	}
	copy(ref.Hash[:], b)
	if ref.Compare(d.prev) <= 0 {
		return Ref{}, invalid("bounds do not rise")
	}
	return ref, nil
}

func (d *decoder) next() (span, error) {
	if d.end {
		return span{}, invalid("a range behind the end")
	}
	s := span{lo: d.prev}
	var err error
	if s.hi, err = d.bound(); err != nil {
		return s, err
	}
	d.prev = s.hi
	m, err := d.take(1)
	if err != nil {
		return s, err
	}
	switch s.mode = mode(m[0]); s.mode {
	case skip:
		return s, nil
	case fingerprint:
		b, err := d.take(fingerprintSize)
		copy(s.fp[:], b)
		return s, err
	case ids, need:
		n, err := d.uvarint()
		if err != nil {
			return s, err
		}
		if n > maxIDs {
			return s, invalid("%d ids in a range", n)
		}
		b, err := d.take(int(n) * idSize)
		if err != nil {
			return s, err
		}
		s.ids = make([]id, n)
		for i := range s.ids {
			copy(s.ids[i][:], b[i*idSize:])
		}
		return s, nil
	}
	return s, invalid("mode %d", m[0])
}

// decode reads a whole message.
func decode(msg []byte) ([]span, error) {
	if len(msg) > maxInput {
		return nil, invalid("%d bytes", len(msg))
	}
	d := decoder{in: msg}
	var spans []span
	for len(d.in) > 0 {
		s, err := d.next()
		if err != nil {
			return nil, err
		}
		spans = append(spans, s)
	}
	return spans, nil
}

// An encoder joins neighbouring SKIP ranges and leaves out the last one.
type encoder struct {
	out     []byte
	prev    Ref // upper bound of what is written
	at      Ref // upper bound of what was added: [prev, at) is skipped
	hasSkip bool
	open    bool // an FP or IDS was written
}

func (e *encoder) size() int { return len(e.out) }

func (e *encoder) skip(hi Ref) {
	e.at, e.hasSkip = hi, true
}

func (e *encoder) flushSkip() {
	if e.hasSkip && e.at != e.prev {
		e.bound(e.at)
		e.out = append(e.out, byte(skip))
	}
	e.hasSkip = false
}

func (e *encoder) bound(hi Ref) {
	if hi == End {
		e.out = append(e.out, 0)
	} else {
		e.out = binary.AppendUvarint(e.out, uint64(hi.Modified-e.prev.Modified)+1)
		n := 32
		for n > 0 && hi.Hash[n-1] == 0 {
			n--
		}
		e.out = binary.AppendUvarint(e.out, uint64(n))
		e.out = append(e.out, hi.Hash[:n]...)
	}
	e.prev, e.at = hi, hi
}

func (e *encoder) fingerprint(hi Ref, fp [fingerprintSize]byte) {
	e.flushSkip()
	e.bound(hi)
	e.out = append(append(e.out, byte(fingerprint)), fp[:]...)
	e.open = true
}

func (e *encoder) list(hi Ref, m mode, list []id) {
	e.flushSkip()
	e.bound(hi)
	e.out = binary.AppendUvarint(append(e.out, byte(m)), uint64(len(list)))
	e.out = slices.Grow(e.out, len(list)*idSize)
	for _, x := range list {
		e.out = append(e.out, x[:]...)
	}
	e.open = e.open || m == ids
}
