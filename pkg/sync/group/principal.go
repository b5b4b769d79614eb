package group

import (
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// principal is what a grant makes: the fixed part, indexes of the log that only
// grow, and how it was judged last.
type principal struct {
	node     *node
	user     peercrypto.ID
	genesis  *peercrypto.UserGenesis // in the operation of the first grant
	role     entry.Role
	rank     Rank
	succeeds *principal // of a role, the grant that it replaced

	successors []*principal // by role
	operations []*node      // what it wrote, without the create; node.place is the position
	rekeys     []*node      // those among operations
	naming     []*node      // removes and roles that name it
	leaves     []*node
	accept     *node // of all accepts, that with the smallest hash

	granted  bool // the grant is a valid entry
	accepted bool
	hits     []*node // the valid revocations that hit it, its own leaves among them
	line     line
	// granting counts the principals with a valid grant whose line of roles
	// begins here or passes: while there are some, accept is shared.
	granting int
	queued   bool
}

// term is the time of one key of a principal: it begins with the grant, or with
// a rekey, which entries then name as the one under which they are made.
type term struct {
	principal *principal
	keys      keys.State
}

// newPrincipal returns the principal of an operation, or nil if it is no grant.
// author is the principal of its grant, named that of the grant in a role.
func newPrincipal(n *node, author, named *principal) *principal {
	p := &principal{node: n}
	switch op := n.entry.Op.(type) {
	case entry.Create:
		p.user, p.genesis, p.role = n.entry.Signer, &op.User, entry.Admin
		return p
	case entry.Add:
		p.user, p.genesis, p.role = op.UserID, &op.User, op.Role
	case entry.RoleChange:
		p.user, p.genesis, p.role, p.succeeds = named.user, named.genesis, op.Role, named
	default:
		return nil
	}
	p.rank = Rank{Class: 1, Depth: author.rank.Depth + 1, Hash: n.hash}
	if p.role == entry.Admin {
		p.rank.Class = 0
	}
	return p
}

func (p *principal) valid() bool { return p.granted && p.accepted }

// active tells whether p is a member's; the key may be frozen.
func (p *principal) active() bool { return p.valid() && len(p.hits) == 0 }

// isVoid tells whether nothing counts that p writes now and nobody names: the
// judgement of others is not needed for that.
func (p *principal) isVoid() bool {
	return !p.queued && (!p.valid() || slices.ContainsFunc(p.hits, func(r *node) bool { return r.author != p }))
}

// consents tells whether p is accepted by what its grant or an accept says, or
// by what it succeeds.
func (p *principal) consents() bool {
	for ; p != nil; p = p.succeeds {
		if p.accept != nil {
			return true
		}
		switch op := p.node.entry.Op.(type) {
		case entry.Create:
			return true
		case entry.Add:
			if op.Claim != nil {
				return true
			}
		}
	}
	return false
}

// eachSuccessor calls fn for p's role-successors, near and far.
func (p *principal) eachSuccessor(fn func(*principal)) {
	for _, s := range p.successors {
		fn(s)
		s.eachSuccessor(fn)
	}
}

// line is the history of a principal's keys as the rekeys that count for it make
// it, beginning with the key of the grant.
type line struct {
	standing []replacement           // by valid rekeys; those that contend among them
	at       map[peercrypto.Hash]int // position of each event that stands; the head of the grant's keys is 0
	end      peercrypto.Hash         // the last one
	frozen   bool                    // two rekeys contend behind end
}

// replacement is a rekey and the positions of the keys that it replaces: all
// from the one under which it is made to the last one before its own.
type replacement struct {
	rekey    *node
	from, to int // to is not replaced
}

// replaces tells whether an entry signed by a key must be covered by the rekey.
func (l *line) replaces(r replacement, key peercrypto.Hash) bool {
	at, ok := l.at[key]
	return ok && r.from <= at && at < r.to
}

// holds tells whether a term stands or stood: its key was not set by an event
// that lost.
func (l *line) holds(t *term) bool {
	if l.at == nil {
		return true
	}
	_, ok := l.at[t.keys.Head()]
	return ok
}

// current tells whether a term's key is the one in use.
func (l *line) current(t *term) bool {
	return l.at == nil || !l.frozen && t.keys.Head() == l.end
}

// writes returns the operation under which p's next entry is made; nil while
// the key is frozen.
func (p *principal) writes() *node {
	if p.line.frozen {
		return nil
	}
	if p.line.at == nil || p.line.end == p.node.term.keys.Head() {
		return p.node
	}
	var first *node
	for _, r := range p.line.standing {
		if r.rekey.term.keys.Head() == p.line.end && (first == nil || byHash(r.rekey, first) < 0) {
			first = r.rekey
		}
	}
	return first
}

// findLine finds the keys that stand, given which rekeys count as far as more
// senior principals are concerned, and which of those then stand, and adds to
// cover what each asks for.
func (p *principal) findLine(candidates []*node, cover *cover) line {
	steps := map[peercrypto.Hash][]keys.Step{}
	for _, r := range candidates {
		prev := r.under.term.keys.Head()
		for _, s := range r.steps {
			steps[prev] = append(steps[prev], s)
			prev = s.Hash
		}
	}
	l := line{end: p.node.term.keys.Head()}
	l.at = map[peercrypto.Hash]int{l.end: 0}
	var contending []peercrypto.Hash
	for len(steps[l.end]) > 0 {
		next, two := keys.Fork(steps[l.end])
		if len(two) > 0 {
			contending, l.frozen = two, true
			break
		}
		l.at[next] = len(l.at)
		l.end = next
	}
	var leading []replacement
	for _, r := range candidates {
		if to, ok := l.reaches(r, contending); ok {
			leading = append(leading, replacement{r, l.at[r.under.term.keys.Head()], to})
		}
	}
	// Later keys first: who holds one covers what was written under those before.
	slices.SortStableFunc(leading, func(a, b replacement) int { return b.to - a.to })
	signed := make([][]*node, len(l.at)) // by the keys that stand
	for _, n := range p.operations {
		if at, ok := l.at[n.signedBy()]; ok {
			signed[at] = append(signed[at], n)
		}
	}
	for _, r := range leading {
		if !cover.holds(r.rekey.place) {
			continue
		}
		l.standing = append(l.standing, r)
		for _, some := range signed[r.from:r.to] {
			cover.addSome(r.rekey, some)
		}
	}
	return l
}

// signedBy returns the event that set the key by which an operation is signed.
func (n *node) signedBy() peercrypto.Hash {
	if len(n.steps) > 0 {
		return n.term.keys.Head()
	}
	return n.under.term.keys.Head()
}

// reaches tells whether the events of a rekey stand, or lead along those that
// stand into one that contends; at is the position of the last one.
func (l *line) reaches(r *node, contending []peercrypto.Hash) (at int, ok bool) {
	if _, ok := l.at[r.under.term.keys.Head()]; !ok {
		return 0, false
	}
	for _, s := range r.steps {
		next, ok := l.at[s.Hash]
		if !ok {
			return len(l.at), slices.Contains(contending, s.Hash)
		}
		at = next
	}
	return at, true
}
