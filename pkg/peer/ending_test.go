package peer_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

func (u *user) group(id peercrypto.ID) groupsync.GroupInfo {
	u.t.Helper()
	g, err := u.Group(context.Background(), id)
	if err != nil {
		u.t.Fatal(err)
	}
	return g
}

// TestRemovedMemberLearnsIt: the device of a removed member is told who removed it and why, and nobody shows it as in sync any more.
func TestRemovedMemberLearnsIt(t *testing.T) {
	s := startServer(t)
	alice, bob := newUser(t, "alice").open(s), newUser(t, "bob").open(s)
	group := alice.create("garden")
	alice.invites(bob, group, groupsync.InviteOptions{})
	alice.put(group, `{"type":"Note","text":"for both"}`)
	equal(t, group, 1, alice, bob)
	// Names travel beside the group and may come a moment later.
	eventually(t, "bob knows alice's name", func() bool {
		return slices.ContainsFunc(bob.group(group).Members, func(m groupsync.MemberInfo) bool { return m.Name == "alice" })
	})
	from := bob.events.len()
	if err := alice.Remove(deadline(t), group, bob.User(), "moved away"); err != nil {
		t.Fatal(err)
	}
	bob.events.wait(t, from, "bob is told", func(ev peer.Event) bool {
		r, ok := ev.(peer.RemovedFromGroup)
		return ok && r == peer.RemovedFromGroup{Group: group, By: alice.User(), Reason: "moved away"}
	})
	eventually(t, "bob knows by whom", func() bool { r := bob.group(group).Removed; return r != nil && r.Name == "alice" })
	g := bob.group(group)
	if g.Joined || !g.Left || g.Removed.Reason != "moved away" {
		t.Errorf("bob's group: %+v", g)
	}
	if _, err := bob.Put(deadline(t), group, []byte(`{"type":"Note"}`)); !errors.Is(err, groupsync.ErrNotMember) {
		t.Errorf("bob writes: %v", err)
	}
	eventually(t, "there is no connection", func() bool { return !alice.connectedTo(bob) && !bob.connectedTo(alice) })
	for _, u := range []*user{alice, bob} {
		for _, d := range u.Status().Devices {
			if len(d.Groups) > 0 {
				t.Errorf("%s shows %+v", u.name, d.Groups)
			}
		}
	}
	eventually(t, "bob looks for nobody", func() bool { return bob.Status().Server.Topics == 1 })
}

// TestLeaveOfOneWhoIsAlone: bob leaves while nobody is there, and restarts. He is there until alice knows.
func TestLeaveOfOneWhoIsAlone(t *testing.T) {
	s := startServer(t)
	alice, bob := newUser(t, "alice").open(s), newUser(t, "bob").open(s)
	group := alice.create("garden")
	alice.invites(bob, group, groupsync.InviteOptions{})
	equal(t, group, 0, alice, bob)
	alice.close()
	eventually(t, "alice is gone", func() bool { return !bob.connectedTo(alice) })
	if err := bob.Leave(deadline(t), group); err != nil {
		t.Fatal(err)
	}
	bob.close()
	bob.open(s)
	if g := bob.group(group); !g.Left || !g.Untold {
		t.Fatalf("bob's group: %+v", g)
	}
	eventually(t, "bob is on the group's topic", func() bool { return bob.Status().Server.Published == 2 })
	alice.open(s)
	eventually(t, "alice knows that bob left", func() bool { return len(alice.group(group).Members) == 1 })
	eventually(t, "bob looks for nobody", func() bool {
		return !bob.group(group).Untold && bob.Status().Server.Topics == 1
	})
	eventually(t, "there is no connection", func() bool { return !alice.connectedTo(bob) && !bob.connectedTo(alice) })
}
