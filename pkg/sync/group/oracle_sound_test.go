package group_test

import (
	"slices"

	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// unsound returns why an operation with known references, a right chain and a
// right role is unsound, or "".
func (o *oracle) unsound(e *entry.Entry) string {
	with := newOracle(append(slices.Clone(o.ops), e))
	last := len(o.ops)
	past, by := with.past[last], with.grant[last]
	in := func(h hash) bool { i, ok := o.at[h]; return ok && past&(1<<i) != 0 }
	grant := func(h hash) string {
		if !in(h) {
			return "grant not in past"
		}
		if !with.ranks[by].senior(with.ranks[with.principal(h)]) {
			return "not senior"
		}
		return ""
	}
	switch op := e.Op.(type) {
	case entry.Accept:
		if o.ops[o.at[e.As]].Op.Kind() == entry.KindRekey {
			return "accepts a rekey"
		}
	case entry.Remove:
		return grant(op.Grant)
	case entry.RoleChange:
		return grant(op.Grant)
	case entry.Uninvite:
		if !in(op.Invite) {
			return "invitation not in past"
		}
	case entry.Add:
		if op.Claim != nil {
			return o.claimUnsound(op, past)
		}
	}
	return ""
}

func (o *oracle) claimUnsound(op entry.Add, past uint64) string {
	i := o.at[*op.Invite]
	if past&(1<<i) == 0 {
		return "invitation not in past"
	}
	others := map[hash]bool{}
	for k, e := range o.ops {
		add, ok := e.Op.(entry.Add)
		if !ok || add.Claim == nil || past&(1<<k) == 0 {
			continue
		}
		if add.Claim.Hash() == op.Claim.Hash() {
			return "used before"
		}
		if *add.Invite == *op.Invite {
			others[add.Claim.Hash()] = true
		}
	}
	if len(others) >= o.ops[i].Op.(entry.Invite).Uses {
		return "used up"
	}
	return ""
}
