package world

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

// indexes are those that devices may have.
var indexes = []groupsync.IndexSpec{
	{Name: "n", Type: "Note", Fields: []string{"n"}},
	{Name: "t", Type: "Note", Fields: []string{"t", groupsync.ModifiedField}},
	{Name: "deep", Type: "Note", Fields: []string{"a.k1"}},
	{Name: "i", Type: "Item", Fields: []string{"i"}},
}

// query is one that the index answers.
func query(g peercrypto.ID, spec groupsync.IndexSpec, x uint32) groupsync.DocumentQuery {
	q := groupsync.DocumentQuery{Group: g, Type: spec.Type, Descending: x%2 == 0}
	switch spec.Name {
	case "n":
		q.OrderBy = "n"
		if x%3 == 0 {
			q.Where = []groupsync.Condition{{Field: "n", Op: groupsync.Greater, Value: float64(1 << 30)}}
		}
	case "t":
		q.Where, q.OrderBy = []groupsync.Condition{{Field: "t", Op: groupsync.Equal, Value: string(rune('a' + x%4))}}, groupsync.ModifiedField
	case "deep":
		q.OrderBy = "a.k1"
	case "i":
		q.OrderBy = "i"
	}
	return q
}

// index makes or drops an index.
func (d *device) index(a Action) error {
	spec := indexes[int(a.X)%len(indexes)]
	if a.Y%6 > 0 {
		return d.engine.EnsureIndex(d.w.ctx, spec)
	}
	return d.engine.DropIndex(d.w.ctx, spec.Name)
}

// A follow is a query that is watched while the engine runs.
type follow struct {
	q groupsync.DocumentQuery

	mu    sync.Mutex
	shown map[peercrypto.ID]string
	ready bool
	err   error
}

func (f *follow) take(c groupsync.Change) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch _, has := f.shown[c.Document.Subject]; {
	case c.Kind == groupsync.Ready:
		f.ready = true
	case c.Kind == groupsync.Removed && has:
		delete(f.shown, c.Document.Subject)
	case c.Kind == groupsync.Added && !has, c.Kind == groupsync.Changed && has:
		f.shown[c.Document.Subject] = string(c.Document.JSON)
	default:
		f.err = fmt.Errorf("document %s is told as %s", c.Document.Subject.Short(), c.Kind)
	}
	return nil
}

// follow watches a query.
func (d *device) follow(g peercrypto.ID, a Action) error {
	if len(d.follows) > 5 {
		return errSkip
	}
	if !slices.Contains(d.engine.Joined(), g) {
		return errSkip
	}
	spec := indexes[int(a.Y)%len(indexes)]
	if err := d.engine.EnsureIndex(d.w.ctx, spec); err != nil {
		return err
	}
	f := &follow{q: query(g, spec, a.Z), shown: map[peercrypto.ID]string{}}
	d.follows = append(d.follows, f)
	go func(e *groupsync.Engine, ctx context.Context) {
		err := e.WatchQuery(ctx, f.q, f.take)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.ready = f.ready && err == nil
	}(d.engine, d.w.ctx)
	return nil
}

// checkQueries: what indexes answer is what all documents say, and so is what watched queries show.
func (d *device) checkQueries() {
	list, err := d.engine.Indexes(d.w.ctx)
	for _, g := range d.w.groups {
		if info, e := d.engine.Group(d.w.ctx, g); e != nil || !info.Joined {
			continue
		}
		for i := range list {
			for x := range uint32(4) {
				err = errors.Join(err, d.checkQuery(query(g, list[i], x)))
			}
		}
	}
	for _, f := range d.follows {
		err = errors.Join(err, d.checkFollow(f))
	}
	if err != nil {
		d.w.fail("device %d: %w", d.number, err)
	}
}

// expected is what a query must find: by all documents, without an index.
func (d *device) expected(q groupsync.DocumentQuery) (out []groupsync.Document, err error) {
	all := groupsync.DocumentQuery{Group: q.Group, Type: q.Type, Limit: 1 << 30}
	err = d.engine.List(d.w.ctx, all, func(doc groupsync.Document) error {
		doc.JSON = slices.Clone(doc.JSON)
		if _, ok := doc.Field(q.OrderBy); ok && q.Matches(doc) {
			out = append(out, doc)
		}
		return nil
	})
	slices.SortFunc(out, func(a, b groupsync.Document) int {
		x, _ := a.Field(q.OrderBy)
		y, _ := b.Field(q.OrderBy)
		n := cmp.Or(x.Compare(y), cmp.Compare(a.Subject, b.Subject))
		if q.Descending {
			return -n
		}
		return n
	})
	return out, err
}

func (d *device) checkQuery(q groupsync.DocumentQuery) error {
	want, err := d.expected(q)
	if err != nil {
		return err
	}
	var got []groupsync.Document
	for page := q; ; {
		page.Limit = 3
		p, err := d.engine.Find(d.w.ctx, page)
		if err != nil {
			return fmt.Errorf("query %+v: %w", page, err)
		}
		if got = append(got, p.Documents...); p.Next == "" {
			break
		}
		page.Cursor = p.Next
	}
	same := func(a, b groupsync.Document) bool { return a.Subject == b.Subject && string(a.JSON) == string(b.JSON) }
	if !slices.EqualFunc(got, want, same) {
		return fmt.Errorf("query %+v: found %s, expected %s", q, subjects(got), subjects(want))
	}
	return nil
}

func subjects(docs []groupsync.Document) string {
	var b strings.Builder
	for _, d := range docs {
		b.WriteString(d.Subject.Short() + " ")
	}
	return b.String()
}

func (d *device) checkFollow(f *follow) error {
	if info, err := d.engine.Group(d.w.ctx, f.q.Group); err != nil || !info.Joined {
		return nil // it was purged
	}
	want, err := d.expected(f.q)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil || !f.ready {
		return err
	}
	if f.err != nil {
		return fmt.Errorf("watching %+v: %w", f.q, f.err)
	}
	d.w.stats.Actions["followed"]++
	for _, doc := range want {
		if f.shown[doc.Subject] != string(doc.JSON) {
			return fmt.Errorf("watching %+v: of document %s it shows %q, and it is %q", f.q, doc.Subject.Short(), f.shown[doc.Subject], doc.JSON)
		}
	}
	if len(want) != len(f.shown) {
		return fmt.Errorf("watching %+v: %d documents are shown, %d are expected", f.q, len(f.shown), len(want))
	}
	return nil
}
