package storetest

import (
	"math/rand/v2"
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// ranges compares every question about ranges with a list, after random puts
// and flips of flags.
func (s *suite) ranges() {
	rng := rand.New(rand.NewPCG(7, 11))
	g := id("group", 1)
	scopes := []groupsync.Scope{{Group: g, Kind: entry.Operation}, {Group: g, Kind: entry.Data}, {Group: id("group", 2), Kind: entry.Data}}
	shared := map[groupsync.Scope]map[groupsync.Ref]bool{}
	for _, scope := range scopes {
		shared[scope] = map[groupsync.Ref]bool{}
	}
	for round := range 9 {
		s.update(func(tx groupsync.Tx) error {
			for range 120 {
				scope := scopes[rng.IntN(len(scopes))]
				r := record(scope.Group, scope.Kind, rng.IntN(400))
				r.Shared = rng.IntN(3) > 0
				r.Valid = r.Shared && rng.IntN(2) == 0
				if _, known := shared[scope][r.Ref]; known && rng.IntN(2) == 0 {
					s.must(tx.SetFlags(r.Hash, r.Valid, r.Shared))
				} else {
					s.must(tx.PutRecord(r))
				}
				shared[scope][r.Ref] = r.Shared
			}
			s.checkRanges(tx, rng, scopes[round%3], shared[scopes[round%3]])
			return nil
		})
		s.view(func(r groupsync.Reader) error {
			scope := scopes[(round+1)%3]
			s.checkRanges(r, rng, scope, shared[scope])
			return nil
		})
	}
}

func (s *suite) checkRanges(r groupsync.Reader, rng *rand.Rand, scope groupsync.Scope, flags map[groupsync.Ref]bool) {
	s.Helper()
	var refs []groupsync.Ref
	for ref, shared := range flags {
		if shared {
			refs = append(refs, ref)
		}
	}
	slices.SortFunc(refs, groupsync.Ref.Compare)
	some := func() groupsync.Ref {
		switch rng.IntN(4) {
		case 0:
			return groupsync.Ref{Modified: 1_700_000_000_000 + rng.Int64N(50)}
		case 1:
			return groupsync.Ref{Modified: 1_700_000_000_000 + rng.Int64N(50), Hash: hash("any", rng.IntN(1000))}
		}
		if len(refs) == 0 {
			return groupsync.Ref{}
		}
		return refs[rng.IntN(len(refs))]
	}
	s.checkRange(r, scope, refs, groupsync.Ref{}, everything, 16)
	for range 8 {
		lo, hi := some(), some()
		unknown, err := r.Unknown(scope, lo, hi)
		s.must(err)
		for ref := range flags {
			if unknown && ref.Compare(lo) >= 0 && ref.Compare(hi) < 0 {
				s.Fatalf("Unknown, but %s is stored", ref.Hash.Short())
			}
		}
	}
	for range 4 {
		s.checkRange(r, scope, refs, some(), some(), 1+rng.IntN(20))
		s.checkRange(r, scope, refs, some(), everything, rng.IntN(3))
	}
}

func (s *suite) checkRange(r groupsync.Reader, scope groupsync.Scope, all []groupsync.Ref, lo, hi groupsync.Ref, parts int) {
	s.Helper()
	in := func(lo, hi groupsync.Ref) []groupsync.Ref {
		var out []groupsync.Ref
		for _, ref := range all {
			if ref.Compare(lo) >= 0 && ref.Compare(hi) < 0 {
				out = append(out, ref)
			}
		}
		return out
	}
	want := in(lo, hi)
	sum, err := r.Summary(scope, lo, hi)
	s.must(err)
	s.equal("a summary", sum, summary(want))
	refs, err := r.Refs(scope, lo, hi, len(all)+1)
	s.must(err)
	s.equal("refs", refs, want)
	if len(want) > 3 {
		refs, err = r.Refs(scope, lo, hi, 3)
		s.must(err)
		s.equal("the first refs", refs, want[:3])
	}
	var walked []groupsync.Ref
	s.must(r.Shared(scope, lo, hi, func(rec groupsync.Record) (bool, error) {
		walked = append(walked, rec.Ref)
		return len(walked) < 5, nil
	}))
	s.equal("entries", walked, want[:min(5, len(want))])

	cut, err := r.Split(scope, lo, hi, parts)
	s.must(err)
	if len(cut) == 0 || len(cut) > max(parts, 1) || cut[len(cut)-1].End != hi {
		s.Fatalf("Split into %d gave %d parts", parts, len(cut))
	}
	average := int64(len(want) / len(cut))
	for _, part := range cut {
		part.Summary = summary(in(lo, part.End))
		s.equal("a part", cut[0], part)
		if part.Count < average-average/2 || part.Count > average+average/2+1 {
			s.Fatalf("a part of %d of %d entries, the average is %d", part.Count, len(want), average)
		}
		lo, cut = part.End, cut[1:]
	}
}

// summary adds up by hand, with bytes.
func summary(refs []groupsync.Ref) groupsync.Summary {
	sum := groupsync.Summary{Count: int64(len(refs))}
	for _, ref := range refs {
		sum.Sum = add(sum.Sum, ref.Hash)
	}
	return sum
}

func add(a [32]byte, b peercrypto.Hash) [32]byte {
	carry := 0
	for i := 31; i >= 0; i-- {
		n := int(a[i]) + int(b[i]) + carry
		a[i], carry = byte(n), n>>8
	}
	return a
}
