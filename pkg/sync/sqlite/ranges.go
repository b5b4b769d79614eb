package sqlite

import (
	"encoding/json"
	"fmt"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// This file answers the questions of the reconciliation from the trees.

// maxModified is what no time of an entry reaches: JSON has no such integers.
const maxModified = 1 << 53

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

// ends returns what is below either end of a range, the same if it is empty.
func (r *reader) ends(s groupsync.Scope, lo, hi groupsync.Ref) (g *groupRow, low, high groupsync.Summary, err error) {
	if g, err = r.scope(s); err != nil || g == nil || lo.Compare(hi) >= 0 {
		return g, low, high, err
	}
	if high = g.roots[s.Kind]; hi.Modified < maxModified {
		if high, err = r.prefix(g.trees[s.Kind], hi); err != nil {
			return g, low, high, err
		}
	}
	if lo != (groupsync.Ref{}) {
		low, err = r.prefix(g.trees[s.Kind], lo)
	}
	return g, low, high, err
}

// Summary describes a range of a scope.
func (r *reader) Summary(s groupsync.Scope, lo, hi groupsync.Ref) (groupsync.Summary, error) {
	_, low, high, err := r.ends(s, lo, hi)
	if err != nil {
		return groupsync.Summary{}, rangeError(s, err)
	}
	addUp(&high, low, -1)
	return high, nil
}

// Split cuts a range into parts of about equal counts.
func (r *reader) Split(s groupsync.Scope, lo, hi groupsync.Ref, parts int) ([]groupsync.Part, error) {
	g, low, high, err := r.ends(s, lo, hi)
	if err != nil {
		return nil, rangeError(s, err)
	}
	total := high.Count - low.Count
	n := max(1, min(int64(parts), total))
	out := make([]groupsync.Part, 0, n)
	at := low
	for i := int64(1); i < n; i++ {
		bound, sum, err := r.cut(g.trees[s.Kind], low.Count+i*total/n, total/n/8)
		if err != nil {
			return nil, rangeError(s, err)
		}
		part := groupsync.Part{End: bound, Summary: sum}
		addUp(&part.Summary, at, -1)
		out, at = append(out, part), sum
	}
	last := groupsync.Part{End: hi, Summary: high}
	addUp(&last.Summary, at, -1)
	return append(out, last), nil
}

// Refs reads refs in order.
func (r *reader) Refs(s groupsync.Scope, lo, hi groupsync.Ref, limit int) ([]groupsync.Ref, error) {
	g, err := r.scope(s)
	var items []item
	if err == nil && g != nil {
		items, err = r.items(g.trees[s.Kind], lo, hi, limitOf(limit))
	}
	if err != nil {
		return nil, rangeError(s, err)
	}
	var out []groupsync.Ref
	for _, it := range items {
		out = append(out, it.Ref)
	}
	return out, nil
}

// Shared calls fn for the entries of a range in order.
func (r *reader) Shared(s groupsync.Scope, lo, hi groupsync.Ref, fn func(groupsync.Record) (bool, error)) error {
	for {
		g, err := r.scope(s) // again: fn may write
		if err != nil {
			return rangeError(s, err)
		}
		if g == nil {
			return nil
		}
		items, err := r.items(g.trees[s.Kind], lo, hi, pageRows)
		if err != nil {
			return rangeError(s, err)
		}
		if len(items) == 0 {
			return nil
		}
		page, err := r.rows(items)
		if err != nil {
			return rangeError(s, err)
		}
		for _, record := range page {
			if more, err := fn(record); err != nil || !more {
				return err
			}
		}
		lo = after(page[len(page)-1].Ref)
	}
}

const recordsOfRows = recordColumns + "FROM json_each(?) j CROSS JOIN entries e ON e.eid = j.value" + withChain

// rows reads the entries of items, at least one and as many as a page holds.
func (r *reader) rows(items []item) ([]groupsync.Record, error) {
	eids := make([]int64, len(items))
	for i, it := range items {
		eids[i] = it.eid
	}
	list, err := json.Marshal(eids)
	if err != nil {
		return nil, err
	}
	page, err := r.records(recordsOfRows, []any{string(list)}, false)
	if err != nil {
		return nil, err
	}
	for i, record := range page {
		if record.Ref != items[i].Ref {
			return nil, fmt.Errorf("%w: a tree and its entries differ at %s", ErrCorrupt, record.Hash.Short())
		}
	}
	if len(page) == 0 {
		return nil, fmt.Errorf("%w: entry %s of a tree is missing", ErrCorrupt, items[0].Hash.Short())
	}
	return page, nil
}
