package sync

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/fold"
)

// GetFirstSeen is Get by the rule of the seed system: of changes of the same moment the one that came to this device first wins, instead of
// the one with the greatest hash. It is a view: nothing of it is kept, signed, sent or compared, and devices may differ in it. tied tells that it
// differs from what Get returns; then the document may be Deleted, which is no error. What is written on top is an ordinary change.
func (e *Engine) GetFirstSeen(ctx context.Context, group, subject peercrypto.ID) (doc Document, tied bool, err error) {
	if err := e.readable(group); err != nil {
		return Document{}, false, err
	}
	err = e.store.View(ctx, func(r Reader) error {
		d, ok, err := r.Document(group, subject)
		if err != nil {
			return err
		}
		if !ok || d.Last == endRef || d.expired(e.now()) {
			return ErrNotFound
		}
		state, ties, err := foldFirstSeen(r, group, subject)
		if err != nil {
			return err
		}
		if doc = d; ties {
			if doc.Type, doc.JSON, doc.Deleted = "", nil, !state.Exists(); state.Exists() {
				doc.Type, doc.JSON = state.Type(), state.JSON()
			}
			tied = doc.Deleted != d.Deleted || !bytes.Equal(doc.JSON, d.JSON)
		}
		if doc.Deleted && !tied || doc.expired(e.now()) {
			return ErrNotFound
		}
		return nil
	})
	if err != nil {
		return Document{}, false, fmt.Errorf("document %s of group %s: %w", subject.Short(), group.Short(), err)
	}
	return doc, tied, nil
}

// seen is a change with its place in the order of arrival.
type seen struct {
	ent      *entry.Entry
	position int64
}

// foldFirstSeen applies the changes of each moment in the opposite order of arrival, so that the first one wins. ties tells whether there were
// several of one moment.
func foldFirstSeen(r Reader, group, subject peercrypto.ID) (state *fold.State, ties bool, err error) {
	state = fold.NewState(group, subject)
	var moment []seen
	apply := func() {
		ties = ties || len(moment) > 1
		slices.SortFunc(moment, func(a, b seen) int { return cmp.Compare(b.position, a.position) })
		for _, s := range moment {
			state.Apply(s.ent.Modified, s.ent.SubjectDeleted, s.ent.Changes)
		}
		moment = moment[:0]
	}
	err = r.SubjectEntries(group, subject, func(rec Record) error {
		ent, err := entry.Decode(slices.Clone(rec.Raw))
		if err != nil {
			return fmt.Errorf("stored entry %s: %w", rec.Hash.Short(), err)
		}
		if len(moment) > 0 && moment[0].ent.Modified != ent.Modified {
			apply()
		}
		moment = append(moment, seen{ent, rec.Position})
		return nil
	})
	apply()
	return state, ties, err
}
