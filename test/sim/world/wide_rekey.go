package world

import (
	"errors"
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/group"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// kept is what counted of a user's changes on the device that set a new key.
type kept struct {
	user *user
	dev  *device
	key  peercrypto.PublicKey // the new one
	held map[peercrypto.ID][]peercrypto.Hash
}

// held are the changes of this device's user that count here, by group.
func (d *device) held() map[peercrypto.ID][]peercrypto.Hash {
	out := map[peercrypto.ID][]peercrypto.Hash{}
	own := func(r groupsync.Reader, h peercrypto.Hash) bool {
		rec, ok, err := r.Record(h)
		if err != nil || !ok {
			return false
		}
		ent, err := entry.Decode(rec.Raw)
		return err == nil && ent.Signer == d.user.id
	}
	err := d.store.View(d.w.ctx, func(r groupsync.Reader) error {
		for _, g := range d.w.groups {
			var all []peercrypto.Hash
			err := r.Operations(g, func(rec groupsync.Record) error {
				return r.DataOf(rec.Hash, func(rec groupsync.Record) error {
					if rec.Valid {
						all = append(all, rec.Hash)
					}
					return nil
				})
			})
			if err != nil {
				return err
			}
			out[g] = slices.DeleteFunc(all, func(h peercrypto.Hash) bool { return !own(r, h) })
		}
		return nil
	})
	if err != nil && !errors.Is(err, errCrashed) {
		d.w.fail("device %d: %w", d.number, err)
	}
	return out
}

// remember notes what a rotation must keep.
func (w *World) remember(d *device, held map[peercrypto.ID][]peercrypto.Hash) {
	if d.evil {
		return
	}
	rec, err := groupsync.CurrentIdentity(w.ctx, d.store.Store, d.ident)
	if err == nil {
		w.kept = append(w.kept, kept{d.user, d, rec.User.Public(), held})
	}
}

// terms are the keys of one grant, as they stand in the end.
type terms struct {
	at     map[peercrypto.Hash]int // of a key event that stands, or the beginning: its place
	rekeys []*entry.Entry          // valid ones of the grant
}

// checkRekeys: what counts under a key that was replaced is in what the rekeys behind it keep, or was taken up by an admin. It goes by the text of
// the formats alone, and looks at nothing of the evaluation but which rekeys, checkpoints and adoptions count.
func (w *World) checkRekeys(i int, o *oracle, s *group.State, valid map[peercrypto.Hash]bool) {
	grants := map[peercrypto.Hash]*terms{}
	saved := map[peercrypto.Hash]bool{}
	for h, ent := range o.ops {
		switch op := ent.Op.(type) {
		case entry.Checkpoint, entry.Adopt:
			if valid[h] {
				for _, named := range entry.Frontier(ent.Op) {
					o.ancestors(named, saved)
				}
			}
		case entry.Rekey:
			p, ok := s.Principal(ent.As)
			if !ok || !valid[h] {
				continue
			}
			t := grants[p.Grant]
			if t == nil {
				first, _ := s.Principal(p.Grant)
				t = &terms{at: map[peercrypto.Hash]int{first.Head: 0}}
				grants[p.Grant] = t
			}
			t.rekeys = append(t.rekeys, ent)
			_ = op
		}
	}
	for _, t := range grants {
		t.place()
	}
	covers := map[peercrypto.Hash]map[peercrypto.Hash]bool{}
	for h, ent := range o.data {
		p, ok := s.Principal(ent.As)
		if t := grants[p.Grant]; ok && valid[h] && t != nil && !saved[h] {
			for _, r := range t.rekeys {
				if t.replaces(r, p, s) && !o.covered(covers, r, h) {
					w.fail("group %d: change %s counts under a key that was replaced, and rekey %s does not keep it", i, h.Short(), r.Hash.Short())
				}
			}
		}
	}
	w.checkKept(i, o, s, valid)
}

// place numbers the key events of the valid rekeys in the order in which they follow each other.
func (t *terms) place() {
	for changed := true; changed; {
		changed = false
		for _, r := range t.rekeys {
			for _, ev := range r.Op.(entry.Rekey).Events {
				from, ok := t.at[ev.Prev]
				if _, known := t.at[ev.Hash()]; ok && !known {
					t.at[ev.Hash()], changed = from+1, true
				}
			}
		}
	}
}

// replaces tells whether a rekey replaces the key under which something was written.
func (t *terms) replaces(r *entry.Entry, p group.Principal, s *group.State) bool {
	as, _ := s.Principal(r.As)
	events := r.Op.(entry.Rekey).Events
	if len(events) == 0 {
		return false
	}
	at, ok := t.at[p.Head]
	return ok && t.at[as.Head] <= at && at < t.at[events[len(events)-1].Hash()]
}

func (o *oracle) covered(cache map[peercrypto.Hash]map[peercrypto.Hash]bool, r *entry.Entry, h peercrypto.Hash) bool {
	if cache[r.Hash] == nil {
		cache[r.Hash] = map[peercrypto.Hash]bool{}
		for _, named := range r.Op.(entry.Rekey).Frontier {
			o.ancestors(named, cache[r.Hash])
		}
	}
	return cache[r.Hash][h]
}

// ancestors adds an entry and those before it in its chain.
func (o *oracle) ancestors(h peercrypto.Hash, into map[peercrypto.Hash]bool) {
	for !into[h] && !h.IsZero() {
		into[h] = true
		ent := o.data[h]
		if ent == nil {
			return
		}
		h = ent.Prev
	}
}

// checkKept: what the device held that set a key counts, unless the membership ended, or another key was set by who did not know it.
func (w *World) checkKept(i int, o *oracle, s *group.State, valid map[peercrypto.Hash]bool) {
	for _, k := range w.kept {
		if w.restored || w.hostile || k.dev.engine == nil || w.mixed(k.user) || ended(o, s, k.user.id, valid) {
			continue
		}
		for _, h := range k.held[o.g] {
			if ent := o.data[h]; ent != nil && !valid[h] {
				w.fail("group %d: change %s by user %d does not count any more, and device %d held it when it set a key", i, h.Short(), k.user.number, k.dev.number)
			}
		}
	}
}

// mixed tells whether a user's keys were set by the words or by several devices, which may not have known of each other.
func (w *World) mixed(u *user) bool {
	var by *device
	for _, k := range w.kept {
		if k.user == u && by != nil && k.dev != by {
			return true
		}
		if k.user == u {
			by = k.dev
		}
	}
	for _, ev := range w.known(u) {
		if ev.By != keys.ByKey {
			return true
		}
	}
	return false
}

// ended tells whether something ends a grant of a user.
func ended(o *oracle, s *group.State, u peercrypto.ID, valid map[peercrypto.Hash]bool) bool {
	for _, p := range s.Principals(u) {
		if len(p.Revoked) > 0 || !p.Valid {
			return true
		}
	}
	return false
}
