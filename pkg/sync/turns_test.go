package sync_test

import (
	"fmt"
	"testing"

	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// received counts the entries that came to a node in all its sessions.
func received(n *node) (total int64) {
	for _, s := range n.Sessions() {
		total += s.EntriesIn
	}
	return total
}

// TestThreePeersBringOnce: a device that lacks everything gets it once, whoever of several peers has it and whoever compares.
func TestThreePeersBringOnce(t *testing.T) {
	const changes = 3_000
	for round := range 4 { // which device has the lower id is a matter of chance
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			owner := newNode(t, 0)
			g := owner.create("g")
			peers := []*node{newNode(t, 1), newNode(t, 2), newNode(t, 3)}
			join(t, owner, g, entry.Write, peers...)
			fill(t, owner, g, changes)
			for _, p := range peers[:2] {
				syncPair(t, owner, p, g).end()
			}
			late := peers[2]
			before := late.info(g).Entries
			var conns []*conversation
			for _, p := range []*node{owner, peers[0], peers[1]} {
				conns = append(conns, connect(t, p, late))
			}
			eventually(t, "it has everything", func() bool { return late.info(g).Entries == changes })
			for _, c := range conns {
				eventually(t, "all are equal", func() bool { return c.synced(g) })
			}
			if got := received(late); got > changes-before+10 {
				t.Errorf("%d entries came for %d", got, changes-before)
			}
			for _, c := range conns {
				c.end()
			}
		})
	}
}
