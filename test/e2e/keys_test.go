package e2e

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/peersignal/peersignal/internal/daemon/api"
	"github.com/peersignal/peersignal/test/harness"
)

// emptied is a daemon with no data folder.
func emptied(t *testing.T, ctx context.Context, w *harness.World, name string) *harness.Daemon {
	t.Helper()
	d, err := w.NewDaemon(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(d.Dir); err != nil {
		t.Fatal(err)
	}
	return d
}

// withWords is a running user and a file with the 24 words.
func withWords(t *testing.T, ctx context.Context, w *harness.World, name string) (d *harness.Daemon, words string) {
	t.Helper()
	d = emptied(t, ctx, w, name)
	var made struct{ Recovery []string }
	if err := d.JSON(ctx, &made, "init", "--name", name, "--insecure-keystore"); err != nil {
		t.Fatal(err)
	}
	words = filepath.Join(t.TempDir(), "words")
	if err := os.WriteFile(words, []byte(strings.Join(made.Recovery, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	up(t, ctx, d)
	return d, words
}

func userKeys(t *testing.T, ctx context.Context, d *harness.Daemon, user string) (k api.UserKeys) {
	t.Helper()
	if err := d.JSON(ctx, &k, "key", "show", user); err != nil {
		t.Fatal(err)
	}
	return k
}

func down(t *testing.T, ctx context.Context, d *harness.Daemon) {
	t.Helper()
	cli(t, ctx, d, "down")
	if _, err := d.Process.WaitExit(ctx); err != nil {
		t.Fatal(err)
	}
}

// waitSame waits until daemons hold the same of a group.
func waitSame(t *testing.T, ctx context.Context, name string, all ...*harness.Daemon) {
	t.Helper()
	if err := harness.Until(ctx, "equal replicas", func() (bool, error) {
		prints := map[string]bool{}
		for _, d := range all {
			g, ok := find(status(t, ctx, d), name)
			if !ok {
				return false, nil
			}
			prints[g.Fingerprint] = true
		}
		return len(prints) == 1, nil
	}); err != nil {
		t.Fatal(err)
	}
}

// A user rotates the key: what was written before and after counts, also for a member who comes later.
func TestKeyRotation(t *testing.T) {
	ctx, w := world(t)
	a, b := user(t, ctx, w, "alice"), user(t, ctx, w, "bob")
	join(t, ctx, a, b, "garden")
	var mine, other api.SafetyNumber
	if a.JSON(ctx, &mine, "key", "safety-number", "bob") != nil || b.JSON(ctx, &other, "key", "safety-number", "alice") != nil || mine.Number != other.Number {
		t.Fatalf("safety numbers: %q %q", mine.Number, other.Number)
	}
	cli(t, ctx, a, "key", "verify", "bob", mine.Number)
	put(t, ctx, b, "garden", `{"type":"Note","n":1}`)
	waitDocs(t, ctx, "garden", 1, a, b)
	down(t, ctx, b)
	var changed struct{ Groups int }
	if err := b.JSON(ctx, &changed, "key", "rotate", "--yes"); err != nil || changed.Groups != 1 {
		t.Fatalf("rotate: %+v %v", changed, err)
	}
	up(t, ctx, b)
	put(t, ctx, b, "garden", `{"type":"Note","n":2}`)
	waitDocs(t, ctx, "garden", 2, a, b)
	if k := userKeys(t, ctx, a, "bob"); k.Trust != "verified" || !k.Rotated || len(k.Events) != 1 || k.Key != userKeys(t, ctx, b, "me").Key {
		t.Errorf("bob's keys: %+v", k)
	}
	c := user(t, ctx, w, "carol")
	join(t, ctx, a, c, "garden")
	waitDocs(t, ctx, "garden", 2, a, b, c)
	waitSame(t, ctx, "garden", a, b, c)
	join(t, ctx, b, c, "made-later") // by who has another key than the first
	put(t, ctx, c, "made-later", `{"type":"Note"}`)
	waitDocs(t, ctx, "made-later", 1, b, c)
}

// A device is lost with its key. With the words and a card from a member, everything comes back on a new one; the old device is out.
func TestRecovery(t *testing.T) {
	ctx, w := world(t)
	old, words := withWords(t, ctx, w, "alice")
	b := user(t, ctx, w, "bob")
	join(t, ctx, old, b, "garden")
	put(t, ctx, old, "garden", `{"type":"Note","n":1}`)
	put(t, ctx, b, "garden", `{"type":"Note","n":2}`)
	waitDocs(t, ctx, "garden", 2, old, b)
	id := userKeys(t, ctx, old, "me").User
	old.Process.Kill()
	var card api.Card
	if err := b.JSON(ctx, &card, "key", "card", "alice", "--way-back"); err != nil || card.Groups != 1 {
		t.Fatalf("card: %+v %v", card, err)
	}
	fresh := emptied(t, ctx, w, "alice-again")
	if _, err := fresh.CLI(ctx, "recover", card.Card, "--name", "alice", "--insecure-keystore"); err == nil {
		t.Error("recovered without words")
	}
	var got struct {
		User    string
		Pending int
	}
	if err := fresh.JSON(ctx, &got, "recover", card.Card, "--name", "alice", "--insecure-keystore", "--words-file", words); err != nil || got.User != id || got.Pending != 1 {
		t.Fatalf("recover: %+v %v", got, err)
	}
	up(t, ctx, fresh)
	if err := harness.Until(ctx, "the group", func() (bool, error) { return has(t, ctx, fresh, "garden"), nil }); err != nil {
		t.Fatal(err)
	}
	waitDocs(t, ctx, "garden", 2, fresh, b)
	if err := harness.Until(ctx, "the new key", func() (bool, error) {
		_, err := fresh.CLIInput(ctx, strings.NewReader(`{"type":"Note","n":3}`), "put", "garden")
		return err == nil, nil
	}); err != nil {
		t.Fatal(err)
	}
	waitDocs(t, ctx, "garden", 3, fresh, b)
	cli(t, ctx, fresh, "group", "rename", "garden", "ours again") // still the owner
	waitSame(t, ctx, "ours again", fresh, b)
	// The old device comes back and writes with the old key: nobody takes it.
	up(t, ctx, old)
	lost := put(t, ctx, old, "garden", `{"type":"Note","n":4}`)
	put(t, ctx, b, "ours again", `{"type":"Note","n":5}`)
	waitDocs(t, ctx, "ours again", 4, fresh, b)
	if _, err := b.CLI(ctx, "get", "ours again", lost); err == nil {
		t.Error("a write with the old key counts")
	}
	if k := userKeys(t, ctx, b, "alice"); len(k.Events) != 1 || k.Events[0].By != "recovery" || !k.Events[0].Stands {
		t.Errorf("alice's keys: %+v", k)
	}
}

// A rotation is killed at any moment, again and again: the identity is usable and the groups know it.
func TestKilledRotation(t *testing.T) {
	ctx, w := world(t)
	d := user(t, ctx, w, "alice")
	cli(t, ctx, d, "group", "create", "garden")
	put(t, ctx, d, "garden", `{"type":"Note"}`)
	down(t, ctx, d)
	for range 12 {
		cmd := exec.CommandContext(ctx, w.Bin.Peerd, "--data", d.Dir, "key", "rotate", "--yes") //nolint:gosec // our own binary
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(250)) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	up(t, ctx, d)
	put(t, ctx, d, "garden", `{"type":"Note"}`)
	k := userKeys(t, ctx, d, "me")
	if k.Frozen || k.Ended {
		t.Errorf("%+v", k)
	}
	down(t, ctx, d)
	out := cli(t, ctx, d, "key", "rotate", "--yes", "--json")
	var changed struct{ Key string }
	if err := json.Unmarshal(out, &changed); err != nil {
		t.Fatal(err)
	}
	up(t, ctx, d)
	put(t, ctx, d, "garden", `{"type":"Note"}`)
	waitDocs(t, ctx, "garden", 3, d)
	if again := userKeys(t, ctx, d, "me"); again.Key != changed.Key || len(again.Events) != len(k.Events)+1 {
		t.Errorf("after %d rotations: %+v", len(k.Events), again)
	}
}
