package sqlite

import (
	"os"
	"path/filepath"
	"testing"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

// Small commits are folded into the file while the store is open, long before the writer would do it.
func TestLogIsFoldedBesideTheWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	store, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	size := func(name string) int64 {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	empty := size(path)
	commits := 2*foldAfter/pagesOfCommit + 2
	for n := range commits {
		if err := store.Update(t.Context(), func(tx groupsync.Tx) error { return tx.PutRecord(hashRecord("a", n)) }); err != nil {
			t.Fatal(err)
		}
	}
	store.running.Wait() // who folds is counted
	if log := size(path + "-wal"); log > maxUnfolded*4096 {
		t.Errorf("the log has %d bytes", log)
	}
	if size(path) == empty {
		t.Error("nothing was folded")
	}
	if err := store.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
}
