package sqlite

import (
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// This file answers the questions of the reconciliation. The sums of whole
// scopes are kept in groups; those of parts are added up from the index
// entries_range, which costs about a microsecond an entry. A persistent tree of
// sums can take its place without anybody else noticing.

// maxModified is what no time of an entry reaches: JSON has no such integers.
const maxModified = 1 << 53

// inRange ends a statement over the refs of a range; see rangeArgs.
const inRange = ` FROM entries e INDEXED BY entries_range WHERE e.shared = 1 AND e.gid = ? AND e.kind = ?
	AND (e.modified, e.hash) < (?, ?) AND (e.modified, e.hash) >= (?, ?) `

func rangeArgs(g *groupRow, kind entry.Kind, lo, hi groupsync.Ref) []any {
	return []any{g.gid, int64(kind), hi.Modified, hi.Hash[:], lo.Modified, lo.Hash[:]}
}

// scope returns the row of the scope's group, nil if nothing of it is stored.
func (r *reader) scope(s groupsync.Scope) (*groupRow, error) {
	if s.Kind != entry.Operation && s.Kind != entry.Data {
		return nil, fmt.Errorf("kind %d is neither operations nor data", s.Kind)
	}
	return r.group(s.Group)
}

func rangeError(s groupsync.Scope, err error) error {
	return fmt.Errorf("reading a range of group %s: %w", s.Group.Short(), err)
}

// eachRef reads refs in order; fn must not use the reader.
func (r *reader) eachRef(g *groupRow, kind entry.Kind, lo, hi groupsync.Ref, limit int, fn func(groupsync.Ref)) error {
	return r.each("SELECT e.modified, e.hash"+inRange+"ORDER BY e.modified, e.hash LIMIT ?",
		append(rangeArgs(g, kind, lo, hi), limit), func(rows *sql.Rows) (bool, error) {
			var ref groupsync.Ref
			var hash sql.RawBytes
			err := rows.Scan(&ref.Modified, &hash)
			if err = errors.Join(err, setHash(&ref.Hash, hash)); err == nil {
				fn(ref)
			}
			return true, err
		})
}

const noLimit = -1

// Summary describes a range of a scope.
func (r *reader) Summary(s groupsync.Scope, lo, hi groupsync.Ref) (groupsync.Summary, error) {
	var sum groupsync.Summary
	g, err := r.scope(s)
	if err != nil {
		return sum, rangeError(s, err)
	}
	if g == nil {
		return sum, nil
	}
	if lo == (groupsync.Ref{}) && hi.Modified >= maxModified {
		return g.roots[s.Kind], nil
	}
	err = r.eachRef(g, s.Kind, lo, hi, noLimit, func(ref groupsync.Ref) { count(&sum, ref.Hash, 1) })
	if err != nil {
		return groupsync.Summary{}, rangeError(s, err)
	}
	return sum, nil
}

// Split cuts a range into parts of equal counts, the remainder spread.
func (r *reader) Split(s groupsync.Scope, lo, hi groupsync.Ref, parts int) ([]groupsync.Part, error) {
	g, err := r.scope(s)
	if err != nil {
		return nil, rangeError(s, err)
	}
	whole := []groupsync.Part{{End: hi}}
	if g == nil {
		return whole, nil
	}
	total := g.roots[s.Kind].Count
	if lo != (groupsync.Ref{}) || hi.Modified < maxModified {
		if _, err := r.one("SELECT count(*)"+inRange, rangeArgs(g, s.Kind, lo, hi), &total); err != nil {
			return nil, rangeError(s, err)
		}
	}
	if total == 0 {
		return whole, nil
	}
	n := int64(max(1, min(parts, int(min(total, 1<<20)))))
	out := make([]groupsync.Part, n)
	at, part := int64(0), int64(0)
	err = r.eachRef(g, s.Kind, lo, hi, noLimit, func(ref groupsync.Ref) {
		if part+1 < n && at == (part+1)*total/n {
			out[part].End = ref
			part++
		}
		count(&out[part].Summary, ref.Hash, 1)
		at++
	})
	if err != nil {
		return nil, rangeError(s, err)
	}
	out[part].End = hi
	return out[:part+1], nil
}

// Refs reads refs in order.
func (r *reader) Refs(s groupsync.Scope, lo, hi groupsync.Ref, limit int) ([]groupsync.Ref, error) {
	var out []groupsync.Ref
	g, err := r.scope(s)
	if err == nil && g != nil {
		err = r.eachRef(g, s.Kind, lo, hi, limitOf(limit), func(ref groupsync.Ref) { out = append(out, ref) })
	}
	if err != nil {
		return nil, rangeError(s, err)
	}
	return out, nil
}

// Shared calls fn for the entries of a range in order.
func (r *reader) Shared(s groupsync.Scope, lo, hi groupsync.Ref, fn func(groupsync.Record) (bool, error)) error {
	g, err := r.scope(s)
	if err != nil {
		return rangeError(s, err)
	}
	if g == nil {
		return nil
	}
	return r.walk(recordColumns+`FROM entries e INDEXED BY entries_range`+withChain+`
		WHERE e.shared = 1 AND e.gid = ? AND e.kind = ? AND (e.modified, e.hash) < (?, ?) AND (e.modified, e.hash) >= (?, ?)
		ORDER BY e.modified, e.hash LIMIT ?`,
		[]any{g.gid, int64(s.Kind), hi.Modified, hi.Hash[:]}, lo, fn)
}

// count adds a hash to a summary as a big-endian number, or takes it away if n is -1.
func count(s *groupsync.Summary, h peercrypto.Hash, n int64) {
	s.Count += n
	var carry uint64
	for i := len(h) - 8; i >= 0; i -= 8 {
		a, b := binary.BigEndian.Uint64(s.Sum[i:]), binary.BigEndian.Uint64(h[i:])
		if n > 0 {
			a, carry = bits.Add64(a, b, carry)
		} else {
			a, carry = bits.Sub64(a, b, carry)
		}
		binary.BigEndian.PutUint64(s.Sum[i:], a)
	}
}
