package e2e

import (
	"context"
	"testing"

	"github.com/peersignal/peersignal/internal/daemon/api"
	"github.com/peersignal/peersignal/test/harness"
)

// another makes and starts another device of a daemon's user.
func another(t *testing.T, ctx context.Context, w *harness.World, of *harness.Daemon, name string) *harness.Daemon {
	t.Helper()
	var card api.Card
	var request struct{ Request, Code string }
	var added api.AddedDevice
	d := emptied(t, ctx, w, name)
	if err := of.JSON(ctx, &card, "key", "card"); err != nil {
		t.Fatal(err)
	}
	if err := d.JSON(ctx, &request, "device", "new", card.Card, "--name", "alice", "--insecure-keystore"); err != nil || len(request.Code) != 23 {
		t.Fatal(err, request.Code)
	}
	if err := of.JSON(ctx, &added, "device", "add", request.Request, "--yes"); err != nil {
		t.Fatal(err)
	}
	cli(t, ctx, d, "device", "join", added.Welcome)
	up(t, ctx, d)
	return d
}

// keyOf is the user key that a daemon works with; "" while it begins anew.
func keyOf(ctx context.Context, d *harness.Daemon) string {
	var id api.ID
	if d.JSON(ctx, &id, "id") != nil {
		return ""
	}
	return id.UserKey
}

// waitKey waits until daemons work with the same key, another one than before.
func waitKey(t *testing.T, ctx context.Context, before string, all ...*harness.Daemon) string {
	t.Helper()
	var now string
	if err := harness.Until(ctx, "the new key", func() (bool, error) {
		now = keyOf(ctx, all[0])
		for _, d := range all {
			if k := keyOf(ctx, d); k == "" || k == before || k != now {
				return false, nil
			}
		}
		return true, nil
	}); err != nil {
		t.Fatal(err)
	}
	return now
}

// The key of a user reaches the other devices: one that is there, and one that was away and meets only the first of them.
func TestKeyReachesOtherDevices(t *testing.T) {
	ctx, w := world(t)
	a, b := user(t, ctx, w, "alice"), user(t, ctx, w, "bob")
	join(t, ctx, a, b, "garden")
	second, third := another(t, ctx, w, a, "second"), another(t, ctx, w, a, "third")
	put(t, ctx, b, "garden", `{"type":"Note"}`)
	if err := harness.Until(ctx, "the group on all devices", func() (bool, error) {
		return has(t, ctx, second, "garden") && has(t, ctx, third, "garden"), nil
	}); err != nil {
		t.Fatal(err)
	}
	waitDocs(t, ctx, "garden", 1, a, b, second, third)
	down(t, ctx, third)
	before := keyOf(ctx, a)
	cli(t, ctx, a, "key", "rotate", "--yes")
	now := waitKey(t, ctx, before, a, second)
	putSoon(t, ctx, second, "garden", `{"type":"Note"}`)
	waitDocs(t, ctx, "garden", 2, a, b, second)
	down(t, ctx, a)
	up(t, ctx, third) // the first device is gone: the second one gives the key
	if got := waitKey(t, ctx, before, third, second); got != now {
		t.Error("another key came")
	}
	putSoon(t, ctx, third, "garden", `{"type":"Note"}`)
	waitDocs(t, ctx, "garden", 3, b, second, third)
	if k := userKeys(t, ctx, b, "alice"); k.Key != now || k.Frozen {
		t.Errorf("%+v", k)
	}
}

// Two of three devices replace the key without the third, which keeps the old one.
func TestDevicesReplaceKey(t *testing.T) {
	ctx, w := world(t)
	a, b := user(t, ctx, w, "alice"), user(t, ctx, w, "bob")
	join(t, ctx, a, b, "garden")
	second, lost := another(t, ctx, w, a, "second"), another(t, ctx, w, a, "lost")
	var id api.ID
	if err := lost.JSON(ctx, &id, "id"); err != nil {
		t.Fatal(err)
	}
	listed := func(d *harness.Daemon, n int) {
		if err := harness.Until(ctx, "the list of devices", func() (bool, error) {
			var list []api.OwnDevice
			err := d.JSON(ctx, &list, "device", "ls")
			return len(list) == n, err
		}); err != nil {
			t.Fatal(err)
		}
	}
	listed(second, 3)
	before := keyOf(ctx, a)
	var p api.Proposal
	if err := a.JSON(ctx, &p, "key", "propose", "--without", id.Device[:14], "--reason", "compromised", "--yes"); err != nil || p.Missing != 1 {
		t.Fatalf("%+v %v", p, err)
	}
	if err := harness.Until(ctx, "the proposal", func() (bool, error) {
		var list []api.Proposal
		err := second.JSON(ctx, &list, "key", "proposals")
		return len(list) == 1, err
	}); err != nil {
		t.Fatal(err)
	}
	cli(t, ctx, second, "key", "approve", p.Proposal[:8], "--yes")
	now := waitKey(t, ctx, before, a, second)
	putSoon(t, ctx, second, "garden", `{"type":"Note"}`)
	waitDocs(t, ctx, "garden", 1, a, b, second)
	if k := userKeys(t, ctx, b, "alice"); k.Key != now || k.Frozen {
		t.Errorf("%+v", k)
	}
	if keyOf(ctx, lost) != before {
		t.Error("the lost device got the new key")
	}
}
