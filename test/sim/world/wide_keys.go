package world

import (
	"errors"
	"fmt"
	"slices"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

const (
	maxDevices = 12 // in a history
	maxOwn     = 5  // of one user
	maxWords   = 8  // of one user
)

// identity is the n-th device of a user.
func (w *World) identity(u, n int) (peercrypto.Identity, error) {
	if w.plan.Wide {
		return wideIdentity(u, n, w.plan.Listed[u])
	}
	return identity(u, n)
}

// admits tells whether the channel to another device comes about.
func (d *device) admits(o *device) bool {
	return !d.w.plan.Wide || d.engine.AdmitsDevice(o.user.id, o.engine.Identity().User.Public(), keys.Device{ID: o.ident.DeviceID(), Key: o.ident.Device.Public()})
}

// renewed takes notice of the key with which the engine begins. Sometimes the key store gets it only later.
func (d *device) renewed() {
	if d.renews = false; !d.w.plan.Wide {
		return
	}
	id := d.engine.Identity()
	var err error
	if d.line, err = groupsync.ParseHistory(id.Genesis, id.History, id.User.Public()); err != nil {
		d.w.fail("device %d: %w", d.number, err)
	}
	if d.w.pair(d.number, d.number).rng.IntN(3) > 0 {
		d.ident = id
	}
}

// noticeKey lets a device begin anew that has got another key.
func (d *device) noticeKey() {
	if d.engine == nil || d.renews || !d.engine.IdentityReplaced() {
		return
	}
	d.renews = true
	d.w.schedule(d.w.now()+time.Second, func() {
		if d.renews && !d.gone {
			d.shut()
			d.start()
		}
	})
}

// own are the keys of this device's user, as it knows them.
func (d *device) own() (groupsync.UserKeys, error) { return d.engine.UserKeys(d.w.ctx, d.user.id) }

// listed is another device on the user's list, if X says so.
func (d *device) listed(x uint32) []peercrypto.ID {
	k, err := d.own()
	if err != nil || x%3 > 0 {
		return nil
	}
	list := slices.DeleteFunc(k.History.State.Devices(), func(o keys.Device) bool { return o.ID == d.ident.DeviceID() })
	if len(list) == 0 {
		return nil
	}
	return []peercrypto.ID{list[int(x/3)%len(list)].ID}
}

// room tells whether a user may get another device.
func (w *World) room(u *user) bool { return len(w.devices) < maxDevices && len(u.devices) < maxOwn }

// addOwn makes another device of the user, by a card, a request and a welcome.
func (d *device) addOwn() error {
	if d.evil || !d.w.room(d.user) {
		return errSkip
	}
	id, err := d.w.identity(d.user.number, len(d.user.devices))
	if err != nil {
		return err
	}
	card, err := d.engine.Card(d.w.ctx, d.user.id, false)
	if err != nil {
		return err
	}
	r, err := groupsync.NewDeviceRequest(id, card, d.now())
	if err != nil {
		return err
	}
	welcome, err := d.engine.AddDevice(d.w.ctx, r)
	if err != nil {
		return err
	}
	if id, err = welcome.Accept(id); err != nil {
		return err
	}
	n, err := d.w.newDevice(d.user, id)
	if err == nil {
		n.offset.Store(d.offset.Load())
		n.start()
	}
	return err
}

// rotate sets a new key by the old one.
func (d *device) rotate(a Action) error {
	held := d.held()
	err := d.engine.RotateKey(d.w.ctx, keys.Rotated, d.listed(a.X))
	if err == nil {
		d.w.remember(d, held)
	}
	return err
}

func (d *device) newWords() error {
	u := d.user
	if d.evil || u.words >= maxWords {
		return errSkip
	}
	k, err := d.own()
	if err != nil {
		return err
	}
	old, ok := u.wordsOf(k.History.State)
	if !ok {
		return errSkip
	}
	u.words++
	if err := d.engine.SetRecovery(d.w.ctx, old, words(u.number, u.words-1)); err != nil {
		return err
	}
	d.shut() // as the command does: from now on the device shows the words' event to others
	d.start()
	return nil
}

// wordsOf finds the words that a history has.
func (u *user) wordsOf(s keys.State) (peercrypto.Recovery, bool) {
	pin, ok := s.Recovery()
	for i := 0; ok && i < u.words; i++ {
		if r := words(u.number, i); r.Pin() == pin {
			return r, true
		}
	}
	return peercrypto.Recovery{}, false
}

// recover sets a new key by the words, on a device that has its data.
func (d *device) recover(a Action) error {
	if d.evil {
		return errSkip
	}
	k, err := d.own()
	if err != nil {
		return err
	}
	return d.recoverFrom(k.Events, func(peercrypto.ID) bool { return a.X%2 == 0 })
}

func (d *device) recoverFrom(events []keys.Event, keep func(peercrypto.ID) bool) error {
	id, err := d.recovered(d.engine.Identity(), events, keep)
	if err != nil {
		return err
	}
	held := d.held()
	d.shut()
	d.ident = id
	d.start()
	if d.engine != nil {
		d.w.remember(d, held)
	}
	return nil
}

// recovered is the identity of a device with a key that the words set, behind these events.
func (d *device) recovered(id peercrypto.Identity, events []keys.Event, keep func(peercrypto.ID) bool) (peercrypto.Identity, error) {
	h := keys.Evaluate(keys.GenesisOf(d.user.id, id.Genesis), events)
	secret, ok := d.user.wordsOf(h.State)
	if !ok {
		return id, keys.ErrNoRecovery
	}
	next, err := peercrypto.GenerateSigningKey()
	if err != nil {
		return id, err
	}
	self, now := keys.Device{ID: id.DeviceID(), Key: id.Device.Public()}, d.now().UnixMilli()
	var off []peercrypto.ID
	for _, o := range h.State.Devices() {
		if o.ID != self.ID && !keep(o.ID) {
			off = append(off, o.ID)
		}
	}
	line, s, err := groupsync.WithoutDevices(h.State, h.Line, keys.Signers{Recovery: secret.Key()}, self.ID, off, now)
	if err != nil {
		return id, err
	}
	event, err := keys.Recover(secret, s, next, keys.Compromised, now)
	if err != nil {
		return id, err
	}
	line = append(line, event)
	if len(s.Devices()) > 0 && !s.Listed(self) {
		if s, err = s.Apply(event); err == nil {
			event, err = keys.NewAddDevice(s, keys.Signers{Key: next, New: id.Device}, self.ID, now)
		}
		if err != nil {
			return id, err
		}
		line = append(line, event)
	}
	id.User, id.History = next, nil
	for _, ev := range line {
		raw, err := ev.Canonical()
		if err != nil {
			return id, err
		}
		id.History = append(id.History, raw)
	}
	return id, nil
}

// recoverNew gives a user who has nothing but the words a new device, by a card of this one.
func (w *World) recoverNew(d *device, a Action) error {
	u := w.users[int(a.Y)%len(w.users)]
	if d.evil || u == d.user || !w.room(u) || u.devices[0].number == w.plan.Evil {
		return errSkip
	}
	card, err := d.engine.Card(w.ctx, u.id, true)
	if err != nil || len(card.Groups) == 0 {
		return errors.Join(err, errSkip)
	}
	id, err := w.identity(u.number, len(u.devices))
	if err != nil {
		return err
	}
	id.Genesis, id.History = card.Genesis, nil
	o := &device{w: w, user: u}
	if id, err = o.recovered(id, card.Keys, func(peercrypto.ID) bool { return a.X%2 == 0 }); err != nil {
		return err
	}
	n, err := w.newDevice(u, id)
	if err != nil {
		return err
	}
	n.start()
	for _, g := range card.Groups {
		if n.engine != nil {
			err = errors.Join(err, n.engine.Return(w.ctx, g))
		}
	}
	return err
}

func (d *device) propose(a Action) error {
	if d.evil {
		return errSkip
	}
	_, err := d.engine.ProposeKeys(d.w.ctx, groupsync.ProposeOptions{Revoke: a.Y%6 == 0, Without: d.listed(a.X), Reason: keys.Compromised})
	return err
}

// approve signs what waits for it and comes from honest devices.
func (d *device) approve() error {
	list, err := d.engine.Proposals(d.w.ctx)
	if err != nil || d.evil {
		return errors.Join(err, errSkip)
	}
	for _, p := range list {
		if slices.Contains(p.Signed, d.ident.DeviceID()) || slices.ContainsFunc(p.Signed, d.w.isEvil) {
			continue
		}
		_, err := d.engine.ApproveKeys(d.w.ctx, p.ID)
		return err
	}
	return errSkip
}

func (w *World) isEvil(id peercrypto.ID) bool {
	return slices.ContainsFunc(w.devices, func(d *device) bool { return d.evil && d.ident.DeviceID() == id })
}

// steal lets somebody have the key of a user, or one of the user's devices as it is.
func (w *World) steal(d *device, a Action) error {
	honest := slices.ContainsFunc(d.user.devices, func(o *device) bool { return o != d && !o.evil })
	if d.evil || !w.room(d.user) {
		return errSkip
	}
	w.hostile = true
	if a.X%3 == 0 && honest {
		d.evil, d.deeds = true, newDeeds(w.plan.Seed+uint64(d.number))
		for _, c := range w.conns {
			c.hostile = c.hostile || c.ends[0].dev == d || c.ends[1].dev == d
		}
		return nil
	}
	id, err := w.identity(d.user.number, len(d.user.devices))
	if err != nil {
		return err
	}
	id.User, id.History = d.engine.Identity().User, d.engine.Identity().History
	n, err := w.newDevice(d.user, id)
	if err != nil {
		return fmt.Errorf("stealing a key: %w", err)
	}
	n.evil, n.deeds = true, newDeeds(w.plan.Seed+uint64(n.number))
	n.start()
	return nil
}
