package group

import "slices"

// pastSet is a set of positions: all below low, and those in bits, of which bit
// k stands for low + k.
type pastSet struct {
	low  int
	bits []uint64
}

func (s pastSet) has(i int) bool {
	if i < s.low {
		return true
	}
	i -= s.low
	return i/64 < len(s.bits) && s.bits[i/64]&(1<<(i%64)) != 0
}

// walker is the scratch memory of walks through a log.
type walker struct {
	seen  []uint32 // generation in which a position was last seen
	gen   uint32
	stack []int
	// credit is how many steps lowOf may still spend; each operation adds some.
	credit int
}

func (w *walker) begin(positions int) {
	if len(w.seen) < positions {
		w.seen = append(w.seen, make([]uint32, positions-len(w.seen))...)
	}
	if w.gen++; w.gen == 0 { // wrapped round
		clear(w.seen)
		w.gen = 1
	}
	w.stack = w.stack[:0]
}

// push remembers a position to be visited if it was not seen.
func (w *walker) push(i int) {
	if w.seen[i] != w.gen {
		w.seen[i] = w.gen
		w.stack = append(w.stack, i)
	}
}

// lowOfRefs returns a position below which everything lies in refs or their
// past. It only looks at refs.
func (l *Log) lowOfRefs(refs []int) int {
	low := 0
	for _, r := range refs {
		if f := l.nodes[r]; f.low == r {
			low = max(low, r+1)
		} else {
			low = max(low, f.low)
		}
	}
	return low
}

// walk visits the positions of refs and their past that are not below floor,
// until visit returns false.
func (l *Log) walk(refs []int, floor int, visit func(i int) bool) {
	w := &l.walker
	w.begin(len(l.nodes))
	add := func(refs []int) {
		for _, r := range refs {
			if r >= floor {
				w.push(r)
			}
		}
	}
	add(refs)
	for len(w.stack) > 0 {
		i := w.stack[len(w.stack)-1]
		w.stack = w.stack[:len(w.stack)-1]
		if !visit(i) {
			return
		}
		add(l.nodes[i].refs)
	}
}

// closure returns refs with their past.
func (l *Log) closure(refs []int) pastSet {
	s := pastSet{low: l.lowOfRefs(refs)}
	top := s.low
	for _, r := range refs {
		top = max(top, r+1)
	}
	if top == s.low {
		return s
	}
	s.bits = make([]uint64, (top-s.low+63)/64)
	l.walk(refs, s.low, func(i int) bool {
		k := i - s.low
		s.bits[k/64] |= 1 << (k % 64)
		return true
	})
	return s
}

// reaches tells whether target is among refs or in their past.
func (l *Log) reaches(refs []int, target int) bool {
	if target < l.lowOfRefs(refs) {
		return true
	}
	found := false
	l.walk(refs, target, func(i int) bool {
		found = i == target || target < l.nodes[i].low
		return !found
	})
	return found
}

// Steps that an operation may spend to find its low, and those it leaves to
// later ones. Together they bound the work of all by a multiple of their number
// and still let an operation that joins wide concurrency see all of it.
const (
	lowSteps  = 256
	lowCredit = 64
)

// lowOf returns the low of a node whose references are in the log.
func (l *Log) lowOf(n *node) int {
	l.walker.credit += lowCredit
	low := l.lowOfRefs(n.refs)
	open := 0
	for _, r := range n.refs {
		if r >= low {
			open++
		}
	}
	// One reference above low adds nothing that its own low did not find.
	if open == 0 || open == 1 && low == l.ownLow(n.refs, low) {
		return low
	}
	budget := lowSteps + l.walker.credit
	steps := 0
	l.walk(n.refs, low, func(int) bool {
		steps++
		return steps <= budget
	})
	l.walker.credit = max(0, min(l.walker.credit, budget-steps))
	for low < n.index && l.walker.seen[low] == l.walker.gen {
		low++
	}
	return low
}

// ownLow returns the low of the one reference that is not below low.
func (l *Log) ownLow(refs []int, low int) int {
	i := slices.IndexFunc(refs, func(r int) bool { return r >= low })
	return l.nodes[refs[i]].low
}

// pastCache keeps the pasts of revocations and rendezvous keys.
type pastCache struct {
	sets  map[*node]pastSet
	words int
}

// maxPastWords bounds the memory of the cache to 64 MiB; it then begins anew.
const maxPastWords = 8 << 20

// past returns the past of a node, without the node.
func (l *Log) past(n *node) pastSet {
	if n.low == n.index {
		return pastSet{low: n.low}
	}
	c := &l.pasts
	if s, ok := c.sets[n]; ok {
		return s
	}
	s := l.closure(n.refs)
	if c.sets == nil || c.words+len(s.bits) > maxPastWords {
		c.sets, c.words = map[*node]pastSet{}, 0
	}
	c.sets[n] = s
	c.words += len(s.bits)
	return s
}
