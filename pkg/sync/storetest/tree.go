package storetest

import (
	"encoding/binary"
	"iter"
	"math/rand/v2"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// A tree is an ordered map from strings that never changes: with and without
// return another one that shares most nodes (a treap with copied paths). So a
// snapshot is a copy of the struct. The zero value is empty.
type tree[V any] struct{ root *treeNode[V] }

type treeNode[V any] struct {
	key         string
	value       V
	weight      uint64 // a heap of random weights keeps the tree shallow
	left, right *treeNode[V]
}

func (t tree[V]) get(key string) (V, bool) {
	n := t.root
	for n != nil {
		switch {
		case key < n.key:
			n = n.left
		case key > n.key:
			n = n.right
		default:
			return n.value, true
		}
	}
	var zero V
	return zero, false
}

func (t tree[V]) with(key string, value V) tree[V] {
	return tree[V]{insert(t.root, key, value)}
}

func insert[V any](n *treeNode[V], key string, value V) *treeNode[V] {
	if n == nil {
		return &treeNode[V]{key: key, value: value, weight: rand.Uint64()}
	}
	c := *n
	switch {
	case key < n.key:
		l := insert(n.left, key, value) // a fresh node, so it may be changed
		if c.left = l; l.weight > c.weight {
			c.left, l.right = l.right, &c
			return l
		}
	case key > n.key:
		r := insert(n.right, key, value)
		if c.right = r; r.weight > c.weight {
			c.right, r.left = r.left, &c
			return r
		}
	default:
		c.value = value
	}
	return &c
}

func (t tree[V]) without(key string) tree[V] {
	if _, ok := t.get(key); !ok {
		return t
	}
	return tree[V]{remove(t.root, key)}
}

// remove needs key to be there.
func remove[V any](n *treeNode[V], key string) *treeNode[V] {
	c := *n
	switch {
	case key < n.key:
		c.left = remove(n.left, key)
	case key > n.key:
		c.right = remove(n.right, key)
	default:
		return join(n.left, n.right)
	}
	return &c
}

// join needs all keys of l to be smaller than those of r.
func join[V any](l, r *treeNode[V]) *treeNode[V] {
	switch {
	case l == nil:
		return r
	case r == nil:
		return l
	case l.weight > r.weight:
		c := *l
		c.right = join(l.right, r)
		return &c
	}
	c := *r
	c.left = join(l, r.left)
	return &c
}

// from yields everything at or after key, in order.
func (t tree[V]) from(key string) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) { ascend(t.root, key, yield) }
}

func ascend[V any](n *treeNode[V], key string, yield func(string, V) bool) bool {
	if n == nil {
		return true
	}
	if key <= n.key {
		if !ascend(n.left, key, yield) || !yield(n.key, n.value) {
			return false
		}
	}
	return ascend(n.right, key, yield)
}

// prefixed yields everything whose key begins with prefix, in order.
func (t tree[V]) prefixed(prefix string) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for key, v := range t.from(prefix) {
			if len(key) < len(prefix) || key[:len(prefix)] != prefix || !yield(key, v) {
				return
			}
		}
	}
}

// A keyer builds keys out of fields so that no two lists of fields collide.
type keyer []byte

// text adds a field that is only compared for equality.
func (k keyer) text(s string) keyer {
	return append(binary.BigEndian.AppendUint32(k, uint32(len(s))), s...)
}

// last adds a text that orders; nothing may follow.
func (k keyer) last(s string) keyer { return append(k, s...) }

// number orders as the number does.
func (k keyer) number(n int64) keyer {
	return binary.BigEndian.AppendUint64(k, uint64(n)^1<<63)
}

func (k keyer) hash(h peercrypto.Hash) keyer { return append(k, h[:]...) }
