package peer_test

import (
	"errors"
	"testing"

	"github.com/peersignal/peersignal/pkg/peer"
	"github.com/peersignal/peersignal/pkg/peer/link"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

func TestNotify(t *testing.T) {
	s := startServer(t)
	alice, bob, carol := newUser(t, "alice").open(s), newUser(t, "bob").open(s), newUser(t, "carol").open(s)
	group := alice.create("garden")
	alice.invites(bob, group, groupsync.InviteOptions{})
	eventually(t, "connection", func() bool { return alice.connectedTo(bob) })
	from := bob.events.len()
	eventually(t, "notification", func() bool {
		results, err := alice.Notify(deadline(t), group, bob.User(), []byte("look here"))
		return err == nil && len(results) == 1 && results[0].Err == nil && results[0].Delivery == link.Delivered
	})
	bob.events.wait(t, from, "notification", func(ev peer.Event) bool {
		n, ok := ev.(peer.Notification)
		return ok && string(n.Body) == "look here" && n.User == alice.User() && n.Device == alice.Device()
	})
	if _, err := alice.Notify(deadline(t), group, carol.User(), nil); !errors.Is(err, groupsync.ErrNotFound) {
		t.Errorf("notifying a stranger: %v", err)
	}
	if _, err := alice.Notify(deadline(t), group, alice.User(), nil); !errors.Is(err, peer.ErrNoDevice) {
		t.Errorf("notifying own devices, of which there are none: %v", err)
	}
	if _, err := carol.Notify(deadline(t), group, alice.User(), nil); err == nil {
		t.Error("a stranger notifies a group")
	}
}
