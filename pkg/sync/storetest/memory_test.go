package storetest_test

import (
	"testing"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Run(t, func(t *testing.T) (groupsync.Store, func() groupsync.Store) {
		store := storetest.NewMemory()
		t.Cleanup(func() { _ = store.Close() })
		return store, nil
	})
}
