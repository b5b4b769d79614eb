package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/peersignal/peersignal/internal/daemon/api"
	"github.com/peersignal/peersignal/test/harness"
)

// randomFile writes n random bytes and returns its path and id.
func randomFile(t *testing.T, w *harness.World, name string, n int) (path, id string) {
	t.Helper()
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	path = filepath.Join(w.Dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return path, hex.EncodeToString(sum[:])
}

func addFile(t *testing.T, ctx context.Context, d *harness.Daemon, name, path string, extra ...string) api.File {
	t.Helper()
	var f api.File
	if err := d.JSON(ctx, &f, append([]string{"file", "add", name, path}, extra...)...); err != nil {
		t.Fatal(err)
	}
	return f
}

// fileOf returns a file as a daemon sees it, as soon as it knows it.
func fileOf(t *testing.T, ctx context.Context, d *harness.Daemon, name, id string) api.File {
	t.Helper()
	var found api.File
	err := harness.Until(ctx, d.Name+" to know the file", func() (bool, error) {
		var list []api.File
		if err := d.JSON(ctx, &list, "file", "list", name); err != nil {
			return false, err
		}
		for _, f := range list {
			if f.File == id {
				found = f
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func sameFile(t *testing.T, want, got string) {
	t.Helper()
	a, err := os.ReadFile(want)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(got)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Errorf("%s (%d bytes) is not %s (%d bytes)", got, len(b), want, len(a))
	}
}

func fileSize() int {
	if testing.Short() {
		return 8 << 20
	}
	return 50 << 20
}

// TestFileResumesAfterKill kills the receiver with kill -9 in the middle of a
// file, twice: what was verified is not sent again.
func TestFileResumesAfterKill(t *testing.T) {
	t.Parallel()
	ctx, w := world(t)
	size := fileSize()
	rate := fmt.Sprint(size / 12)
	alice, bob := user(t, ctx, w, "alice", "--file-upload-rate", rate), user(t, ctx, w, "bob")
	join(t, ctx, alice, bob, "garden")
	path, id := randomFile(t, w, "film.bin", size)
	if f := addFile(t, ctx, alice, "garden", path); f.File != id || !f.Complete || f.Name != "film.bin" {
		t.Fatalf("%+v", f)
	}
	fileOf(t, ctx, bob, "garden", id)
	for part := 1; part <= 2; part++ {
		got := make(chan error, 1)
		go func() {
			_, err := bob.CLI(ctx, "file", "get", "garden", "film.bin", "--fetch-only")
			got <- err
		}()
		have := haveAtLeast(t, ctx, bob, id, int64(size*part/4))
		bob.Process.Kill()
		if err := <-got; err == nil {
			t.Fatal("the fetch ended before the kill")
		}
		up(t, ctx, bob)
		if f := fileOf(t, ctx, bob, "garden", id); f.Have < have || f.Complete || !f.Fetching {
			t.Errorf("before the kill %d bytes, after it %+v", have, f)
		}
	}
	out := filepath.Join(w.Dir, "out.bin")
	cli(t, ctx, bob, "file", "get", "garden", id[:8], "-o", out)
	sameFile(t, path, out)
	code, _ := exitCode(t, func() error {
		_, err := bob.CLI(ctx, "file", "get", "garden", id[:8], "-o", out)
		return err
	}())
	if code != 1 {
		t.Errorf("writing over a file: exit %d", code)
	}
}

// haveAtLeast waits until a daemon has so much of a file.
func haveAtLeast(t *testing.T, ctx context.Context, d *harness.Daemon, id string, want int64) int64 {
	t.Helper()
	var have int64
	err := harness.Until(ctx, "a part of the file", func() (bool, error) {
		f := fileOf(t, ctx, d, "garden", id)
		if f.Complete {
			return false, errors.New("it is complete already")
		}
		have = f.Have
		return have >= want, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return have
}

// TestFileFromTwoDaemons fetches from two at once, of which one has a spoilt
// chunk on its disk: that one comes from the other, and the spoilt copy repairs
// itself.
func TestFileFromTwoDaemons(t *testing.T) {
	t.Parallel()
	ctx, w := world(t)
	size := 8 << 20
	rate := []string{"--file-peer-upload-rate", fmt.Sprint(size / 8)}
	alice, bob := user(t, ctx, w, "alice", rate...), user(t, ctx, w, "bob", rate...)
	carol := user(t, ctx, w, "carol")
	join(t, ctx, alice, bob, "garden")
	join(t, ctx, alice, carol, "garden")
	path, id := randomFile(t, w, "film.bin", size)
	addFile(t, ctx, alice, "garden", path)
	fileOf(t, ctx, bob, "garden", id)
	addFile(t, ctx, bob, "garden", path)
	spoil(t, filepath.Join(bob.Dir, "files", "content", id[:2], id, "data"), 3<<20)
	fileOf(t, ctx, carol, "garden", id)
	waitConnected(t, ctx, carol, 2)

	got := make(chan error, 1)
	out := filepath.Join(w.Dir, "out.bin")
	go func() {
		_, err := carol.CLI(ctx, "file", "get", "garden", "film.bin", "-o", out)
		got <- err
	}()
	most := 0
	for done := false; !done; {
		select {
		case err := <-got:
			if err != nil {
				t.Fatal(err)
			}
			done = true
		default:
			most = max(most, fileOf(t, ctx, carol, "garden", id).Sources)
		}
	}
	if most != 2 {
		t.Errorf("fetched from %d devices at once", most)
	}
	sameFile(t, path, out)
	back := filepath.Join(w.Dir, "back.bin")
	cli(t, ctx, bob, "file", "get", "garden", "film.bin", "-o", back)
	sameFile(t, path, back)
}

func spoil(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("rotten"), at); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
}

func waitConnected(t *testing.T, ctx context.Context, d *harness.Daemon, n int) {
	t.Helper()
	err := harness.Until(ctx, fmt.Sprintf("%s to be connected with %d", d.Name, n), func() (bool, error) {
		connected := 0
		for _, device := range status(t, ctx, d).Devices {
			if device.Connected && device.Syncing {
				connected++
			}
		}
		return connected >= n, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestFileSharing has a user who shares another group with the owner, knows the
// reference, and gets nothing before the file is shared.
func TestFileSharing(t *testing.T) {
	t.Parallel()
	ctx, w := world(t)
	alice, eve := user(t, ctx, w, "alice"), user(t, ctx, w, "eve")
	join(t, ctx, alice, eve, "club")
	cli(t, ctx, alice, "group", "create", "garden")
	path, id := randomFile(t, w, "secret.bin", 1<<20)
	f := addFile(t, ctx, alice, "garden", path)
	waitConnected(t, ctx, eve, 1)

	short, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, err := eve.CLI(short, "file", "get", f.Ref, "--fetch-only"); err == nil {
		t.Error("a stranger got the file")
	}
	var local api.LocalFiles
	if err := eve.JSON(ctx, &local, "file", "status"); err != nil {
		t.Fatal(err)
	}
	if len(local.Files) != 1 || local.Files[0].Have != 0 {
		t.Errorf("a stranger has %+v", local)
	}
	ref := strings.TrimSpace(string(cli(t, ctx, alice, "file", "share", "garden", "secret.bin", "--user", "eve")))
	if ref != f.Ref {
		t.Errorf("another reference: %s, %s", ref, f.Ref)
	}
	out := filepath.Join(w.Dir, "out.bin")
	cli(t, ctx, eve, "file", "get", ref, "-o", out)
	sameFile(t, path, out)

	// Who forgets a file does not have it, and the owner can take it from all.
	cli(t, ctx, eve, "file", "forget", id)
	code, text := exitCode(t, func() error {
		_, err := eve.CLI(ctx, "file", "forget", id)
		return err
	}())
	if code != 4 {
		t.Errorf("forgetting twice: exit %d, %s", code, text)
	}
	cli(t, ctx, alice, "file", "forget", "garden", "secret.bin", "--for-everybody")
	var list []api.File
	if err := alice.JSON(ctx, &list, "file", "list", "garden"); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestFileLimits fills the quota.
func TestFileLimits(t *testing.T) {
	t.Parallel()
	ctx, w := world(t)
	alice, bob := user(t, ctx, w, "alice"), user(t, ctx, w, "bob", "--file-quota", "1MiB")
	join(t, ctx, alice, bob, "garden")
	small, _ := randomFile(t, w, "small.bin", 600<<10)
	big, id := randomFile(t, w, "big.bin", 2<<20)
	addFile(t, ctx, bob, "garden", small)
	addFile(t, ctx, alice, "garden", big, "--name", "../../etc/big", "--type", "text/html")
	fileOf(t, ctx, bob, "garden", id)
	for _, args := range [][]string{{"file", "add", "garden", big}, {"file", "get", "garden", id}} {
		code, text := exitCode(t, func() error {
			_, err := bob.CLI(ctx, args...)
			return err
		}())
		if code != 1 || !strings.Contains(text, "quota") {
			t.Errorf("%v: exit %d, %s", args, code, text)
		}
	}
	// The name that somebody gave is not a path.
	dir := filepath.Join(w.Dir, "downloads")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cli(t, ctx, alice, "file", "get", "garden", id, "-o", dir)
	sameFile(t, big, filepath.Join(dir, "_.._etc_big"))
	code, text := exitCode(t, func() error {
		_, err := alice.CLI(ctx, "file", "get", "garden", "nosuch")
		return err
	}())
	if code != 4 {
		t.Errorf("an unknown file: exit %d, %s", code, text)
	}
}
