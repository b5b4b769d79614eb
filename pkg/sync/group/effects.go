package group

import (
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

func (v *evaluation) touchNode(n *node) {
	if !n.touched {
		n.touched = true
		v.touched.nodes = append(v.touched.nodes, n)
	}
}

func (v *evaluation) touchPrincipal(p *principal) {
	v.touched.principals[p] = true
	v.touched.users[p.user] = true
}

// setValid turns the judgement of an operation and queues whom that concerns.
func (v *evaluation) setValid(n *node, valid bool) {
	n.valid = valid
	v.touchNode(n)
	if valid {
		v.root(n, 1)
	} else {
		v.root(n, -1)
	}
	if n.principal != nil {
		v.queued(n.principal)
	}
	if isRevocation(n.entry.Op) {
		v.touched.rendezvous = true
	}
	if coversByName(n.entry.Op) {
		v.setNamed(n, valid)
	}
	v.concern(n)
}

// concern queues the more junior principals that a revocation may hit, and
// touches what else depends on an operation.
func (v *evaluation) concern(n *node) {
	juniors := func(p *principal) {
		if n.author.rank.Senior(p.rank) {
			v.queued(p)
		}
	}
	switch op := n.entry.Op.(type) {
	case entry.Remove, entry.RoleChange:
		juniors(n.named)
		n.named.eachSuccessor(juniors)
	case entry.Leave:
		n.author.eachSuccessor(juniors)
	case entry.Block:
		for _, p := range v.log.byUser[op.UserID] {
			juniors(p)
		}
	case entry.Checkpoint:
		v.save(n, op.Frontier, juniors)
	case entry.Adopt:
		v.save(n, op.Entries, juniors)
	case entry.Invite:
		v.touched.invites[n] = true
	case entry.Uninvite:
		v.touched.invites[n.invite] = true
	case entry.RVKey:
		v.touched.rendezvous = true
	case entry.Create, entry.Policy, entry.Delete:
		v.touched.settings = true
	}
}

func (v *evaluation) setNamed(n *node, valid bool) {
	for _, h := range entry.Frontier(n.entry.Op) {
		before := v.named[h]
		switch {
		case valid:
			v.named[h]++
		case before == 1:
			delete(v.named, h)
		default:
			v.named[h]--
		}
		if (before > 0) == (v.named[h] > 0) {
			continue
		}
		v.touched.named[h] = true
		if named := v.log.byHash[h]; named != nil && !v.isPending(named) {
			if valid {
				v.root(named, 1)
			} else {
				v.root(named, -1)
			}
		}
	}
}

// isPending tells whether take will count what names a node.
func (v *evaluation) isPending(n *node) bool {
	return len(v.pending) > 0 && n.index >= v.pending[0].index && !n.touched
}

func (v *evaluation) save(n *node, hashes []peercrypto.Hash, juniors func(*principal)) {
	for _, h := range hashes {
		if n.valid {
			v.savers[h] = append(v.savers[h], n)
		} else if left := slices.DeleteFunc(v.savers[h], func(s *node) bool { return s == n }); len(left) > 0 {
			v.savers[h] = left
		} else {
			delete(v.savers, h)
		}
		v.touched.saved[h] = true
		if named := v.log.byHash[h]; named != nil {
			juniors(named.author)
		}
	}
}

// setGranted counts for the accepts on which a grant may rest.
func (v *evaluation) setGranted(p *principal, granted bool) {
	if p.granted == granted {
		return
	}
	p.granted = granted
	by := 1
	if !granted {
		by = -1
	}
	for q := p; q != nil; q = q.succeeds {
		before := q.granting
		q.granting += by
		if q.accept != nil && (before > 0) != (q.granting > 0) {
			v.root(q.accept, by)
		}
	}
}

// root adds to the reasons to share an operation.
func (v *evaluation) root(n *node, by int) {
	n.roots += by
	v.reshare(n)
}

// reshare finds what is shared after the reasons for one operation changed:
// what is shared shares its past.
func (v *evaluation) reshare(n *node) {
	work := []*node{n}
	for len(work) > 0 {
		n := work[len(work)-1]
		work = work[:len(work)-1]
		shared := n.roots > 0 || n.followers > 0
		if shared == n.shared {
			continue
		}
		n.shared = shared
		v.sharedChanged(n)
		for _, r := range n.refs {
			ref := v.log.nodes[r]
			if shared {
				ref.followers++
			} else {
				ref.followers--
			}
			v.touchNode(ref) // it may be a head, or one no more
			work = append(work, ref)
		}
	}
}

func (v *evaluation) sharedChanged(n *node) {
	v.touchNode(n)
	if n.forked {
		v.touched.forks[placeOf(n)] = true
	}
	switch op := n.entry.Op.(type) {
	case entry.Invite:
		v.touched.invites[n] = true
	case entry.Add:
		if op.Claim != nil {
			v.countClaim(n)
		}
	}
}

func (v *evaluation) countClaim(n *node) {
	v.touched.invites[n.invite] = true
	used := v.claimed[n.invite]
	if used == nil {
		used = map[peercrypto.Hash]int{}
		v.claimed[n.invite] = used
	}
	if n.shared {
		used[n.claim]++
	} else if used[n.claim]--; used[n.claim] == 0 {
		delete(used, n.claim)
	}
}
