package sqlite

import (
	"database/sql"
	"encoding/binary"
	"fmt"
	"math/bits"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

const (
	// maxNodes is how many nodes a transaction remembers: about 8 MB.
	maxNodes = 1024
	// spareNodes is more than one change of a tree reads, so that none goes while it is being changed.
	spareNodes = 64
)

// node reads a node of a tree. What it returns belongs to the transaction.
func (r *reader) node(nid int64) (*node, error) {
	if err := r.usable(); err != nil {
		return nil, err
	}
	if n := r.nodes[nid]; n != nil {
		return n, nil
	}
	var n *node
	err := r.each("SELECT node FROM tree WHERE nid = ?", []any{nid}, func(rows *sql.Rows) (bool, error) {
		var b sql.RawBytes
		err := rows.Scan(&b)
		if err == nil {
			n, err = decodeNode(nid, b)
		}
		return false, err
	})
	if err == nil && n == nil {
		err = fmt.Errorf("%w: node %d of a tree is missing", ErrCorrupt, nid)
	}
	if err != nil {
		return nil, err
	}
	if len(r.nodes) >= maxNodes+spareNodes {
		for nid, n := range r.nodes {
			if !n.dirty {
				delete(r.nodes, nid)
			}
		}
	}
	r.nodes[nid] = n
	return n, nil
}

// below reads a child and makes sure that trees end.
func (r *reader) below(n *node, i int) (*node, error) {
	child, err := r.node(n.kids[i].nid)
	if err == nil && child.level != n.level-1 {
		err = fmt.Errorf("%w: node %d of a tree is on level %d", ErrCorrupt, child.nid, child.level)
	}
	return child, err
}

// A memo is an answer of prefix. Neighbouring ranges ask for the same.
type memo struct {
	root int64
	ref  groupsync.Ref
	sum  groupsync.Summary
}

// prefix describes everything below ref.
func (r *reader) prefix(root int64, ref groupsync.Ref) (sum groupsync.Summary, err error) {
	for _, m := range r.memos {
		if m.root == root && m.ref == ref {
			return m.sum, nil
		}
	}
	for nid := root; nid != 0; {
		n, err := r.node(nid)
		if err != nil {
			return sum, err
		}
		if n.level == 0 {
			at, _ := n.search(ref)
			for i := range n.items[:at] {
				count(&sum, n.items[i].Hash, 1)
			}
			break
		}
		at := n.child(ref)
		for i := range n.kids[:at] {
			addUp(&sum, n.kids[i].Summary, 1)
		}
		if at > 0 && n.kids[at].lo == ref {
			break // all of it is above
		}
		child, err := r.below(n, at)
		if err != nil {
			return sum, err
		}
		nid = child.nid
	}
	r.memos[0], r.memos[1] = memo{root, ref, sum}, r.memos[0]
	return sum, nil
}

// contains tells whether a tree has an entry.
func (r *reader) contains(root int64, ref groupsync.Ref) (bool, error) {
	if root == 0 {
		return false, nil
	}
	n, err := r.node(root)
	for err == nil && n.level > 0 {
		n, err = r.below(n, n.child(ref))
	}
	if err != nil {
		return false, err
	}
	_, found := n.search(ref)
	return found, nil
}

// cut returns a bound with about rank refs below it, at most slack more or less, and describes what is below. Bounds
// between nodes are preferred, because they need no leaf. rank is above 0 and below the count of the tree.
func (r *reader) cut(root, rank, slack int64) (bound groupsync.Ref, sum groupsync.Summary, err error) {
	n, err := r.node(root)
	for err == nil && n.level > 0 {
		i := 0
		for ; i < len(n.kids)-1 && sum.Count+n.kids[i].Count <= rank; i++ {
			addUp(&sum, n.kids[i].Summary, 1)
		}
		k := &n.kids[i]
		if i > 0 && rank-sum.Count <= slack {
			return k.lo, sum, nil
		}
		if i+1 < len(n.kids) && sum.Count+k.Count-rank <= slack {
			addUp(&sum, k.Summary, 1)
			return n.kids[i+1].lo, sum, nil
		}
		if i > 0 {
			bound = k.lo
		}
		n, err = r.below(n, i)
	}
	if err != nil {
		return bound, sum, err
	}
	at := min(int(rank-sum.Count), len(n.items)-1)
	for i := range n.items[:max(at, 0)] {
		count(&sum, n.items[i].Hash, 1)
	}
	if at > 0 {
		bound = groupsync.Between(n.items[at-1].Ref, n.items[at].Ref)
	}
	return bound, sum, nil
}

// ascend calls fn for the items of lo <= ref < hi in order, until it returns false. fn must not write.
func (r *reader) ascend(nid int64, lo, hi groupsync.Ref, fn func(item) bool) (more bool, err error) {
	if nid == 0 {
		return true, nil
	}
	n, err := r.node(nid)
	if err != nil {
		return false, err
	}
	at, _ := n.search(lo)
	for _, it := range n.items[at:] {
		if it.Compare(hi) >= 0 || !fn(it) {
			return false, nil
		}
	}
	for i := n.child(lo); i < len(n.kids); i++ {
		if i > 0 && n.kids[i].lo.Compare(hi) >= 0 {
			return false, nil
		}
		child, err := r.below(n, i)
		if err != nil {
			return false, err
		}
		if more, err := r.ascend(child.nid, lo, hi, fn); err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// items reads at most limit items of a range.
func (r *reader) items(root int64, lo, hi groupsync.Ref, limit int) ([]item, error) {
	var out []item
	_, err := r.ascend(root, lo, hi, func(it item) bool {
		out = append(out, it)
		return len(out) < limit
	})
	return out, err
}

// count adds a hash to a summary as a big-endian number, or takes it away if n is -1.
func count(s *groupsync.Summary, h peercrypto.Hash, n int64) {
	addUp(s, groupsync.Summary{Count: 1, Sum: h}, n)
}

// addUp adds a summary to another one, or takes it away if n is -1.
func addUp(s *groupsync.Summary, o groupsync.Summary, n int64) {
	s.Count += n * o.Count
	var carry uint64
	for i := len(s.Sum) - 8; i >= 0; i -= 8 {
		a, b := binary.BigEndian.Uint64(s.Sum[i:]), binary.BigEndian.Uint64(o.Sum[i:])
		if n > 0 {
			a, carry = bits.Add64(a, b, carry)
		} else {
			a, carry = bits.Sub64(a, b, carry)
		}
		binary.BigEndian.PutUint64(s.Sum[i:], a)
	}
}
