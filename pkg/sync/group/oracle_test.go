package group_test

import (
	"bytes"
	"maps"
	"slices"

	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// oracle states the rules of docs/formats.md, section 6, as conditions on a set
// of valid operations, without any order in which to decide. Sets of at most 64
// operations are bit masks over their positions.
type oracle struct {
	ops    []*entry.Entry
	at     map[hash]int
	kind   []string
	past   []uint64
	names  []uint64      // covered by name: what the frontier names, with prev-ancestors
	as     []int         // the grant or rekey; the own position for create
	grant  []int         // of the author; the own position for create
	ranks  []rank        // of grants
	heads  []hash        // of grants and rekeys: the last event of their keys
	steps  [][]step      // the events of rekeys
	rekeys map[int][]int // by grant
	hit    []uint64      // by revocations, should they be valid; a leave's own grant left out
}

type step struct {
	prev, is hash
	class    keys.Class
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
	o := &oracle{
		ops: ops, at: map[hash]int{}, kind: make([]string, n), past: make([]uint64, n), names: make([]uint64, n), as: make([]int, n), grant: make([]int, n),
		ranks: make([]rank, n), heads: make([]hash, n), steps: make([][]step, n), rekeys: map[int][]int{}, hit: make([]uint64, n),
	}
	for i, e := range ops {
		o.at[e.Hash] = i
	}
	for i, e := range ops {
		for _, r := range refs(e) {
			o.past[i] |= o.past[o.at[r]] | 1<<o.at[r]
		}
		o.as[i], o.grant[i] = i, i
		if i > 0 {
			o.as[i] = o.at[e.As]
			o.grant[i] = o.principal(e.As)
		}
		o.kind[i] = e.Op.Kind()
		o.heads[i] = o.head(i)
		if op, ok := e.Op.(entry.Rekey); ok {
			o.rekeys[o.grant[i]] = append(o.rekeys[o.grant[i]], i)
			for _, event := range op.Events {
				o.steps[i] = append(o.steps[i], step{event.Prev, event.Hash(), event.By})
			}
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
	for r := range ops {
		for p := range ops {
			if _, ok := o.role(p); ok && o.hits(r, p) {
				o.hit[r] |= 1 << p
			}
		}
	}
	return o
}

// principal returns the grant of a grant or rekey.
func (o *oracle) principal(as hash) int {
	i := o.at[as]
	if _, ok := o.ops[i].Op.(entry.Rekey); ok {
		return o.principal(o.ops[i].As)
	}
	return i
}

// head returns the last event of the keys of a grant or rekey.
func (o *oracle) head(i int) hash {
	switch op := o.ops[i].Op.(type) {
	case entry.Create:
		return op.User.Hash()
	case entry.Add:
		return op.User.Hash() // the tests add nobody with later keys
	case entry.RoleChange:
		return o.head(o.at[op.Grant])
	case entry.Rekey:
		return op.Events[len(op.Events)-1].Hash()
	}
	return hash{}
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
		return o.user(o.principal(op.Grant))
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
		return o.accepted(o.principal(op.Grant))
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
		s = o.principal(op.Grant)
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
		named = o.principal(op.Grant)
	case entry.RoleChange:
		named = o.principal(op.Grant)
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
	q := question{bit: 1 << i, p: p, head: o.heads[o.as[i]]}
	_, q.leave = o.ops[i].Op.(entry.Leave)
	if _, q.rekey = o.ops[i].Op.(entry.Rekey); q.rekey {
		q.head = o.heads[i]
		q.any = true
		if !o.leads(i, valid) {
			return false
		}
	}
	return o.covered(q, valid)
}

func (o *oracle) validPrincipal(p int, valid uint64) bool {
	return valid&(1<<p) != 0 && o.accepted(p)
}

// question is an entry of principal p: an operation (a bit) or a data change (a
// set of operations whose frontier covers it).
type question struct {
	bit          uint64
	naming       map[int]bool
	p            int
	head         hash // of the key that signed it
	leave, rekey bool
	any          bool // the key need not stand
	candidate    bool // rekeys are not asked
}

// covered applies step 2 to 5.
func (o *oracle) covered(q question, valid uint64) bool {
	all := q.any || q.candidate || o.stands(q.p, q.head, valid)
	for r := range o.ops {
		if valid&(1<<r) == 0 {
			continue
		}
		byName := o.names[r]&q.bit != 0 || q.naming[r]
		switch o.kind[r] {
		case entry.KindCheckpoint, entry.KindAdopt:
			if byName && o.ranks[o.grant[r]].senior(o.ranks[q.p]) {
				return true
			}
			continue
		}
		isLeave, isRekey := o.kind[r] == entry.KindLeave, o.kind[r] == entry.KindRekey
		own := o.grant[r] == q.p && (isLeave && !q.leave && !q.rekey || isRekey && !q.candidate && o.replaces(r, q.head, valid))
		if (own || o.hit[r]&(1<<q.p) != 0) && !byName && o.past[r]&q.bit == 0 {
			all = false
		}
	}
	return all
}

// replaces tells whether rekey r leads from a key that stood, or past it, to
// another that stands or contends.
func (o *oracle) replaces(r int, key hash, valid uint64) bool {
	path, _ := o.keyPath(o.grant[r], valid)
	passed := o.heads[o.as[r]] == key
	for _, s := range o.steps[r] {
		passed = passed || s.is == key
	}
	return passed && path[key] && key != o.heads[r]
}

// keyPath returns the events that stand for a principal, the head of its grant
// among them, and those that contend.
func (o *oracle) keyPath(p int, valid uint64) (path map[hash]bool, contending map[hash]bool) {
	var all []step
	for _, i := range o.rekeys[p] {
		if !o.covered(question{bit: 1 << i, p: p, rekey: true, candidate: true}, valid) {
			continue
		}
		all = append(all, o.steps[i]...)
	}
	path, contending = map[hash]bool{}, map[hash]bool{}
	at := o.heads[p]
	for {
		path[at] = true
		best := map[hash]bool{}
		class := keys.Class("")
		for _, s := range all {
			if s.prev == at && s.class.Compare(class) > 0 {
				class, best = s.class, map[hash]bool{}
			}
			if s.prev == at && s.class == class {
				best[s.is] = true
			}
		}
		sorted := slices.SortedFunc(maps.Keys(best), hash.Compare)
		switch {
		case len(sorted) == 0:
			return path, contending
		case len(sorted) > 1 && class == keys.ByKey:
			contending[sorted[0]], contending[sorted[1]] = true, true
			return path, contending
		}
		at = sorted[0]
	}
}

// stands tells whether a key stands for a principal.
func (o *oracle) stands(p int, head hash, valid uint64) bool {
	if len(o.rekeys[p]) == 0 {
		return true
	}
	path, _ := o.keyPath(p, valid)
	return path[head]
}

// leads tells whether the events of rekey i stand or contend, as far as revocations by others count.
func (o *oracle) leads(i int, valid uint64) bool {
	p := o.grant[i]
	if !o.covered(question{bit: 1 << i, p: p, rekey: true, candidate: true}, valid) {
		return false
	}
	path, contending := o.keyPath(p, valid)
	if !path[o.heads[o.as[i]]] {
		return false
	}
	for _, s := range o.steps[i] {
		if !path[s.is] {
			return contending[s.is]
		}
	}
	return true
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
		case entry.Remove, entry.RoleChange, entry.Block, entry.Leave, entry.Rekey, entry.Checkpoint, entry.Adopt:
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
				p = o.principal(role.Grant)
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
	p := o.principal(e.As)
	isValid = o.validPrincipal(p, valid) && o.covered(question{naming: naming, p: p, head: o.heads[o.at[e.As]]}, valid)
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
