package sqlite_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/sqlite"
)

// mountSmall mounts a file system of 2 MiB, or skips.
func mountSmall(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m,mode=700"); err != nil {
		t.Skipf("mounting a small file system: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// A full disk is a full store; with room again it goes on without a restart.
func TestFullDisk(t *testing.T) {
	dir := mountSmall(t)
	path := filepath.Join(dir, "store.db")
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 512<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	store := open(t, path, sqlite.Options{})
	n := fillUp(t, store)
	if err := tryPut(store, n, 50); !errors.Is(err, groupsync.ErrStoreFull) {
		t.Errorf("on a full disk Update returned %v", err)
	}
	wantCounts(t, store, n)
	check(t, store)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	put(t, store, n, 50)
	wantCounts(t, store, n+50)
	check(t, store)
	n += 50
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	store = open(t, path, sqlite.Options{})
	wantCounts(t, store, n)
	check(t, store)
}

func TestNoRoomToCreate(t *testing.T) {
	dir := mountSmall(t)
	if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 2<<20-16<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "store.db")
	if _, err := sqlite.Open(path, sqlite.Options{}); !errors.Is(err, groupsync.ErrStoreFull) {
		t.Errorf("Open returned %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
		t.Fatal(err)
	}
	check(t, open(t, path, sqlite.Options{}))
}

func TestReadOnlyDisk(t *testing.T) {
	dir := mountSmall(t)
	path := filepath.Join(dir, "store.db")
	store := open(t, path, sqlite.Options{})
	put(t, store, 0, 1)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Skipf("mounting read-only: %v", err)
	}
	if _, err := sqlite.Open(path, sqlite.Options{}); !errors.Is(err, groupsync.ErrStoreReadOnly) {
		t.Errorf("Open returned %v", err)
	}
}
