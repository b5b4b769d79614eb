package group

import (
	"cmp"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// Rank orders grants: the smaller one is the more senior. It is fixed by the
// grant's bytes and those of its authors.
type Rank struct {
	Class int             // 0 for the owner and admins, 1 for others
	Depth int             // 0 for the owner, else that of the author's grant + 1
	Hash  peercrypto.Hash // zero for the owner
}

// Compare returns -1 if r is senior to o, 0 if they are one, 1 otherwise.
func (r Rank) Compare(o Rank) int {
	return cmp.Or(cmp.Compare(r.Class, o.Class), cmp.Compare(r.Depth, o.Depth), r.Hash.Compare(o.Hash))
}

// Senior reports whether r is senior to o.
func (r Rank) Senior(o Rank) bool { return r.Compare(o) < 0 }

// principal is what a grant makes. It never changes.
type principal struct {
	node     *node
	user     peercrypto.ID
	genesis  *peercrypto.UserGenesis // in the operation of the first grant
	role     entry.Role
	rank     Rank
	succeeds *principal // of a role, the grant that it replaced
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
