package sqlite

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

// A scope's tree is a B+-tree over the refs of its shared entries. Leaves hold refs and the rows they stand for, inner
// nodes what lies below each child: how many refs, and the sum of their hashes. So any range is added up from a few nodes,
// and one insertion changes one node a level.
//
// A node is one row of the table tree:
//
//	node  = level, n, n × (item | child)    level 0 is a leaf, whose n are items
//	item  = time, 32 bytes of hash, entry's eid as difference to the item before
//	child = time, k, k bytes of hash, nid, count, 32 bytes of sum
//
// level and k are bytes. Times are differences to the one before. Integers are unsigned varints, the difference of eids
// signed. The time and hash of a child are its separator: nothing below is smaller, everything to the left is. That of the first
// child is zero: it begins where its parent does. Nodes have about the size of a page of the file.
const (
	maxItems = 104
	maxKids  = 92
	maxLevel = 15 // more than any disk holds
)

type node struct {
	nid   int64
	level int
	items []item // of a leaf
	kids  []kid  // of an inner node
	// dirty nodes differ from their row; fresh ones have none.
	dirty, fresh bool
}

type item struct {
	groupsync.Ref
	eid int64
}

type kid struct {
	lo  groupsync.Ref
	nid int64
	groupsync.Summary
}

func (n *node) size() int { return len(n.items) + len(n.kids) }

// full is how many children or items a node has at most.
func (n *node) full() int {
	if n.level == 0 {
		return maxItems
	}
	return maxKids
}

// summary describes what is below.
func (n *node) summary() groupsync.Summary {
	var sum groupsync.Summary
	for i := range n.items {
		count(&sum, n.items[i].Hash, 1)
	}
	for i := range n.kids {
		addUp(&sum, n.kids[i].Summary, 1)
	}
	return sum
}

// child is the index of the child in which ref is or would be.
func (n *node) child(ref groupsync.Ref) int {
	i, found := slices.BinarySearchFunc(n.kids, ref, func(k kid, ref groupsync.Ref) int { return k.lo.Compare(ref) })
	if !found {
		i--
	}
	return max(i, 0)
}

// search is the index of the first item that is not below ref; found tells whether it is ref.
func (n *node) search(ref groupsync.Ref) (at int, found bool) {
	return slices.BinarySearchFunc(n.items, ref, func(it item, ref groupsync.Ref) int { return it.Compare(ref) })
}

func (n *node) encode() []byte {
	out := make([]byte, 0, 4096)
	out = binary.AppendUvarint(append(out, byte(n.level)), uint64(n.size()))
	var modified, eid int64
	for _, it := range n.items {
		out = binary.AppendUvarint(out, uint64(it.Modified-modified))
		out = append(out, it.Hash[:]...)
		out = binary.AppendVarint(out, it.eid-eid)
		modified, eid = it.Modified, it.eid
	}
	for _, k := range n.kids {
		out = binary.AppendUvarint(out, uint64(k.lo.Modified-modified))
		size := len(k.lo.Hash)
		for size > 0 && k.lo.Hash[size-1] == 0 {
			size--
		}
		out = append(append(out, byte(size)), k.lo.Hash[:size]...)
		out = binary.AppendUvarint(binary.AppendUvarint(out, uint64(k.nid)), uint64(k.Count))
		out = append(out, k.Sum[:]...)
		modified = k.lo.Modified
	}
	return out
}

// decodeNode refuses what encode does not make.
func decodeNode(nid int64, b []byte) (*node, error) {
	d := nodeDecoder{in: b}
	n := &node{nid: nid, level: int(d.byte())}
	size := int(d.uint())
	switch {
	case d.bad || n.level > maxLevel || size > n.full() || size == 0:
		d.bad = true
	case n.level == 0:
		n.items = make([]item, size)
		d.items(n.items)
	default:
		n.kids = make([]kid, size)
		d.kids(n.kids)
	}
	if d.bad || len(d.in) > 0 {
		return nil, fmt.Errorf("%w: node %d of a tree can't be read", ErrCorrupt, nid)
	}
	return n, nil
}

type nodeDecoder struct {
	in  []byte
	bad bool
}

func (d *nodeDecoder) items(items []item) {
	var last item
	for i := range items {
		it := &items[i]
		it.Modified = last.Modified + d.uint()
		copy(it.Hash[:], d.take(len(it.Hash)))
		it.eid = last.eid + d.int()
		if it.Modified < 0 || it.Modified >= maxModified || (i > 0 && it.Compare(last.Ref) <= 0) {
			d.bad = true
		}
		if d.bad {
			return
		}
		last = *it
	}
}

func (d *nodeDecoder) kids(kids []kid) {
	var last groupsync.Ref
	for i := range kids {
		k := &kids[i]
		k.lo.Modified = last.Modified + d.uint()
		size := int(d.byte())
		if size > len(k.lo.Hash) {
			d.bad = true
			return
		}
		copy(k.lo.Hash[:], d.take(size))
		k.nid, k.Count = d.uint(), d.uint()
		copy(k.Sum[:], d.take(len(k.Sum)))
		if k.lo.Modified < 0 || (i == 0) != (k.lo == groupsync.Ref{}) || (i > 0 && k.lo.Compare(last) <= 0) || k.Count == 0 || (size > 0 && k.lo.Hash[size-1] == 0) {
			d.bad = true
		}
		if d.bad {
			return
		}
		last = k.lo
	}
}

func (d *nodeDecoder) take(n int) []byte {
	if len(d.in) < n {
		d.bad, d.in = true, nil
		return nil
	}
	b := d.in[:n]
	d.in = d.in[n:]
	return b
}

func (d *nodeDecoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *nodeDecoder) uint() int64 {
	v, n := binary.Uvarint(d.in)
	if n <= 0 || v > math.MaxInt64 {
		d.bad = true
		return 0
	}
	d.in = d.in[n:]
	return int64(v)
}

func (d *nodeDecoder) int() int64 {
	v, n := binary.Varint(d.in)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.in = d.in[n:]
	return v
}
