package sync

import (
	"bufio"
	"context"
	"fmt"
	"io"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/recon"
)

// page is how many documents are read in one transaction.
const page = 500

// readable returns a group whose documents this user may see: joined or left, not merely offered.
func (e *Engine) readable(id peercrypto.ID) error {
	_, err := e.replica(id)
	return err
}

// Get returns a live document; ErrNotFound if there is none.
func (e *Engine) Get(ctx context.Context, group, subject peercrypto.ID) (Document, error) {
	if err := e.readable(group); err != nil {
		return Document{}, err
	}
	var doc Document
	err := e.store.View(ctx, func(r Reader) error {
		d, ok, err := r.Document(group, subject)
		if err == nil && (!ok || d.Deleted || d.expired(e.now())) {
			err = ErrNotFound
		}
		doc = d
		return err
	})
	if err != nil {
		return Document{}, fmt.Errorf("document %s of group %s: %w", subject.Short(), group.Short(), err)
	}
	return doc, nil
}

// List calls fn for the documents that q selects, at most q.Limit (0: 1,000). It reads pages, so that fn may take its time; what changes
// meanwhile is seen or not.
func (e *Engine) List(ctx context.Context, q DocumentQuery, fn func(Document) error) error {
	if err := e.readable(q.Group); err != nil {
		return err
	}
	left := q.Limit
	if left <= 0 {
		left = 1_000
	}
	for left > 0 {
		asked := min(left, page)
		docs, err := e.documents(ctx, q, asked)
		if err != nil {
			return fmt.Errorf("listing documents of group %s: %w", q.Group.Short(), err)
		}
		for _, d := range docs {
			if d.expired(e.now()) {
				continue
			}
			left--
			if err := fn(d); err != nil {
				return err
			}
		}
		if len(docs) < asked {
			return nil
		}
		if q, err = q.behind(docs[len(docs)-1]); err != nil {
			return err
		}
	}
	return nil
}

// behind returns the query that goes on behind a document.
func (q DocumentQuery) behind(d Document) (DocumentQuery, error) {
	if q.ByVersion {
		q.AfterVersion = d.Version
		return q, nil
	}
	var err error
	q.Cursor, err = q.CursorAfter(d)
	q.After = ""
	return q, err
}

func (e *Engine) documents(ctx context.Context, q DocumentQuery, limit int) ([]Document, error) {
	q.Limit = limit
	docs := make([]Document, 0, limit)
	err := e.store.View(ctx, func(r Reader) error {
		return r.Documents(q, func(d Document) error {
			d.JSON = append([]byte(nil), d.JSON...)
			docs = append(docs, d)
			return nil
		})
	})
	return docs, err
}

// Watch calls fn for each document whose version is above after, tombstones too, in order of versions, and then for each new version until ctx ends
// or fn fails. A document that changed several times meanwhile is told once. There is no queue: a slow fn delays nobody.
func (e *Engine) Watch(ctx context.Context, group peercrypto.ID, after int64, fn func(Document) error) error {
	if err := e.readable(group); err != nil {
		return err
	}
	if err := e.enter(); err != nil {
		return err
	}
	defer e.active.Done()
	wake, stop := e.bus.follow()
	defer stop()
	q := DocumentQuery{Group: group, ByVersion: true, AfterVersion: after, IncludeDeleted: true}
	for {
		docs, err := e.documents(ctx, q, page)
		if err != nil {
			return fmt.Errorf("watching group %s: %w", group.Short(), err)
		}
		for _, d := range docs {
			if d.expired(e.now()) {
				d = d.asTombstone()
			}
			if err := fn(d); err != nil {
				return err
			}
			q.AfterVersion = d.Version
		}
		if len(docs) > 0 {
			continue
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		case <-e.done:
			return ErrClosed
		}
	}
}

// Export writes the live documents as NDJSON, in order of their ids, each in canonical form: replicas that hold the same write the same bytes, as
// far as no ttl ends between them.
func (e *Engine) Export(ctx context.Context, group peercrypto.ID, w io.Writer) error {
	out := bufio.NewWriterSize(w, 64<<10)
	err := e.List(ctx, DocumentQuery{Group: group, Limit: 1 << 62}, func(d Document) error {
		_, err := out.Write(append(d.JSON, '\n'))
		return err
	})
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return fmt.Errorf("exporting group %s: %w", group.Short(), err)
	}
	return nil
}

// ExportLog writes the shared entries as NDJSON, operations first, each kind in the order (modified, hash).
func (e *Engine) ExportLog(ctx context.Context, group peercrypto.ID, w io.Writer) error {
	if err := e.readable(group); err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 64<<10)
	for _, kind := range []entry.Kind{entry.Operation, entry.Data} {
		scope, lo := Scope{group, kind}, Ref{}
		for more := true; more; {
			var raws [][]byte
			err := e.store.View(ctx, func(r Reader) error {
				raws, more = nil, false
				return r.Shared(scope, lo, endRef, func(rec Record) (bool, error) {
					if len(raws) == page {
						lo, more = rec.Ref, true
						return false, nil
					}
					raws = append(raws, append([]byte(nil), rec.Raw...))
					return true, nil
				})
			})
			if err != nil {
				return fmt.Errorf("exporting the log of group %s: %w", group.Short(), err)
			}
			for _, raw := range raws {
				if _, err := out.Write(append(raw, '\n')); err != nil {
					return fmt.Errorf("exporting the log of group %s: %w", group.Short(), err)
				}
			}
		}
	}
	return out.Flush()
}

// endRef is above every entry.
var endRef = Ref{Modified: recon.End.Modified, Hash: recon.End.Hash}
