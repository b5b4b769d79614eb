package sqlite_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/sqlite"
)

// Fixtures are what the release of a schema wrote. They are never made again: -fixture only creates the file of a
// schema that has none.
var makeFixture = flag.Bool("fixture", false, "write the fixture of this schema if it is missing")

func fixturePath(name string) string { return "testdata/" + name + ".db.gz" }

const endingGroup = peercrypto.ID("00mwrj0xzzgroup0000000009")

// newContent is what fixtures have from schema 2 on.
func newContent(tx groupsync.Tx) error {
	_, err := tx.PutDocument(groupsync.Document{Group: endingGroup, Subject: "00mwrj0xzzsubject00000009", Type: "Ending", Modified: 1,
		JSON: []byte(`{"n":1,"ttl":1800000000000}`)})
	return errors.Join(err, tx.EnsureIndex(groupsync.IndexSpec{Name: "ending", Type: "Ending", Fields: []string{"n"}}))
}

// fixtureContent is what the fixture holds beside 30 entries and documents.
func fixtureContent(tx groupsync.Tx) error {
	void := benchRecord(3)
	if err := tx.SetFlags(void.Hash, false, false); err != nil {
		return err
	}
	if err := tx.PutGroup(groupsync.GroupRecord{ID: benchGroup, Joined: true, Meta: []byte(`{"servers":[]}`)}); err != nil {
		return err
	}
	if err := tx.PutValue("settings", "name", []byte("alice")); err != nil {
		return err
	}
	d := benchDocument(benchRecord(4))
	d.Deleted, d.JSON, d.Type = true, nil, ""
	if _, err := tx.PutDocument(d); err != nil {
		return err
	}
	held := benchRecord(50)
	return tx.PutQuarantined(groupsync.Quarantined{
		Key: held.Hash, Group: held.Group, Hash: held.Hash, Raw: held.Raw, From: "00mwrj0xzzuser00000000001", Received: 1_700_000_000_000,
		Waits: []groupsync.Wait{{Kind: "entry", Ref: held.Prev.String()}, {Kind: "time", Ref: "1700000060000"}},
	})
}

func writeFixture(t *testing.T, name string) {
	t.Helper()
	path := fillStore(t, 30)
	store := open(t, path, sqlite.Options{})
	for _, content := range []func(groupsync.Tx) error{fixtureContent, newContent} {
		if err := store.Update(context.Background(), content); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	z, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if _, err := z.Write(b); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(fixturePath(name), packed.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// unpackFixture returns the path of a copy.
func unpackFixture(t *testing.T, name string) string {
	t.Helper()
	if _, err := os.Stat(fixturePath(name)); err != nil && *makeFixture {
		writeFixture(t, name)
	}
	f, err := os.Open(fixturePath(name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "store.db")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Stores of each release open, with everything in them.
func TestFixtures(t *testing.T) {
	for _, name := range []string{"schema1", "schema2", "schema3"} {
		t.Run(name, func(t *testing.T) { testFixture(t, unpackFixture(t, name)) })
	}
}

func testFixture(t *testing.T, path string) {
	store := open(t, path, sqlite.Options{})
	check(t, store)
	err := store.View(context.Background(), func(r groupsync.Reader) error {
		g, found, err := r.Group(benchGroup)
		if err != nil || !found || !g.Joined || string(g.Meta) != `{"servers":[]}` {
			t.Errorf("the group is %+v, %v, %v", g, found, err)
		}
		for n := range 30 {
			rec, found, err := r.Record(benchRecord(n).Hash)
			want := benchRecord(n)
			if n == 3 {
				want.Valid, want.Shared = false, false
			}
			rec.Position = 0
			if err != nil || !found || rec.Compare(want.Ref) != 0 || rec.Valid != want.Valid || !bytes.Equal(rec.Raw, want.Raw) ||
				rec.As != want.As || rec.Prev != want.Prev || rec.Dev != want.Dev || rec.Seq != want.Seq || rec.Origin != 0 {
				t.Errorf("entry %d: %+v, %v, %v", n, rec, found, err)
			}
			d, found, err := r.Document(want.Group, want.Subject)
			if err != nil || !found || d.Deleted != (n == 4) || d.Last != want.Ref {
				t.Errorf("document %d: %+v, %v, %v", n, d, found, err)
			}
		}
		live, deleted, err := r.DocumentCounts(benchGroup)
		if err != nil || live != 29 || deleted != 1 {
			t.Errorf("%d documents and %d tombstones, %v", live, deleted, err)
		}
		name, _, err := r.Value("settings", "name")
		if err != nil || string(name) != "alice" {
			t.Errorf("the value is %q, %v", name, err)
		}
		held := 0
		err = r.Due(1_700_000_060_000, 0, func(q groupsync.Quarantined) error {
			held += len(q.Waits)
			return nil
		})
		if held != 2 {
			t.Errorf("the quarantined item has %d waits", held)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	put(t, store, 100, 1)
	check(t, store)
}

// manyRecord is an entry of the fixture schema1-many: 1,200 of two groups and both kinds, in no order.
func manyRecord(n int) groupsync.Record {
	r := groupsync.Record{
		Ref:     groupsync.Ref{Modified: 1_700_000_000_000 + int64(n*7919%1000)*50, Hash: peercrypto.Sum(fmt.Append(nil, "many", n))},
		Group:   peercrypto.ID(fmt.Sprintf("00mwrj0xzzgroup000000000%d", 2+n%2)),
		Kind:    entry.Data,
		Subject: peercrypto.ID(fmt.Sprintf("00mwrj0xzzsubject%08d", n)),
		As:      peercrypto.Sum([]byte("grant")), Dev: "00mwrj0xzzdevice000000001", Seq: int64(n),
		Raw: fmt.Appendf(nil, `{"n":%d}`, n), Valid: n%5 > 0, Shared: n%10 > 0,
	}
	if n%7 == 0 {
		r.Kind = entry.Operation
	}
	return r
}

// The fixture of schema 2 has an index, and a document that ends.
func TestFixtureOfSchema2(t *testing.T) {
	store := open(t, unpackFixture(t, "schema2"), sqlite.Options{})
	err := store.View(t.Context(), func(r groupsync.Reader) error {
		ended, err := r.Expired(1_800_000_000_000, 0)
		found := 0
		err2 := r.Documents(groupsync.DocumentQuery{Group: endingGroup, Type: "Ending", OrderBy: "n"}, func(groupsync.Document) error { found++; return nil })
		if len(ended) != 1 || found != 1 {
			t.Errorf("%d documents end, %d are in the index", len(ended), found)
		}
		return errors.Join(err, err2)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The trees of an old store answer as a new one does in which the same was put.
func TestFixtureGrowsTrees(t *testing.T) {
	var told []int64
	old := open(t, unpackFixture(t, "schema1-many"), sqlite.Options{Progress: func(done, total int64) { told = append(told, done, total) }})
	check(t, old)
	if len(told) < 8 || told[len(told)-1] != told[len(told)-2] {
		t.Errorf("the progress was %v", told)
	}
	fresh := open(t, filepath.Join(t.TempDir(), "store.db"), sqlite.Options{})
	err := fresh.Update(t.Context(), func(tx groupsync.Tx) error {
		for n := range 1200 {
			if err := tx.PutRecord(manyRecord(n)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	check(t, fresh)
	answers := func(store *sqlite.Store) (out []any) {
		err := store.View(t.Context(), func(r groupsync.Reader) error {
			for n := range 4 {
				first := manyRecord(n * 21)
				scope := groupsync.Scope{Group: first.Group, Kind: first.Kind}
				sum, err := r.Summary(scope, first.Ref, groupsync.Ref{Modified: 1_700_000_040_000})
				refs, err2 := r.Refs(scope, groupsync.Ref{}, groupsync.Ref{Modified: 1 << 62}, 2000)
				out = append(out, sum, refs)
				if err := errors.Join(err, err2); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if !reflect.DeepEqual(answers(old), answers(fresh)) {
		t.Error("the old store's trees differ")
	}
}

// Old and new stores have the same tables: migrations are never edited.
func TestFixtureHasTheSameSchema(t *testing.T) {
	schema := func(path string) []string {
		if err := open(t, path, sqlite.Options{}).Close(); err != nil { // migrates
			t.Fatal(err)
		}
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		rows, err := db.Query("SELECT coalesce(sql, name) FROM sqlite_master")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var out []string
		for rows.Next() {
			var text string
			if err := rows.Scan(&text); err != nil {
				t.Fatal(err)
			}
			out = append(out, text)
		}
		slices.Sort(out)
		return out
	}
	old, fresh := schema(unpackFixture(t, "schema1")), schema(filepath.Join(t.TempDir(), "store.db"))
	if len(old) < 10 || !slices.Equal(old, fresh) {
		t.Errorf("the schemas differ:\n%q\n%q", old, fresh)
	}
}
