package storetest

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

func (r *memoryReader) Document(group, subject peercrypto.ID) (groupsync.Document, bool, error) {
	d, ok := r.docs.get(docKey(group, subject))
	d.JSON = bytes.Clone(d.JSON)
	return d, ok, r.check()
}

func (r *memoryReader) Documents(q groupsync.DocumentQuery, fn func(groupsync.Document) error) error {
	if err := r.check(); err != nil {
		return err
	}
	indexes, err := r.Indexes()
	if err != nil {
		return err
	}
	plan, err := q.Plan(indexes)
	if err != nil {
		return fmt.Errorf("reading documents of group %s: %w", q.Group.Short(), err)
	}
	if q.ByVersion {
		return r.byVersion(q, fn)
	}
	var found []groupsync.Document
	inOrder := plan.Order == "" && !q.Descending // as they are kept
	prefix := keyer{}.text(string(q.Group))
	for key, d := range r.docs.from(string(slices.Clip(prefix).last(string(q.After)))) {
		if !strings.HasPrefix(key, string(prefix)) || (inOrder && len(found) == limitOf(q.Limit)) {
			break
		}
		if q.Matches(d) && d.Subject > q.After && (plan.From == nil || ordered(q, plan, d, *plan.From) > 0) && inIndex(plan, d) {
			found = append(found, d)
		}
	}
	slices.SortFunc(found, func(a, b groupsync.Document) int { return ordered(q, plan, a, place(plan, b)) })
	for _, d := range found[:min(len(found), limitOf(q.Limit))] {
		d.JSON = bytes.Clone(d.JSON)
		if err := fn(d); err != nil {
			return err
		}
	}
	return nil
}

// inIndex tells whether a document has all fields of the plan's index.
func inIndex(plan groupsync.QueryPlan, d groupsync.Document) bool {
	if plan.Index == nil {
		return true
	}
	return !slices.ContainsFunc(plan.Index.Fields, func(field string) bool {
		_, ok := d.Field(field)
		return !ok
	})
}

// place is where a document stands in the order.
func place(plan groupsync.QueryPlan, d groupsync.Document) groupsync.QueryCursor {
	c := groupsync.QueryCursor{Subject: d.Subject}
	if plan.Order != "" {
		c.Value, _ = d.Field(plan.Order)
	}
	return c
}

// ordered compares a document with a place.
func ordered(q groupsync.DocumentQuery, plan groupsync.QueryPlan, d groupsync.Document, at groupsync.QueryCursor) int {
	own := place(plan, d)
	n := strings.Compare(string(own.Subject), string(at.Subject))
	if plan.Order != "" {
		n = cmp.Or(own.Value.Compare(at.Value), n)
	}
	if q.Descending {
		return -n
	}
	return n
}

func (r *memoryReader) byVersion(q groupsync.DocumentQuery, fn func(groupsync.Document) error) error {
	prefix := keyer{}.text(string(q.Group))
	left := limitOf(q.Limit)
	for key, subject := range r.changed.from(string(slices.Clip(prefix).number(q.AfterVersion + 1))) {
		if !bytes.HasPrefix([]byte(key), prefix) || left == 0 {
			return nil
		}
		d, _ := r.docs.get(docKey(q.Group, subject))
		if !q.Matches(d) || d.Subject <= q.After {
			continue
		}
		d.JSON = bytes.Clone(d.JSON)
		left--
		if err := fn(d); err != nil {
			return err
		}
	}
	return nil
}

// Indexes are kept for the rules alone: every query here looks at everything.
func (r *memoryReader) Indexes() ([]groupsync.IndexSpec, error) {
	var out []groupsync.IndexSpec
	for _, spec := range r.indexes.from("") {
		spec.Fields = slices.Clone(spec.Fields)
		out = append(out, spec)
	}
	return out, r.check()
}

func (r *memoryReader) Expired(now int64, limit int) ([]groupsync.Document, error) {
	var out []groupsync.Document
	for key, place := range r.expires.from("") {
		if key > string(keyer{}.number(now+1)) || len(out) == limitOf(limit) {
			break
		}
		d, _ := r.docs.get(place)
		d.JSON = bytes.Clone(d.JSON)
		out = append(out, d)
	}
	return out, r.check()
}

// expireKey is where a document stands among those that end; false if it does not.
func expireKey(d groupsync.Document) (string, bool) {
	ttl, ok := groupsync.TTL(d.JSON)
	return string(keyer{}.number(ttl).text(string(d.Group)).last(string(d.Subject))), ok
}

func (tx *memoryTx) EnsureIndex(spec groupsync.IndexSpec) error {
	indexes, err := tx.Indexes()
	if err == nil {
		err = spec.Validate()
	}
	if _, there := tx.indexes.get(spec.Name); err == nil && !there && len(indexes) >= groupsync.MaxIndexes {
		err = fmt.Errorf("%w: %d indexes", groupsync.ErrLimit, len(indexes))
	}
	if err != nil {
		return fmt.Errorf("making index %s: %w", spec.Name, err)
	}
	spec.Fields = slices.Clone(spec.Fields)
	tx.indexes = tx.indexes.with(spec.Name, spec)
	return nil
}

func (tx *memoryTx) DropIndex(name string) error {
	tx.indexes = tx.indexes.without(name)
	return tx.check()
}
