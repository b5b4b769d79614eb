package group

import (
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// Changes are what one State says differently from another, and perhaps more.
type Changes struct {
	// Ops are the operations that are new or whose Valid or Shared may differ.
	Ops []peercrypto.Hash
	// Grants are the grants and rekeys whose data may be judged differently.
	Grants []peercrypto.Hash
	// Data are hashes, of data or others, for which the same holds: judge what is
	// known of them again, with all else under the same grant.
	Data []peercrypto.Hash
}

// Changed compares with an earlier or other state; nil stands for an empty log.
// For states of one log it takes about as long as there are changes.
func (s *State) Changed(old *State) Changes {
	if old == nil {
		f := newFacts()
		old = &State{s.id, f}
	}
	var c Changes
	s.ops.differences(old.ops, func(h peercrypto.Hash, is, was *opFlags) {
		if is == nil || was == nil || *is != *was {
			c.Ops = append(c.Ops, h)
		}
	})
	s.grants.differences(old.grants, func(h peercrypto.Hash, is, was **grant) {
		if is == nil || was == nil || (*is).judgesDifferently(*was) {
			c.Grants = append(c.Grants, h)
		}
	})
	s.named.differences(old.named, func(h peercrypto.Hash, is, was *struct{}) {
		if (is == nil) != (was == nil) {
			c.Data = append(c.Data, h)
		}
	})
	s.saved.differences(old.saved, func(h peercrypto.Hash, is, was *Rank) {
		if is == nil || was == nil || *is != *was {
			c.Data = append(c.Data, h)
		}
	})
	return c
}

func (g *grant) judgesDifferently(o *grant) bool {
	return g.Valid != o.Valid || g.Active != o.Active || g.lost != o.lost ||
		!slices.EqualFunc(g.frontiers, o.frontiers, slices.Equal[[]peercrypto.Hash])
}

// Free reports whether every sound data change under a grant or rekey counts: it
// is valid, its key is in use and nothing revokes it.
func (s *State) Free(as peercrypto.Hash) bool {
	g, ok := s.grants.get(as)
	return ok && g.Active
}

// JudgeData says which data changes under a grant or rekey are valid and which
// are shared. all are the sound changes under it that are stored, in any order;
// each is in both results. What all leaves out can make others void that name
// it: give everything.
func (s *State) JudgeData(as peercrypto.Hash, all []DataRef) (valid, shared map[peercrypto.Hash]bool) {
	valid = make(map[peercrypto.Hash]bool, len(all))
	shared = make(map[peercrypto.Hash]bool, len(all))
	g, ok := s.grants.get(as)
	if !ok {
		g = &grant{}
	}
	chain := make(chain, len(all))
	for _, d := range all {
		if d.As == as {
			chain[d.Hash] = d.Prev
		}
	}
	counts := make(map[peercrypto.Hash]int, len(chain))
	for _, f := range g.frontiers {
		for h := range chain.ancestors(slices.Values(f)) {
			counts[h]++
		}
	}
	saved := chain.ancestors(func(yield func(peercrypto.Hash) bool) {
		for h := range chain {
			if rank, ok := s.saved.get(h); ok && rank.Senior(g.Rank) && !yield(h) {
				return
			}
		}
	})
	named := chain.ancestors(func(yield func(peercrypto.Hash) bool) {
		for h := range chain {
			if s.named.has(h) && !yield(h) {
				return
			}
		}
	})
	for _, d := range all {
		h := d.Hash
		valid[h] = d.As == as && g.Valid && (!g.lost && counts[h] == len(g.frontiers) || saved[h])
		shared[h] = valid[h] || named[h]
	}
	return valid, shared
}

// Names reports whether a data change under a grant or rekey is named by what
// counts. If the grant is not [State.Free], one that is not, and that nothing is
// built on, is void and not shared, and changes nothing about others.
func (s *State) Names(as, h peercrypto.Hash) bool {
	if _, saved := s.saved.get(h); saved || s.named.has(h) {
		return true
	}
	g, ok := s.grants.get(as)
	return ok && slices.ContainsFunc(g.frontiers, func(f []peercrypto.Hash) bool {
		_, found := slices.BinarySearchFunc(f, h, peercrypto.Hash.Compare)
		return found
	})
}

// chain maps data changes to the one before them.
type chain map[peercrypto.Hash]peercrypto.Hash

// ancestors returns those of the given changes that are known, and what comes before them.
func (c chain) ancestors(from func(yield func(peercrypto.Hash) bool)) map[peercrypto.Hash]bool {
	found := map[peercrypto.Hash]bool{}
	for h := range from {
		for {
			prev, ok := c[h]
			if !ok || found[h] {
				break
			}
			found[h] = true
			h = prev
		}
	}
	return found
}
