package world

import (
	"bytes"
	"fmt"
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/fold"
	"github.com/peersignal/peersignal/pkg/sync/group"
)

// An oracle evaluates everything that joined devices hold of a group at once and from nothing: no order of arrival, no
// quarantine, no increments.
type oracle struct {
	g    peercrypto.ID
	ops  map[peercrypto.Hash]*entry.Entry
	data map[peercrypto.Hash]*entry.Entry
}

// read takes in what a device stores, counted or not.
func (o *oracle) read(r groupsync.Reader) error {
	err := r.Operations(o.g, func(rec groupsync.Record) error {
		ent, err := entry.Decode(bytes.Clone(rec.Raw))
		o.ops[rec.Hash] = ent
		return err
	})
	if err != nil {
		return err
	}
	for grant := range o.ops {
		var list []peercrypto.Hash
		err := r.DataOf(grant, func(rec groupsync.Record) error {
			list = append(list, rec.Hash)
			return nil
		})
		if err != nil {
			return err
		}
		for _, h := range list {
			rec, _, err := r.Record(h)
			if err != nil {
				return err
			}
			if o.data[h], err = entry.Decode(bytes.Clone(rec.Raw)); err != nil {
				return err
			}
		}
	}
	return nil
}

func sorted(m map[peercrypto.Hash]*entry.Entry) []*entry.Entry {
	out := make([]*entry.Entry, 0, len(m))
	for _, ent := range m {
		out = append(out, ent)
	}
	slices.SortFunc(out, func(a, b *entry.Entry) int {
		return groupsync.Ref{Modified: a.Modified, Hash: a.Hash}.Compare(groupsync.Ref{Modified: b.Modified, Hash: b.Hash})
	})
	return out
}

// evaluate returns the state and which entries are valid.
func (o *oracle) evaluate() (*group.State, map[peercrypto.Hash]bool, error) {
	log := group.NewLog(o.g)
	for _, ent := range sorted(o.ops) {
		if _, err := log.Add(ent); err != nil {
			return nil, nil, fmt.Errorf("stored operation %s of kind %q: %w", ent.Hash.Short(), ent.Op.Kind(), err)
		}
	}
	s := log.State()
	valid := map[peercrypto.Hash]bool{}
	refs := map[peercrypto.Hash][]group.DataRef{}
	for h, ent := range o.data {
		var prev *group.DataRef
		if p := o.data[ent.Prev]; p != nil {
			ref := group.RefOf(p)
			prev = &ref
		}
		if err := group.CheckData(log, ent, prev); err != nil {
			return nil, nil, fmt.Errorf("stored change %s: %w", h.Short(), err)
		}
		refs[ent.As] = append(refs[ent.As], group.RefOf(ent))
	}
	for grant, list := range refs {
		ok, _ := s.JudgeData(grant, list)
		for h, v := range ok {
			valid[h] = v
		}
	}
	for h := range o.ops {
		valid[h] = s.Valid(h)
	}
	return s, valid, nil
}

// documents folds the valid changes.
func (o *oracle) documents(w *World, valid map[peercrypto.Hash]bool) []byte {
	states := map[peercrypto.ID]*fold.State{}
	var ids []peercrypto.ID
	for _, ent := range sorted(o.data) {
		if !valid[ent.Hash] {
			continue
		}
		if states[ent.Subject] == nil {
			states[ent.Subject] = fold.NewState(o.g, ent.Subject)
			ids = append(ids, ent.Subject)
		}
		states[ent.Subject].Apply(ent.Modified, ent.SubjectDeleted, ent.Changes)
	}
	slices.Sort(ids)
	var out bytes.Buffer
	for _, id := range ids {
		if s := states[id]; s.Exists() && !w.over(s.JSON()) {
			out.Write(s.JSON())
			out.WriteByte('\n')
		}
	}
	return out.Bytes()
}

// compare checks joined devices against the oracle.
func (w *World) compare(i int, g peercrypto.ID, list []holding) {
	o := &oracle{g, map[peercrypto.Hash]*entry.Entry{}, map[peercrypto.Hash]*entry.Entry{}}
	for _, h := range list {
		if err := h.dev.store.View(w.ctx, o.read); err != nil {
			w.fail("group %d on device %d: %w", i, h.dev.number, err)
			return
		}
	}
	s, valid, err := o.evaluate()
	if err != nil {
		w.fail("group %d: %w", i, err)
		return
	}
	if docs := o.documents(w, valid); !bytes.Equal(docs, list[0].documents) {
		w.fail("group %d: the documents are not the fold of the valid changes\nshown:\n%s\nexpected:\n%s", i, list[0].documents, docs)
	}
	if got, want := members(s), memberList(list[0].info); got != want {
		w.fail("group %d: the members shown are %s, by the log they are %s", i, want, got)
	}
	for _, h := range list {
		err := h.dev.store.View(w.ctx, func(r groupsync.Reader) error {
			for hash, ok := range valid {
				rec, _, err := r.Record(hash)
				if err != nil {
					return err
				}
				if rec.Valid != ok {
					return fmt.Errorf("entry %s counts: %v, by the log: %v", hash.Short(), rec.Valid, ok)
				}
			}
			return nil
		})
		if err != nil {
			w.fail("group %d on device %d: %w", i, h.dev.number, err)
		}
	}
	if w.plan.Wide {
		w.checkRekeys(i, o, s, valid)
	}
	for _, ok := range valid {
		if ok {
			w.stats.Entries++
		}
	}
}

func members(s *group.State) string {
	var b bytes.Buffer
	for _, m := range s.Members() {
		_, _ = fmt.Fprintf(&b, "%s %s, ", m.UserID.Short(), m.Role)
	}
	return b.String()
}

func memberList(info groupsync.GroupInfo) string {
	var b bytes.Buffer
	for _, m := range info.Members {
		_, _ = fmt.Fprintf(&b, "%s %s, ", m.UserID.Short(), m.Role)
	}
	return b.String()
}
