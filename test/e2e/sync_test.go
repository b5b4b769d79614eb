package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/peersignal/peersignal/test/harness"
)

func documents() int {
	if testing.Short() {
		return 2_000
	}
	return 20_000
}

// importUntil starts an import at from and returns when a part of its n documents is at to. The channel gets the import's end.
func importUntil(t *testing.T, ctx context.Context, from, to *harness.Daemon, file string, n int) <-chan error {
	t.Helper()
	ended := make(chan error, 1)
	go func() {
		_, err := from.CLI(ctx, "import", "garden", file, "--key", "key")
		ended <- err
	}()
	err := harness.Until(ctx, to.Name+" to have a part", func() (bool, error) {
		return group(t, ctx, to, "garden").Documents > int64(n/20), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ended
}

// TestKilledReceiverCatchesUp kills the receiver with kill -9 in the middle of a sync.
func TestKilledReceiverCatchesUp(t *testing.T) {
	t.Parallel()
	ctx, w := world(t)
	alice, bob := user(t, ctx, w, "alice"), user(t, ctx, w, "bob")
	join(t, ctx, alice, bob, "garden")
	n := documents()
	file := records(t, w, n)

	imported := importUntil(t, ctx, alice, bob, file, n)
	bob.Process.Kill()
	if err := <-imported; err != nil {
		t.Fatalf("the importer must not care about a dead receiver: %v", err)
	}
	up(t, ctx, bob)
	if g := group(t, ctx, bob, "garden"); g.Documents == 0 {
		t.Error("what bob had before the kill is gone")
	}
	waitDocs(t, ctx, "garden", int64(n), alice, bob)
}

// TestAcknowledgedPutSurvivesKill kills the writer right after each acknowledged write.
func TestAcknowledgedPutSurvivesKill(t *testing.T) {
	t.Parallel()
	ctx, w := world(t)
	alice, bob := user(t, ctx, w, "alice"), user(t, ctx, w, "bob")
	join(t, ctx, alice, bob, "garden")
	var ids []string
	for i := range 5 {
		ids = append(ids, put(t, ctx, alice, "garden", fmt.Sprintf(`{"type":"Note","n":%d}`, i)))
		alice.Process.Kill()
		up(t, ctx, alice)
		for _, id := range ids {
			cli(t, ctx, alice, "get", "garden", id)
		}
	}
	waitDocs(t, ctx, "garden", 5, alice, bob)
}

// TestRelayOnlyAndServerRestart syncs through the embedded TURN while the signaling server dies and comes back.
func TestRelayOnlyAndServerRestart(t *testing.T) {
	t.Parallel()
	ctx, w := world(t)
	relay := []string{"--ice-transport", "relay"}
	alice, bob := user(t, ctx, w, "alice", relay...), user(t, ctx, w, "bob", relay...)
	join(t, ctx, alice, bob, "garden")
	n := documents() / 4
	file := records(t, w, n)
	imported := importUntil(t, ctx, alice, bob, file, n)
	for _, device := range status(t, ctx, bob).Devices {
		if device.Connected && device.Path != "relay" {
			t.Errorf("connected by %q (%s, %s), want relay", device.Path, device.LocalCandidate, device.RemoteCandidate)
		}
	}
	w.Server.Kill()
	if err := <-imported; err != nil {
		t.Fatal(err)
	}
	if err := w.StartServer(ctx); err != nil {
		t.Fatal(err)
	}
	waitDocs(t, ctx, "garden", int64(n), alice, bob)

	carol := user(t, ctx, w, "carol", relay...)
	join(t, ctx, alice, carol, "garden")
	waitDocs(t, ctx, "garden", int64(n), alice, bob, carol)
}

// TestImportResumes interrupts an import and runs it again: nothing is there twice.
func TestImportResumes(t *testing.T) {
	t.Parallel()
	ctx, w := world(t)
	alice := user(t, ctx, w, "alice")
	cli(t, ctx, alice, "group", "create", "garden")
	n := documents() / 4
	file := records(t, w, n)
	cut := importUntil(t, ctx, alice, alice, file, n)
	alice.Process.Kill()
	if err := <-cut; err == nil {
		t.Log("the import was faster than the kill")
	}
	up(t, ctx, alice)
	for range 2 {
		cli(t, ctx, alice, "import", "garden", file, "--key", "key")
		if g := group(t, ctx, alice, "garden"); g.Documents != int64(n) || g.Entries != int64(n) {
			t.Fatalf("%d documents and %d changes after importing %d", g.Documents, g.Entries, n)
		}
	}
}

// TestThreeUsersLeaveAndRemove walks through membership with three users.
func TestThreeUsersLeaveAndRemove(t *testing.T) {
	t.Parallel()
	ctx, w := world(t)
	alice, bob, carol := user(t, ctx, w, "alice"), user(t, ctx, w, "bob"), user(t, ctx, w, "carol")
	join(t, ctx, alice, bob, "garden")
	join(t, ctx, alice, carol, "garden")
	put(t, ctx, bob, "garden", `{"type":"Note","text":"from bob"}`)
	put(t, ctx, carol, "garden", `{"type":"Note","text":"from carol"}`)
	waitDocs(t, ctx, "garden", 2, alice, bob, carol)

	cli(t, ctx, carol, "leave", "garden", "--yes")
	waitMembers(t, ctx, "garden", 2, alice, bob)
	if _, err := carol.CLIInput(ctx, nil, "put", "garden", "-"); err == nil {
		t.Error("carol left and can still write")
	}
	put(t, ctx, alice, "garden", `{"type":"Note","text":"after carol"}`)
	waitDocs(t, ctx, "garden", 3, alice, bob)

	cli(t, ctx, alice, "group", "remove", "garden", "bob", "--yes")
	waitMembers(t, ctx, "garden", 1, alice)
	put(t, ctx, alice, "garden", `{"type":"Note","text":"alone"}`)
	time.Sleep(500 * time.Millisecond) // nothing to wait for: the note must not arrive
	for _, d := range []*harness.Daemon{bob, carol} {
		if g := group(t, ctx, d, "garden"); g.Documents > 3 {
			t.Errorf("%s is no member and has %d documents", d.Name, g.Documents)
		}
	}
}
