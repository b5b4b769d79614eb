package fold

import (
	"maps"
	"slices"
)

type kind uint8

const (
	leaf   kind = iota // raw: a scalar, or a container that nobody has walked into
	object             // members
	array              // elems
)

// A node is a value of a document. Containers are parsed when a path first
// leads into them; each node knows the length of its canonical form, so that
// the limit costs nothing to hold.
type node struct {
	kind    kind
	size    int
	raw     []byte
	members map[string]*node
	elems   []*node
}

// null pads arrays. A leaf that holds a scalar is never modified.
var null = &node{raw: []byte("null"), size: 4}

func newLeaf(raw []byte) *node { return &node{raw: raw, size: len(raw)} }

func newContainer(isArray bool) *node {
	if isArray {
		return &node{kind: array, size: 2}
	}
	return &node{kind: object, size: 2, members: map[string]*node{}}
}

// open parses a leaf that holds a container. It reports whether n is one.
func (n *node) open() bool {
	if n.kind != leaf {
		return true
	}
	switch n.raw[0] {
	case '{':
		n.kind, n.members = object, map[string]*node{}
		_ = eachMember(n.raw, func(key string, v []byte) error {
			n.members[key] = newLeaf(v)
			return nil
		})
	case '[':
		n.kind = array
		_ = eachElement(n.raw, func(v []byte) error {
			n.elems = append(n.elems, newLeaf(v))
			return nil
		})
	default:
		return false
	}
	n.raw = nil
	return true
}

// child returns what is at s, or nil.
func (n *node) child(s Segment) *node {
	switch {
	case n.kind == object:
		return n.members[s.Key]
	case n.kind == array && s.IsIndex && s.Index < len(n.elems):
		return n.elems[s.Index]
	}
	return nil
}

// takes reports whether something can be set at s of an open container.
func (n *node) takes(s Segment) bool {
	return n.kind == object || s.IsIndex && s.Index <= len(n.elems)+MaxIndexGap
}

// put sets or, with a nil value, deletes what is at s, for which takes must
// hold. It returns by how much the canonical form grew, not counting the
// difference in n.size, which is the caller's to add to n and all above it.
func (n *node) put(s Segment, v *node) (grown int) {
	if n.kind == array {
		for len(n.elems) <= s.Index {
			grown += null.size + comma(len(n.elems))
			n.elems = append(n.elems, null)
		}
		grown += v.size - n.elems[s.Index].size
		n.elems[s.Index] = v
		return grown
	}
	old, name := n.members[s.Key], quotedSize(s.Key)+1
	if old != nil {
		grown -= old.size
	}
	switch {
	case v == nil && old == nil:
	case v == nil:
		delete(n.members, s.Key)
		grown -= name + comma(len(n.members))
	default:
		n.members[s.Key] = v
		grown += v.size
		if old == nil {
			grown += name + comma(len(n.members)-1)
		}
	}
	return grown
}

// comma is what separates an element from n before it.
func comma(n int) int {
	if n > 0 {
		return 1
	}
	return 0
}

func (n *node) append(b []byte) []byte {
	switch n.kind {
	case object:
		b = append(b, '{')
		for i, key := range slices.SortedFunc(maps.Keys(n.members), compareUTF16) {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendQuoted(b, key), ':')
			b = n.members[key].append(b)
		}
		return append(b, '}')
	case array:
		b = append(b, '[')
		for i, e := range n.elems {
			if i > 0 {
				b = append(b, ',')
			}
			b = e.append(b)
		}
		return append(b, ']')
	}
	return append(b, n.raw...)
}
