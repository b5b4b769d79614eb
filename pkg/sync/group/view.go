package group

import (
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// invitations returns those that are valid, which are closed when they were
// withdrawn or used up, and an alarm for each that was used too often. All are
// by hash and count shared operations only, which all replicas hold.
func (v *evaluation) invitations() (open, closed []OpenInvite, alarms []Alarm) {
	withdrawn := map[peercrypto.Hash]bool{}
	var invites []*node
	for i, n := range v.log.nodes {
		switch op := n.entry.Op.(type) {
		case entry.Uninvite:
			if v.valid[i] {
				withdrawn[op.Invite] = true
			}
		case entry.Invite:
			if v.shared[i] {
				invites = append(invites, n)
			}
		}
	}
	slices.SortFunc(invites, byHash)
	for _, n := range invites {
		op := n.entry.Op.(entry.Invite)
		used := map[peercrypto.Hash]bool{}
		ops := []peercrypto.Hash{n.hash}
		for _, a := range v.log.adds[n] {
			if v.shared[a.index] {
				used[v.log.claimOf[a]] = true
				ops = append(ops, a.hash)
			}
		}
		if len(used) > op.Uses {
			slices.SortFunc(ops[1:], peercrypto.Hash.Compare)
			alarms = append(alarms, Alarm{AlarmOverused, n.entry.Signer, ops})
		}
		invite := OpenInvite{n.hash, op.IPK, op.Role, max(op.Uses-len(used), 0), op.Expires, n.entry.Signer}
		switch {
		case !v.valid[n.index]:
		case withdrawn[n.hash] || invite.UsesLeft == 0:
			closed = append(closed, invite)
		default:
			open = append(open, invite)
		}
	}
	return open, closed, alarms
}

// forkAlarms returns an alarm for each place of a chain with several shared operations.
func (v *evaluation) forkAlarms() []Alarm {
	type place struct {
		chainKey
		seq int64
	}
	seen := map[place]bool{}
	var alarms []Alarm
	for _, f := range v.log.forks {
		n := f[0]
		at := place{chainKey{n.entry.As, n.dev}, n.entry.Seq}
		if seen[at] {
			continue
		}
		seen[at] = true
		var ops []peercrypto.Hash
		for _, twin := range v.log.chains[at.chainKey][at.seq] {
			if v.shared[twin.index] {
				ops = append(ops, twin.hash)
			}
		}
		if len(ops) > 1 {
			slices.SortFunc(ops, peercrypto.Hash.Compare)
			alarms = append(alarms, Alarm{AlarmForked, n.entry.Signer, ops})
		}
	}
	slices.SortFunc(alarms, func(a, b Alarm) int { return a.Ops[0].Compare(b.Ops[0]) })
	return alarms
}

// maxKeysPerEpoch bounds the tags that one admin can make all members listen on.
const maxKeysPerEpoch = 4

// rendezvous returns the keys to listen on and whether a new one is due.
func (v *evaluation) rendezvous() (keys []RendezvousKey, due bool) {
	byEpoch := map[int64][]*node{}
	top, below := int64(-1), int64(-1)
	for i, n := range v.log.nodes {
		if op, ok := n.entry.Op.(entry.RVKey); ok && v.valid[i] {
			byEpoch[op.Epoch] = append(byEpoch[op.Epoch], n)
			top = max(top, op.Epoch)
		}
	}
	for epoch := range byEpoch {
		if epoch < top {
			below = max(below, epoch)
		}
	}
	for _, epoch := range []int64{top, below} {
		nodes := byEpoch[epoch]
		slices.SortFunc(nodes, byHash)
		nodes = nodes[:min(len(nodes), maxKeysPerEpoch)]
		byEpoch[epoch] = nodes
		for _, n := range nodes {
			key := n.entry.Op.(entry.RVKey).Key
			keys = append(keys, RendezvousKey{n.hash, epoch, key, len(keys) == 0})
		}
	}
	return keys, v.rotationDue(byEpoch[top])
}

// rotationDue tells whether one of the current keys was made without knowledge
// of a valid revocation.
func (v *evaluation) rotationDue(current []*node) bool {
	for _, k := range current {
		past := v.log.past(k)
		for i, n := range v.log.nodes {
			if v.valid[i] && isRevocation(n.entry.Op) && !past.has(i) {
				return true
			}
		}
	}
	return len(current) == 0
}

// Free reports whether every sound data change under a grant counts: it is valid
// and nothing revokes it.
func (s *State) Free(g peercrypto.Hash) bool {
	p, ok := s.principals[g]
	return ok && p.Active
}

// JudgeData says which data changes of a grant are valid and which are shared.
// all are the sound changes of that grant that are stored, in any order; each is
// in both results. What all leaves out can make others void that name it: give
// everything.
func (s *State) JudgeData(g peercrypto.Hash, all []DataRef) (valid, shared map[peercrypto.Hash]bool) {
	valid = make(map[peercrypto.Hash]bool, len(all))
	shared = make(map[peercrypto.Hash]bool, len(all))
	p, ok := s.principals[g]
	if !ok {
		p = &grant{}
	}
	chain := make(chain, len(all))
	for _, d := range all {
		if d.As == g {
			chain[d.Hash] = d.Prev
		}
	}
	counts := make(map[peercrypto.Hash]int, len(chain))
	for _, f := range p.frontiers {
		for h := range chain.ancestors(slices.Values(f)) {
			counts[h]++
		}
	}
	saved := chain.ancestors(func(yield func(peercrypto.Hash) bool) {
		for h := range chain {
			if order, ok := s.dataSaved[h]; ok && order < p.order && !yield(h) {
				return
			}
		}
	})
	named := chain.ancestors(func(yield func(peercrypto.Hash) bool) {
		for h := range chain {
			if s.dataNamed[h] && !yield(h) {
				return
			}
		}
	})
	for _, d := range all {
		h := d.Hash
		valid[h] = d.As == g && p.Valid && (counts[h] == len(p.frontiers) || saved[h])
		shared[h] = valid[h] || named[h]
	}
	return valid, shared
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
