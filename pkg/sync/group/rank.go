package group

import (
	"cmp"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
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
