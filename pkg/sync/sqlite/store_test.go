package sqlite_test

import (
	"context"
	"path/filepath"
	"testing"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/sqlite"
	"github.com/peersignal/peersignal/pkg/sync/storetest"
)

func open(t *testing.T, path string, o sqlite.Options) *sqlite.Store {
	t.Helper()
	store, err := sqlite.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// check is the end of most tests: whatever happened, the store is whole. It
// runs in cleanups too, where t.Context has ended.
func check(t *testing.T, store *sqlite.Store) {
	t.Helper()
	if err := store.Check(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) (groupsync.Store, func() groupsync.Store) {
		path := filepath.Join(t.TempDir(), "store.db")
		store := open(t, path, sqlite.Options{})
		t.Cleanup(func() {
			_ = store.Close()
			check(t, open(t, path, sqlite.Options{}))
		})
		return store, func() groupsync.Store {
			check(t, store)
			if err := store.Close(); err != nil {
				t.Fatal(err)
			}
			store = open(t, path, sqlite.Options{})
			return store
		}
	})
}
