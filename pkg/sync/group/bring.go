package group

import (
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// bring enters what was touched into the facts.
func (v *evaluation) bring() {
	for _, n := range v.touched.nodes {
		n.touched = false
		v.facts.ops.set(n.hash, opFlags{n.valid, n.shared})
		if n.shared && n.followers == 0 {
			v.facts.heads.set(n.hash, struct{}{})
		} else {
			v.facts.heads.delete(n.hash)
		}
	}
	for p := range v.touched.principals {
		v.bringPrincipal(p)
	}
	for user := range v.touched.users {
		v.bringUser(user)
	}
	for n := range v.touched.invites {
		v.bringInvite(n)
	}
	for at := range v.touched.forks {
		v.bringFork(at)
	}
	for h := range v.touched.named {
		if v.named[h] > 0 {
			v.facts.named.set(h, struct{}{})
		} else {
			v.facts.named.delete(h)
		}
	}
	for h := range v.touched.saved {
		v.bringSaved(h)
	}
	if v.touched.settings {
		v.bringSettings()
	}
	if v.touched.rendezvous {
		v.bringRendezvous()
	}
	v.touched = newChanges()
}

// bringPrincipal enters a principal under each of its keys.
func (v *evaluation) bringPrincipal(p *principal) {
	terms := []peercrypto.Hash{p.node.hash}
	for _, r := range p.rekeys {
		terms = append(terms, r.hash)
	}
	v.facts.grants.set(p.node.hash, p.under(p.node, terms))
	for _, r := range p.rekeys {
		v.facts.grants.set(r.hash, p.under(r, terms))
	}
	key := alarmKey{2, p.node.hash}
	if !p.active() || !p.line.frozen {
		v.facts.alarms.delete(key)
		return
	}
	ops := []peercrypto.Hash{}
	for _, r := range p.line.standing {
		if _, ok := p.line.at[r.rekey.term.keys.Head()]; !ok {
			ops = append(ops, r.rekey.hash)
		}
	}
	slices.SortFunc(ops, peercrypto.Hash.Compare)
	v.facts.alarms.set(key, Alarm{AlarmFrozen, p.user, ops})
}

// under returns the facts about a principal under one of its keys.
func (p *principal) under(n *node, terms []peercrypto.Hash) *grant {
	line := n.term.keys
	g := &grant{terms: terms, lost: !p.line.holds(n.term), Principal: Principal{
		Grant: p.node.hash, As: n.hash, UserID: p.user, Genesis: *p.genesis, Key: line.Key(), Head: line.Head(),
		Role: p.role, Modified: n.entry.Modified, Rank: p.rank,
		Granted: p.granted, Accepted: p.accepted, Valid: p.valid(), Frozen: p.line.frozen,
		Active: p.active() && p.line.current(n.term),
	}}
	for _, r := range p.hits {
		g.Revoked = append(g.Revoked, r.hash)
		g.frontiers = append(g.frontiers, entry.Frontier(r.entry.Op))
	}
	for _, r := range p.line.standing {
		if p.line.replaces(r, line.Head()) {
			g.frontiers = append(g.frontiers, entry.Frontier(r.rekey.entry.Op))
		}
	}
	slices.SortFunc(g.Revoked, peercrypto.Hash.Compare)
	return g
}

func (v *evaluation) bringUser(user peercrypto.ID) {
	var grants []*grant
	var active []*principal
	m := &Member{UserID: user, Role: entry.Read}
	member := false
	for _, p := range v.log.byUser[user] { // by rank
		as := p.writes()
		if as == nil {
			as = p.node
		}
		g, ok := v.facts.grants.get(as.hash)
		if !ok {
			continue // not judged yet, which is not seen from outside
		}
		grants = append(grants, g)
		if !p.active() {
			continue
		}
		if !member {
			m.Genesis, member = *p.genesis, true
		}
		if p.line.frozen {
			m.Frozen = true
		} else {
			active = append(active, p)
		}
	}
	v.facts.users.set(user, grants)
	if !member {
		v.facts.members.delete(user)
		return
	}
	slices.SortStableFunc(active, func(a, b *principal) int { return roleOrder(a.role, b.role) })
	for i, p := range active {
		if i == 0 {
			m.Role, m.Genesis = p.role, *p.genesis
		}
		m.Principals = append(m.Principals, p.writes().hash)
	}
	v.facts.members.set(user, m)
}

// roleOrder puts higher roles first.
func roleOrder(a, b entry.Role) int {
	switch {
	case a == b:
		return 0
	case a.AtLeast(b):
		return -1
	}
	return 1
}

func (v *evaluation) bringSaved(h peercrypto.Hash) {
	savers := v.savers[h]
	if len(savers) == 0 {
		v.facts.saved.delete(h)
		return
	}
	most := savers[0].author.rank
	for _, s := range savers[1:] {
		if s.author.rank.Senior(most) {
			most = s.author.rank
		}
	}
	v.facts.saved.set(h, most)
}

// bringSettings applies creates, policies and deletes in the order (modified, hash).
func (v *evaluation) bringSettings() {
	f := &v.facts
	create := v.log.nodes[0]
	op := create.entry.Op.(entry.Create)
	f.owner, f.created, f.name, f.rules = create.entry.Signer, create.entry.Modified, op.Name, op.Policy
	f.deleted = slices.ContainsFunc(v.log.deletes, func(n *node) bool { return n.valid })
	var name, admit, stock bool // found
	for _, n := range slices.Backward(v.log.policies) {
		if name && admit && stock {
			return
		}
		if !n.valid {
			continue
		}
		op := n.entry.Op.(entry.Policy)
		if !name && op.Name != nil {
			f.name, name = *op.Name, true
		}
		if !admit && op.Admit != nil {
			f.rules.Admit, admit = *op.Admit, true
		}
		if !stock && op.Stock != nil {
			f.rules.Stock, stock = *op.Stock, true
		}
	}
}

// bringInvite enters an invitation, or takes out one that does not count. Uses
// are counted by shared operations, which all replicas hold.
func (v *evaluation) bringInvite(n *node) {
	op := n.entry.Op.(entry.Invite)
	used := len(v.claimed[n])
	alarm := alarmKey{0, n.hash}
	if used > op.Uses && n.shared {
		ops := []peercrypto.Hash{}
		for _, a := range v.log.adds[n] {
			if a.shared {
				ops = append(ops, a.hash)
			}
		}
		slices.SortFunc(ops, peercrypto.Hash.Compare)
		v.facts.alarms.set(alarm, Alarm{AlarmOverused, n.entry.Signer, slices.Insert(ops, 0, n.hash)})
	} else {
		v.facts.alarms.delete(alarm)
	}
	key := inviteKey{op.Expires, n.hash}
	if !n.valid {
		v.facts.invites.delete(key)
		return
	}
	left := max(op.Uses-used, 0)
	withdrawn := slices.ContainsFunc(v.log.withdrawals[n], func(u *node) bool { return u.valid })
	v.facts.invites.set(key, invitation{
		OpenInvite{n.hash, op.IPK, op.Role, left, op.Expires, n.entry.Signer, withdrawn}, !withdrawn && left > 0,
	})
}

// forkPlace is a place of a chain.
type forkPlace struct {
	chainKey
	seq int64
}

func placeOf(n *node) forkPlace {
	return forkPlace{chainKey{n.entry.As, n.dev}, n.entry.Seq}
}

// bringFork enters an alarm for a place of a chain with several shared operations.
func (v *evaluation) bringFork(at forkPlace) {
	twins := v.log.chains[at.chainKey][at.seq]
	var ops []peercrypto.Hash
	for _, twin := range twins {
		v.facts.alarms.delete(alarmKey{1, twin.hash})
		if twin.shared {
			ops = append(ops, twin.hash)
		}
	}
	if len(ops) > 1 {
		slices.SortFunc(ops, peercrypto.Hash.Compare)
		v.facts.alarms.set(alarmKey{1, ops[0]}, Alarm{AlarmForked, twins[0].entry.Signer, ops})
	}
}

// maxKeysPerEpoch bounds the tags that one admin can make all members listen on.
const maxKeysPerEpoch = 4

// bringRendezvous finds the keys to listen on and whether a new one is due.
func (v *evaluation) bringRendezvous() {
	var epochs [][]*node // valid ones of the two highest epochs
	for _, n := range slices.Backward(v.log.rvkeys) {
		if !n.valid {
			continue
		}
		last := len(epochs) - 1
		switch {
		case last >= 0 && epochs[last][0].epoch == n.epoch:
			epochs[last] = append(epochs[last], n)
		case last < 1:
			epochs = append(epochs, []*node{n})
		}
		if len(epochs) == 2 && n.epoch < epochs[1][0].epoch {
			break
		}
	}
	v.facts.rendezvous, v.facts.due = nil, len(epochs) == 0
	for i, nodes := range epochs {
		slices.SortFunc(nodes, byHash)
		for _, n := range nodes[:min(len(nodes), maxKeysPerEpoch)] {
			key := RendezvousKey{n.hash, n.epoch, n.entry.Op.(entry.RVKey).Key, len(v.facts.rendezvous) == 0}
			v.facts.rendezvous = append(v.facts.rendezvous, key)
			v.facts.due = v.facts.due || i == 0 && v.missesRevocation(n)
		}
	}
}

// missesRevocation tells whether a key was made without knowledge of a valid
// revocation.
func (v *evaluation) missesRevocation(key *node) bool {
	past := v.log.past(key)
	for _, r := range slices.Backward(v.log.revocations) {
		if r.index < past.low {
			return false
		}
		if r.valid && !past.has(r.index) {
			return true
		}
	}
	return false
}
