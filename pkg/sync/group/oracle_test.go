package group_test

import (
	"bytes"
	"maps"
	"slices"

	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// oracle states the rules of docs/formats.md, section 6, as conditions on a set
// of valid operations, without any order in which to decide. Sets of at most 64
// operations are bit masks over their positions.
type oracle struct {
	ops   []*entry.Entry
	at    map[hash]int
	past  []uint64
	names []uint64 // covered by name: what the frontier names, with prev-ancestors
	grant []int    // of the author; the own position for create
	ranks []rank   // of grants
}

type rank struct {
	class, depth int
	hash         []byte
}

func (r rank) senior(o rank) bool {
	if r.class != o.class {
		return r.class < o.class
	}
	if r.depth != o.depth {
		return r.depth < o.depth
	}
	return bytes.Compare(r.hash, o.hash) < 0
}

// newOracle takes sound operations in causal order, the create first.
func newOracle(ops []*entry.Entry) *oracle {
	n := len(ops)
	o := &oracle{ops, map[hash]int{}, make([]uint64, n), make([]uint64, n), make([]int, n), make([]rank, n)}
	for i, e := range ops {
		o.at[e.Hash] = i
	}
	for i, e := range ops {
		for _, r := range refs(e) {
			o.past[i] |= o.past[o.at[r]] | 1<<o.at[r]
		}
		o.grant[i] = i
		if i > 0 {
			o.grant[i] = o.at[e.As]
		}
		if role, ok := o.role(i); ok && i > 0 {
			o.ranks[i] = rank{1, o.ranks[o.grant[i]].depth + 1, e.Hash[:]}
			if role == entry.Admin {
				o.ranks[i].class = 0
			}
		}
		for _, h := range entry.Frontier(e.Op) {
			for x, ok := o.at[h]; ok; x, ok = o.at[ops[x].Prev] {
				o.names[i] |= 1 << x
			}
		}
	}
	return o
}

// role tells whether an operation is a grant.
func (o *oracle) role(i int) (entry.Role, bool) {
	switch op := o.ops[i].Op.(type) {
	case entry.Create:
		return entry.Admin, true
	case entry.Add:
		return op.Role, true
	case entry.RoleChange:
		return op.Role, true
	}
	return "", false
}

func (o *oracle) user(grant int) string {
	switch op := o.ops[grant].Op.(type) {
	case entry.Add:
		return string(op.UserID)
	case entry.RoleChange:
		return o.user(o.at[op.Grant])
	}
	return string(o.ops[grant].Signer)
}

func (o *oracle) accepted(p int) bool {
	for i, e := range o.ops {
		if _, ok := e.Op.(entry.Accept); ok && o.grant[i] == p {
			return true
		}
	}
	switch op := o.ops[p].Op.(type) {
	case entry.Create:
		return true
	case entry.Add:
		return op.Claim != nil
	case entry.RoleChange:
		return o.accepted(o.at[op.Grant])
	}
	return false
}

// line returns the roles that lead from grant q to its successor s, the first
// one first; ok is false if s is no successor.
func (o *oracle) line(q, s int) (line []int, ok bool) {
	for s != q {
		op, role := o.ops[s].Op.(entry.RoleChange)
		if !role {
			return nil, false
		}
		line = append([]int{s}, line...)
		s = o.at[op.Grant]
	}
	return line, true
}

// hits tells whether revocation r hits grant p, a leave of p's own left out.
func (o *oracle) hits(r, p int) bool {
	var named int
	a := o.grant[r]
	if !o.ranks[a].senior(o.ranks[p]) {
		return false
	}
	switch op := o.ops[r].Op.(type) {
	case entry.Remove:
		named = o.at[op.Grant]
	case entry.RoleChange:
		named = o.at[op.Grant]
	case entry.Leave:
		named = a
	case entry.Block:
		return string(op.UserID) == o.user(p)
	default:
		return false
	}
	line, ok := o.line(named, p)
	return ok && (len(line) == 0 || line[0] != r && o.past[r]&(1<<line[0]) == 0)
}

// holds tells whether operation i may be valid, given which are.
func (o *oracle) holds(i int, valid uint64) bool {
	if i == 0 {
		return true
	}
	p := o.grant[i]
	if !o.validPrincipal(p, valid) {
		return false
	}
	_, leave := o.ops[i].Op.(entry.Leave)
	return o.covered(1<<i, nil, p, leave, valid)
}

func (o *oracle) validPrincipal(p int, valid uint64) bool {
	return valid&(1<<p) != 0 && o.accepted(p)
}

// covered applies step 2 to 4 to an operation (a bit) or a data change (a set
// of operations and adoptions whose frontier covers it).
func (o *oracle) covered(bit uint64, naming map[int]bool, p int, leave bool, valid uint64) bool {
	all := true
	for r, e := range o.ops {
		if valid&(1<<r) == 0 {
			continue
		}
		byName := o.names[r]&bit != 0 || naming[r]
		switch e.Op.(type) {
		case entry.Checkpoint, entry.Adopt:
			if byName && o.ranks[o.grant[r]].senior(o.ranks[p]) {
				return true
			}
			continue
		}
		_, isLeave := e.Op.(entry.Leave)
		own := isLeave && o.grant[r] == p && !leave
		if (own || o.hits(r, p)) && !byName && o.past[r]&bit == 0 {
			all = false
		}
	}
	return all
}

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
		if !with.ranks[by].senior(with.ranks[o.at[h]]) {
			return "not senior"
		}
		return ""
	}
	switch op := e.Op.(type) {
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

// solutions returns all sets that agree with the rules.
func (o *oracle) solutions() []uint64 {
	var found []uint64
	n := len(o.ops)
	for valid := uint64(1); valid < 1<<n; valid += 2 {
		if o.consistent(valid) {
			found = append(found, valid)
		}
	}
	return found
}

func (o *oracle) consistent(valid uint64) bool {
	for i := range o.ops {
		if o.holds(i, valid) != (valid&(1<<i) != 0) {
			return false
		}
	}
	return true
}

// shared returns what travels, given what is valid.
func (o *oracle) shared(valid uint64) uint64 {
	shared := valid
	for i, e := range o.ops {
		if valid&(1<<i) == 0 {
			continue
		}
		switch e.Op.(type) {
		case entry.Remove, entry.RoleChange, entry.Block, entry.Leave, entry.Checkpoint, entry.Adopt:
			for _, h := range entry.Frontier(e.Op) {
				if x, ok := o.at[h]; ok {
					shared |= 1 << x
				}
			}
		}
		if _, ok := o.role(i); ok {
			for p := i; ; {
				if a := o.smallestAccept(p); a >= 0 {
					shared |= 1 << a
				}
				role, ok := o.ops[p].Op.(entry.RoleChange)
				if !ok {
					break
				}
				p = o.at[role.Grant]
			}
		}
	}
	for i := range o.ops {
		if shared&(1<<i) != 0 {
			shared |= o.past[i]
		}
	}
	return shared
}

func (o *oracle) smallestAccept(p int) int {
	best := -1
	for i, e := range o.ops {
		if _, ok := e.Op.(entry.Accept); ok && o.grant[i] == p {
			if best < 0 || e.Hash.Compare(o.ops[best].Hash) < 0 {
				best = i
			}
		}
	}
	return best
}

// judgeData is the naive form of State.JudgeData.
func (o *oracle) judgeData(e *entry.Entry, all []*entry.Entry, valid uint64) (isValid, isShared bool) {
	naming := map[int]bool{}
	for r := range o.ops {
		for _, h := range entry.Frontier(o.ops[r].Op) {
			if descends(all, h, e.Hash) {
				naming[r] = true
			}
		}
	}
	for r := range maps.Keys(naming) {
		if _, uninvite := o.ops[r].Op.(entry.Uninvite); !uninvite && valid&(1<<r) != 0 {
			isShared = true
		}
	}
	p := o.at[e.As]
	isValid = o.validPrincipal(p, valid) && o.covered(0, naming, p, false, valid)
	return isValid, isValid || isShared
}

// descends tells whether change from is x or has it among its prev-ancestors.
func descends(all []*entry.Entry, from, x hash) bool {
	for from != x {
		i := -1
		for k, e := range all {
			if e.Hash == from {
				i = k
			}
		}
		if i < 0 || all[i].Prev.IsZero() {
			return false
		}
		from = all[i].Prev
	}
	return true
}
