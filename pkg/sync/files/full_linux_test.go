package files_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/peersignal/peersignal/pkg/sync/files"
)

// mountSmall mounts a file system of 4 MiB, or skips.
func mountSmall(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m,mode=700"); err != nil {
		t.Skipf("mounting a small file system: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// TestFullDisk fills a real disk in the middle of a file: what was taken stays,
// and with room again it goes on.
func TestFullDisk(t *testing.T) {
	from, dir := open(t, t.TempDir(), files.Options{}), mountSmall(t)
	content := random(10*files.ChunkSize, 1)
	f, err := from.Open(add(t, from, content).ID)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	to := open(t, filepath.Join(dir, "files"), files.Options{Reserve: -1})
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := to.Add(t.Context(), bytes.NewReader(content), nil); !errors.Is(err, files.ErrNoSpace) {
		t.Errorf("Add: %v", err)
	}
	p := begin(t, to, f)
	defer p.Close()
	full := -1
	for i := range 10 {
		if err := p.Put(i, chunkOf(content, i)); err != nil {
			if !errors.Is(err, files.ErrNoSpace) {
				t.Fatalf("Put: %v", err)
			}
			full = i
			break
		}
	}
	if full < 1 {
		t.Fatalf("the disk was full at chunk %d", full)
	}
	if !p.Has(full-1) || p.Has(full) {
		t.Errorf("chunk %d: %v, %d: %v", full-1, p.Has(full-1), full, p.Has(full))
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for i := full; i < 10; i++ {
		put(t, p, content, i)
	}
	if err := p.Finish(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read(t, to, f.Ref().ID), content) {
		t.Error("another content")
	}
}
