package recon

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math"
)

// How ranges are cut. Both sides may use other values; these are a good compromise of trips and bytes.
const (
	// Branch is into how many parts a range that differs is cut at most.
	Branch = 16
	// Leaf is how many references are listed instead of being cut further.
	Leaf = 40
	// part is how many references the parts of a range hold at least that is cut for the last time.
	part = 20
	// lookThrough is how many own references a side compares with a list before it cuts its range instead.
	lookThrough = 4 * Leaf
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

// A Source is one snapshot of a set. Ranges are lo <= ref < hi. An exchange takes a newer one at each step.
type Source interface {
	Summary(lo, hi Ref) (Summary, error)
	// Split cuts a range into at most parts consecutive ranges of about equal counts; the last one ends at hi. Bounds with
	// few bytes of hash make short messages.
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

// A Reconciler is what both sides have in common.
type Reconciler struct {
	// Salt is the same on both sides and new for each session.
	Salt [32]byte
}

// Round returns the reconciler of one round, with a salt of its own.
func (r Reconciler) Round(number uint64) Reconciler {
	b := append(r.Salt[:], "round"...)
	return Reconciler{Salt: sha256.Sum256(binary.BigEndian.AppendUint64(b, number))}
}

// Fingerprint is what both sides compare of a whole set.
func (r Reconciler) Fingerprint(s Summary) [16]byte {
	var b [32 + 8 + 32]byte
	copy(b[:], r.Salt[:])
	binary.BigEndian.PutUint64(b[32:], uint64(s.Count))
	copy(b[40:], s.Sum[:])
	sum := sha256.Sum256(b[:])
	return [16]byte(sum[:16])
}

// short is what is compared of a part.
func (r Reconciler) short(s Summary) fp {
	full := r.Fingerprint(s)
	return fp(full[:])
}

func (r Reconciler) id(ref Ref) id {
	var b [64]byte
	copy(b[:], r.Salt[:])
	copy(b[32:], ref.Hash[:])
	sum := sha256.Sum256(b[:])
	return id(sum[:])
}

// A walk goes into ranges and writes what there is to say about them.
type walk struct {
	Reconciler
	src   Source
	out   encoder
	send  []Send
	needs int
}

// differ goes into a range that is not the same on both sides.
func (w *walk) differ(lo, hi Ref, count int64) error {
	if count > Leaf {
		return w.split(lo, hi, count)
	}
	refs, err := w.src.Refs(lo, hi, maxIDs)
	if err != nil {
		return err
	}
	list := make([]id, len(refs))
	for i, ref := range refs {
		list[i] = w.id(ref)
	}
	w.out.list(hi, ids, list)
	return nil
}

func (w *walk) split(lo, hi Ref, count int64) error {
	parts, err := w.src.Split(lo, hi, int(min(Branch, (count+part-1)/part)))
	if err != nil {
		return err
	}
	for _, p := range parts {
		w.out.fingerprint(p.End, w.short(p.Summary))
	}
	return nil
}

func (w *walk) answer(s span) error {
	switch s.mode {
	case fingerprint:
		sum, err := w.src.Summary(s.lo, s.hi)
		if err != nil {
			return err
		}
		if w.short(sum) != s.fp {
			return w.differ(s.lo, s.hi, sum.Count)
		}
	case ids:
		return w.match(s)
	case need:
		if err := w.serve(s); err != nil {
			return err
		}
	}
	w.out.skip(s.hi)
	return nil
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
		sum, err := w.src.Summary(s.lo, s.hi)
		if err != nil {
			return err
		}
		return w.split(s.lo, s.hi, sum.Count)
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
	w.give(s, only)
	w.ask(s, theirs)
	return nil
}

func (w *walk) give(s span, only []Ref) {
	if len(only) > 0 {
		w.send = append(w.send, Send{Lo: s.lo, Hi: s.hi, Only: only})
	}
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
	refs, err := w.src.Refs(s.lo, s.hi, 2*maxIDs)
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
	w.give(s, only)
	return nil
}
