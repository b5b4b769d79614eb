package group

import (
	"hash/maphash"
)

// tree is an ordered map that shares what did not change with the maps that
// were made of it: a treap. The priority of a key follows from the key, so its
// shape depends on the keys alone, and differences of two trees are found
// without looking at what they share. Nobody can foresee priorities.
type tree[K comparable, V any] struct {
	root    *treeNode[K, V]
	compare func(a, b K) int
	// edit is the right to change nodes in place: those that carry it belong to
	// this tree alone. See snapshot.
	edit *edit
}

type treeNode[K comparable, V any] struct {
	key         K
	value       V
	priority    uint64
	left, right *treeNode[K, V]
	edit        *edit
}

type edit struct{ _ byte }

var treeSeed = maphash.MakeSeed()

func newTree[K comparable, V any](compare func(a, b K) int) tree[K, V] {
	return tree[K, V]{compare: compare, edit: new(edit)}
}

// snapshot returns what the tree holds now. It is immutable and safe for
// concurrent use; the tree goes on with copies.
func (t *tree[K, V]) snapshot() tree[K, V] {
	t.edit = new(edit)
	return tree[K, V]{root: t.root, compare: t.compare}
}

func (t *tree[K, V]) get(k K) (V, bool) {
	for n := t.root; n != nil; {
		switch c := t.compare(k, n.key); {
		case c == 0:
			return n.value, true
		case c < 0:
			n = n.left
		default:
			n = n.right
		}
	}
	var none V
	return none, false
}

func (t *tree[K, V]) has(k K) bool {
	_, ok := t.get(k)
	return ok
}

func (t *tree[K, V]) set(k K, v V) {
	t.root = t.insert(t.root, k, v, maphash.Comparable(treeSeed, k))
}

func (t *tree[K, V]) delete(k K) {
	if t.has(k) {
		t.root = t.remove(t.root, k)
	}
}

// own returns a node that may be changed.
func (t *tree[K, V]) own(n *treeNode[K, V]) *treeNode[K, V] {
	if n.edit == t.edit {
		return n
	}
	c := *n
	c.edit = t.edit
	return &c
}

// above tells whether a key with a priority belongs above a node.
func (t *tree[K, V]) above(k K, priority uint64, n *treeNode[K, V]) bool {
	return priority > n.priority || priority == n.priority && t.compare(k, n.key) < 0
}

func (t *tree[K, V]) insert(n *treeNode[K, V], k K, v V, priority uint64) *treeNode[K, V] {
	if n == nil {
		return &treeNode[K, V]{key: k, value: v, priority: priority, edit: t.edit}
	}
	c := t.compare(k, n.key)
	if c != 0 && t.above(k, priority, n) { // then k is not below n
		left, right := t.split(n, k)
		return &treeNode[K, V]{key: k, value: v, priority: priority, left: left, right: right, edit: t.edit}
	}
	n = t.own(n)
	switch {
	case c == 0:
		n.value = v
	case c < 0:
		n.left = t.insert(n.left, k, v, priority)
	default:
		n.right = t.insert(n.right, k, v, priority)
	}
	return n
}

// split returns the nodes below and above k, which is not among them.
func (t *tree[K, V]) split(n *treeNode[K, V], k K) (left, right *treeNode[K, V]) {
	if n == nil {
		return nil, nil
	}
	n = t.own(n)
	if t.compare(n.key, k) < 0 {
		n.right, right = t.split(n.right, k)
		return n, right
	}
	left, n.left = t.split(n.left, k)
	return left, n
}

func (t *tree[K, V]) remove(n *treeNode[K, V], k K) *treeNode[K, V] {
	c := t.compare(k, n.key)
	if c == 0 {
		return t.join(n.left, n.right)
	}
	n = t.own(n)
	if c < 0 {
		n.left = t.remove(n.left, k)
	} else {
		n.right = t.remove(n.right, k)
	}
	return n
}

func (t *tree[K, V]) join(left, right *treeNode[K, V]) *treeNode[K, V] {
	switch {
	case left == nil:
		return right
	case right == nil:
		return left
	case t.above(left.key, left.priority, right):
		left = t.own(left)
		left.right = t.join(left.right, right)
		return left
	}
	right = t.own(right)
	right.left = t.join(left, right.left)
	return right
}

// from calls fn in the order of keys, beginning with the first that is not
// below k, until fn returns false.
func (t *tree[K, V]) from(k K, fn func(K, V) bool) { t.walk(t.root, &k, fn) }

// each is from the first key.
func (t *tree[K, V]) each(fn func(K, V) bool) { t.walk(t.root, nil, fn) }

func (t *tree[K, V]) walk(n *treeNode[K, V], least *K, fn func(K, V) bool) bool {
	if n == nil {
		return true
	}
	if least == nil || t.compare(*least, n.key) <= 0 {
		if !t.walk(n.left, least, fn) || !fn(n.key, n.value) {
			return false
		}
	}
	return t.walk(n.right, least, fn)
}

// differences calls fn for each key that one of two trees lacks or whose values
// may differ: unchanged parts are skipped.
func (t *tree[K, V]) differences(old tree[K, V], fn func(k K, is, was *V)) {
	work := tree[K, V]{compare: t.compare, edit: new(edit)}
	work.differ(t.root, old.root, fn)
}

func (t *tree[K, V]) differ(is, was *treeNode[K, V], fn func(k K, is, was *V)) {
	switch {
	case is == was:
	case was == nil || is != nil && is.key != was.key && t.above(is.key, is.priority, was):
		left, right := t.split(was, is.key)
		t.differ(is.left, left, fn)
		fn(is.key, &is.value, nil)
		t.differ(is.right, right, fn)
	case is == nil || is.key != was.key:
		left, right := t.split(is, was.key)
		t.differ(left, was.left, fn)
		fn(was.key, nil, &was.value)
		t.differ(right, was.right, fn)
	default:
		t.differ(is.left, was.left, fn)
		fn(is.key, &is.value, &was.value)
		t.differ(is.right, was.right, fn)
	}
}
