package recon

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

const (
	fingerprintSize = 4
	idSize          = 4
	// maxBound is the longest bound with its mode.
	maxBound = 10 + 1 + 32
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

type (
	id [idSize]byte
	fp [fingerprintSize]byte
)

// A span is a decoded range [lo, hi).
type span struct {
	lo, hi Ref
	mode   mode
	fp     fp
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

// bound reads the upper bound of the next range, which must be above the last one, and its mode.
func (d *decoder) bound() (Ref, mode, error) {
	step, err := d.uvarint()
	if err != nil {
		return Ref{}, 0, err
	}
	b, err := d.take(1)
	if err != nil {
		return Ref{}, 0, err
	}
	m, n := mode(b[0]&3), int(b[0]>>2)
	if step == 0 && n == 0 {
		d.end = true
		return End, m, nil
	}
	ref := Ref{Modified: d.prev.Modified + int64(step-1)}
	if step == 0 || ref.Modified < d.prev.Modified || ref.Modified == math.MaxInt64 {
		return Ref{}, 0, invalid("bound out of range")
	}
	if n > len(ref.Hash) {
		return Ref{}, 0, invalid("hash prefix of %d bytes", n)
	}
	if b, err = d.take(n); err != nil {
		return Ref{}, 0, err
	}
	copy(ref.Hash[:], b)
	if ref.Compare(d.prev) <= 0 {
		return Ref{}, 0, invalid("bounds do not rise")
	}
	return ref, m, nil
}

// next reads a range.
func (d *decoder) next() (span, error) {
	if d.end {
		return span{}, invalid("a range behind the end")
	}
	s := span{lo: d.prev}
	var err error
	if s.hi, s.mode, err = d.bound(); err != nil {
		return s, err
	}
	d.prev = s.hi
	switch s.mode {
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
	}
	return s, nil
}

// An encoder joins neighbouring SKIP ranges and leaves out the last one.
type encoder struct {
	out     []byte
	prev    Ref // upper bound of what is written
	at      Ref // upper bound of what was added: [prev, at) is skipped
	hasSkip bool
	open    bool // an FP or IDS was written
	// expected is about how long the answer is if all differs.
	expected int
}

func (e *encoder) size() int { return len(e.out) }

// frame puts the header in front.
func (e *encoder) frame(answers uint64) []byte {
	return append(binary.AppendUvarint(make([]byte, 0, len(e.out)+binary.MaxVarintLen64), answers), e.out...)
}

func (e *encoder) skip(hi Ref) {
	if hi != e.at {
		e.at, e.hasSkip = hi, true
	}
}

// begin writes the range [at, hi) but its content, and what was skipped before it.
func (e *encoder) begin(hi Ref, m mode) {
	if e.hasSkip && e.at != e.prev {
		e.bound(e.at, skip)
	}
	e.hasSkip = false
	e.bound(hi, m)
	e.open = e.open || m == fingerprint || m == ids
}

func (e *encoder) bound(hi Ref, m mode) {
	if hi == End {
		e.out = append(e.out, 0, byte(m))
	} else {
		e.out = binary.AppendUvarint(e.out, uint64(hi.Modified-e.prev.Modified)+1)
		n := len(hi.Hash)
		for n > 0 && hi.Hash[n-1] == 0 {
			n--
		}
		e.out = append(append(e.out, byte(m)|byte(n)<<2), hi.Hash[:n]...)
	}
	e.prev, e.at = hi, hi
}

func (e *encoder) fingerprint(hi Ref, f fp) {
	e.begin(hi, fingerprint)
	e.out = append(e.out, f[:]...)
	e.expected += Leaf*idSize + 8
}

func (e *encoder) list(hi Ref, m mode, list []id) {
	e.begin(hi, m)
	e.expected += len(list)*idSize + 8
	e.out = binary.AppendUvarint(e.out, uint64(len(list)))
	for _, x := range list {
		e.out = append(e.out, x[:]...)
	}
}
