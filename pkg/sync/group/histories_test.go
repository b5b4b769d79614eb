package group_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/group"
)

// The histories of docs/formats.md, section 10, by number.

// everyOrder checks that each order of delivery gives the world's own state, at
// once and step by step.
func everyOrder(t *testing.T, w *world) *group.State {
	t.Helper()
	want := dump(w.log.State(), w.ops)
	eachOrder(w.ops, func(ops []*entry.Entry) {
		l := group.NewLog(w.create.Group)
		for i, e := range ops {
			if err := l.Restore(e); err != nil {
				t.Fatal(err)
			}
			if i%2 == len(ops)%2 {
				l.State()
			}
		}
		if got := dump(l.State(), w.ops); got != want {
			t.Fatalf("another order gives\n%s\ninstead of\n%s", got, want)
		}
	})
	if got := dump(evaluate(t, w.create.Group, w.ops), w.ops); got != want {
		t.Fatalf("at once it gives\n%s\ninstead of\n%s", got, want)
	}
	o := newOracle(w.ops)
	if n := len(w.ops); n <= 14 && len(o.solutions()) != 1 {
		t.Errorf("%d solutions", len(o.solutions()))
	}
	return w.log.State()
}

// eachOrder calls fn with causal orders of the operations, at most 500.
func eachOrder(ops []*entry.Entry, fn func([]*entry.Entry)) {
	count := 0
	in := map[hash]bool{}
	var order []*entry.Entry
	var extend func()
	extend = func() {
		if count == 500 {
			return
		}
		if len(order) == len(ops) {
			count++
			fn(slices.Clone(order))
			return
		}
		for _, e := range ops {
			if in[e.Hash] || slices.ContainsFunc(refs(e), func(r hash) bool { return !in[r] }) {
				continue
			}
			in[e.Hash] = true
			order = append(order, e)
			extend()
			order = order[:len(order)-1]
			delete(in, e.Hash)
		}
	}
	extend()
}

// sharedAgrees checks that what travels gives the same state.
func sharedAgrees(t *testing.T, w *world) {
	t.Helper()
	s := w.log.State()
	ops, _ := sharedOf(s, w.ops, nil)
	if got, want := dump(evaluate(t, w.create.Group, ops), w.ops), dump(s, w.ops); got != want {
		t.Errorf("what travels gives\n%s\ninstead of\n%s", got, want)
	}
}

func TestHistory1RoleInheritsConsent(t *testing.T) {
	w := newWorld(t)
	asked := w.addUnaccepted(ann, w.create, bob, entry.Read)
	role := w.op(ann, w.create, entry.RoleChange{Grant: asked.Hash, Role: entry.Admin, Key: bob.key.Public()})
	s := everyOrder(t, w)
	w.wantMembers(s, "ann admin")
	if got := s.Unaccepted(bob.id); !slices.Equal(got, []hash{role.Hash}) {
		t.Errorf("bob may accept %v", got)
	}
	w.op(bob, asked, entry.Accept{})
	w.wantMembers(everyOrder(t, w), "ann admin", "bob admin")
}

func TestHistory2LeaveSparesMoreSeniorSuccessor(t *testing.T) {
	w := newWorld(t)
	p := w.add(ann, w.create, bob, entry.Write)
	before := w.log.State().Heads()
	raised := w.op(ann, w.create, entry.RoleChange{Grant: p.Hash, Role: entry.Admin, Key: bob.key.Public()}, on(0))
	leave := w.op(bob, p, entry.Leave{}, on(1), func(d *entry.OpDraft) { d.Deps = before })
	w.wantMembers(everyOrder(t, w), "ann admin", "bob admin")

	// bob's new grant removes the old one and does not cover the leave.
	w.op(bob, raised, entry.Remove{Grant: p.Hash}, knowing(raised))
	s := everyOrder(t, w)
	w.wantMembers(s, "ann admin", "bob admin")
	w.wantValid(s, leave, false)

	w.op(bob, raised, entry.Leave{})
	w.wantMembers(everyOrder(t, w), "ann admin")
}

func TestHistory2LeaveHitsLowerSuccessor(t *testing.T) {
	w := newWorld(t)
	p := w.add(ann, w.create, bob, entry.Admin)
	before := w.log.State().Heads()
	w.op(ann, w.create, entry.RoleChange{Grant: p.Hash, Role: entry.Write, Key: bob.key.Public()})
	w.wantMembers(w.log.State(), "ann admin", "bob write")
	leave := w.op(bob, p, entry.Leave{}, on(1), func(d *entry.OpDraft) { d.Deps = before })
	s := everyOrder(t, w)
	w.wantValid(s, leave, false) // the role covers nothing: who lowered bob did not know that he left
	w.wantMembers(s, "ann admin", "bob write")
	w.op(ann, w.create, entry.Adopt{Entries: []hash{leave.Hash}})
	w.wantMembers(everyOrder(t, w), "ann admin")
}

func TestHistory3PastTravels(t *testing.T) {
	w := newWorld(t)
	b := w.add(ann, w.create, bob, entry.Admin)
	c := w.add(ann, w.create, cat, entry.Admin)
	heads := w.log.State().Heads()
	x := w.op(bob, b, entry.Merge{})
	y := w.op(cat, c, entry.Merge{}) // knows x
	w.op(ann, w.create, entry.Remove{Grant: b.Hash}, func(d *entry.OpDraft) { d.Deps = heads })
	s := everyOrder(t, w)
	w.wantValid(s, x, false)
	w.wantValid(s, y, true)
	if !s.Shared(x.Hash) {
		t.Error("the past of a valid operation does not travel")
	}
	sharedAgrees(t, w)
}

func TestHistory4AcceptsTravelWhenVoid(t *testing.T) {
	w := newWorld(t)
	b := w.addUnaccepted(ann, w.create, bob, entry.Admin)
	yes := w.op(bob, b, entry.Accept{})
	name := "saved"
	saved := w.op(bob, b, entry.Policy{Name: &name}, on(1), knowing(b))
	w.op(ann, w.create, entry.Remove{Grant: b.Hash}, knowing(b))
	w.op(ann, w.create, entry.Checkpoint{Frontier: []hash{saved.Hash}}, knowing(b))
	s := everyOrder(t, w)
	w.wantValid(s, yes, false)
	w.wantValid(s, saved, true)
	if !s.Shared(yes.Hash) {
		t.Error("the void accept does not travel")
	}
	sharedAgrees(t, w)
}

func TestHistory4AcceptOfPredecessorTravels(t *testing.T) {
	w := newWorld(t)
	b := w.add(ann, w.create, bob, entry.Admin)
	heads := w.log.State().Heads()
	first := w.addUnaccepted(bob, b, dan, entry.Read)
	yes := w.op(dan, first, entry.Accept{})
	role := w.op(ann, w.create, entry.RoleChange{Grant: first.Hash, Role: entry.Write, Key: dan.key.Public()}, on(1), knowing(first))
	w.op(ann, w.create, entry.Remove{Grant: b.Hash}, on(2), func(d *entry.OpDraft) { d.Deps = heads })
	s := everyOrder(t, w)
	w.wantValid(s, first, false)
	w.wantValid(s, yes, false)
	w.wantValid(s, role, true)
	w.wantMembers(s, "ann admin", "dan write")
	if !s.Shared(yes.Hash) {
		t.Error("the accept on which a role rests does not travel")
	}
	sharedAgrees(t, w)
}

func TestHistory4RemovedMemberFloodsNobody(t *testing.T) {
	w := newWorld(t)
	b := w.add(ann, w.create, bob, entry.Write)
	w.op(ann, w.create, entry.Remove{Grant: b.Hash})
	for i := range 50 {
		w.op(bob, b, entry.Accept{}, on(i), later(int64(i)))
		w.op(bob, b, entry.Merge{}, on(i), later(int64(i)))
	}
	void := 0
	for _, e := range w.ops {
		if s := w.log.State(); s.Shared(e.Hash) && !s.Valid(e.Hash) {
			void++
		}
	}
	if void > 1 {
		t.Errorf("%d void operations travel", void)
	}
	w.refused("an accept has a past beside its grant", bob, b, entry.Accept{}, func(d *entry.OpDraft) { d.Deps = w.log.State().Heads() })
	d := w.draft(bob, b, entry.Accept{})
	d.Seq, d.Prev = w.log.Head(b.Hash, d.Dev)
	d.Dev, d.Modified = "", d.Modified+1000
	_, err := entry.SignOperation(bob.key, d)
	w.unsound("an accept has a past beside its grant", err)
}

func TestHistory5DataBeforeItsGrant(t *testing.T) {
	w := newWorld(t)
	b := w.add(ann, w.create, bob, entry.Write)
	early := w.data(bob, b, 0, nil, func(d *entry.DataDraft) { d.Modified = b.Modified - 1 })
	w.unsound("it is older than its grant", group.CheckData(w.log, early, nil))
	if err := group.CheckData(w.log, w.data(bob, b, 0, nil), nil); err != nil {
		t.Error(err)
	}
}

func TestHistory6EpochFollowsPast(t *testing.T) {
	w := newWorld(t)
	w.refused("the epoch does not follow those in its past", ann, w.create, entry.RVKey{Epoch: 1, Key: [32]byte{1}})
	w.op(ann, w.create, entry.RVKey{Epoch: 0, Key: [32]byte{1}})
	w.refused("the epoch does not follow those in its past", ann, w.create, entry.RVKey{Epoch: 0, Key: [32]byte{1}})
	w.refused("the epoch does not follow those in its past", ann, w.create, entry.RVKey{Epoch: 1 << 50, Key: [32]byte{1}})
}

func TestHistory7KeyOfRole(t *testing.T) {
	w := newWorld(t)
	b := w.add(ann, w.create, bob, entry.Read)
	w.refused("the key is not that of the grant", ann, w.create, entry.RoleChange{Grant: b.Hash, Role: entry.Write, Key: ann.key.Public()})
}

func TestHistory10RolesDoNotRevokeEachOther(t *testing.T) {
	w := newWorld(t)
	g := w.add(ann, w.create, bob, entry.Read)
	for _, role := range []entry.Role{entry.Write, entry.Admin, entry.Read, entry.Write} {
		g = w.op(ann, w.create, entry.RoleChange{Grant: g.Hash, Role: role, Key: bob.key.Public()})
		w.wantMembers(w.log.State(), "ann admin", "bob "+string(role))
	}
	everyOrder(t, w)
}

func TestHistory10RemovalHitsUnknownSuccessor(t *testing.T) {
	w := newWorld(t)
	b := w.add(ann, w.create, bob, entry.Write)
	c := w.add(ann, w.create, cat, entry.Admin)
	heads := w.log.State().Heads()
	asKnown := func(d *entry.OpDraft) { d.Deps = heads }
	w.op(ann, w.create, entry.Remove{Grant: b.Hash}, on(1), asKnown)
	first := w.op(cat, c, entry.RoleChange{Grant: b.Hash, Role: entry.Read, Key: bob.key.Public()}, asKnown)
	w.op(cat, c, entry.RoleChange{Grant: first.Hash, Role: entry.Write, Key: bob.key.Public()}, knowing(first))
	w.wantMembers(everyOrder(t, w), "ann admin", "cat admin")

	// Who knows the successor and names the old grant does not mean those after it.
	w = newWorld(t)
	b = w.add(ann, w.create, bob, entry.Write)
	known := w.op(ann, w.create, entry.RoleChange{Grant: b.Hash, Role: entry.Read, Key: bob.key.Public()})
	w.op(ann, w.create, entry.RoleChange{Grant: known.Hash, Role: entry.Write, Key: bob.key.Public()}, on(1))
	w.op(ann, w.create, entry.Remove{Grant: b.Hash}, knowing(known))
	w.wantMembers(everyOrder(t, w), "ann admin", "bob write")
}

func TestHistory11OneCreate(t *testing.T) {
	w := newWorld(t)
	c := w.create.Op.(entry.Create)
	c.Name = "other"
	_, err := entry.SignOperation(ann.key, entry.OpDraft{
		ID: w.create.ID, Group: w.create.Group, Signer: ann.id, Modified: w.create.Modified, Dev: w.create.Dev, Op: c,
	})
	w.unsound("the group's nonce does not fit the create", err)

	// A second create under the id of the first, with a body of its own.
	other, err := entry.SignCreate(ann.key, entry.CreateDraft{ID: numberedID(2), Owner: ann.genesis, Dev: device(0), Name: "other", Modified: start})
	if err != nil {
		t.Fatal(err)
	}
	forged, err := entry.SignOperation(ann.key, entry.OpDraft{
		ID: other.ID, Group: w.create.Group, Signer: ann.id, Modified: start, Dev: other.Dev, Op: other.Op,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.unsound("an id does not fit its body", group.NewLog(w.create.Group).Check(forged))
	w.unsound("the group has another create", w.log.Check(forged))
}

func TestHistory12NobodyCoversOwnEntries(t *testing.T) {
	w := newWorld(t)
	b := w.add(ann, w.create, bob, entry.Admin)
	name := "taken over"
	rename := w.op(bob, b, entry.Policy{Name: &name}, on(1))
	w.op(bob, b, entry.Checkpoint{Frontier: []hash{rename.Hash}}, on(0), knowing(b))
	seen := w.ops[len(w.ops)-1]
	w.op(ann, w.create, entry.Remove{Grant: b.Hash}, knowing(seen))
	s := everyOrder(t, w)
	w.wantValid(s, seen, true)
	w.wantValid(s, rename, false)
	if s.Name() != "crew" {
		t.Errorf("the name is %q", s.Name())
	}
}

func TestHistory13DepsAreSharedHeads(t *testing.T) {
	w := newWorld(t)
	b := w.add(ann, w.create, bob, entry.Write)
	w.op(ann, w.create, entry.Remove{Grant: b.Hash})
	void := w.op(bob, b, entry.Merge{}, on(3), knowing(b))
	d, err := group.NextOp(w.log, w.log.State(), ann.id, device(0), entry.Admin)
	if err != nil || slices.Contains(d.Deps, void.Hash) {
		t.Errorf("deps %v hold a void operation (%v)", d.Deps, err)
	}
	if err := w.log.Forget([]hash{void.Hash}); err != nil || w.log.Has(void.Hash) {
		t.Errorf("forgetting a void operation: %v", err)
	}
	if err := w.log.Forget([]hash{b.Hash}); !errors.Is(err, group.ErrNotShared) {
		t.Errorf("forgetting a shared operation: %v", err)
	}
}
