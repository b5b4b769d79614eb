package group_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/group"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// wantData checks which of some changes of one grant or rekey count.
func (w *world) wantData(want bool, changes ...*entry.Entry) {
	w.t.Helper()
	valid, _ := w.log.State().JudgeData(changes[0].As, byGrant(changes)[changes[0].As])
	for i, e := range changes {
		if valid[e.Hash] != want {
			w.t.Errorf("change %d: valid is %v", i, valid[e.Hash])
		}
	}
}

func (w *world) wantGrant(who *person, want *entry.Entry) {
	w.t.Helper()
	got, ok := w.log.State().ActiveGrant(who.id, entry.Read)
	if ok != (want != nil) || ok && got != want.Hash {
		w.t.Errorf("%s writes under %v (%v)", who.name, got, ok)
	}
}

func TestRekeyReplacesKey(t *testing.T) {
	w := newWorld(t)
	b := w.add(ann, w.create, bob, entry.Admin)
	kept := w.data(bob, b, 0, nil)
	cut := w.data(bob, b, 1, kept)
	known := w.op(bob, b, entry.Policy{Name: new("by bob")}, on(1))
	heads := w.log.State().Heads()
	r := w.rekey(bob, b, bob.secret(20), keys.ByKey, []hash{kept.Hash})
	late := w.op(bob, b, entry.Policy{Name: new("by a thief")}, on(2), func(d *entry.OpDraft) { d.Deps = heads }, later(1000))
	after := w.op(bob, r, entry.Policy{Name: new("by bob again")})
	s := everyOrder(t, w)
	w.wantValid(s, known, true)
	w.wantValid(s, late, false)
	w.wantValid(s, after, true)
	w.wantData(true, kept)
	w.wantData(false, cut)
	w.wantData(true, w.data(bob, r, 0, nil))
	w.wantGrant(bob, r)
	w.wantMembers(s, "ann admin", "bob admin")
	if s.UsesKey(bob.id, bob.key.Public()) || !s.UsesKey(bob.id, bob.secret(20).Public()) {
		t.Error("not the new key is in use")
	}
	if s.Name() != "by bob again" || !s.RotationDue() {
		t.Errorf("name %q, rotation due %v", s.Name(), s.RotationDue())
	}
	p, _ := s.Principal(r.Hash)
	if p.Grant != b.Hash || p.Key != bob.secret(20).Public() || !p.Active || p.Rank.Hash != b.Hash {
		t.Errorf("%+v", p)
	}
	if p, _ := s.Principal(b.Hash); p.Active || !p.Valid || len(p.Revoked) != 0 {
		t.Errorf("%+v", p)
	}
	if terms := s.Terms(r.Hash); !slices.Equal(terms, []hash{b.Hash, r.Hash}) {
		t.Errorf("terms %v", terms)
	}
	sharedAgrees(t, w)
}

func TestOwnerRekeys(t *testing.T) {
	w := newWorld(t)
	b := w.add(ann, w.create, bob, entry.Admin)
	r := w.rekey(ann, w.create, ann.secret(20), keys.ByRecovery, group.FrontierOf(w.log, w.create.Hash, nil))
	w.refused("its author is not senior to the grant that it names", bob, b, entry.Remove{Grant: r.Hash})
	role := w.op(ann, r, entry.RoleChange{Grant: b.Hash, Role: entry.Read, Key: bob.key.Public()})
	w.wantMembers(w.log.State(), "ann admin", "bob read")
	w.wantGrant(bob, role)
	w.op(ann, r, entry.Delete{})
	if s := everyOrder(t, w); !s.Deleted() || s.Owner() != ann.id {
		t.Error("the owner can't delete under a new key")
	}
}

func TestRekeyByRecoveryBeatsThief(t *testing.T) {
	w := newWorld(t)
	b := w.add(ann, w.create, bob, entry.Write)
	heads := w.log.State().Heads()
	asKnown := func(d *entry.OpDraft) { d.Deps = heads }
	his := w.rekey(bob, b, eve.key, keys.ByKey, nil, asKnown)
	w.wantGrant(bob, his)
	theft := w.data(bob, his, 0, nil)
	mine := w.rekey(bob, b, bob.secret(20), keys.ByRecovery, nil, asKnown)
	s := everyOrder(t, w)
	w.wantValid(s, his, false)
	w.wantGrant(bob, mine)
	w.wantData(false, theft)
	w.op(ann, w.create, entry.Adopt{Entries: []hash{theft.Hash}})
	w.wantData(true, theft)
	everyOrder(t, w)
}

func TestRekeysContend(t *testing.T) {
	w := newWorld(t)
	b := w.add(ann, w.create, bob, entry.Write)
	heads := w.log.State().Heads()
	asKnown := func(d *entry.OpDraft) { d.Deps = heads }
	both, one := w.data(bob, b, 0, nil), w.data(bob, b, 0, nil, func(d *entry.DataDraft) { d.Dev = device(1) })
	x := w.rekey(bob, b, bob.secret(20), keys.ByKey, hashes(both, one), asKnown)
	y := w.rekey(bob, b, eve.key, keys.ByKey, hashes(both), asKnown)
	s := everyOrder(t, w)
	w.wantData(true, both)
	w.wantData(false, one)
	w.wantData(false, w.data(bob, x, 0, nil))
	w.wantGrant(bob, nil)
	m, ok := s.Member(bob.id)
	if !ok || !m.Frozen || len(m.Principals) != 0 || m.Role != entry.Read {
		t.Errorf("%+v", m)
	}
	if a := s.Alarms(); len(a) != 1 || a[0].Kind != group.AlarmFrozen || !slices.Equal(a[0].Ops, hashes(x, y)) {
		t.Errorf("alarms %v", a)
	}
	if _, err := group.NextOp(w.log, s, bob.id, device(0), entry.Read); !errors.Is(err, group.ErrNoGrant) {
		t.Errorf("got %v", err)
	}
	sharedAgrees(t, w)

	// A more senior one settles it by a role with one of the keys.
	before := len(w.ops)
	role := w.op(ann, w.create, entry.RoleChange{Grant: x.Hash, Role: entry.Write, Key: bob.secret(20).Public()})
	w.wantGrant(bob, role)
	w.wantMembers(everyOrder(t, w), "ann admin", "bob write")
	w.data(bob, role, 0, nil)

	// Or the recovery key does.
	l := load(t, w.create.Group, w.ops[:before])
	w.log, w.ops = l, w.ops[:before]
	r := w.rekey(bob, b, bob.secret(21), keys.ByRecovery, hashes(both, one))
	w.wantGrant(bob, r)
	w.wantData(true, both, one)
	if len(everyOrder(t, w).Alarms()) != 0 {
		t.Error("settled and still an alarm")
	}
}

func TestOnlyTwoContend(t *testing.T) {
	w := newWorld(t)
	b := w.add(ann, w.create, bob, entry.Write)
	for i := range 9 {
		w.rekey(bob, b, bob.secret(20+i), keys.ByKey, nil, knowing(b))
	}
	valid := 0
	for _, e := range w.ops {
		if e.Op.Kind() == entry.KindRekey && w.log.State().Valid(e.Hash) {
			valid++
		}
	}
	if valid != 2 {
		t.Errorf("%d rekeys contend", valid)
	}
}

func TestRemovalReachesAllKeys(t *testing.T) {
	w := newWorld(t)
	b := w.add(ann, w.create, bob, entry.Admin)
	known := w.rekey(bob, b, bob.secret(20), keys.ByKey, nil)
	kept := w.data(bob, known, 0, nil)
	w.op(ann, w.create, entry.Remove{Grant: known.Hash, Frontier: hashes(kept)})
	// Another rekey that the remover did not know, of the same grant and a higher class.
	unknown := w.rekey(bob, b, bob.secret(21), keys.ByRecovery, nil, knowing(b))
	use := w.op(bob, unknown, entry.Add{UserID: eve.id, User: eve.genesis, Role: entry.Read}, knowing(unknown))
	s := everyOrder(t, w)
	w.wantValid(s, known, true)
	w.wantValid(s, unknown, false)
	w.wantValid(s, use, false)
	w.wantData(true, kept)
	w.wantMembers(s, "ann admin")
}

func TestLeaveVoidsNoRekey(t *testing.T) {
	w := newWorld(t)
	b := w.add(ann, w.create, bob, entry.Write)
	heads := w.log.State().Heads()
	theft := w.op(bob, b, entry.Leave{}, on(3), func(d *entry.OpDraft) { d.Deps = heads })
	r := w.rekey(bob, b, bob.secret(20), keys.ByRecovery, nil, func(d *entry.OpDraft) { d.Deps = heads })
	s := everyOrder(t, w)
	w.wantValid(s, theft, false)
	w.wantGrant(bob, r)
	w.op(bob, r, entry.Leave{})
	w.wantMembers(everyOrder(t, w), "ann admin")
}

// TestOldKeyRepeatsItsEvent has a thief of the second key repeat the rekey that
// set it, covering nothing, after it was replaced.
func TestOldKeyRepeatsItsEvent(t *testing.T) {
	w := newWorld(t)
	b := w.add(ann, w.create, bob, entry.Write)
	kept := w.data(bob, b, 0, nil)
	first := w.rekey(bob, b, bob.secret(20), keys.ByRecovery, hashes(kept))
	again := w.rekeyBy(bob, b, bob.secret(20), entry.Rekey{Events: first.Op.(entry.Rekey).Events}, knowing(b), on(4))
	w.wantData(false, kept) // the key is his
	second := w.rekey(bob, first, bob.secret(21), keys.ByRecovery, nil, knowing(first))
	s := everyOrder(t, w)
	w.wantData(true, kept)
	w.wantValid(s, again, false)
	w.wantGrant(bob, second)
}

// TestRekeyPassesOver has one device replace two keys at once and another one by
// one: what is signed by the key between must be covered too.
func TestRekeyPassesOver(t *testing.T) {
	w := newWorld(t)
	b := w.add(ann, w.create, bob, entry.Write)
	middle := w.rekey(bob, b, bob.secret(20), keys.ByRecovery, nil)
	next, err := keys.NewRotate(w.lines[middle.Hash], keys.Signers{Recovery: bob.recover, New: bob.secret(21)}, keys.Compromised, start)
	if err != nil {
		t.Fatal(err)
	}
	events := append(slices.Clone(middle.Op.(entry.Rekey).Events), next)
	both := w.rekeyBy(bob, b, bob.secret(21), entry.Rekey{Events: events}, knowing(b))
	use := w.op(bob, middle, entry.Merge{}, knowing(middle))
	s := everyOrder(t, w)
	w.wantValid(s, use, false)
	w.wantData(false, w.data(bob, middle, 0, nil))
	w.wantGrant(bob, both)
}

func TestRekeyByDevices(t *testing.T) {
	w := newWorld(t)
	b := w.add(ann, w.create, bob, entry.Write)
	var events []keys.Event
	line := w.lines[b.Hash]
	follow := func(e keys.Event, err error) {
		if err == nil {
			line, err = line.Apply(e)
		}
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	for n := range 2 {
		follow(keys.NewAddDevice(line, keys.Signers{Key: bob.key, New: bob.secret(n)}, device(n), start))
	}
	follow(keys.NewRotate(line, keys.Signers{Key: bob.key, New: bob.secret(20)}, keys.Rotated, start))
	enrolled := w.rekeyBy(bob, b, bob.secret(20), entry.Rekey{Events: events})
	heads := w.log.State().Heads()
	his := w.rekey(bob, enrolled, eve.key, keys.ByKey, nil)
	events = nil
	devices := []keys.DeviceSigner{{ID: device(0), Key: bob.secret(0)}, {ID: device(1), Key: bob.secret(1)}}
	follow(keys.NewRotate(line, keys.Signers{Devices: devices, New: bob.secret(21)}, keys.Compromised, start))
	mine := w.rekeyBy(bob, enrolled, bob.secret(21), entry.Rekey{Events: events}, func(d *entry.OpDraft) { d.Deps = heads })
	s := everyOrder(t, w)
	w.wantValid(s, his, false)
	w.wantGrant(bob, mine)
}

func TestForgedRekeys(t *testing.T) {
	w := newWorld(t)
	b := w.add(ann, w.create, bob, entry.Write)
	event, err := keys.NewRotate(w.lines[b.Hash], keys.Signers{Key: bob.key, New: bob.secret(20)}, keys.Rotated, start)
	if err != nil {
		t.Fatal(err)
	}
	op := entry.Rekey{Events: []keys.Event{event}}
	w.refused("the signature is wrong", bob, b, op) // by the old key
	w.signs[b.Hash] = bob.secret(20)
	forged := op
	forged.Events = slices.Clone(op.Events)
	forged.Events[0].Sigs = slices.Clone(event.Sigs)
	forged.Events[0].Sigs[0].Sig[0] ^= 1
	w.refused("invalid key event: a signature is wrong", bob, b, forged)
	w.refused("a key event is another user's", ann, w.create, op)
	delete(w.signs, b.Hash)
	r := w.rekeyBy(bob, b, bob.secret(20), op)
	w.refused("invalid key event: it does not follow the last event", bob, r, op)
	w.refused("an accept names no grant", bob, r, entry.Accept{})
	w.refused("the key is not that of the grant", ann, w.create, entry.RoleChange{Grant: r.Hash, Role: entry.Read, Key: bob.key.Public()})
	w.refused("the key is not that of the grant", ann, w.create, entry.RoleChange{Grant: b.Hash, Role: entry.Read, Key: bob.secret(20).Public()})
}

// TestAddWithKeys adds a user whose first key was stolen long ago.
func TestAddWithKeys(t *testing.T) {
	w := newWorld(t)
	line := keys.Genesis(bob.genesis)
	event, err := keys.NewRotate(line, keys.Signers{Recovery: bob.recover, New: bob.secret(20)}, keys.Compromised, start)
	if err != nil {
		t.Fatal(err)
	}
	op := entry.Add{UserID: bob.id, User: bob.genesis, Role: entry.Write, Keys: []keys.Event{event}}
	forged := op
	forged.Keys = slices.Clone(op.Keys)
	forged.Keys[0].Sigs = slices.Clone(event.Sigs)
	forged.Keys[0].Sigs[1].Sig[5] ^= 1
	w.refused("invalid key event: a signature is wrong", ann, w.create, forged)
	b := w.op(ann, w.create, op)
	w.refused("the signature is wrong", bob, b, entry.Accept{}) // by the first key
	w.signs[b.Hash] = bob.secret(20)
	w.op(bob, b, entry.Accept{})
	w.wantMembers(everyOrder(t, w), "ann admin", "bob write")
	w.wantData(true, w.data(bob, b, 0, nil))

	// Who joins by an invitation proves to have the later key.
	secret := seededKey("secret")
	invite := w.op(ann, w.create, entry.Invite{IPK: secret.Public(), Role: entry.Write, Uses: 1, Expires: start + 3600_000})
	late := *bob
	late.key = bob.secret(20)
	joined := w.claim(invite.Hash, secret, &late, entry.Write, nil)
	joined.Keys = op.Keys
	w.op(ann, w.create, joined)
	joined.Keys = nil
	w.refused("the claim is for something else", ann, w.create, joined)
}

func TestNextRekey(t *testing.T) {
	w := newWorld(t)
	b := w.add(ann, w.create, bob, entry.Write)
	w.op(bob, b, entry.Merge{})
	d, err := group.NextRekey(w.log, w.log.State(), b.Hash, device(0))
	if err != nil || d.Seq != 0 || d.Dev != device(0) || !d.Prev.IsZero() || d.Op.Kind() != entry.KindRekey {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := group.NextRekey(w.log, w.log.State(), hash{1}, device(0)); !errors.Is(err, group.ErrNoGrant) {
		t.Errorf("got %v", err)
	}
}
