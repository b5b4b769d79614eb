package group

import (
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// judgement is the result for one principal.
type judgement struct {
	p        *principal
	order    int  // position in the order of ranks
	granted  bool // the grant is a valid entry
	accepted bool
	hits     []*node // the valid revocations that hit it, its own leaves among them
}

func (j *judgement) valid() bool  { return j.granted && j.accepted }
func (j *judgement) active() bool { return j.valid() && len(j.hits) == 0 }

// evaluation is the working memory of one pass over a log.
type evaluation struct {
	log      *Log
	ranked   []*judgement // most senior first
	of       map[*principal]*judgement
	valid    []bool
	shared   []bool
	followed []bool // a shared operation builds on it
	saved    []bool // covered by a valid checkpoint or adoption of a principal judged before
	// dataSaved has the lowest order of a principal whose valid checkpoint or
	// adoption names a hash that is no operation.
	dataSaved map[peercrypto.Hash]int
	// dataNamed has what valid frontiers name and is no operation.
	dataNamed map[peercrypto.Hash]bool
	// place is where an operation stands in the list that is being judged; stamp
	// tells the lists apart.
	place []int32
	stamp []int32
}

// evaluate judges all principals in the order of their rank.
func (l *Log) evaluate() *evaluation {
	n := len(l.nodes)
	v := &evaluation{
		log: l, of: make(map[*principal]*judgement, len(l.principals)),
		valid: make([]bool, n), shared: make([]bool, n), followed: make([]bool, n), saved: make([]bool, n),
		dataSaved: map[peercrypto.Hash]int{}, dataNamed: map[peercrypto.Hash]bool{},
		place: make([]int32, n), stamp: make([]int32, n),
	}
	for _, p := range l.principals { // in the order of the log: predecessors first
		j := &judgement{p: p, accepted: l.isAccepted(p)}
		if p.succeeds != nil && v.of[p.succeeds].accepted {
			j.accepted = true
		}
		v.of[p] = j
		v.ranked = append(v.ranked, j)
	}
	slices.SortFunc(v.ranked, func(a, b *judgement) int { return a.p.rank.Compare(b.p.rank) })
	for i, j := range v.ranked {
		j.order = i
		v.judge(j)
	}
	v.share()
	return v
}

// isAccepted leaves out what a role inherits.
func (l *Log) isAccepted(p *principal) bool {
	if l.accepts[p] != nil {
		return true
	}
	switch op := p.node.entry.Op.(type) {
	case entry.Create:
		return true
	case entry.Add:
		return op.Claim != nil
	}
	return false
}

// judge decides the operations of one principal. All more senior principals,
// its author among them, are judged.
func (v *evaluation) judge(j *judgement) {
	if _, create := j.p.node.entry.Op.(entry.Create); create {
		v.valid[j.p.node.index] = true
	}
	j.granted = v.valid[j.p.node.index]
	if !j.granted {
		return
	}
	j.hits = v.hits(j.p)
	if !j.accepted {
		return
	}
	operations := v.log.operations[j.p]
	cover := v.newCover(operations, j.order)
	for _, r := range j.hits {
		cover.add(r)
	}
	seniors := len(j.hits)
	for i, n := range operations {
		if isLeave(n) && cover.holds(i, seniors) {
			v.valid[n.index] = true
			j.hits = append(j.hits, n)
		}
	}
	for _, r := range j.hits[seniors:] {
		cover.add(r)
	}
	for i, n := range operations {
		if !isLeave(n) && cover.holds(i, len(j.hits)) {
			v.valid[n.index] = true
		}
	}
	for _, n := range operations { // only now: nobody covers the own entries
		if v.valid[n.index] {
			v.save(n, j.order)
		}
	}
}

func isLeave(n *node) bool {
	_, ok := n.entry.Op.(entry.Leave)
	return ok
}

// hits returns the valid revocations by principals senior to p that hit p.
func (v *evaluation) hits(p *principal) []*node {
	var hits []*node
	collect := func(revocations []*node, step *node) {
		for _, r := range revocations {
			if r == step || !v.valid[r.index] || !r.author.rank.Senior(p.rank) {
				continue
			}
			if step == nil || !v.log.past(r).has(step.index) {
				hits = append(hits, r)
			}
		}
	}
	collect(v.log.naming[p], nil)
	collect(v.log.blocks[p.user], nil)
	// What revokes a predecessor hits this one too, unless its author knew, or
	// itself made, the step by which this one's line left the predecessor.
	for step := p; step.succeeds != nil; step = step.succeeds {
		collect(v.log.naming[step.succeeds], step.node)
		collect(v.log.leaves[step.succeeds], step.node)
	}
	return hits
}

// cover counts for each operation of a principal by how many revocations it is
// covered.
type cover struct {
	v          *evaluation
	operations []*node
	counts     []int
	id         int32
}

func (v *evaluation) newCover(operations []*node, order int) *cover {
	c := &cover{v, operations, make([]int, len(operations)), int32(order + 1)}
	for i, n := range operations {
		v.place[n.index], v.stamp[n.index] = int32(i), c.id
	}
	return c
}

func (c *cover) holds(i, revocations int) bool {
	return c.counts[i] == revocations || c.v.saved[c.operations[i].index]
}

// add counts what a revocation covers.
func (c *cover) add(r *node) {
	past := c.v.log.past(r)
	named := make([]bool, len(c.operations))
	for _, h := range entry.Frontier(r.entry.Op) {
		for n := c.v.log.byHash[h]; n != nil && c.v.stamp[n.index] == c.id; n = n.prev {
			at := c.v.place[n.index]
			if named[at] {
				break
			}
			named[at] = true
		}
	}
	for i, n := range c.operations {
		if named[i] || past.has(n.index) {
			c.counts[i]++
		}
	}
}

// save notes what a valid checkpoint or adoption covers for more junior principals.
func (v *evaluation) save(n *node, order int) {
	switch n.entry.Op.(type) {
	case entry.Checkpoint, entry.Adopt:
	default:
		return
	}
	for _, h := range entry.Frontier(n.entry.Op) {
		named := v.log.byHash[h]
		if named == nil {
			if _, ok := v.dataSaved[h]; !ok {
				v.dataSaved[h] = order
			}
			continue
		}
		for ; named != nil && !v.saved[named.index]; named = named.prev {
			v.saved[named.index] = true
		}
	}
}

// share finds what is transferred and fingerprinted.
func (v *evaluation) share() {
	for i, n := range v.log.nodes {
		if !v.valid[i] {
			continue
		}
		v.shared[i] = true
		if !coversByName(n.entry.Op) {
			continue
		}
		for _, h := range entry.Frontier(n.entry.Op) {
			if named := v.log.byHash[h]; named != nil {
				v.shared[named.index] = true
			} else {
				v.dataNamed[h] = true
			}
		}
	}
	for _, j := range v.ranked {
		if !j.granted {
			continue
		}
		// The acceptance of a role may rest on that of any predecessor.
		for p := j.p; p != nil; p = p.succeeds {
			if a := v.log.accepts[p]; a != nil {
				v.shared[a.index] = true
			}
		}
	}
	for i := len(v.log.nodes) - 1; i >= 0; i-- {
		if !v.shared[i] {
			continue
		}
		for _, r := range v.log.nodes[i].refs {
			v.shared[r], v.followed[r] = true, true
		}
	}
}

// coversByName tells the operations whose frontier covers entries.
func coversByName(op entry.Op) bool {
	switch op.(type) {
	case entry.Checkpoint, entry.Adopt:
		return true
	}
	return isRevocation(op)
}

func isRevocation(op entry.Op) bool {
	switch op.(type) {
	case entry.Remove, entry.RoleChange, entry.Block, entry.Leave:
		return true
	}
	return false
}
