package sync_test

import (
	"context"
	"sync/atomic"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/storetest"
)

// A countingStore counts what transactions ask for and write.
type countingStore struct {
	groupsync.Store
	chains, flags, records atomic.Int64
}

type countingTx struct {
	groupsync.Tx
	s *countingStore
}

func (s *countingStore) Update(ctx context.Context, fn func(groupsync.Tx) error) error {
	return s.Store.Update(ctx, func(tx groupsync.Tx) error { return fn(countingTx{tx, s}) })
}

func (t countingTx) DataOf(as peercrypto.Hash, fn func(groupsync.Record) error) error {
	t.s.chains.Add(1)
	return t.Tx.DataOf(as, fn)
}

func (t countingTx) SetFlags(h peercrypto.Hash, valid, shared bool) error {
	t.s.flags.Add(1)
	return t.Tx.SetFlags(h, valid, shared)
}

func (t countingTx) PutRecord(r groupsync.Record) error {
	t.s.records.Add(1)
	return t.Tx.PutRecord(r)
}

// TestOperationTouchesWhatItConcerns counts what the store is asked for by one operation in a group with members, some
// of them removed, who all wrote data.
func TestOperationTouchesWhatItConcerns(t *testing.T) {
	store := &countingStore{Store: storetest.NewMemory()}
	a := openNode(t, identity(t, 0), store, "a")
	others := []*node{newNode(t, 1), newNode(t, 2), newNode(t, 3), newNode(t, 4)}
	g := a.create("g")
	join(t, a, g, entry.Write, others...)
	for _, o := range others {
		syncPair(t, a, o, g).end()
		o.put(g, `{"type":"Note","by":%q}`, string(o.UserID()))
		syncPair(t, a, o, g).end()
	}
	must(t, a.Remove(t.Context(), g, others[0].UserID(), ""))
	must(t, a.Remove(t.Context(), g, others[1].UserID(), ""))
	count := func(name string, chains, flags, records int64, fn func() error) {
		t.Helper()
		store.chains.Store(0)
		store.flags.Store(0)
		store.records.Store(0)
		must(t, fn())
		if c, f, r := store.chains.Load(), store.flags.Load(), store.records.Load(); c > chains || f > flags || r > records {
			t.Errorf("%s: data of %d grants was looked at, %d flags changed, %d records written; at most %d, %d, %d", name, c, f, r, chains, flags, records)
		}
	}
	count("an add", 0, 0, 1, func() error { return a.AddMember(t.Context(), g, identity(t, 5).Genesis, entry.Write) })
	count("a name", 0, 0, 1, func() error { return a.Rename(t.Context(), g, "renamed") })
	// Its frontier and its judgement; the removal and the new key.
	count("a removal", 2, 0, 2, func() error { return a.Remove(t.Context(), g, others[2].UserID(), "") })
}
