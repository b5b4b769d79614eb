package sync

import (
	"context"
	"fmt"
)

// A document may say in its member "ttl" when it ends (see TTL). From then on, by this device's clock, it is not shown: reads leave it out, watches
// tell it as deleted. Run removes its content. Its changes stay in the log, signed, sent and compared as before, so replicas converge
// whatever their clocks say; a later change that takes the ttl away or puts it off brings the document back.

// expireBatch is how many documents are removed in one transaction.
const expireBatch = 500

// expired tells whether a document's time is over.
func (d Document) expired(now int64) bool {
	ttl, ok := TTL(d.JSON)
	return ok && ttl <= now && !d.Deleted
}

// asTombstone is what is left of an expired document. Its Last is behind every change, so that the next one folds all of them anew.
func (d Document) asTombstone() Document {
	d.Type, d.JSON, d.Deleted, d.Last = "", nil, true, endRef
	return d
}

// expireDocuments removes what is over.
func (m *maintainer) expireDocuments(ctx context.Context) error {
	for {
		var due []Document
		err := m.e.store.View(ctx, func(r Reader) error {
			var err error
			due, err = r.Expired(m.e.now(), expireBatch)
			return err
		})
		if err != nil || len(due) == 0 {
			return err
		}
		for len(due) > 0 {
			group, n := due[0].Group, 1
			for n < len(due) && due[n].Group == group {
				n++
			}
			if err := m.e.expire(ctx, due[:n]); err != nil {
				return fmt.Errorf("removing expired documents of group %s: %w", group.Short(), err)
			}
			due = due[n:]
		}
	}
}

// expire removes documents of one group, unless they changed meanwhile.
func (e *Engine) expire(ctx context.Context, due []Document) error {
	if err := e.lock(ctx); err != nil {
		return err
	}
	defer e.unlock()
	g, err := e.replica(due[0].Group)
	if err != nil {
		return err
	}
	_, err = e.update(ctx, g, func(b *batch) error {
		for _, d := range due {
			now, ok, err := b.tx.Document(d.Group, d.Subject)
			if err != nil {
				return err
			}
			if !ok || !now.expired(b.now) {
				continue
			}
			if _, err := b.tx.PutDocument(now.asTombstone()); err != nil {
				return err
			}
			b.folded++
		}
		return nil
	})
	return err
}
