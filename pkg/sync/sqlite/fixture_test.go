package sqlite_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/sqlite"
)

// The fixture is what release 1 wrote. It is never made again: -fixture only
// creates the file of a schema that has none.
var makeFixture = flag.Bool("fixture", false, "write testdata/schema1.db.gz if it is missing")

const fixture = "testdata/schema1.db.gz"

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

func writeFixture(t *testing.T) {
	t.Helper()
	path := fillStore(t, 30)
	store := open(t, path, sqlite.Options{})
	if err := store.Update(context.Background(), fixtureContent); err != nil {
		t.Fatal(err)
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
	if err := os.WriteFile(fixture, packed.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// unpackFixture returns the path of a copy.
func unpackFixture(t *testing.T) string {
	t.Helper()
	if _, err := os.Stat(fixture); err != nil && *makeFixture {
		writeFixture(t)
	}
	f, err := os.Open(fixture)
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

// Stores of the first release open, with everything in them.
func TestFixtureOfSchema1(t *testing.T) {
	path := unpackFixture(t)
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
	old, fresh := schema(unpackFixture(t)), schema(filepath.Join(t.TempDir(), "store.db"))
	if len(old) < 10 || !slices.Equal(old, fresh) {
		t.Errorf("the schemas differ:\n%q\n%q", old, fresh)
	}
}
