package sync_test

import (
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// TestRemovedMemberHasTheLink: who was removed or blocked still has the link with which they came, and it has uses left.
func TestRemovedMemberHasTheLink(t *testing.T) {
	t.Run("removed", func(t *testing.T) {
		testLinkAfter(t, func(a *node, g, user peercrypto.ID) error { return a.Remove(t.Context(), g, user, "") })
	})
	t.Run("blocked", func(t *testing.T) {
		testLinkAfter(t, func(a *node, g, user peercrypto.ID) error { return a.Block(t.Context(), g, user) })
	})
}

func testLinkAfter(t *testing.T, end func(a *node, g, user peercrypto.ID) error) {
	a, b, c := newNode(t, 0), newNode(t, 1), newNode(t, 2)
	g := a.create("g")
	inv := a.invite(g, groupsync.InviteOptions{Role: entry.Write, Uses: 5})
	other := a.invite(g, groupsync.InviteOptions{Role: entry.Write, Uses: 5})
	must(t, b.Join(t.Context(), inv))
	con := connect(t, a, b)
	eventually(t, "the join", func() bool { return con.synced(g) })
	must(t, end(a, g, b.UserID()))
	eventually(t, "the removed one knows", func() bool { return b.info(g).Role == "" })
	con.end()
	list, err := a.Invitations(t.Context(), g)
	must(t, err)
	if len(list) != 1 || list[0].UsesLeft != 5 {
		t.Fatalf("open invitations: %+v", list)
	}
	for _, again := range []*node{b, c} { // as themselves, and as somebody else
		must(t, again.Join(t.Context(), inv))
		events := again.Subscribe(t.Context())
		con := connect(t, a, again)
		if ev := nextEvent[groupsync.JoinFailed](t, events); ev.Code != groupsync.RefusedRevoked {
			t.Errorf("%+v", ev)
		}
		con.end()
		if n := len(a.info(g).Members); n != 1 {
			t.Errorf("%d members", n)
		}
	}
	must(t, c.Join(t.Context(), other))
	con = connect(t, a, c)
	eventually(t, "a join by another invitation", func() bool { return con.synced(g) })
	con.end()
}

// TestRequestsEndWithTheirInvitation: who asked with a manual invitation that was closed does not keep a place for ever.
func TestRequestsEndWithTheirInvitation(t *testing.T) {
	a := newNode(t, 0)
	g, other := a.create("g"), a.create("other")
	ask := func(n *node, group peercrypto.ID) {
		t.Helper()
		must(t, n.Join(t.Context(), a.invite(group, groupsync.InviteOptions{Manual: true})))
		events := n.Subscribe(t.Context())
		con := connect(t, a, n)
		if ev := nextEvent[groupsync.JoinFailed](t, events); ev.Code != groupsync.RefusedWaiting {
			t.Fatalf("%+v", ev)
		}
		con.end()
	}
	first, second, third := newNode(t, 1), newNode(t, 2), newNode(t, 3)
	ask(first, other)
	ask(second, g)
	list, err := a.Invitations(t.Context(), g)
	must(t, err)
	must(t, a.Uninvite(t.Context(), g, list[0].Hash))
	ask(third, g)
	reqs, err := a.JoinRequests(t.Context())
	must(t, err)
	waiting := map[peercrypto.ID]peercrypto.ID{}
	for _, r := range reqs {
		waiting[r.UserID] = r.Group
	}
	if len(reqs) != 2 || waiting[first.UserID()] != other || waiting[third.UserID()] != g {
		t.Errorf("%+v", reqs)
	}
}

// TestRequestsAreBounded: only so many people wait to be admitted to one group. Who waits already keeps the place, and other groups have their own.
func TestRequestsAreBounded(t *testing.T) {
	a := newNode(t, 0)
	g, other := a.create("g"), a.create("other")
	ask := func(n *node, inv entry.Invitation, want groupsync.RefusalCode) {
		t.Helper()
		must(t, n.Join(t.Context(), inv))
		events := n.Subscribe(t.Context())
		con := connect(t, a, n)
		if ev := nextEvent[groupsync.JoinFailed](t, events); ev.Code != want {
			t.Fatalf("%+v", ev)
		}
		con.end()
		must(t, n.CancelJoin(t.Context(), inv.Group))
	}
	inv := a.invite(g, groupsync.InviteOptions{Manual: true, Uses: 1_000})
	first, second := newNode(t, 1), newNode(t, 2)
	ask(first, inv, groupsync.RefusedWaiting)
	must(t, a.store.Update(t.Context(), func(tx groupsync.Tx) error { // as if 99 others had asked
		raw, _, err := tx.Value("requests", string(g)+"/"+string(first.UserID()))
		for range 99 {
			if err == nil {
				err = tx.PutValue("requests", string(g)+"/"+string(peercrypto.NewID(time.Now())), raw)
			}
		}
		return err
	}))
	ask(second, inv, groupsync.RefusedBusy)
	ask(first, inv, groupsync.RefusedWaiting)
	ask(second, a.invite(other, groupsync.InviteOptions{Manual: true}), groupsync.RefusedWaiting)
	reqs, err := a.JoinRequests(t.Context())
	must(t, err)
	if len(reqs) != 101 {
		t.Errorf("%d requests", len(reqs))
	}
	must(t, a.Admit(t.Context(), g, first.UserID()))
	ask(second, inv, groupsync.RefusedWaiting)
}
