package sync_test

import (
	"testing"
	"time"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// voidRemoval makes a group in which the admin b removes c while the owner a, who does not know of it, removes b: c stays a member.
func voidRemoval(t *testing.T, shared bool) (a, b, c *node, g groupsync.GroupInfo) {
	t.Helper()
	a, b, c = newNode(t, 0), newNode(t, 1), newNode(t, 2)
	id := a.create("g")
	join(t, a, id, entry.Admin, b)
	join(t, a, id, entry.Write, c)
	syncPair(t, a, b, id).end()
	syncPair(t, b, c, id).end()
	join(t, a, a.create("another"), entry.Read, b) // a reason for b to meet a
	if shared {
		join(t, a, a.create("other"), entry.Write, c)
	}
	must(t, b.Remove(t.Context(), id, c.UserID(), "I don't like you"))
	must(t, a.Remove(t.Context(), id, b.UserID(), "misuse"))
	return a, b, c, a.info(id)
}

// wantMember checks that a node is in and can write what the other one gets.
func wantMember(t *testing.T, c, a *node, g groupsync.GroupInfo) {
	t.Helper()
	if info := c.info(g.ID); !info.Joined || info.Left || info.Removed != nil || info.Role != entry.Write {
		t.Fatalf("%+v", info)
	}
	d := c.put(g.ID, `{"type":"Note","still":"here"}`)
	syncPair(t, a, c, g.ID).end()
	_, err := a.Get(t.Context(), g.ID, d.Subject)
	must(t, err)
}

// TestVoidRemovalComesLate: who knows that the remover was removed is told nothing by the removal.
func TestVoidRemovalComesLate(t *testing.T) {
	a, b, c, g := voidRemoval(t, false)
	log := b.logOf(g.ID)
	removal := log[first(t, log, entry.KindRemove)]
	syncPair(t, a, c, g.ID).end()
	events := c.Subscribe(t.Context())
	con := connect(t, a, b)
	eventually(t, "b is told", func() bool { return b.info(g.ID).Removed != nil })
	con.end()
	wantRemoved(t, b, g.ID, a, "misuse")
	void, err := entry.Decode(removal)
	must(t, err)
	c.ingest(a, g.ID, void)
	wantMember(t, c, a, g)
	for len(events) > 0 {
		if _, told := (<-events).(groupsync.RemovedFromGroup); told {
			t.Error("a void removal was told")
		}
	}
}

// TestVoidRemovalComesFirst: who was told of a removal that does not stand is a member again when they meet somebody who knows.
func TestVoidRemovalComesFirst(t *testing.T) {
	for _, shared := range []bool{true, false} {
		a, b, c, g := voidRemoval(t, shared)
		con := connect(t, b, c)
		eventually(t, "c is told", func() bool { return c.info(g.ID).Removed != nil })
		con.end()
		wantRemovedForNow(t, c, g, b)
		con = connect(t, a, c)
		eventually(t, "c is a member again", func() bool { return c.info(g.ID).Joined })
		con.end()
		wantMember(t, c, a, g)
		if shared {
			continue
		}
		for _, r := range c.Rendezvous() { // it was on the group's topics all the time
			if r.Group == g.ID && r.Announce {
				return
			}
		}
		t.Error("c is on no topic of the group")
	}
}

// wantRemovedForNow is wantRemoved for a removal that may turn out not to stand: c goes on looking for members who know.
func wantRemovedForNow(t *testing.T, c *node, g groupsync.GroupInfo, by *node) {
	t.Helper()
	if r := c.info(g.ID).Removed; r == nil || r.By != by.UserID() || r.Reason == "" || c.topics(g.ID) == 0 || c.Admits(by.UserID()) != groupsync.AdmitMember {
		t.Fatalf("%+v, %d topics", r, c.topics(g.ID))
	}
	c.clock.add(8 * 24 * time.Hour)
	if c.topics(g.ID) != 0 {
		t.Error("it goes on for ever")
	}
	c.clock.add(-8 * 24 * time.Hour)
	_, err := c.Put(t.Context(), g.ID, []byte(`{"type":"Note"}`))
	wantErr(t, err, groupsync.ErrNotMember)
}
