package sqlite

import (
	"fmt"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// A treeChecker reads one scope's tree.
type treeChecker struct {
	*reader
	g     *groupRow
	kind  entry.Kind
	nodes *int64 // seen in all trees
}

// checkTree compares the tree of a scope with itself and with the entries: each node with what its parent says of it,
// each item with its row. The table's sum is added up by checkGroup.
func (c treeChecker) checkTree() error {
	g, kind := c.g, c.kind
	if g.trees[kind] == 0 {
		if g.roots[kind] != (groupsync.Summary{}) {
			return fmt.Errorf("%w: the tree of its %s entries is missing", ErrCorrupt, kind)
		}
		return nil
	}
	root, err := c.node(g.trees[kind])
	if err != nil {
		return err
	}
	return c.checkNode(kid{nid: root.nid, Summary: g.roots[kind]}, root.level, groupsync.Ref{Modified: maxModified})
}

// checkNode looks at one node and all below it; k is what its parent says.
func (c treeChecker) checkNode(k kid, level int, hi groupsync.Ref) error {
	*c.nodes++
	n, err := c.node(k.nid)
	if err != nil {
		return err
	}
	if n.level != level || n.summary() != k.Summary {
		return fmt.Errorf("%w: node %d of the tree of its %s entries is not what its parent says", ErrCorrupt, n.nid, c.kind)
	}
	if n.level == 0 {
		return c.checkItems(n, k.lo, hi)
	}
	for i, child := range n.kids {
		end := hi
		if i+1 < len(n.kids) {
			end = n.kids[i+1].lo
		}
		if i == 0 {
			child.lo = k.lo
		}
		if child.lo.Compare(k.lo) < 0 || child.lo.Compare(end) >= 0 {
			return fmt.Errorf("%w: node %d of the tree of its %s entries is out of order", ErrCorrupt, n.nid, c.kind)
		}
		if err := c.checkNode(child, level-1, end); err != nil {
			return err
		}
	}
	return nil
}

func (c treeChecker) checkItems(n *node, lo, hi groupsync.Ref) error {
	if n.items[0].Compare(lo) < 0 || n.items[len(n.items)-1].Compare(hi) >= 0 {
		return fmt.Errorf("%w: node %d of the tree of its %s entries is out of order", ErrCorrupt, n.nid, c.kind)
	}
	for rest := n.items; len(rest) > 0; {
		page, err := c.rows(rest)
		if err != nil {
			return err
		}
		for _, record := range page {
			if !record.Shared || record.Kind != c.kind || record.Group != c.g.record.ID {
				return fmt.Errorf("%w: entry %s is in the wrong tree", ErrCorrupt, record.Hash.Short())
			}
		}
		rest = rest[len(page):]
	}
	return nil
}
