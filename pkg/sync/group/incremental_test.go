package group_test

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/group"
)

// everything writes down all that a state says, also of what is void.
func everything(s *group.State, ops, changes []*entry.Entry) string {
	type verdict struct{ Valid, Shared, Free bool }
	out := map[string]any{"dump": dump(s, ops), "grants": s.Principals(""), "closed": s.ClosedInvites(start)}
	for _, e := range ops {
		_, grant := s.Principal(e.Hash)
		out[e.Hash.String()] = verdict{s.Valid(e.Hash), s.Shared(e.Hash), s.Free(e.Hash)}
		if grant {
			p, _ := s.Principal(e.Hash)
			terms := s.Terms(e.Hash)
			slices.SortFunc(terms, hash.Compare)
			out["grant "+e.Hash.String()] = []any{p, terms, s.Unaccepted(p.UserID)}
		}
	}
	for as, refs := range byGrant(changes) {
		valid, shared := s.JudgeData(as, refs)
		out["data "+as.String()] = []any{valid, shared}
	}
	raw, err := json.MarshalIndent(out, "", " ")
	if err != nil {
		panic(err)
	}
	return string(raw)
}

func byGrant(changes []*entry.Entry) map[hash][]group.DataRef {
	out := map[hash][]group.DataRef{}
	for _, e := range changes {
		out[e.As] = append(out[e.As], group.RefOf(e))
	}
	return out
}

// TestIncrementalIsFull adds operations in random orders, some at a time, and
// compares each state with that of a log that was filled at once.
func TestIncrementalIsFull(t *testing.T) {
	eachSeed(t, 12, func(t *testing.T, rng *rand.Rand) {
		h := newHistory(t, rng, 2+rng.IntN(4), 15+rng.IntN(45))
		l := group.NewLog(h.create.Group)
		var added []*entry.Entry
		for _, e := range anyOrder(rng, h.ops) {
			if err := l.Restore(e); err != nil {
				t.Fatal(err)
			}
			added = append(added, e)
			if rng.IntN(3) == 0 {
				continue
			}
			got := everything(l.State(), h.ops, h.changes)
			if want := everything(evaluate(t, h.create.Group, added), h.ops, h.changes); got != want {
				t.Errorf("after %d operations, the last a %s:\n%s\ninstead of\n%s", len(added), e.Op.Kind(), got, want)
				return
			}
		}
	})
}

// anyOrder returns operations in a random causal order.
func anyOrder(rng *rand.Rand, ops []*entry.Entry) []*entry.Entry {
	in := map[hash]bool{}
	left := slices.Clone(ops)
	var order []*entry.Entry
	for len(left) > 0 {
		rng.Shuffle(len(left), func(i, k int) { left[i], left[k] = left[k], left[i] })
		i := slices.IndexFunc(left, func(e *entry.Entry) bool {
			return !slices.ContainsFunc(refs(e), func(r hash) bool { return !in[r] })
		})
		in[left[i].Hash] = true
		order = append(order, left[i])
		left = slices.Delete(left, i, i+1)
	}
	return order
}

// TestChangedIsComplete checks that whatever a state says differently from an
// earlier one is among its changes.
func TestChangedIsComplete(t *testing.T) {
	eachSeed(t, 12, func(t *testing.T, rng *rand.Rand) {
		h := newHistory(t, rng, 2+rng.IntN(4), 15+rng.IntN(45))
		l := group.NewLog(h.create.Group)
		old := l.State()
		for _, e := range anyOrder(rng, h.ops) {
			if err := l.Restore(e); err != nil {
				t.Fatal(err)
			}
			if rng.IntN(3) == 0 {
				continue
			}
			h.checkChanged(l.State(), old)
			if rng.IntN(2) == 0 {
				old = l.State()
			}
		}
		if c := l.State().Changed(l.State()); len(c.Ops)+len(c.Grants)+len(c.Data) > 0 {
			t.Errorf("a state differs from itself: %+v", c)
		}
		c := l.State().Changed(nil)
		if len(c.Ops) != len(h.ops) {
			t.Errorf("%d operations are new to nobody", len(c.Ops))
		}
		if t.Failed() {
			return
		}
	})
}

func (h *history) checkChanged(s, old *group.State) {
	h.t.Helper()
	c := s.Changed(old)
	for _, e := range h.ops {
		if (s.Valid(e.Hash) != old.Valid(e.Hash) || s.Shared(e.Hash) != old.Shared(e.Hash)) && !slices.Contains(c.Ops, e.Hash) {
			h.t.Errorf("a %s changed unsaid", e.Op.Kind())
		}
	}
	for as, refs := range byGrant(h.changes) {
		if s.Free(as) != old.Free(as) && !slices.Contains(c.Grants, as) {
			h.t.Error("a grant is free, or not any more, unsaid")
		}
		valid, shared := s.JudgeData(as, refs)
		wasValid, wasShared := old.JudgeData(as, refs)
		said := slices.Contains(c.Grants, as)
		for _, d := range refs {
			said = said || slices.Contains(c.Data, d.Hash)
		}
		for _, d := range refs {
			if !said && (valid[d.Hash] != wasValid[d.Hash] || shared[d.Hash] != wasShared[d.Hash]) {
				h.t.Error("data changed unsaid")
			}
		}
	}
}

// crowd is a group of many members, each added and accepted, as a log.
func crowd(t testing.TB, members int) (*world, *group.Log) {
	t.Helper()
	w := newWorld(t)
	l := load(t, w.create.Group, w.ops)
	add := func(e *entry.Entry) *entry.Entry {
		if err := l.Restore(e); err != nil {
			t.Fatal(err)
		}
		w.ops = append(w.ops, e)
		return e
	}
	heads := []hash{w.create.Hash}
	modified := int64(start)
	for i := range members {
		modified += 2
		prev := w.create
		if i > 0 {
			next, h := l.Head(w.create.Hash, device(0))
			prev, _ = l.Get(h)
			_ = next
		}
		op := entry.Add{UserID: numberedID(100_000 + i), User: bob.genesis, Role: entry.Write}
		e := add(sign(t, ann, w, entry.OpDraft{
			As: w.create.Hash, Deps: heads, Seq: int64(i), Prev: prevOf(i, prev), Dev: devOf(i), Modified: modified, Op: op,
		}))
		w.next++
		d := entry.OpDraft{
			ID: numberedID(w.next), Group: w.create.Group, Signer: op.UserID, As: e.Hash, Deps: []hash{e.Hash},
			Dev: device(1), Modified: modified + 1, Op: entry.Accept{},
		}
		accept, err := entry.SignOperation(bob.key, d)
		if err != nil {
			t.Fatal(err)
		}
		heads = []hash{add(accept).Hash}
	}
	return w, l
}

// BenchmarkNext measures what one more operation costs in a group of 10,000
// members, check and signature left out, as a ratio to one verification.
func BenchmarkNext(b *testing.B) {
	w, l := crowd(b, 10_000)
	victim := w.ops[len(w.ops)/2]
	if victim.Op.Kind() != entry.KindAdd {
		victim = w.ops[len(w.ops)/2+1]
	}
	begin := time.Now()
	for range 500 {
		w.create.VerifySignature(ann.key.Public())
	}
	verify := float64(time.Since(begin).Nanoseconds()) / 500
	for name, op := range map[string]entry.Op{
		"add":    entry.Add{UserID: eve.id, User: eve.genesis, Role: entry.Write},
		"remove": entry.Remove{Grant: victim.Hash, Reason: "gone"},
		"policy": entry.Policy{Name: new("renamed")},
	} {
		b.Run(name, func(b *testing.B) { benchNext(b, w, l, op, verify) })
	}
}

func benchNext(b *testing.B, w *world, l *group.Log, op entry.Op, verify float64) {
	for b.Loop() {
		b.StopTimer()
		old := l.State()
		d, err := group.NextOp(l, old, ann.id, device(0), entry.Admin)
		if err != nil {
			b.Fatal(err)
		}
		w.next++
		d.ID, d.Op = numberedID(w.next), op
		e, err := entry.SignOperation(ann.key, d)
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := l.Restore(e); err != nil {
			b.Fatal(err)
		}
		if c := l.State().Changed(old); len(c.Ops) == 0 {
			b.Fatal("nothing changed")
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/verify, "verifies/op")
}

// BenchmarkFill measures reading the log of 10,000 members, 20,001 operations.
func BenchmarkFill(b *testing.B) {
	w, _ := crowd(b, 10_000)
	for b.Loop() {
		load(b, w.create.Group, w.ops).State()
	}
}

func TestNotKnownIsMissing(t *testing.T) {
	w := newWorld(t)
	b := w.add(ann, w.create, bob, entry.Write)
	next := bob.secret(20)
	before := slices.Clone(w.ops)
	r := w.rekey(bob, b, next, "recovery", nil)
	change := w.data(bob, r, 0, nil)
	l := load(t, w.create.Group, before)
	var missing *group.MissingError
	if err := group.CheckData(l, change, nil); !errors.As(err, &missing) || !slices.Equal(missing.Refs, []hash{r.Hash}) {
		t.Errorf("an entry under a key that is not known gives %v", err)
	}
	if _, err := l.Add(r); err != nil {
		t.Fatal(err)
	}
	if err := group.CheckData(l, change, nil); err != nil {
		t.Error(err)
	}
	if !l.State().Free(r.Hash) || l.State().Free(b.Hash) {
		t.Error("the old key is free, or the new one is not")
	}
}
