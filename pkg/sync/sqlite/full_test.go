package sqlite_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/sqlite"
)

// counts returns how many entries and documents of benchGroup there are.
func counts(t *testing.T, store groupsync.Store) (entries, documents int64) {
	t.Helper()
	err := store.View(context.Background(), func(r groupsync.Reader) error {
		sum, err := r.Summary(groupsync.Scope{Group: benchGroup, Kind: entry.Data}, groupsync.Ref{}, groupsync.Ref{Modified: 1 << 62})
		if err != nil {
			return err
		}
		entries = sum.Count
		documents, _, err = r.DocumentCounts(benchGroup)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return entries, documents
}

// fillUp writes batches of 50 until there is no room; it returns how many
// entries were acknowledged.
func fillUp(t *testing.T, store groupsync.Store) int {
	t.Helper()
	for n := 0; n < 100_000; n += 50 {
		err := tryPut(store, n, 50)
		if errors.Is(err, groupsync.ErrStoreFull) {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("the store took everything")
	return 0
}

func wantCounts(t *testing.T, store groupsync.Store, n int) {
	t.Helper()
	if entries, documents := counts(t, store); entries != int64(n) || documents != int64(n) {
		t.Fatalf("%d entries and %d documents, want %d", entries, documents, n)
	}
}

// A full store refuses whole transactions and works again when there is room.
func TestQuota(t *testing.T) {
	store := open(t, filepath.Join(t.TempDir(), "store.db"), sqlite.Options{MaxBytes: 1 << 20})
	n := fillUp(t, store)
	if n == 0 {
		t.Fatal("nothing was stored")
	}
	wantCounts(t, store, n)
	// The function can't hide the error, and what follows it has no effect.
	err := store.Update(context.Background(), func(tx groupsync.Tx) error {
		for i := range 1000 {
			_ = tx.PutRecord(benchRecord(n + i))
		}
		return tx.PutValue("a", "b", []byte("c"))
	})
	if !errors.Is(err, groupsync.ErrStoreFull) {
		t.Errorf("Update returned %v", err)
	}
	err = store.Update(context.Background(), func(tx groupsync.Tx) error {
		for i := range 1000 {
			_ = tx.PutRecord(benchRecord(n + i))
		}
		return nil
	})
	if !errors.Is(err, groupsync.ErrStoreFull) {
		t.Errorf("Update returned %v", err)
	}
	wantCounts(t, store, n)
	check(t, store)
	if err := store.Update(context.Background(), func(tx groupsync.Tx) error { return tx.PurgeGroup(benchGroup) }); err != nil {
		t.Fatal(err)
	}
	put(t, store, 0, 50)
	wantCounts(t, store, 50)
	check(t, store)
}
