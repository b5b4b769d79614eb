package sync_test

import (
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// TestRemovedMemberHasTheLink: who was removed still has the link with which they came, and it has uses left.
func TestRemovedMemberHasTheLink(t *testing.T) {
	a, b, c := newNode(t, 0), newNode(t, 1), newNode(t, 2)
	g := a.create("g")
	inv := a.invite(g, groupsync.InviteOptions{Role: entry.Write, Uses: 5})
	other := a.invite(g, groupsync.InviteOptions{Role: entry.Write, Uses: 5})
	must(t, b.Join(t.Context(), inv))
	con := connect(t, a, b)
	eventually(t, "the join", func() bool { return con.synced(g) })
	must(t, a.Remove(t.Context(), g, b.UserID(), ""))
	eventually(t, "the removed one knows", func() bool { return b.info(g).Role == "" })
	con.end()
	list, err := a.Invitations(t.Context(), g)
	must(t, err)
	if len(list) != 1 || list[0].UsesLeft != 5 {
		t.Errorf("open invitations: %+v", list)
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
