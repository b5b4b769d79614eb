package world

import (
	"bytes"
	"errors"
	"slices"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/group"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// settleWide lets each user whose key is frozen, ended or lost settle that by the words, takes away the devices that have no part in the result, and
// lets everybody else write once more.
func (w *World) settleWide() {
	for _, u := range w.users {
		if w.failure == nil {
			w.settleUser(u)
		}
	}
	w.settle()
	if w.reconcile() {
		w.settle()
	}
	w.unreachable()
	if slices.ContainsFunc(w.devices, w.waiting) {
		w.play(w.now() + awaitOwn)
		w.settle()
	}
	for _, d := range w.devices {
		if w.failure == nil && d.engine != nil {
			w.probe(d)
		}
	}
	if w.failure == nil {
		w.settle()
	}
	for w.failure == nil && w.ending() {
		w.play(w.now() + time.Minute)
	}
}

// ending tells whether some document ends about now.
func (w *World) ending() bool {
	return slices.ContainsFunc(w.ttls, func(ttl int64) bool {
		return max(ttl-w.clock(), w.clock()-ttl) < (30 * time.Second).Milliseconds()
	})
}

// known are all key events of a user that an honest device knows.
func (w *World) known(u *user) (all []keys.Event) {
	for _, d := range w.devices {
		if d.engine == nil || d.evil {
			continue
		}
		if k, err := d.engine.UserKeys(w.ctx, u.id); err == nil {
			all = append(all, k.Events...)
		}
	}
	slices.SortFunc(all, func(a, b keys.Event) int { return a.Hash().Compare(b.Hash()) })
	return slices.CompactFunc(all, func(a, b keys.Event) bool { return a.Hash() == b.Hash() })
}

func (w *World) historyOf(u *user) keys.History {
	return keys.Evaluate(keys.GenesisOf(u.id, u.genesis), w.known(u))
}

func (d *device) isListed(s keys.State) bool {
	return s.Listed(keys.Device{ID: d.ident.DeviceID(), Key: d.ident.Device.Public()})
}

// reconcile lets users set a key once more who can't write in a group: where some of their devices changed keys or words without knowing of each
// other, a group may know them by a key that lost.
func (w *World) reconcile() (done bool) {
	for _, u := range w.users {
		if live := u.live(); w.failure == nil && slices.ContainsFunc(live, w.pending) {
			w.stats.Actions["reconciled"]++
			w.recoverOn(u, live[0])
			w.outcasts(u)
			done = true
		}
	}
	return done
}

// pending tells whether a device waits for another key in a group that knows its user by a key that lost.
func (w *World) pending(d *device) bool {
	h := w.historyOf(d.user)
	return slices.ContainsFunc(w.groups, func(g peercrypto.ID) bool {
		if !d.roleOf(g).AtLeast(entry.Write) || !errors.Is(d.engine.Delete(w.ctx, g, d.user.id), groupsync.ErrKeyPending) {
			return false
		}
		lost := false
		for _, ev := range d.rekeys(g) {
			lost = lost || !h.Holds(ev.Hash())
		}
		return lost
	})
}

// awaitOwn is how long a device waits for others of its user that got a key from one of them, and some more.
const awaitOwn = 11 * time.Minute

// waiting tells whether a device is on and waits for something before it uses its key in a group.
func (w *World) waiting(d *device) bool {
	return d.engine != nil && slices.ContainsFunc(w.groups, func(g peercrypto.ID) bool {
		return d.roleOf(g).AtLeast(entry.Write) && errors.Is(d.engine.Delete(w.ctx, g, d.user.id), groupsync.ErrKeyPending)
	})
}

// rekeys are the events that a group has of this device's user.
func (d *device) rekeys(g peercrypto.ID) (all []keys.Event) {
	err := d.store.View(d.w.ctx, func(r groupsync.Reader) error {
		return r.Operations(g, func(rec groupsync.Record) error {
			ent, err := entry.Decode(bytes.Clone(rec.Raw))
			if err != nil || ent.Signer != d.user.id {
				return err
			}
			if op, ok := ent.Op.(entry.Rekey); ok {
				all = append(all, op.Events...)
			}
			return nil
		})
	})
	if err != nil && !errors.Is(err, errCrashed) {
		d.w.fail("device %d: %w", d.number, err)
	}
	return all
}

// live are the honest devices of a user that are on.
func (u *user) live() []*device {
	return slices.DeleteFunc(slices.Clone(u.devices), func(d *device) bool { return d.engine == nil || d.evil })
}

// recoverOn lets a user set a key by the words, with all that anybody knows.
func (w *World) recoverOn(u *user, d *device) {
	w.trace("settle user %d on d%d", u.number, d.number)
	if err := d.recoverFrom(w.known(u), func(id peercrypto.ID) bool { return !w.isEvil(id) }); err != nil {
		w.fail("user %d: the words do not settle the key: %w", u.number, err)
		return
	}
	if h := w.historyOf(u); h.Frozen() || h.State.Ended() || d.engine == nil || d.engine.Identity().User.Public() != h.State.Key() {
		w.fail("user %d: the words did not settle the key", u.number)
	}
}

// settleUser does that for one user.
func (w *World) settleUser(u *user) {
	live := u.live()
	if u.lost = len(live) == 0; u.lost {
		return
	}
	h := w.historyOf(u)
	holds := func(d *device) bool {
		return d.engine.Identity().User.Public() == h.State.Key() && (len(h.State.Devices()) == 0 || d.isListed(h.State))
	}
	if h.Frozen() || h.State.Ended() || !slices.ContainsFunc(live, holds) {
		d := live[max(0, slices.IndexFunc(live, func(d *device) bool { return d.isListed(h.State) }))]
		w.stats.Actions["settled"]++
		if w.recoverOn(u, d); w.failure != nil {
			return
		}
		h = w.historyOf(u)
	}
	w.outcasts(u)
}

// outcasts takes the devices away that have no part in the keys of their user any more.
func (w *World) outcasts(u *user) {
	h := w.historyOf(u)
	for _, d := range u.live() {
		if !d.isListed(h.State) && d.engine.Identity().User.Public() != h.State.Key() {
			w.cast(d)
		}
	}
}

func (w *World) cast(d *device) {
	w.trace("outcast d%d", d.number)
	w.stats.Actions["outcasts"]++
	d.shut()
	d.gone = true
}

// unreachable takes devices away that took all those off the list which have the key that stands: they do not look for them.
func (w *World) unreachable() {
	for _, u := range w.users {
		key := w.historyOf(u).State.Key()
		for _, d := range u.live() {
			k, err := d.own()
			if err != nil || d.engine.Identity().User.Public() == key {
				continue
			}
			if !slices.ContainsFunc(u.live(), func(o *device) bool {
				return o.engine.Identity().User.Public() == key && o.isListed(k.History.State)
			}) {
				w.cast(d)
			}
		}
	}
}

// probe writes on a device in each group where its user may.
func (w *World) probe(d *device) {
	for i, g := range w.groups {
		if d.roleOf(g).AtLeast(entry.Write) {
			err := d.put(g, `{"type":"Note","probe":true}`)
			if errors.Is(err, groupsync.ErrKeyPending) && w.lockedOut(d, g) {
				w.stats.Actions["locked-out"]++
				continue
			}
			if err != nil {
				w.fail("group %d: device %d can't write when everything is whole: %w\n%s", i, d.number, err, w.disagreement())
				return
			}
		}
	}
}

// judgeWide checks what must hold at the end of wide histories.
func (w *World) judgeWide() {
	for _, u := range w.users {
		if !u.lost {
			w.checkKeys(u)
		}
	}
	for _, d := range w.devices {
		if d.engine != nil && w.failure == nil {
			d.checkQueries()
		}
	}
}

// checkKeys: all devices of a user have the key that stands, and everybody who shares a group knows it.
func (w *World) checkKeys(u *user) {
	h := w.historyOf(u)
	for _, d := range w.devices {
		if d.engine == nil {
			continue
		}
		own := d.user == u
		shares := slices.ContainsFunc(w.groups, func(g peercrypto.ID) bool {
			counts := func(o *device) bool { return o.engine.Shares(g, d.user.id) }
			return d.engine.Shares(g, u.id) && slices.ContainsFunc(u.live(), counts)
		})
		if !own && !shares {
			continue
		}
		k, err := d.engine.UserKeys(w.ctx, u.id)
		switch {
		case err != nil:
			w.fail("device %d: the keys of user %d: %w", d.number, u.number, err)
		case own && d.engine.Identity().User.Public() != h.State.Key():
			w.fail("device %d: it has not got the key of its user", d.number)
		case k.Pin.Frozen || k.Pin.Ended || k.Pin.Key != h.State.Key():
			w.fail("device %d: the key of user %d is another one there, frozen %v, ended %v", d.number, u.number, k.Pin.Frozen, k.Pin.Ended)
		case own && k.History.State.Head() != h.State.Head():
			w.fail("device %d: the history of its user's keys is another one there", d.number)
		}
	}
}

// anyIn tells whether one of a user's devices is in the group: from those that were taken off the list the others got nothing.
func (u *user) anyIn(list []holding) bool {
	return slices.ContainsFunc(list, func(h holding) bool { return h.dev.user == u })
}

// lockedOut tells whether a user has a grant, made by a change of the role, with a key that lost later: from there nothing leads to the key that
// stands. The user has to be removed and added again.
func (w *World) lockedOut(d *device, g peercrypto.ID) bool {
	a := &attacker{d: d, g: g, log: group.NewLog(g)}
	if err := d.store.View(w.ctx, a.read); err != nil {
		return false
	}
	h := w.historyOf(d.user)
	return slices.ContainsFunc(a.log.State().Principals(d.user.id), func(p group.Principal) bool {
		first, _ := a.log.State().Principal(p.Grant)
		return p.Valid && len(p.Revoked) == 0 && first.Head != d.user.genesis.Hash() && !h.Holds(first.Head)
	})
}
