package recon

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
)

// How ranges are cut. Both sides may use other values; these are a good compromise of trips and bytes.
const (
	// Branch is how many parts a range that differs is cut into.
	Branch = 16
	// Leaf is how many references are listed instead of being cut further.
	Leaf = 64
	// lookThrough is how many own references a side compares with a list before it cuts its range instead.
	lookThrough = 4 * Leaf
	// tiny is how many references are listed where a fingerprint would be as long.
	tiny = 2
)

// A Ref is an element of the sets, ordered by Modified, then by the bytes of Hash.
type Ref struct {
	Modified int64 // not negative
	Hash     [32]byte
}

// End is above every element.
var End = Ref{Modified: math.MaxInt64, Hash: [32]byte(bytes.Repeat([]byte{0xff}, 32))}

// Compare orders references.
func (r Ref) Compare(o Ref) int {
	switch {
	case r.Modified < o.Modified:
		return -1
	case r.Modified > o.Modified:
		return 1
	}
	return bytes.Compare(r.Hash[:], o.Hash[:])
}

// A Summary describes the elements of a range.
type Summary struct {
	Count int64
	Sum   [32]byte // of the hashes, modulo 2^256
}

// A Part is one of consecutive ranges; it ends before End.
type Part struct {
	End Ref
	Summary
}

// A Source is one snapshot of a set. Ranges are lo <= ref < hi.
type Source interface {
	Summary(lo, hi Ref) (Summary, error)
	// Split cuts a range into at most parts consecutive ranges of about equal counts; the last one ends at hi.
	Split(lo, hi Ref, parts int) ([]Part, error)
	// Refs returns at most limit elements, in order.
	Refs(lo, hi Ref, limit int) ([]Ref, error)
}

// A Send tells what the other side lacks: all elements of a range, or those of a list.
type Send struct {
	Lo, Hi Ref
	// Only lists the elements; nil means all in the range.
	Only []Ref
}

// A Result is what a message leads to.
type Result struct {
	// Reply is what to send. It may be empty and must be sent also then, unless Final.
	Reply []byte
	// Final is set when the message asked nothing: it gets no reply.
	Final bool
	// Open is set when Reply asks something. If not, the exchange ends with it.
	Open bool
	// Send is what the other side lacks.
	Send []Send
	// Needs is how many elements the other side was asked for in Reply.
	Needs int
}

// A Reconciler makes and answers messages. It keeps no state between them: each is answered by what it says and what the Source holds.
type Reconciler struct {
	// Salt is the same on both sides and new for each session.
	Salt [32]byte
}

// Fingerprint is what both sides compare.
func (r Reconciler) Fingerprint(s Summary) [16]byte {
	var b [32 + 8 + 32]byte
	copy(b[:], r.Salt[:])
	binary.BigEndian.PutUint64(b[32:], uint64(s.Count))
	copy(b[40:], s.Sum[:])
	sum := sha256.Sum256(b[:])
	return [16]byte(sum[:16])
}

func (r Reconciler) id(ref Ref) id {
	var b [64]byte
	copy(b[:], r.Salt[:])
	copy(b[32:], ref.Hash[:])
	sum := sha256.Sum256(b[:])
	return id(sum[:idSize])
}

func (r Reconciler) idsOf(refs []Ref) []id {
	out := make([]id, len(refs))
	for i, ref := range refs {
		out[i] = r.id(ref)
	}
	return out
}

// Start makes the first message, which is always open.
func (r Reconciler) Start(src Source) ([]byte, error) {
	w := walk{Reconciler: r, src: src}
	sum, err := src.Summary(Ref{}, End)
	if err != nil {
		return nil, fmt.Errorf("starting a reconciliation: %w", err)
	}
	if sum.Count <= Leaf {
		err = w.list(Ref{}, End)
	} else {
		w.out.fingerprint(End, r.Fingerprint(sum))
	}
	if err != nil {
		return nil, fmt.Errorf("starting a reconciliation: %w", err)
	}
	return w.out.out, nil
}

// Step answers a message.
func (r Reconciler) Step(src Source, msg []byte) (Result, error) {
	spans, err := decode(msg)
	if err != nil {
		return Result{}, err
	}
	w := walk{Reconciler: r, src: src}
	asked, full := false, false
	for _, s := range spans {
		open := s.mode == fingerprint || s.mode == ids
		asked = asked || open
		switch {
		case full && s.mode == need:
			err = w.serve(s)
		case full:
		case open && w.out.size() > MaxMessage-reserve:
			full, err = true, w.rest(s.lo)
		default:
			err = w.answer(s)
		}
		if err != nil {
			return Result{}, fmt.Errorf("reconciling: %w", err)
		}
	}
	return Result{Reply: w.out.out, Final: !asked, Open: w.out.open, Send: w.send, Needs: w.needs}, nil
}

// reserve is room for the answer to one range and the rest: a list of maxIDs, or Branch parts.
const reserve = maxIDs*idSize + 1<<10

// A walk answers one message.
type walk struct {
	Reconciler
	src   Source
	out   encoder
	send  []Send
	needs int
}

func (w *walk) answer(s span) error {
	switch s.mode {
	case fingerprint:
		return w.compare(s)
	case ids:
		return w.match(s)
	case need:
		w.out.skip(s.hi)
		return w.serve(s)
	}
	w.out.skip(s.hi)
	return nil
}

// rest asks about everything from lo on at once, when the answer has no room for details.
func (w *walk) rest(lo Ref) error {
	sum, err := w.src.Summary(lo, End)
	if err != nil {
		return err
	}
	w.out.fingerprint(End, w.Fingerprint(sum))
	return nil
}

func (w *walk) compare(s span) error {
	sum, err := w.src.Summary(s.lo, s.hi)
	if err != nil {
		return err
	}
	switch {
	case w.Fingerprint(sum) == s.fp:
		w.out.skip(s.hi)
		return nil
	case sum.Count <= Leaf:
		return w.list(s.lo, s.hi)
	}
	return w.split(s.lo, s.hi)
}

func (w *walk) list(lo, hi Ref) error {
	refs, err := w.src.Refs(lo, hi, maxIDs)
	if err != nil {
		return err
	}
	w.out.list(hi, ids, w.idsOf(refs))
	return nil
}

// split asks about parts of a range.
func (w *walk) split(lo, hi Ref) error {
	parts, err := w.src.Split(lo, hi, Branch)
	if err != nil {
		return err
	}
	for i, p := range parts {
		end, sum := hi, p.Summary
		if i < len(parts)-1 {
			if end, err = w.shorten(lo, p.End); err != nil {
				return err
			}
		}
		if sum.Count <= tiny {
			err = w.list(lo, end)
		} else {
			w.out.fingerprint(end, w.Fingerprint(sum))
		}
		if err != nil {
			return err
		}
		lo = end
	}
	return nil
}

// shorten returns the shortest bound in (lo, end] with no element between it and end.
func (w *walk) shorten(lo, end Ref) (Ref, error) {
	for _, n := range []int{0, 8} {
		short := Ref{Modified: end.Modified}
		copy(short.Hash[:n], end.Hash[:n])
		if short.Compare(lo) <= 0 {
			continue
		}
		between, err := w.src.Refs(short, end, 1)
		if err != nil {
			return end, err
		}
		if len(between) == 0 {
			return short, nil
		}
	}
	return end, nil
}

// match compares the other side's list of a range with the own elements.
func (w *walk) match(s span) error {
	if len(s.ids) == 0 {
		w.send = append(w.send, Send{Lo: s.lo, Hi: s.hi})
		w.out.skip(s.hi)
		return nil
	}
	refs, err := w.src.Refs(s.lo, s.hi, lookThrough+1)
	if err != nil {
		return err
	}
	if len(refs) > lookThrough {
		return w.split(s.lo, s.hi)
	}
	theirs := make(map[id]bool, len(s.ids))
	for _, x := range s.ids {
		theirs[x] = true
	}
	var only []Ref
	for _, ref := range refs {
		if x := w.id(ref); theirs[x] {
			delete(theirs, x)
		} else {
			only = append(only, ref)
		}
	}
	if len(only) > 0 {
		w.send = append(w.send, Send{Lo: s.lo, Hi: s.hi, Only: only})
	}
	w.ask(s, theirs)
	return nil
}

// ask writes which of the listed ids are lacking here, in the order of the list.
func (w *walk) ask(s span, lacking map[id]bool) {
	if len(lacking) == 0 {
		w.out.skip(s.hi)
		return
	}
	list := make([]id, 0, len(lacking))
	for _, x := range s.ids {
		if lacking[x] {
			delete(lacking, x)
			list = append(list, x)
		}
	}
	w.needs += len(list)
	w.out.list(s.hi, need, list)
}

// serve finds what the other side asked for. What is gone since it was listed is left out: the next comparison tells.
func (w *walk) serve(s span) error {
	if len(s.ids) == 0 {
		return nil
	}
	refs, err := w.src.Refs(s.lo, s.hi, maxIDs)
	if err != nil {
		return err
	}
	asked := make(map[id]bool, len(s.ids))
	for _, x := range s.ids {
		asked[x] = true
	}
	var only []Ref
	for _, ref := range refs {
		if asked[w.id(ref)] {
			only = append(only, ref)
		}
	}
	if len(only) > 0 {
		w.send = append(w.send, Send{Lo: s.lo, Hi: s.hi, Only: only})
	}
	return nil
}
