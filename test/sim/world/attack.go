package world

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/fold"
	"github.com/peersignal/peersignal/pkg/sync/group"
)

// never marks what must not be seen in any document or name.
const never = "never to be seen"

// deeds are what a malicious member's device does beside what an honest one does: it changes its frames on the way out.
type deeds struct {
	rng      *rand.Rand
	lies     int // RECON frames that are spoilt
	withhold int // ENTRIES frames of which half are dropped
	kept     []frame
}

func newDeeds(seed uint64) *deeds { return &deeds{rng: rand.New(rand.NewPCG(seed, 66))} }

// mangle changes what a malicious device sends.
func (w *World) mangle(e *endpoint, frames []frame) []frame {
	d := e.dev.deeds
	var out []frame
	for _, f := range frames {
		switch {
		case f.raw[0] == frameRecon && d.lies > 0 && len(f.raw) > 30:
			d.lies--
			f.raw = bytes.Clone(f.raw)
			for range 1 + d.rng.IntN(4) {
				f.raw[28+d.rng.IntN(len(f.raw)-28)] = byte(d.rng.Uint32())
			}
		case f.plain[0] == frameEntries && d.withhold > 0:
			d.withhold--
			if d.rng.IntN(2) == 0 {
				continue
			}
		}
		if f.lane == groupsync.Bulk {
			d.kept = append(d.kept[max(0, len(d.kept)-40):], f)
		}
		out = append(out, f)
	}
	return out
}

// inject sends a frame on the connections of a device, or on one of them.
func (d *device) inject(l groupsync.Lane, raw []byte, which int) error {
	n := 0
	for _, c := range d.w.conns {
		for _, e := range c.ends {
			if e.dev != d || e.session == nil || e.ended {
				continue
			}
			if n++; which >= 0 && n != which+1 {
				continue
			}
			d.w.mu.Lock()
			e.lanes[l].staged = append(e.lanes[l].staged, newFrame(l, raw))
			d.w.dirty[e] = true
			d.w.mu.Unlock()
		}
	}
	if n == 0 {
		return errSkip
	}
	return nil
}

// An attacker is what an attack needs of the group.
type attacker struct {
	d     *device
	g     peercrypto.ID
	rng   *rand.Rand
	log   *group.Log
	state *group.State
	data  []groupsync.Record
	grant group.Principal // one of its own, active or not
}

func (d *device) attacker(g peercrypto.ID, rng *rand.Rand) (*attacker, error) {
	a := &attacker{d: d, g: g, rng: rng, log: group.NewLog(g)}
	if err := d.store.View(d.w.ctx, a.read); err != nil {
		return nil, err
	}
	a.state = a.log.State()
	own := slices.DeleteFunc(a.state.Principals(d.user.id), func(p group.Principal) bool { return !p.Accepted })
	if len(own) == 0 {
		return nil, errSkip
	}
	a.grant = own[rng.IntN(len(own))]
	return a, nil
}

func (a *attacker) read(r groupsync.Reader) error {
	err := r.Operations(a.g, func(rec groupsync.Record) error {
		ent, err := entry.Decode(bytes.Clone(rec.Raw))
		if err == nil {
			err = a.log.Restore(ent)
		}
		return err
	})
	if err != nil {
		return err
	}
	return r.Shared(groupsync.Scope{Group: a.g, Kind: entry.Data}, groupsync.Ref{}, endRef, func(rec groupsync.Record) (bool, error) {
		rec.Raw = bytes.Clone(rec.Raw)
		a.data = append(a.data, rec)
		return true, nil
	})
}

// endRef is above every entry.
var endRef = groupsync.Ref{Modified: 1<<63 - 1}

// attack does one of the things that a malicious member may try. It has its own copy of the group's log and its keys.
func (d *device) attack(g peercrypto.ID, act Action) error {
	rng := rand.New(rand.NewPCG(uint64(act.Y), uint64(act.Z)))
	switch rng.IntN(8) { // those that need nothing of the group
	case 0:
		raw := make([]byte, 1+rng.IntN(200))
		for i := range raw {
			raw[i] = byte(rng.Uint32())
		}
		return d.inject(groupsync.Lane(1+rng.IntN(2)), raw, rng.IntN(3))
	case 1:
		d.deeds.lies = 1 + rng.IntN(20)
		return nil
	case 2:
		d.deeds.withhold = 1 + rng.IntN(20)
		return nil
	case 3:
		if len(d.deeds.kept) == 0 {
			return errSkip
		}
		return d.inject(groupsync.Bulk, d.deeds.kept[rng.IntN(len(d.deeds.kept))].raw, -1)
	}
	a, err := d.attacker(g, rng)
	if err != nil {
		return err
	}
	attacks := []func() error{
		a.forge, a.impersonate, a.backDate, a.backDate, a.equivocate, a.leaveOut, a.overreach, a.overreach, a.misuse, a.misuse,
		a.misuse, a.tooLarge, a.wrongGroup, a.ahead, a.lieAboutReceipt, a.late,
	}
	return attacks[rng.IntN(len(attacks))]()
}

func (a *attacker) send(entries ...*entry.Entry) error {
	raws := make([][]byte, len(entries))
	for i, ent := range entries {
		raws[i] = ent.Raw
	}
	return a.d.inject(groupsync.Bulk, entriesFrame(a.g, raws...), -1)
}

// change signs a data change at the beginning of a new chain.
func (a *attacker) change(key peercrypto.SigningKey, signer peercrypto.ID, grant peercrypto.Hash, modified int64, text string) *entry.Entry {
	subjects := append(slices.Clone(a.d.w.subject[a.g]), peercrypto.NewID(time.UnixMilli(modified)))
	id := subjects[a.rng.IntN(len(subjects))]
	value := fmt.Appendf(nil, `{"group":%q,"id":%q,"text":%q,"type":"Note"}`, a.g, id, text)
	if a.rng.IntN(2) == 0 {
		value = nil
	}
	draft := entry.DataDraft{
		ID: peercrypto.NewID(time.UnixMilli(modified)), Group: a.g, Subject: id, Signer: signer, Modified: modified, As: grant,
		Dev: peercrypto.NewID(time.UnixMilli(modified)), Changes: []fold.Change{{Set: true, Value: value}},
	}
	if value == nil {
		draft.Changes = []fold.Change{{Path: "text", Set: true, Value: fmt.Appendf(nil, "%q", text)}}
	}
	return a.must(entry.SignData(key, draft))
}

func (a *attacker) must(ent *entry.Entry, err error) *entry.Entry {
	if err != nil {
		a.d.w.fail("making an attack: %w", err)
		return &entry.Entry{}
	}
	return ent
}

func (a *attacker) own(modified int64, text string) *entry.Entry {
	return a.change(a.d.ident.User, a.d.user.id, a.grant.Grant, max(modified, a.grant.Modified), text)
}

func (a *attacker) now() int64 { return a.d.now().UnixMilli() }

// forge gives a stored change the signature of another.
func (a *attacker) forge() error {
	if len(a.data) < 2 {
		return errSkip
	}
	x, err := entry.Decode(a.data[0].Raw)
	y, err2 := entry.Decode(a.data[len(a.data)-1].Raw)
	if err != nil || err2 != nil {
		return errSkip
	}
	raw := bytes.Replace(x.Raw, []byte(x.Signature.String()), []byte(y.Signature.String()), 1)
	return a.d.inject(groupsync.Bulk, entriesFrame(a.g, raw), -1)
}

// impersonate writes in the name of somebody else.
func (a *attacker) impersonate() error {
	all := a.state.Principals("")
	p := all[a.rng.IntN(len(all))]
	if p.UserID == a.d.user.id {
		return errSkip
	}
	return a.send(a.change(a.d.ident.User, p.UserID, p.Grant, max(a.now(), p.Modified), never))
}

// backDate writes a change that looks old.
func (a *attacker) backDate() error {
	return a.send(a.own(a.grant.Modified+a.rng.Int64N(5_000), "back-dated"))
}

// late writes as if nothing had happened, also when the grant is revoked.
func (a *attacker) late() error { return a.send(a.own(a.now(), "late")) }

// ahead writes into the future: some of it is to be deferred, some refused.
func (a *attacker) ahead() error {
	return a.send(a.own(a.now()+a.rng.Int64N((30*time.Hour).Milliseconds()), "ahead"))
}

// equivocate tells one half of the members this, the other that, at one place of a chain.
func (a *attacker) equivocate() error {
	x := a.own(a.now(), "this")
	for i := range 4 {
		y := a.must(entry.SignData(a.d.ident.User, entry.DataDraft{
			ID: peercrypto.NewID(a.d.now()), Group: a.g, Subject: x.Subject, Signer: x.Signer, Modified: x.Modified, As: x.As,
			Dev: x.Dev, Changes: []fold.Change{{Path: "text", Set: true, Value: fmt.Appendf(nil, "%q", fmt.Sprint("that ", i))}},
		}))
		if err := a.d.inject(groupsync.Bulk, entriesFrame(a.g, y.Raw), i); err != nil {
			return err
		}
	}
	return nil
}

// leaveOut sends a change without the one before it, to some.
func (a *attacker) leaveOut() error {
	x := a.own(a.now(), "first")
	y := a.must(entry.SignData(a.d.ident.User, entry.DataDraft{
		ID: peercrypto.NewID(a.d.now()), Group: a.g, Subject: x.Subject, Signer: x.Signer, Modified: x.Modified + 1, As: x.As,
		Seq: 1, Prev: x.Hash, Changes: []fold.Change{{Path: "text", Set: true, Value: []byte(`"second"`)}},
	}))
	if a.rng.IntN(2) == 0 {
		if err := a.d.inject(groupsync.Bulk, entriesFrame(a.g, x.Raw), 0); err != nil {
			return err
		}
	}
	return a.send(y)
}

// operation signs one under the attacker's grant on a device of its own.
func (a *attacker) operation(op entry.Op) *entry.Entry {
	draft, err := group.NextOpAs(a.log, a.state, a.grant.Grant, peercrypto.NewID(a.d.now()))
	if err != nil {
		a.d.w.fail("making an attack: %w", err)
		return &entry.Entry{}
	}
	draft.ID, draft.Op = peercrypto.NewID(a.d.now()), op
	draft.Modified = max(draft.Modified, a.now()-a.rng.Int64N(20_000))
	return a.must(entry.SignOperation(a.d.ident.User, draft))
}

// overreach does what the role does not allow.
func (a *attacker) overreach() error {
	create, _ := a.log.Create()
	name := never
	all := a.state.Principals("")
	victim := all[a.rng.IntN(len(all))]
	if a.grant.Role.AtLeast(entry.Admin) {
		return a.send(a.operation(entry.Remove{Grant: create.Hash})) // nobody is senior to the owner
	}
	ops := []entry.Op{
		entry.Policy{Name: &name}, entry.Remove{Grant: victim.Grant}, entry.Block{UserID: victim.UserID},
		entry.Checkpoint{}, entry.Delete{},
	}
	return a.send(a.operation(ops[a.rng.IntN(len(ops))]))
}

// misuse does what an admin may, with frontiers that leave out what was there or name what nobody has.
func (a *attacker) misuse() error {
	if !a.grant.Role.AtLeast(entry.Admin) {
		return errSkip
	}
	var some []peercrypto.Hash
	for _, rec := range a.data {
		if a.rng.IntN(3) == 0 && len(some) < 20 {
			some = append(some, rec.Hash)
		}
	}
	if a.rng.IntN(3) == 0 {
		some = append(some, peercrypto.Sum([]byte(fmt.Sprint(a.rng.Uint64()))))
	}
	slices.SortFunc(some, peercrypto.Hash.Compare)
	some = slices.Compact(some)
	all := a.state.Principals("")
	victim := all[a.rng.IntN(len(all))]
	if !a.grant.Rank.Senior(victim.Rank) {
		return errSkip
	}
	ops := []entry.Op{
		entry.Remove{Grant: victim.Grant, Frontier: some}, entry.Block{UserID: victim.UserID, Frontier: some},
		entry.Checkpoint{Frontier: some},
		entry.RoleChange{Grant: victim.Grant, Role: entry.Read, Key: victim.Key, Frontier: some}, entry.Merge{},
	}
	if len(some) > 0 {
		ops = append(ops, entry.Adopt{Entries: some})
	}
	return a.send(a.operation(ops[a.rng.IntN(len(ops))]))
}

// tooLarge sends more than a frame may hold.
func (a *attacker) tooLarge() error {
	size := 70 << 10
	if a.rng.IntN(2) == 0 {
		size = groupsync.MaxFrame
	}
	return a.d.inject(groupsync.Bulk, entriesFrame(a.g, bytes.Repeat([]byte(" "), size)), a.rng.IntN(3))
}

// wrongGroup sends entries of one group as those of another.
func (a *attacker) wrongGroup() error {
	if len(a.data) == 0 {
		return errSkip
	}
	w := a.d.w
	other := w.groups[a.rng.IntN(len(w.groups))]
	return a.d.inject(groupsync.Bulk, entriesFrame(other, a.data[a.rng.IntN(len(a.data))].Raw), -1)
}

// lieAboutReceipt acknowledges what was never sent.
func (a *attacker) lieAboutReceipt() error {
	return a.d.inject(groupsync.Control, []byte{frameAck, 0xff, 0xff, 0x7f}, a.rng.IntN(3))
}
