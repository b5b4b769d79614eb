package sqlite

import (
	"fmt"
	"slices"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// Nodes are changed in memory and written once, by writeNodes at the end of the transaction, or when there are too many.

// fresh makes a node without content.
func (t *tx) fresh(level int) (*node, error) {
	if t.lastNode == 0 {
		if _, err := t.one("SELECT coalesce(max(nid), 0) FROM tree", nil, &t.lastNode); err != nil {
			return nil, err
		}
	}
	t.lastNode++
	n := &node{nid: t.lastNode, level: level, dirty: true, fresh: true}
	t.nodes[n.nid] = n
	return n, nil
}

func (t *tx) forget(n *node) error {
	delete(t.nodes, n.nid)
	if n.fresh {
		return nil
	}
	_, err := t.exec("DELETE FROM tree WHERE nid = ?", n.nid)
	return err
}

// writeNodes stores what changed, in the order of the table.
func (t *tx) writeNodes() error {
	var dirty []*node
	for _, n := range t.nodes {
		if n.dirty {
			dirty = append(dirty, n)
		}
	}
	slices.SortFunc(dirty, func(a, b *node) int { return int(a.nid - b.nid) })
	for _, n := range dirty {
		text := "UPDATE tree SET node = ?2 WHERE nid = ?1"
		if n.fresh {
			text = "INSERT INTO tree (nid, node) VALUES (?1, ?2)"
		}
		if _, err := t.exec(text, n.nid, n.encode()); err != nil {
			return err
		}
		n.dirty, n.fresh = false, false
	}
	return nil
}

// change begins a change of a tree.
func (t *tx) change() error {
	t.memos = [2]memo{}
	if len(t.nodes) < maxNodes {
		return nil
	}
	err := t.writeNodes()
	clear(t.nodes)
	return err
}

// put adds an entry to a scope.
func (t *tx) put(g *groupRow, kind entry.Kind, it item) error {
	g.changed = true
	count(&g.roots[kind], it.Hash, 1)
	return t.grow(g, kind, it)
}

// grow adds an entry to the tree of a scope.
func (t *tx) grow(g *groupRow, kind entry.Kind, it item) error {
	if err := t.change(); err != nil {
		return err
	}
	if g.trees[kind] == 0 {
		leaf, err := t.fresh(0)
		if err != nil {
			return err
		}
		leaf.items = []item{it}
		g.trees[kind] = leaf.nid
		return nil
	}
	n, err := t.node(g.trees[kind])
	if err != nil {
		return err
	}
	right, err := t.insertInto(n, it)
	if err != nil || right == nil {
		return err
	}
	root, err := t.fresh(n.level + 1)
	if err != nil {
		return err
	}
	root.kids = []kid{{nid: n.nid, Summary: n.summary()}, *right}
	g.trees[kind] = root.nid
	return nil
}

// insertInto returns the node that was split off to the right, if any.
func (t *tx) insertInto(n *node, it item) (*kid, error) {
	n.dirty = true
	if n.level == 0 {
		at, found := n.search(it.Ref)
		if found {
			return nil, fmt.Errorf("%w: entry %s is in its tree already", ErrCorrupt, it.Hash.Short())
		}
		n.items = slices.Insert(n.items, at, it)
		return t.split(n, at)
	}
	at := n.child(it.Ref)
	child, err := t.below(n, at)
	if err != nil {
		return nil, err
	}
	right, err := t.insertInto(child, it)
	if err != nil {
		return nil, err
	}
	count(&n.kids[at].Summary, it.Hash, 1)
	if right == nil {
		return nil, nil
	}
	addUp(&n.kids[at].Summary, right.Summary, -1)
	n.kids = slices.Insert(n.kids, at+1, *right)
	return t.split(n, at+1)
}

// split divides a node that is too long after an insertion at a place. What is appended goes on alone: entries come
// in the order of time, and nodes stay full.
func (t *tx) split(n *node, at int) (*kid, error) {
	if n.size() <= n.full() {
		return nil, nil
	}
	if at != n.size()-1 {
		at = n.size() / 2
	}
	right, err := t.fresh(n.level)
	if err != nil {
		return nil, err
	}
	k := kid{nid: right.nid}
	if n.level == 0 {
		k.lo = groupsync.Between(n.items[at-1].Ref, n.items[at].Ref)
		right.items = slices.Clone(n.items[at:])
		n.items = n.items[:at]
	} else {
		k.lo = n.kids[at].lo
		right.kids = slices.Clone(n.kids[at:])
		right.kids[0].lo = groupsync.Ref{}
		n.kids = n.kids[:at]
	}
	k.Summary = right.summary()
	return &k, nil
}

// take removes an entry from the tree of a scope.
func (t *tx) take(g *groupRow, kind entry.Kind, ref groupsync.Ref) error {
	if err := t.change(); err != nil {
		return err
	}
	g.changed = true
	count(&g.roots[kind], ref.Hash, -1)
	if g.trees[kind] == 0 {
		return missing(ref)
	}
	n, err := t.node(g.trees[kind])
	if err == nil {
		err = t.removeFrom(n, ref)
	}
	if err != nil {
		return err
	}
	for n.size() < 2 && (n.level > 0 || n.size() == 0) {
		g.trees[kind] = 0
		if err := t.forget(n); err != nil || n.size() == 0 {
			return err
		}
		if n, err = t.below(n, 0); err != nil {
			return err
		}
		g.trees[kind] = n.nid
	}
	return nil
}

func missing(ref groupsync.Ref) error {
	return fmt.Errorf("%w: entry %s is not in its tree", ErrCorrupt, ref.Hash.Short())
}

func (t *tx) removeFrom(n *node, ref groupsync.Ref) error {
	n.dirty = true
	if n.level == 0 {
		at, found := n.search(ref)
		if !found {
			return missing(ref)
		}
		n.items = slices.Delete(n.items, at, at+1)
		return nil
	}
	at := n.child(ref)
	child, err := t.below(n, at)
	if err == nil {
		err = t.removeFrom(child, ref)
	}
	if err != nil {
		return err
	}
	count(&n.kids[at].Summary, ref.Hash, -1)
	switch {
	case child.size() == 0:
		n.drop(at)
		return t.forget(child)
	case child.size() > child.full()/4 || len(n.kids) == 1:
		return nil
	case at > 0:
		at--
	}
	return t.merge(n, at)
}

// merge puts a child and the one to the right of it together if there is room for more.
func (t *tx) merge(n *node, at int) error {
	left, err := t.below(n, at)
	if err != nil {
		return err
	}
	right, err := t.below(n, at+1)
	if err != nil || left.size()+right.size() > left.full()/2 {
		return err
	}
	left.dirty = true
	left.items = append(left.items, right.items...)
	if len(right.kids) > 0 {
		right.kids[0].lo = n.kids[at+1].lo
		left.kids = append(left.kids, right.kids...)
	}
	addUp(&n.kids[at].Summary, n.kids[at+1].Summary, 1)
	n.drop(at + 1)
	return t.forget(right)
}

// drop takes a child out.
func (n *node) drop(at int) {
	n.kids = slices.Delete(n.kids, at, at+1)
	if at == 0 && len(n.kids) > 0 {
		n.kids[0].lo = groupsync.Ref{}
	}
}

// purgeTree removes a node and all below it.
func (t *tx) purgeTree(nid int64) error {
	if nid == 0 {
		return nil
	}
	if err := t.change(); err != nil {
		return err
	}
	n, err := t.node(nid)
	if err != nil {
		return err
	}
	for i := range n.kids {
		if n.level == 1 && t.nodes[n.kids[i].nid] == nil { // leaves need not be read
			if _, err := t.exec("DELETE FROM tree WHERE nid = ?", n.kids[i].nid); err != nil {
				return err
			}
			continue
		}
		if err := t.purgeTree(n.kids[i].nid); err != nil {
			return err
		}
	}
	return t.forget(n)
}
