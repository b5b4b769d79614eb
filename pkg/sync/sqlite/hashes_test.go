package sqlite

import (
	"fmt"
	"path/filepath"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

func hashRecord(group string, n int) groupsync.Record {
	return groupsync.Record{
		Ref:   groupsync.Ref{Modified: int64(1000 + n), Hash: peercrypto.Sum(fmt.Append(nil, group, n))},
		Group: peercrypto.ID(group), Kind: entry.Data, Subject: peercrypto.ID(fmt.Sprint("subject", n)),
		As: peercrypto.Sum([]byte(group)), Dev: "device", Seq: int64(n), Raw: []byte("{}"), Valid: true, Shared: true,
	}
}

// Entries are found by hash before and after they were moved, and gone from both tables with their group.
func TestHashesMove(t *testing.T) {
	store, err := Open(filepath.Join(t.TempDir(), "store.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	const few = 100
	put := func(group string, from, to int) {
		err := store.Update(t.Context(), func(tx groupsync.Tx) error {
			for n := from; n < to; n++ {
				if err := tx.PutRecord(hashRecord(group, n)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	put("a", 0, few)
	put("b", 0, minRecent)   // moves all
	put("a", few, 2*few)     // recent
	put("b", 0, minRecent/2) // known
	rows := func(table string) (n int) {
		err := store.View(t.Context(), func(r groupsync.Reader) error {
			_, err := r.(*reader).one("SELECT count(*) FROM "+table, nil, &n)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if old, recent := rows("hashes"), rows("hashes_recent"); old != few+minRecent || recent != few {
		t.Fatalf("%d were moved, %d are recent", old, recent)
	}
	err = store.View(t.Context(), func(r groupsync.Reader) error {
		for n := range 2 * few {
			want := hashRecord("a", n)
			if rec, found, err := r.Record(want.Hash); err != nil || !found || rec.Seq != want.Seq {
				t.Fatalf("entry %d: %+v, %v, %v", n, rec, found, err)
			}
		}
		scope := groupsync.Scope{Group: "a", Kind: entry.Data}
		behind, err := r.Unknown(scope, groupsync.Ref{Modified: 1000 + 2*few}, groupsync.Ref{Modified: 9000})
		within, err2 := r.Unknown(scope, groupsync.Ref{Modified: 1001}, groupsync.Ref{Modified: 1002})
		if err != nil || err2 != nil || !behind || within {
			t.Errorf("unknown: %v and %v (%v, %v)", behind, within, err, err2)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := store.Update(t.Context(), func(tx groupsync.Tx) error { return tx.PurgeGroup("a") }); err != nil {
		t.Fatal(err)
	}
	put("a", 0, few)
	if old, recent := rows("hashes"), rows("hashes_recent"); old != minRecent || recent != few {
		t.Errorf("%d and %d rows are left", old, recent)
	}
	if err := store.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
}
