package group_test

import (
	"flag"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/group"
)

var (
	seedFlag = flag.Uint64("seed", 0, "seed of one random history to run instead of all")
	runs     = flag.Int("histories", 0, "number of random histories instead of the default")
)

// eachSeed runs fn with rising seeds. The defaults are for every day: after a
// change of the rules run some thousands with -histories.
func eachSeed(t *testing.T, count int, fn func(t *testing.T, rng *rand.Rand)) {
	t.Parallel()
	if *runs > 0 {
		count = *runs
	}
	first, last := uint64(1), uint64(count)
	if *seedFlag > 0 {
		first, last = *seedFlag, *seedFlag
	}
	for seed := first; seed <= last; seed++ {
		fn(t, rand.New(rand.NewPCG(seed, 0)))
		if t.Failed() {
			t.Fatalf("random history with -seed %d", seed)
		}
	}
}

// TestOneSolution enumerates every assignment for small histories: exactly one
// agrees with the rules, and it is what evaluation gives.
func TestOneSolution(t *testing.T) {
	eachSeed(t, 90, func(t *testing.T, rng *rand.Rand) {
		h := newHistory(t, rng, 2+rng.IntN(2), 5+rng.IntN(8))
		o := newOracle(h.ops)
		solutions := o.solutions()
		if len(solutions) != 1 {
			t.Errorf("%d solutions: %b", len(solutions), solutions)
			return
		}
		compareWithOracle(t, h, o, solutions[0])
	})
}

// TestAgreesWithRules checks larger histories against the rules without
// enumeration.
func TestAgreesWithRules(t *testing.T) {
	eachSeed(t, 20, func(t *testing.T, rng *rand.Rand) {
		h := newHistory(t, rng, 2+rng.IntN(4), 20+rng.IntN(44))
		o := newOracle(h.ops)
		var valid uint64
		for i, e := range h.ops {
			if h.log.State().Valid(e.Hash) {
				valid |= 1 << i
			}
		}
		if !o.consistent(valid) {
			t.Error("the evaluation does not agree with the rules")
			return
		}
		compareWithOracle(t, h, o, valid)
	})
}

func compareWithOracle(t *testing.T, h *history, o *oracle, valid uint64) {
	t.Helper()
	s := h.log.State()
	shared := o.shared(valid)
	for i, e := range h.ops {
		if got, want := s.Valid(e.Hash), valid&(1<<i) != 0; got != want {
			t.Errorf("operation %d, %s: valid is %v, want %v", i, e.Op.Kind(), got, want)
		}
		if got, want := s.Shared(e.Hash), shared&(1<<i) != 0; got != want {
			t.Errorf("operation %d, %s: shared is %v, want %v", i, e.Op.Kind(), got, want)
		}
		for k, x := range h.ops {
			if got, want := h.log.InPast(x.Hash, e.Hash), o.past[i]&(1<<k) != 0; got != want {
				t.Errorf("%d in the past of %d is %v, want %v", k, i, got, want)
			}
		}
	}
	for _, e := range h.changes {
		of, refs := dataOf(h.changes, e.As)
		gotValid, gotShared := s.JudgeData(e.As, refs)
		wantValid, wantShared := o.judgeData(e, of, valid)
		if gotValid[e.Hash] != wantValid || gotShared[e.Hash] != wantShared {
			t.Errorf("data of %s: %v %v, want %v %v", e.As.Short(), gotValid[e.Hash], gotShared[e.Hash], wantValid, wantShared)
		}
		if s.Free(e.As) && !wantValid {
			t.Error("data of a free grant is void")
		}
	}
}

func dataOf(changes []*entry.Entry, as hash) (of []*entry.Entry, refs []group.DataRef) {
	for _, e := range changes {
		if e.As == as {
			of = append(of, e)
			refs = append(refs, group.RefOf(e))
		}
	}
	return of, refs
}

// TestOrderDoesNotMatter delivers the same set in many orders, with doubles.
func TestOrderDoesNotMatter(t *testing.T) {
	eachSeed(t, 12, func(t *testing.T, rng *rand.Rand) {
		h := newHistory(t, rng, 2+rng.IntN(4), 15+rng.IntN(45))
		want := dump(h.log.State(), h.ops)
		for range 3 {
			if got := dump(deliver(t, rng, h.create.Group, h.ops), h.ops); got != want {
				t.Errorf("another order gives\n%s\ninstead of\n%s", got, want)
				return
			}
		}
	})
}

// TestSharedIsEnough evaluates only what travels: everything that is shared is
// judged as before, and the same is shared.
func TestSharedIsEnough(t *testing.T) {
	eachSeed(t, 25, func(t *testing.T, rng *rand.Rand) {
		h := newHistory(t, rng, 2+rng.IntN(4), 8+rng.IntN(50))
		all := h.log.State()
		ops, data := sharedOf(all, h.ops, h.changes)
		some := evaluate(t, h.create.Group, ops)
		if got, want := dump(some, h.ops), dump(all, h.ops); got != want {
			t.Errorf("what travels gives\n%s\ninstead of\n%s", got, want)
		}
		_, again := sharedOf(some, ops, data)
		if !slices.Equal(hashes(again...), hashes(data...)) {
			t.Error("other data is shared")
		}
	})
}

func sharedOf(s *group.State, ops, changes []*entry.Entry) (sharedOps, sharedData []*entry.Entry) {
	for _, e := range ops {
		if s.Shared(e.Hash) {
			sharedOps = append(sharedOps, e)
		}
	}
	for _, e := range changes {
		_, refs := dataOf(changes, e.As)
		if _, shared := s.JudgeData(e.As, refs); shared[e.Hash] {
			sharedData = append(sharedData, e)
		}
	}
	return sharedOps, sharedData
}

// TestReplicasConverge gives two replicas different parts and lets each send
// the other what it shares until both share the same: then all else is equal.
func TestReplicasConverge(t *testing.T) {
	eachSeed(t, 20, func(t *testing.T, rng *rand.Rand) {
		h := newHistory(t, rng, 2+rng.IntN(4), 10+rng.IntN(50))
		a, b := h.part(), h.part()
		for range 20 {
			aOps, aData := sharedOf(load(t, h.create.Group, a.ops).State(), a.ops, a.data)
			bOps, bData := sharedOf(load(t, h.create.Group, b.ops).State(), b.ops, b.data)
			if slices.Equal(hashes(aOps...), hashes(bOps...)) && slices.Equal(hashes(aData...), hashes(bData...)) {
				x, y := load(t, h.create.Group, a.ops).State(), load(t, h.create.Group, b.ops).State()
				if dump(x, h.ops) != dump(y, h.ops) {
					t.Error("replicas share the same and differ")
				}
				return
			}
			a, b = h.join(a, bOps, bData), h.join(b, aOps, aData)
		}
		t.Error("replicas do not come to share the same")
	})
}

type part struct{ ops, data []*entry.Entry }

// part is a random replica: operations with their past, chains from their
// beginning.
func (h *history) part() part {
	named := []hash{h.create.Hash}
	for _, e := range h.ops {
		if h.rng.IntN(3) == 0 {
			named = append(named, e.Hash)
		}
	}
	p := part{ops: pastClosed(h.ops, named)}
	have := map[hash]bool{{}: true}
	for _, e := range h.changes {
		grant := slices.ContainsFunc(p.ops, func(g *entry.Entry) bool { return g.Hash == e.As })
		if grant && have[e.Prev] && h.rng.IntN(2) == 0 {
			have[e.Hash] = true
			p.data = append(p.data, e)
		}
	}
	return p
}

func (h *history) join(p part, ops, data []*entry.Entry) part {
	in := map[hash]bool{}
	for _, e := range slices.Concat(p.ops, p.data, ops, data) {
		in[e.Hash] = true
	}
	pick := func(all []*entry.Entry) (out []*entry.Entry) {
		for _, e := range all {
			if in[e.Hash] {
				out = append(out, e)
			}
		}
		return out
	}
	return part{pick(h.ops), pick(h.changes)}
}
