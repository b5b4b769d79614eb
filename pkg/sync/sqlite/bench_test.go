package sqlite_test

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/sqlite"
)

const benchGroup = peercrypto.ID("00mwrj0xzzgroup0000000001")

// benchRecord is a change of 800 bytes; every document is written once.
func benchRecord(n int) groupsync.Record {
	return groupsync.Record{
		Ref:   groupsync.Ref{Modified: 1_700_000_000_000 + int64(n), Hash: peercrypto.Sum(fmt.Append(nil, n))},
		Group: benchGroup, Kind: entry.Data,
		Subject: peercrypto.ID(fmt.Sprintf("00mwrj0xzzsubject%08d", n)),
		As:      peercrypto.Sum([]byte("grant")), Prev: peercrypto.Sum(fmt.Append(nil, n-1)),
		Dev: "00mwrj0xzzdevice000000001", Seq: int64(n),
		Raw:   bytes.Repeat([]byte("0123456789"), 80),
		Valid: true, Shared: true,
	}
}

func benchDocument(r groupsync.Record) groupsync.Document {
	return groupsync.Document{
		Group: r.Group, Subject: r.Subject, Type: "Note", Modified: r.Modified, Last: r.Ref,
		JSON: bytes.Repeat([]byte("0123456789"), 50),
	}
}

func benchStore(b *testing.B) *sqlite.Store {
	b.Helper()
	store, err := sqlite.Open(filepath.Join(b.TempDir(), "store.db"), sqlite.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = store.Close() })
	return store
}

// write puts n records, and their documents if asked to, in transactions of batch.
func write(b *testing.B, store *sqlite.Store, from, n, batch int, documents bool) {
	b.Helper()
	for at := from; at < from+n; at += batch {
		err := store.Update(context.Background(), func(tx groupsync.Tx) error {
			for i := at; i < min(at+batch, from+n); i++ {
				r := benchRecord(i)
				if err := tx.PutRecord(r); err != nil {
					return err
				}
				if !documents {
					continue
				}
				if _, err := tx.PutDocument(benchDocument(r)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPut(b *testing.B) {
	for _, c := range []struct {
		name      string
		batch     int
		documents bool
	}{{"Records1000", 1000, false}, {"RecordsAndDocuments1000", 1000, true}, {"RecordAlone", 1, false}} {
		b.Run(c.name, func(b *testing.B) {
			store := benchStore(b)
			b.ResetTimer()
			write(b, store, 0, b.N, c.batch, c.documents)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

func BenchmarkRead(b *testing.B) {
	const n = 100_000
	store := benchStore(b)
	write(b, store, 0, n, 1000, false)
	scope := groupsync.Scope{Group: benchGroup, Kind: entry.Data}
	lo, hi := benchRecord(1).Ref, benchRecord(n-1).Ref
	for _, c := range []struct {
		name string
		run  func(r groupsync.Reader, i int) error
	}{
		{"SummaryWhole", func(r groupsync.Reader, _ int) error {
			_, err := r.Summary(scope, groupsync.Ref{}, groupsync.Ref{Modified: 1 << 62})
			return err
		}},
		{"Split100000", func(r groupsync.Reader, _ int) error {
			_, err := r.Split(scope, lo, hi, 16)
			return err
		}},
		{"Record", func(r groupsync.Reader, i int) error {
			_, _, err := r.Record(benchRecord(i * 7919 % n).Hash)
			return err
		}},
		{"Has100", func(r groupsync.Reader, i int) error {
			hashes := make([]peercrypto.Hash, 100)
			for k := range hashes {
				hashes[k] = benchRecord((i + k) * 7919 % (2 * n)).Hash
			}
			_, err := r.Has(hashes)
			return err
		}},
		{"SharedAfter1000", func(r groupsync.Reader, i int) error {
			_, err := r.SharedAfter(benchGroup, int64(i*1000%n), 1000)
			return err
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			err := store.View(context.Background(), func(r groupsync.Reader) error {
				for i := range b.N {
					if err := c.run(r, i); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
		})
	}
}
