package sync

import (
	"fmt"
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/fold"
)

// A subject is a document that a batch changes.
type subject struct {
	added  []*entry.Entry // valid changes that are new
	refold bool           // old ones became valid or void
}

func (b *batch) touch(id peercrypto.ID) *subject {
	s := b.touched[id]
	if s == nil {
		s = &subject{}
		b.touched[id] = s
	}
	return s
}

// foldTouched brings the documents in line with the valid changes.
func (b *batch) foldTouched() error {
	ids := make([]peercrypto.ID, 0, len(b.touched))
	for id := range b.touched {
		ids = append(ids, id)
	}
	slices.Sort(ids) // versions rise in an order that does not depend on chance
	newest, err := b.newestOf(ids)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if _, err := b.foldSubject(id, newest != "" && id > newest); err != nil {
			return fmt.Errorf("folding document %s: %w", id.Short(), err)
		}
	}
	return nil
}

// newestOf returns the last document in the order of ids, so that what lies behind it need not be looked for: new documents are named by the time. It
// returns "" if there is none, or so few are looked for that it is not worth the question.
func (b *batch) newestOf(ids []peercrypto.ID) (newest peercrypto.ID, err error) {
	if len(ids) < 8 {
		return "", nil
	}
	q := DocumentQuery{Group: b.g.id, Descending: true, IncludeDeleted: true, Limit: 1}
	err = b.tx.Documents(q, func(d Document) error {
		newest = d.Subject
		return nil
	})
	return newest, err
}

// foldSubject writes a touched document, which is not there yet if fresh is set. The added changes are in the store already.
func (b *batch) foldSubject(id peercrypto.ID, fresh bool) (doc Document, err error) {
	work := b.touch(id)
	slices.SortFunc(work.added, compareEntries)
	ok := false
	if !fresh {
		if doc, ok, err = b.tx.Document(b.g.id, id); err != nil {
			return doc, err
		}
	}
	state := fold.NewState(b.g.id, id)
	last := Ref{}
	ok = ok && doc.Last != (Ref{}) // else there are no valid changes yet, or none any more: see endDocument
	later := !ok || (len(work.added) > 0 && doc.Last.Compare(refOf(work.added[0])) < 0)
	if later && !work.refold {
		if ok {
			if state, err = fold.Restore(b.g.id, id, doc.JSON, doc.Deleted, doc.Modified); err != nil {
				return doc, err
			}
		}
		for _, ent := range work.added {
			state.Apply(ent.Modified, ent.SubjectDeleted, ent.Changes)
			last = refOf(ent)
		}
	} else if last, err = b.foldAll(state, id, work.added); err != nil {
		return doc, err
	}
	delete(b.touched, id)
	b.folded++
	if last == (Ref{}) {
		return b.endDocument(doc, ok)
	}
	return b.putDocument(id, state, last)
}

// foldAll folds a subject's stored changes from the beginning. decoded spares decoding those that are at hand.
func (b *batch) foldAll(state *fold.State, id peercrypto.ID, decoded []*entry.Entry) (last Ref, err error) {
	at := make(map[peercrypto.Hash]*entry.Entry, len(decoded))
	for _, ent := range decoded {
		at[ent.Hash] = ent
	}
	err = b.tx.SubjectEntries(b.g.id, id, func(r Record) error {
		b.result.again++
		ent := at[r.Hash]
		if ent == nil {
			var err error
			if ent, err = entry.Decode(slices.Clone(r.Raw)); err != nil {
				return fmt.Errorf("stored entry %s: %w", r.Hash.Short(), err)
			}
		}
		state.Apply(ent.Modified, ent.SubjectDeleted, ent.Changes)
		last = r.Ref
		return nil
	})
	return last, err
}

// putDocument stores the result. A subject with valid changes always has one: where they have no effect, it is a tombstone, so that
// whoever adds the next change knows that there are others.
func (b *batch) putDocument(id peercrypto.ID, state *fold.State, last Ref) (Document, error) {
	doc := Document{Group: b.g.id, Subject: id, Modified: state.Modified(), Deleted: !state.Exists(), Last: last}
	if state.Exists() {
		doc.Type, doc.JSON = state.Type(), state.JSON()
	}
	var err error
	doc.Version, err = b.tx.PutDocument(doc)
	return doc, err
}

// endDocument leaves a tombstone without Last of a document of which no change counts any more, so that who watches is told.
func (b *batch) endDocument(doc Document, existed bool) (Document, error) {
	if !existed {
		return Document{}, nil
	}
	doc.Type, doc.JSON, doc.Deleted, doc.Last = "", nil, true, Ref{}
	var err error
	doc.Version, err = b.tx.PutDocument(doc)
	return doc, err
}

func refOf(ent *entry.Entry) Ref { return Ref{ent.Modified, ent.Hash} }
