package sync

import (
	"context"
	"fmt"
	"math"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// MaxWatched is how many documents may be in the result of a WatchQuery at a time: it remembers which they are.
const MaxWatched = 100_000

// A Page is a part of a query's result.
type Page struct {
	Documents []Document
	// Next is the Cursor with which the query goes on, "" when nothing is left.
	Next string
}

// Find returns one page of what q selects, at most q.Limit documents (0: 1,000). With conditions or an order, an index has to answer it:
// ErrNoIndex otherwise.
func (e *Engine) Find(ctx context.Context, q DocumentQuery) (Page, error) {
	var p Page
	if q.Limit <= 0 || q.Limit > defaultFind {
		q.Limit = defaultFind
	}
	err := e.List(ctx, q, func(d Document) error {
		p.Documents = append(p.Documents, d)
		return nil
	})
	if err != nil {
		return Page{}, err
	}
	if n := len(p.Documents); n == q.Limit && !q.ByVersion {
		p.Next, err = q.CursorAfter(p.Documents[n-1])
	}
	return p, err
}

// defaultFind is also the most that Find returns at once.
const defaultFind = 1_000

// A ChangeKind tells what became of a document in the result of a query.
type ChangeKind string

// The kinds of change.
const (
	Added   ChangeKind = "added"
	Changed ChangeKind = "changed"
	Removed ChangeKind = "removed" // deleted, expired, or it does not match any more
	// Ready comes once, behind the documents that were there at the beginning; it has no document.
	Ready ChangeKind = "ready"
)

// A Change is what WatchQuery tells.
type Change struct {
	Kind     ChangeKind
	Document Document // of Removed the state that is not in the result: deleted, or without what the query asks for
}

// WatchQuery tells what q selects, in its order, then Ready, and then what enters, changes in or leaves the result, in the order of
// versions, until ctx ends or fn fails. Of a document that changed several times meanwhile the last state is told. There is no queue: a slow fn delays
// nobody. q has no Limit, Cursor, After or ByVersion, and conditions need an index as in Find. A result of more than MaxWatched documents
// ends it with ErrLimit.
func (e *Engine) WatchQuery(ctx context.Context, q DocumentQuery, fn func(Change) error) error {
	if q.Limit != 0 || q.Cursor != "" || q.After != "" || q.ByVersion || q.IncludeDeleted {
		return fmt.Errorf("watching group %s: %w: a watch has the whole result, without limit or cursor", q.Group.Short(), ErrQuery)
	}
	after, err := e.LastVersion(ctx, q.Group)
	if err != nil {
		return err
	}
	w := watcher{q: q, fn: fn, in: map[peercrypto.ID]int64{}}
	all := q
	all.Limit = math.MaxInt
	if err := e.List(ctx, all, w.found); err != nil {
		return err
	}
	if err := fn(Change{Kind: Ready}); err != nil {
		return err
	}
	return e.Watch(ctx, q.Group, after, w.changed)
}

// A watcher remembers the documents of a result with their versions.
type watcher struct {
	q  DocumentQuery
	fn func(Change) error
	in map[peercrypto.ID]int64
}

func (w *watcher) found(d Document) error {
	if _, was := w.in[d.Subject]; was {
		return nil // it moved behind the place where the listing was; its change follows
	}
	return w.enter(Added, d)
}

func (w *watcher) enter(kind ChangeKind, d Document) error {
	w.in[d.Subject] = d.Version
	if len(w.in) > MaxWatched {
		return fmt.Errorf("watching group %s: more than %d documents: %w", d.Group.Short(), MaxWatched, ErrLimit)
	}
	return w.fn(Change{kind, d})
}

// changed takes a document with a new version.
func (w *watcher) changed(d Document) error {
	version, was := w.in[d.Subject]
	switch {
	case !w.q.Matches(d) && was:
		delete(w.in, d.Subject)
		return w.fn(Change{Removed, d})
	case !w.q.Matches(d) || (was && version >= d.Version):
		return nil
	case was:
		return w.enter(Changed, d)
	}
	return w.enter(Added, d)
}

// LastVersion returns the highest version that a document of a group has: where a Watch for new changes only begins.
func (e *Engine) LastVersion(ctx context.Context, group peercrypto.ID) (int64, error) {
	if err := e.readable(group); err != nil {
		return 0, err
	}
	var last int64
	err := e.store.View(ctx, func(r Reader) error {
		// The store tells quickly whether there is anything above a version, so the end is found by doubling and halving.
		above := func(v int64) (found bool, err error) {
			q := DocumentQuery{Group: group, ByVersion: true, AfterVersion: v, IncludeDeleted: true, Limit: 1}
			err = r.Documents(q, func(Document) error { found = true; return nil })
			return found, err
		}
		low, high := int64(0), int64(1)
		for {
			more, err := above(high)
			if err != nil {
				return err
			}
			if !more {
				break
			}
			low, high = high, high*2
		}
		for low < high {
			mid := low + (high-low)/2
			more, err := above(mid)
			if err != nil {
				return err
			}
			if more {
				low = mid + 1
			} else {
				high = mid
			}
		}
		last = low
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("looking for the last version in group %s: %w", group.Short(), err)
	}
	return last, nil
}

// Indexes lists the indexes over fields, by name.
func (e *Engine) Indexes(ctx context.Context) (list []IndexSpec, err error) {
	err = e.store.View(ctx, func(r Reader) error {
		list, err = r.Indexes()
		return err
	})
	return list, err
}

// EnsureIndex makes an index over fields of the documents of a type in all groups, or another one in place of that of the same name. It stays
// over restarts. It reads all documents of the type, and writers wait meanwhile.
func (e *Engine) EnsureIndex(ctx context.Context, s IndexSpec) error {
	return e.changeIndexes(ctx, func(tx Tx) error { return tx.EnsureIndex(s) })
}

// DropIndex removes an index; ErrNotFound if there is none of that name.
func (e *Engine) DropIndex(ctx context.Context, name string) error {
	return e.changeIndexes(ctx, func(tx Tx) error {
		list, err := tx.Indexes()
		if err != nil {
			return err
		}
		for _, s := range list {
			if s.Name == name {
				return tx.DropIndex(name)
			}
		}
		return fmt.Errorf("index %s: %w", name, ErrNotFound)
	})
}

func (e *Engine) changeIndexes(ctx context.Context, fn func(Tx) error) error {
	if err := e.enter(); err != nil {
		return err
	}
	defer e.active.Done()
	if err := e.lock(ctx); err != nil {
		return err
	}
	defer e.unlock()
	return e.store.Update(ctx, fn)
}
