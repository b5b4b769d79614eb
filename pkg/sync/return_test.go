package sync_test

import (
	"testing"

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
