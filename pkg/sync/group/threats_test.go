package group_test

import (
	"crypto/sha256"
	"errors"
	"slices"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/group"
)

func TestJuniorCannotRemoveSenior(t *testing.T) {
	w := newWorld(t)
	b := w.add(ann, w.create, bob, entry.Admin)
	c := w.add(bob, b, cat, entry.Admin)
	const want = "its author is not senior to the grant that it names"
	w.refused(want, cat, c, entry.Remove{Grant: b.Hash})
	w.refused(want, bob, b, entry.Remove{Grant: w.create.Hash})
	w.refused(want, bob, b, entry.Remove{Grant: b.Hash})
	w.refused(want, cat, c, entry.RoleChange{Grant: b.Hash, Role: entry.Read, Key: bob.key.Public()})
	w.op(cat, c, entry.Block{UserID: bob.id})
	w.op(cat, c, entry.Block{UserID: ann.id})
	w.wantMembers(everyOrder(t, w), "ann admin", "bob admin", "cat admin")
}

// TestMutualRemovalPermutations lets three admins of equal depth remove each
// other at once: the most senior stays, in every order.
func TestMutualRemovalPermutations(t *testing.T) {
	w := newWorld(t)
	people := []*person{bob, cat, dan}
	grants := map[*person]*entry.Entry{}
	for _, p := range people {
		grants[p] = w.add(ann, w.create, p, entry.Admin)
	}
	slices.SortFunc(people, func(a, b *person) int { return grants[a].Hash.Compare(grants[b].Hash) })
	heads := w.log.State().Heads()
	for _, by := range people {
		dev := 0
		for _, victim := range people {
			if grants[by].Hash.Compare(grants[victim].Hash) < 0 {
				dev++
				w.op(by, grants[by], entry.Remove{Grant: grants[victim].Hash}, on(dev), func(d *entry.OpDraft) { d.Deps = heads })
			} else if by != victim {
				w.refused("its author is not senior to the grant that it names", by, grants[by], entry.Remove{Grant: grants[victim].Hash})
				w.op(by, grants[by], entry.Block{UserID: victim.id}, on(9), func(d *entry.OpDraft) { d.Deps = heads })
			}
		}
	}
	w.wantMembers(everyOrder(t, w), "ann admin", people[0].name+" admin")
}

func TestRemovedBackdatedWriteVoid(t *testing.T) {
	w := newWorld(t)
	b := w.add(ann, w.create, bob, entry.Write)
	first := w.data(bob, b, 0, nil)
	backdated := w.data(bob, b, 1, first, func(d *entry.DataDraft) { d.Modified = b.Modified })
	w.op(ann, w.create, entry.Remove{Grant: b.Hash, Frontier: []hash{first.Hash}})
	if err := group.CheckData(w.log, backdated, &group.DataRef{Hash: first.Hash, As: b.Hash}); err != nil {
		t.Fatal(err)
	}
	s := w.log.State()
	valid, shared := s.JudgeData(b.Hash, []group.DataRef{group.RefOf(backdated), group.RefOf(first)})
	if !valid[first.Hash] || valid[backdated.Hash] || shared[backdated.Hash] || s.Free(b.Hash) {
		t.Errorf("valid %v, shared %v", valid, shared)
	}
	// An operation that claims to be older than the removal.
	old := w.op(bob, b, entry.Merge{}, on(7), knowing(b))
	w.wantValid(w.log.State(), old, false)
	w.wantMembers(everyOrder(t, w), "ann admin")
}

func TestFrontierKeepsOldWrites(t *testing.T) {
	w := newWorld(t)
	b := w.add(ann, w.create, bob, entry.Write)
	var chain []*entry.Entry
	var refs []group.DataRef
	for seq := range int64(6) {
		var prev *entry.Entry
		if seq > 0 {
			prev = chain[seq-1]
		}
		chain = append(chain, w.data(bob, b, seq, prev))
		refs = append(refs, group.RefOf(chain[seq]))
	}
	frontier := group.FrontierOf(w.log, b.Hash, []hash{chain[3].Hash})
	w.op(ann, w.create, entry.Remove{Grant: b.Hash, Frontier: frontier})
	count := func(s *group.State, want int) {
		t.Helper()
		valid, _ := s.JudgeData(b.Hash, refs)
		for i, e := range chain {
			if valid[e.Hash] != (i < want) {
				t.Errorf("change %d: valid is %v", i, valid[e.Hash])
			}
		}
	}
	count(w.log.State(), 4)
	w.op(ann, w.create, entry.Block{UserID: bob.id, Frontier: []hash{chain[1].Hash}})
	count(w.log.State(), 2)
	w.op(ann, w.create, entry.Adopt{Entries: []hash{chain[4].Hash}})
	count(everyOrder(t, w), 5)
}

func TestReaderWriteVoid(t *testing.T) {
	w := newWorld(t)
	b := w.add(ann, w.create, bob, entry.Read)
	const want = "the role of its author does not permit it"
	w.unsound(want, group.CheckData(w.log, w.data(bob, b, 0, nil), nil))
	w.refused(want, bob, b, entry.Add{UserID: bob.id, User: bob.genesis, Role: entry.Write})
	w.refused(want, bob, b, entry.RVKey{Epoch: 0})
}

func TestWriterAdminInvite(t *testing.T) {
	w := newWorld(t)
	b := w.add(ann, w.create, bob, entry.Write)
	const want = "the role of its author does not permit it"
	for _, op := range []entry.Op{
		entry.Invite{IPK: bob.key.Public(), Role: entry.Admin, Uses: 1, Expires: start + 3600_000},
		entry.Add{UserID: eve.id, User: eve.genesis, Role: entry.Read},
		entry.Checkpoint{}, entry.Adopt{}, entry.Block{UserID: ann.id}, entry.Policy{Name: new("x")}, entry.Delete{},
		entry.Remove{Grant: w.create.Hash},
	} {
		w.refused(want, bob, b, op)
	}
	c := w.add(ann, w.create, cat, entry.Admin)
	w.refused("only the owner deletes a group", cat, c, entry.Delete{})
}

func TestForgedOperations(t *testing.T) {
	w := newWorld(t)
	b := w.add(ann, w.create, bob, entry.Admin)
	sign := func(key peercrypto.SigningKey, d entry.OpDraft) error {
		e, err := entry.SignOperation(key, d)
		if err != nil {
			return err
		}
		return w.log.Check(e)
	}
	w.unsound("the signature is wrong", sign(eve.key, w.draft(ann, w.create, entry.Merge{})))
	w.unsound("its author does not hold the grant", sign(bob.key, w.draft(bob, w.create, entry.Merge{})))
	d := w.draft(bob, b, entry.Merge{})
	d.Modified = b.Modified
	w.unsound("it is not later than what it builds on", sign(bob.key, d))
	d = w.draft(bob, b, entry.Merge{})
	d.Seq++
	w.unsound("its chain is broken", sign(bob.key, func() entry.OpDraft { d.Prev, d.Dev = b.Hash, ""; return d }()))
	d = w.draft(bob, b, entry.Merge{})
	d.As = w.ops[len(w.ops)-1].Hash // an accept
	w.unsound("its grant is no grant", sign(bob.key, d))
	w.unsound("an id does not fit its body", sign(bob.key, w.draft(bob, b, entry.Add{UserID: eve.id, User: cat.genesis, Role: entry.Read})))

	d = w.draft(bob, b, entry.Merge{})
	d.Deps = []hash{{1}, {2}}
	var missing *group.MissingError
	if err := sign(bob.key, d); !errors.As(err, &missing) || !slices.Equal(missing.Refs, d.Deps) {
		t.Errorf("got %v", err)
	}
}

func TestForgedData(t *testing.T) {
	w := newWorld(t)
	b := w.add(ann, w.create, bob, entry.Write)
	first := w.data(bob, b, 0, nil)
	second := w.data(bob, b, 1, first)
	ref := group.RefOf(first)
	if err := group.CheckData(w.log, second, &ref); err != nil {
		t.Error(err)
	}
	var missing *group.MissingError
	if err := group.CheckData(w.log, second, nil); !errors.As(err, &missing) || missing.Refs[0] != first.Hash {
		t.Errorf("got %v", err)
	}
	for _, wrong := range []group.DataRef{{first.Hash, hash{}, w.create.Hash, 0}, {first.Hash, hash{}, b.Hash, 1}, {second.Hash, hash{}, b.Hash, 0}} {
		w.unsound("its chain is broken", group.CheckData(w.log, second, &wrong))
	}
	w.unsound("its author does not hold the grant", group.CheckData(w.log, w.data(ann, b, 0, nil), nil))
	forged := w.data(eve, b, 0, nil, func(d *entry.DataDraft) { d.Signer = bob.id })
	w.unsound("the signature is wrong", group.CheckData(w.log, forged, nil))
	w.unsound("its grant is no grant", group.CheckData(w.log, w.data(bob, w.ops[len(w.ops)-1], 0, nil), nil))
	unknown := w.data(bob, b, 0, nil, func(d *entry.DataDraft) { d.As = hash{1} })
	if err := group.CheckData(w.log, unknown, nil); !errors.As(err, &missing) || missing.Refs[0] != (hash{1}) {
		t.Errorf("got %v", err)
	}
	if err := w.log.Check(second); err == nil {
		t.Error("data entered the log")
	}
}

func TestAddWithoutAcceptIsNoMember(t *testing.T) {
	w := newWorld(t)
	b := w.addUnaccepted(ann, w.create, bob, entry.Admin)
	w.op(bob, b, entry.Policy{Name: new("mine")})
	s := everyOrder(t, w)
	w.wantMembers(s, "ann admin")
	if s.Name() != "crew" || s.Free(b.Hash) {
		t.Error("a grant without consent counts")
	}
	d, err := group.NextAccept(s, b.Hash, device(4))
	if err != nil {
		t.Fatal(err)
	}
	d.ID = numberedID(900)
	yes, err := entry.SignOperation(bob.key, d)
	if err != nil {
		t.Fatal(err)
	}
	w.keep(yes)
	s = everyOrder(t, w)
	w.wantMembers(s, "ann admin", "bob admin")
	if s.Name() != "mine" {
		t.Errorf("the name is %q", s.Name())
	}
}

func TestRvKeyEpoch(t *testing.T) {
	w := newWorld(t)
	if !w.log.State().RotationDue() {
		t.Error("a group without a key needs one")
	}
	key := func(n byte, epoch int64, options ...option) *entry.Entry {
		return w.op(ann, w.create, entry.RVKey{Epoch: epoch, Key: [32]byte{n}}, options...)
	}
	key(1, 0)
	b := w.add(ann, w.create, bob, entry.Admin)
	if w.log.State().RotationDue() {
		t.Error("an add makes a rotation due")
	}
	heads := w.log.State().Heads()
	w.op(ann, w.create, entry.Remove{Grant: b.Hash})
	// bob announces a key of his own that does not know of the removal.
	w.op(bob, b, entry.RVKey{Epoch: 1, Key: [32]byte{66}}, func(d *entry.OpDraft) { d.Deps = heads })
	s := w.log.State()
	if !s.RotationDue() || len(s.RendezvousKeys()) != 1 {
		t.Errorf("due %v, keys %v", s.RotationDue(), s.RendezvousKeys())
	}
	x := key(2, 1)
	heads = w.log.State().Heads()
	same := func(d *entry.OpDraft) { d.Deps = []hash{x.Deps[0]} }
	y := key(3, 1, on(1), same)
	s = everyOrder(t, w)
	keys := s.RendezvousKeys()
	if s.RotationDue() || len(keys) != 3 || !keys[0].Announce || keys[1].Announce || keys[2].Announce || keys[2].Epoch != 0 {
		t.Errorf("due %v, keys %+v", s.RotationDue(), keys)
	}
	if smaller := slices.MinFunc([]*entry.Entry{x, y}, func(a, b *entry.Entry) int { return a.Hash.Compare(b.Hash) }); keys[0].Op != smaller.Hash {
		t.Error("not the smaller hash is announced")
	}
	for i := range 10 {
		key(byte(10+i), 1, on(10+i), same)
	}
	if n := len(w.log.State().RendezvousKeys()); n != 5 {
		t.Errorf("%d keys are listened on", n)
	}
}

func TestEquivocationFlagged(t *testing.T) {
	w := newWorld(t)
	a := w.op(ann, w.create, entry.Merge{}, on(1))
	d := w.draft(ann, w.create, entry.Policy{Name: new("fork")}, on(1))
	d.Seq, d.Prev, d.Dev, d.Deps = 0, hash{}, device(1), a.Deps
	twin, err := entry.SignOperation(ann.key, d)
	if err != nil {
		t.Fatal(err)
	}
	w.keep(twin)
	s := everyOrder(t, w)
	w.wantValid(s, a, true)
	w.wantValid(s, twin, true)
	alarms := s.Alarms()
	if len(alarms) != 1 || alarms[0].Kind != group.AlarmForked || alarms[0].UserID != ann.id || !slices.Equal(alarms[0].Ops, hashes(a, twin)) {
		t.Errorf("alarms %v", alarms)
	}
}

func TestInvitationRefusals(t *testing.T) {
	w := newWorld(t)
	secret := peercrypto.InviteSigningKey(sha256.Sum256([]byte("secret")))
	invite := w.op(ann, w.create, entry.Invite{IPK: secret.Public(), Role: entry.Write, Uses: 1, Expires: start + 1000})
	base := func() entry.Add { return w.claim(invite.Hash, secret, bob, entry.Write, nil) }

	w.refused("the invitation is expired", ann, w.create, base(), later(2000))
	w.refused("the invitation is expired", ann, w.create, w.claim(invite.Hash, secret, bob, entry.Write, func(c *entry.Claim) { c.Time = start + 1001 }))
	w.refused("the claim wants more than the invitation's role", ann, w.create, w.claim(invite.Hash, secret, bob, entry.Admin, nil))
	w.refused("the claim is for another invitation", ann, w.create, w.claim(invite.Hash, eve.key, bob, entry.Write, nil))
	w.refused("the claim is for another create", ann, w.create, w.claim(invite.Hash, secret, bob, entry.Write, func(c *entry.Claim) { c.Create = hash{1} }))
	w.refused("what it names is no invitation", ann, w.create, w.claim(w.create.Hash, secret, bob, entry.Write, nil))
	altered := base()
	altered.Claim.Time++
	w.refused("the claim's signatures are wrong", ann, w.create, altered)
	stolen := base()
	stolen.UserID, stolen.User = eve.id, eve.genesis
	w.refused("the claim is for something else", ann, w.create, stolen)
	raised := base()
	raised.Role = entry.Admin
	w.refused("the claim is for something else", ann, w.create, raised)

	heads := w.log.State().Heads()
	if n := len(w.log.State().Invites(start + 1000)); n != 1 {
		t.Errorf("%d invitations are open", n)
	}
	if n := len(w.log.State().Invites(start + 1001)); n != 0 {
		t.Errorf("%d invitations are open after their time", n)
	}
	w.op(ann, w.create, base())
	w.wantMembers(w.log.State(), "ann admin", "bob write") // the claim is the consent
	if n := len(w.log.State().Invites(start)); n != 0 {
		t.Errorf("%d invitations are open after their use", n)
	}
	w.refused("the claim was used before", ann, w.create, base())
	w.refused("the invitation was used up before", ann, w.create, w.claim(invite.Hash, secret, cat, entry.Write, nil))

	// Another device of the owner admits cat at the same time.
	w.op(ann, w.create, w.claim(invite.Hash, secret, cat, entry.Write, nil), on(1), func(d *entry.OpDraft) { d.Deps = heads })
	s := everyOrder(t, w)
	w.wantMembers(s, "ann admin", "bob write", "cat write")
	if alarms := s.Alarms(); len(alarms) != 1 || alarms[0].Kind != group.AlarmOverused || len(alarms[0].Ops) != 3 {
		t.Errorf("alarms %v", alarms)
	}
}

func TestUninvite(t *testing.T) {
	w := newWorld(t)
	secret := peercrypto.InviteSigningKey(sha256.Sum256([]byte("secret")))
	invite := w.op(ann, w.create, entry.Invite{IPK: secret.Public(), Role: entry.Write, Uses: 5, Expires: start + 1000})
	w.op(ann, w.create, entry.Uninvite{Invite: invite.Hash})
	if n := len(w.log.State().Invites(start)); n != 0 {
		t.Errorf("%d invitations are open", n)
	}
	w.refused("what it names is no invitation", ann, w.create, entry.Uninvite{Invite: w.create.Hash})
}

func TestOwnerLeavesAndDeletes(t *testing.T) {
	w := newWorld(t)
	b := w.add(ann, w.create, bob, entry.Admin)
	w.op(ann, w.create, entry.Delete{}, on(1))
	heads := w.log.State().Heads()
	w.op(ann, w.create, entry.Leave{})
	unseen := w.op(ann, w.create, entry.Add{UserID: cat.id, User: cat.genesis, Role: entry.Read}, on(2), func(d *entry.OpDraft) { d.Deps = heads })
	w.op(cat, unseen, entry.Accept{})
	s := everyOrder(t, w)
	w.wantMembers(s, "bob admin")
	w.wantValid(s, unseen, false)
	if s.Owner() != ann.id || !s.Deleted() {
		t.Errorf("owner %s, deleted %v", s.Owner(), s.Deleted())
	}
	if _, err := group.NextOp(w.log, s, ann.id, device(0), entry.Read); !errors.Is(err, group.ErrNoGrant) {
		t.Errorf("a former member may write: %v", err)
	}
	if d, err := group.NextOp(w.log, s, bob.id, device(0), entry.Admin); err != nil || d.As != b.Hash {
		t.Errorf("got %v", err)
	}
}

func TestBlockHitsLaterGrants(t *testing.T) {
	w := newWorld(t)
	w.add(ann, w.create, bob, entry.Write)
	w.op(ann, w.create, entry.Block{UserID: bob.id})
	w.add(ann, w.create, bob, entry.Admin)
	w.wantMembers(everyOrder(t, w), "ann admin")
}
