package group

import (
	"container/heap"
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// evaluation is what is known of a log's judgement, and what of it is out of
// date. Principals are judged anew in the order of their rank; a judgement only
// concerns more junior ones, so each is judged once.
type evaluation struct {
	log     *Log
	pending []*node // operations that were not looked at yet
	queue   ranked

	// named counts the valid operations whose frontier names a hash, be it of an
	// operation, of data or unknown.
	named map[peercrypto.Hash]int
	// savers has the valid checkpoints and adoptions that name a hash.
	savers map[peercrypto.Hash][]*node
	// claimed counts the shared adds of an invitation by claim.
	claimed map[*node]map[peercrypto.Hash]int

	touched changes
	facts   facts
}

// changes are what must be brought into the state.
type changes struct {
	nodes      []*node
	principals map[*principal]bool
	users      map[peercrypto.ID]bool
	invites    map[*node]bool
	forks      map[forkPlace]bool
	named      map[peercrypto.Hash]bool
	saved      map[peercrypto.Hash]bool
	settings   bool
	rendezvous bool
}

func newEvaluation(l *Log) evaluation {
	return evaluation{
		log: l, named: map[peercrypto.Hash]int{}, savers: map[peercrypto.Hash][]*node{},
		claimed: map[*node]map[peercrypto.Hash]int{}, touched: newChanges(), facts: newFacts(),
	}
}

func newChanges() changes {
	return changes{
		principals: map[*principal]bool{}, users: map[peercrypto.ID]bool{}, invites: map[*node]bool{},
		forks: map[forkPlace]bool{}, named: map[peercrypto.Hash]bool{}, saved: map[peercrypto.Hash]bool{},
	}
}

// ranked is a heap of the principals to be judged, the most senior first.
type ranked []*principal

func (r ranked) Len() int           { return len(r) }
func (r ranked) Less(i, k int) bool { return r[i].rank.Senior(r[k].rank) }
func (r ranked) Swap(i, k int)      { r[i], r[k] = r[k], r[i] }

// Push is for container/heap.
func (r *ranked) Push(p any) { *r = append(*r, p.(*principal)) }

// Pop is for container/heap.
func (r *ranked) Pop() any {
	last := len(*r) - 1
	p := (*r)[last]
	*r = (*r)[:last]
	return p
}

func (v *evaluation) queued(p *principal) {
	if !p.queued {
		p.queued = true
		heap.Push(&v.queue, p)
	}
}

// settle looks at what was added and judges whom it concerns.
func (v *evaluation) settle() {
	for _, n := range v.pending {
		v.take(n)
	}
	v.pending = nil
	for len(v.queue) > 0 {
		p := heap.Pop(&v.queue).(*principal)
		p.queued = false
		v.judge(p)
	}
}

// take looks at a new operation. Most need no judgement of their author's other
// operations: nothing that was there before has the new one in its past.
func (v *evaluation) take(n *node) {
	v.touchNode(n)
	if v.named[n.hash] > 0 {
		v.root(n, 1)
	}
	if n.forked {
		v.touched.forks[placeOf(n)] = true
	}
	if n.principal != nil {
		v.queued(n.principal)
	}
	p := n.author
	switch n.entry.Op.(type) {
	case entry.Accept:
		v.takeAccept(n)
	case entry.Leave, entry.Rekey:
		if v.named[n.hash] > 0 || !p.isVoid() {
			v.queued(p)
		}
		v.touchPrincipal(p) // a rekey may be named as a grant, void or not
		return
	case entry.Create:
		v.queued(p)
		return
	}
	switch {
	case p.queued: // is judged later
	case v.named[n.hash] > 0: // what it names may also cover those before n
		v.queued(p)
	case p.active() && p.line.current(n.under.term):
		v.setValid(n, true)
	}
}

// takeAccept counts even if it is void. Those who succeed by roles rest on it too.
func (v *evaluation) takeAccept(n *node) {
	p := n.author
	if p.accept != nil && byHash(p.accept, n) < 0 {
		return
	}
	if p.granting > 0 {
		v.root(n, 1)
		if p.accept != nil {
			v.root(p.accept, -1)
		}
	}
	first := p.accept == nil
	p.accept = n
	if first {
		v.queued(p)
		p.eachSuccessor(v.queued)
	}
}

// judge decides the operations of one principal. All more senior principals,
// its author among them, are judged.
func (v *evaluation) judge(p *principal) {
	v.touchPrincipal(p)
	n := p.node
	if _, create := n.entry.Op.(entry.Create); create && !n.valid {
		v.setValid(n, true)
	}
	v.setGranted(p, n.valid)
	p.accepted = p.consents()
	p.hits, p.line = nil, line{}
	valid := make([]bool, len(p.operations))
	if p.granted {
		p.hits = v.hits(p)
		if p.accepted {
			v.decide(p, valid)
		}
	}
	for i, o := range p.operations {
		if o.valid != valid[i] {
			v.setValid(o, valid[i])
		}
	}
}

// decide fills in which operations of a valid principal are valid, and adds its
// valid leaves to hits: rekeys come first, then leaves, then the rest.
func (v *evaluation) decide(p *principal, valid []bool) {
	if len(p.hits) == 0 && len(p.rekeys) == 0 && len(p.leaves) == 0 {
		for i := range valid {
			valid[i] = true
		}
		return
	}
	cover := v.newCover(p)
	for _, r := range p.hits {
		cover.add(r)
	}
	if len(p.rekeys) > 0 {
		p.line = p.findLine(slices.DeleteFunc(slices.Clone(p.rekeys), func(r *node) bool { return !cover.holds(r.place) }), cover)
		for _, r := range p.line.standing {
			valid[r.rekey.place] = true
		}
	}
	holds := func(o *node) bool {
		return cover.saved(o.place) || cover.holds(o.place) && p.line.holds(o.under.term)
	}
	var leaves []*node
	for _, o := range p.leaves {
		if holds(o) {
			valid[o.place] = true
			leaves = append(leaves, o)
		}
	}
	for _, o := range leaves {
		cover.add(o)
	}
	p.hits = append(p.hits, leaves...)
	for i, o := range p.operations {
		if !isLeave(o) && len(o.steps) == 0 {
			valid[i] = holds(o)
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
			if r == step || !r.valid || !r.author.rank.Senior(p.rank) {
				continue
			}
			if step == nil || !v.log.past(r).has(step.index) {
				hits = append(hits, r)
			}
		}
	}
	collect(p.naming, nil)
	collect(v.log.blocks[p.user], nil)
	// What revokes a predecessor hits this one too, unless its author knew, or
	// itself made, the step by which this one's line left the predecessor.
	for step := p; step.succeeds != nil; step = step.succeeds {
		collect(step.succeeds.naming, step.node)
		collect(step.succeeds.leaves, step.node)
	}
	return hits
}

// cover counts for each operation of a principal how many revocations do not
// cover it.
type cover struct {
	log     *Log
	p       *principal
	missing []int
	rescued []bool // covered by a checkpoint or adoption of a more senior principal
}

func (v *evaluation) newCover(p *principal) *cover {
	c := &cover{log: v.log, p: p, missing: make([]int, len(p.operations))}
	if len(v.savers) == 0 {
		return c
	}
	c.rescued = make([]bool, len(p.operations))
	for i, o := range slices.Backward(p.operations) {
		if !c.rescued[i] {
			c.rescued[i] = slices.ContainsFunc(v.savers[o.hash], func(s *node) bool { return s.author.rank.Senior(p.rank) })
		}
		if c.rescued[i] && o.prev != nil {
			c.rescued[o.prev.place] = true
		}
	}
	return c
}

func (c *cover) saved(i int) bool { return c.rescued != nil && c.rescued[i] }

func (c *cover) holds(i int) bool { return c.missing[i] == 0 || c.saved(i) }

// add counts what a revocation does not cover.
func (c *cover) add(r *node) {
	covers := c.covers(r)
	low := c.log.past(r).low
	first, _ := slices.BinarySearchFunc(c.p.operations, low, func(n *node, low int) int { return n.index - low })
	for _, n := range c.p.operations[first:] {
		if !covers(n) {
			c.missing[n.place]++
		}
	}
}

// addSome is add for some of the operations.
func (c *cover) addSome(r *node, some []*node) {
	covers := c.covers(r)
	for _, n := range some {
		if !covers(n) {
			c.missing[n.place]++
		}
	}
}

// covers returns what tells whether a revocation or rekey covers an operation.
func (c *cover) covers(r *node) func(n *node) bool {
	past := c.log.past(r)
	named := map[*node]bool{}
	for _, h := range entry.Frontier(r.entry.Op) {
		for n := c.log.byHash[h]; n != nil && n.place >= 0 && n.author == c.p && !named[n]; n = n.prev {
			named[n] = true
		}
	}
	return func(n *node) bool { return past.has(n.index) || named[n] }
}

// coversByName tells the operations whose frontier covers entries.
func coversByName(op entry.Op) bool { return saves(op) || isRevocation(op) }

func saves(op entry.Op) bool {
	switch op.(type) {
	case entry.Checkpoint, entry.Adopt:
		return true
	}
	return false
}

func isRevocation(op entry.Op) bool {
	switch op.(type) {
	case entry.Remove, entry.RoleChange, entry.Block, entry.Leave, entry.Rekey:
		return true
	}
	return false
}
