package storetest

import (
	"bytes"
	"math"
	"slices"
	"sync/atomic"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// defaultLimit stands in for a limit of 0.
const defaultLimit = 1000

type memoryReader struct {
	*state
	ended atomic.Bool
}

func (r *memoryReader) check() error {
	if r.ended.Load() {
		return errEnded
	}
	return nil
}

func limitOf(n int) int {
	if n <= 0 {
		return defaultLimit
	}
	return n
}

func (r *memoryReader) Groups() ([]groupsync.GroupRecord, error) {
	var out []groupsync.GroupRecord
	for _, g := range r.groups.from("") {
		if g.known {
			g.Meta = bytes.Clone(g.Meta)
			out = append(out, g.GroupRecord)
		}
	}
	return out, r.check()
}

func (r *memoryReader) Group(id peercrypto.ID) (groupsync.GroupRecord, bool, error) {
	g, _ := r.groups.get(string(id))
	if err := r.check(); err != nil || !g.known {
		return groupsync.GroupRecord{}, false, err
	}
	g.Meta = bytes.Clone(g.Meta)
	return g.GroupRecord, true, nil
}

func (r *memoryReader) record(h peercrypto.Hash) groupsync.Record {
	rec, _ := r.records.get(string(h[:]))
	rec.Raw = bytes.Clone(rec.Raw)
	return rec
}

func (r *memoryReader) Record(h peercrypto.Hash) (groupsync.Record, bool, error) {
	_, ok := r.records.get(string(h[:]))
	return r.record(h), ok, r.check()
}

func (r *memoryReader) Has(hashes []peercrypto.Hash) ([]bool, error) {
	out := make([]bool, len(hashes))
	for i, h := range hashes {
		_, out[i] = r.records.get(string(h[:]))
	}
	return out, r.check()
}

func (r *memoryReader) Unknown(s groupsync.Scope, lo, hi groupsync.Ref) (bool, error) {
	if g, _ := r.groups.get(string(s.Group)); s.Kind != entry.Data || g.unshared > 0 {
		return false, r.check()
	}
	sum, err := r.Summary(s, lo, hi)
	return sum.Count == 0, err
}

// each calls fn for the records of an index.
func (r *memoryReader) each(index tree[peercrypto.Hash], prefix keyer, fn func(groupsync.Record) error) error {
	if err := r.check(); err != nil {
		return err
	}
	for _, h := range index.prefixed(string(prefix)) {
		if err := fn(r.record(h)); err != nil {
			return err
		}
	}
	return nil
}

func (r *memoryReader) Operations(group peercrypto.ID, fn func(groupsync.Record) error) error {
	return r.each(r.ops, keyer{}.text(string(group)), fn)
}

func (r *memoryReader) ChainHead(as peercrypto.Hash, dev peercrypto.ID, kind entry.Kind) (groupsync.Record, bool, error) {
	for _, h := range r.chains.prefixed(string(chainKey(as, dev, kind))) {
		return r.record(h), true, r.check()
	}
	return groupsync.Record{}, false, r.check()
}

func (r *memoryReader) ChainAt(as peercrypto.Hash, dev peercrypto.ID, kind entry.Kind, seq int64, limit int) ([]groupsync.Record, error) {
	var out []groupsync.Record
	for _, h := range r.chains.prefixed(string(chainKey(as, dev, kind).number(math.MaxInt64 - seq))) {
		if len(out) == limit {
			break
		}
		rec := r.record(h)
		rec.Raw = nil
		out = append(out, rec)
	}
	return out, r.check()
}

func (r *memoryReader) DataOf(as peercrypto.Hash, fn func(groupsync.Record) error) error {
	return r.each(r.grants, keyer{}.hash(as), func(rec groupsync.Record) error {
		rec.Raw = nil
		return fn(rec)
	})
}

func (r *memoryReader) SubjectEntries(group, subject peercrypto.ID, fn func(groupsync.Record) error) error {
	return r.each(r.subject, keyer{}.text(string(group)).text(string(subject)), fn)
}

func (r *memoryReader) SharedAfter(group peercrypto.ID, after int64, limit int) ([]groupsync.Record, error) {
	var out []groupsync.Record
	prefix := keyer{}.text(string(group))
	for key, h := range r.log.from(string(slices.Clip(prefix).number(after + 1))) {
		if len(out) == limitOf(limit) || !bytes.HasPrefix([]byte(key), prefix) {
			break
		}
		rec, _ := r.records.get(string(h[:]))
		rec.Raw = nil
		out = append(out, rec)
	}
	return out, r.check()
}

func (r *memoryReader) LastPosition() (int64, error) { return r.position, r.check() }

// refs yields the shared refs of a range in order.
func (r *memoryReader) refs(s groupsync.Scope, lo, hi groupsync.Ref, fn func(groupsync.Ref) (bool, error)) error {
	if err := r.check(); err != nil {
		return err
	}
	prefix := scopeKey(s)
	for key, ref := range r.shared.from(refKey(slices.Clip(prefix), lo)) {
		if !bytes.HasPrefix([]byte(key), prefix) || ref.Compare(hi) >= 0 {
			return nil
		}
		if more, err := fn(ref); err != nil || !more {
			return err
		}
	}
	return nil
}

func (r *memoryReader) Summary(s groupsync.Scope, lo, hi groupsync.Ref) (groupsync.Summary, error) {
	var sum groupsync.Summary
	if s.Kind != entry.Operation && s.Kind != entry.Data {
		return sum, r.check()
	}
	if lo == (groupsync.Ref{}) && hi.Modified >= maxModified {
		g, _ := r.groups.get(string(s.Group))
		return g.roots[s.Kind], r.check()
	}
	err := r.refs(s, lo, hi, func(ref groupsync.Ref) (bool, error) {
		count(&sum, ref.Hash, 1)
		return true, nil
	})
	return sum, err
}

func (r *memoryReader) Split(s groupsync.Scope, lo, hi groupsync.Ref, parts int) ([]groupsync.Part, error) {
	var refs []groupsync.Ref
	err := r.refs(s, lo, hi, func(ref groupsync.Ref) (bool, error) {
		refs = append(refs, ref)
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	parts = max(1, min(parts, len(refs)))
	out := make([]groupsync.Part, parts)
	for i := range out {
		from, to := i*len(refs)/parts, (i+1)*len(refs)/parts
		out[i].End = hi
		if to < len(refs) {
			out[i].End = groupsync.Between(refs[to-1], refs[to])
		}
		for _, ref := range refs[from:to] {
			count(&out[i].Summary, ref.Hash, 1)
		}
	}
	return out, nil
}

func (r *memoryReader) Refs(s groupsync.Scope, lo, hi groupsync.Ref, limit int) ([]groupsync.Ref, error) {
	var out []groupsync.Ref
	err := r.refs(s, lo, hi, func(ref groupsync.Ref) (bool, error) {
		out = append(out, ref)
		return len(out) < limitOf(limit), nil
	})
	return out, err
}

func (r *memoryReader) Shared(s groupsync.Scope, lo, hi groupsync.Ref, fn func(groupsync.Record) (bool, error)) error {
	return r.refs(s, lo, hi, func(ref groupsync.Ref) (bool, error) { return fn(r.record(ref.Hash)) })
}

func (r *memoryReader) DocumentCounts(group peercrypto.ID) (live, deleted int64, err error) {
	g, _ := r.groups.get(string(group))
	return g.live, g.deleted, r.check()
}

func (r *memoryReader) Value(bucket, key string) ([]byte, bool, error) {
	v, ok := r.values.get(string(keyer{}.text(bucket).last(key)))
	return bytes.Clone(v), ok, r.check()
}

func (r *memoryReader) Values(bucket string, fn func(key string, value []byte) error) error {
	if err := r.check(); err != nil {
		return err
	}
	prefix := string(keyer{}.text(bucket))
	for key, v := range r.values.prefixed(prefix) {
		if err := fn(key[len(prefix):], bytes.Clone(v)); err != nil {
			return err
		}
	}
	return nil
}
