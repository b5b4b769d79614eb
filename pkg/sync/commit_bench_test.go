package sync_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// BenchmarkCommit writes one document after the other, each signed and durable, and beside it one record of the same size into a bare table of SQLite,
// also durable. times is the ratio of the medians; "store" leaves out what the engine does around its transaction.
func BenchmarkCommit(b *testing.B) {
	bare := bareSQLite(b)
	n := openNode(b, identity(b, 0), openSQLite(b, "bench"), "a")
	g := n.create("bench")
	store := openSQLite(b, "store")
	doc := func(i int) json.RawMessage {
		return json.RawMessage(fmt.Sprintf(`{"type":"Row","number":%d,"text":"%0100d"}`, i, i))
	}
	var costs [3][]time.Duration
	for i := 0; b.Loop(); i++ {
		for k, write := range []func() error{
			func() error { return bare(i) },
			func() error { _, err := n.Put(b.Context(), g, doc(i)); return err },
			func() error { return putOne(store, i, doc(i)) },
		} {
			begin := time.Now()
			if err := write(); err != nil {
				b.Fatal(err)
			}
			costs[k] = append(costs[k], time.Since(begin))
		}
	}
	var median [3]float64
	for k := range costs {
		slices.Sort(costs[k])
		median[k] = float64(costs[k][len(costs[k])/2].Microseconds())
	}
	b.ReportMetric(median[0], "bare-µs")
	b.ReportMetric(median[1]/median[0], "times")
	b.ReportMetric(median[2]/median[0], "store-times")
}

func putOne(store groupsync.Store, i int, doc []byte) error {
	return store.Update(context.Background(), func(tx groupsync.Tx) error {
		r := groupsync.Record{
			Ref:   groupsync.Ref{Modified: 1_700_000_000_000 + int64(i), Hash: peercrypto.Sum(fmt.Append(nil, i))},
			Group: "00mwrj0xzzgroup0000000001", Kind: entry.Data, Subject: peercrypto.ID(fmt.Sprintf("00mwrj0xzzsubject%08d", i)),
			Dev: "00mwrj0xzzdevice000000001", Seq: int64(i), Raw: make([]byte, 900), Valid: true, Shared: true,
		}
		if err := tx.PutRecord(r); err != nil {
			return err
		}
		_, err := tx.PutDocument(groupsync.Document{Group: r.Group, Subject: r.Subject, Type: "Row", Modified: r.Modified, Last: r.Ref, JSON: doc})
		return err
	})
}

func bareSQLite(b *testing.B) func(i int) error {
	db, err := sql.Open("sqlite", filepath.Join(b.TempDir(), "bare.db"))
	must(b, err)
	b.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(1)
	for _, text := range []string{"PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "CREATE TABLE records (id INTEGER PRIMARY KEY, hash BLOB, raw BLOB)"} {
		_, err := db.Exec(text)
		must(b, err)
	}
	stmt, err := db.Prepare("INSERT INTO records (hash, raw) VALUES (?, ?)")
	must(b, err)
	return func(i int) error {
		h := peercrypto.Sum(fmt.Append(nil, i))
		_, err := stmt.Exec(h[:], make([]byte, 1_400))
		return err
	}
}
