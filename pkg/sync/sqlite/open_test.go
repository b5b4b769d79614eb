package sqlite_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/sqlite"
)

// fillStore makes a store with n entries and documents, closed again.
func fillStore(t *testing.T, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store.db")
	store := open(t, path, sqlite.Options{})
	put(t, store, 0, n)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// put writes entries and documents from at on.
func put(t *testing.T, store groupsync.Store, at, n int) {
	t.Helper()
	if err := tryPut(store, at, n); err != nil {
		t.Fatal(err)
	}
}

func tryPut(store groupsync.Store, at, n int) error {
	return store.Update(context.Background(), func(tx groupsync.Tx) error {
		for i := at; i < at+n; i++ {
			r := benchRecord(i)
			if err := tx.PutRecord(r); err != nil {
				return err
			}
			if _, err := tx.PutDocument(benchDocument(r)); err != nil {
				return err
			}
		}
		return nil
	})
}

// raw runs statements on the file as another SQLite program would.
func raw(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, text := range statements {
		if _, err := db.Exec(text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
}

func TestFilesAreOwnersOnly(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no modes")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "store # 100%?.db") // and any name will do
	store := open(t, path, sqlite.Options{})
	put(t, store, 0, 1)
	modes := func() {
		t.Helper()
		files, err := os.ReadDir(dir)
		if err != nil || len(files) < 2 {
			t.Fatalf("%d files, %v", len(files), err)
		}
		for _, f := range files {
			info, err := f.Info()
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s has modes %v, %v", f.Name(), info.Mode(), err)
			}
			if !strings.HasPrefix(f.Name(), "store # 100%?.db") {
				t.Errorf("a file named %s", f.Name())
			}
		}
	}
	modes()
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	check(t, open(t, path, sqlite.Options{}))
	modes()
}

func TestOneProcessAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	store := open(t, path, sqlite.Options{})
	link := filepath.Join(filepath.Dir(path), "link.db")
	names := []string{path}
	if os.Symlink(path, link) == nil {
		names = append(names, link)
	}
	for _, name := range names {
		_, err := sqlite.Open(name, sqlite.Options{})
		if !errors.Is(err, groupsync.ErrStoreInUse) {
			t.Fatalf("a second Open returned %v", err)
		}
		for _, want := range []string{name, fmt.Sprint(os.Getpid())} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q does not name %s", err, want)
			}
		}
	}
	put(t, store, 0, 1)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	check(t, open(t, path, sqlite.Options{}))
}

// Another SQLite program may read while the store works, and delays writers.
func TestOtherProgramsLocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	store := open(t, path, sqlite.Options{BusyTimeout: time.Millisecond})
	put(t, store, 0, 10)
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	var n int
	if err := db.QueryRow("SELECT count(*) FROM entries").Scan(&n); err != nil || n != 10 {
		t.Fatalf("another program reads %d entries, %v", n, err)
	}
	if _, err := db.Exec("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	if err := tryPut(store, 10, 1); !errors.Is(err, groupsync.ErrStoreInUse) {
		t.Errorf("a write under another program's lock returned %v", err)
	}
	if _, err := db.Exec("ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	put(t, store, 10, 1)
	check(t, store)
}

// Open refuses what it can't use, with an error that says so, and leaves it.
func TestRefusals(t *testing.T) {
	const page = 4096
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, path string, content []byte) []byte // nil: it changed the file itself
		want  error
		says  string
	}{
		{"text", func(*testing.T, string, []byte) []byte { return []byte("not a database") }, sqlite.ErrNotAStore, ""},
		{"noise", func(*testing.T, string, []byte) []byte { return bytes.Repeat([]byte("0123456"), 3000) }, sqlite.ErrNotAStore, ""},
		{"another program's", func(t *testing.T, path string, _ []byte) []byte {
			raw(t, path, "PRAGMA application_id = 252006674")
			return nil
		}, sqlite.ErrNotAStore, ""},
		{"no program's", func(t *testing.T, path string, _ []byte) []byte {
			raw(t, path, "PRAGMA application_id = 0")
			return nil
		}, sqlite.ErrNotAStore, ""},
		{"a newer release's", func(t *testing.T, path string, _ []byte) []byte {
			raw(t, path, "PRAGMA user_version = 99")
			return nil
		}, sqlite.ErrNewerSchema, "schema 99"},
		{"half a file", func(_ *testing.T, _ string, b []byte) []byte { return b[:len(b)/2/page*page] }, sqlite.ErrCorrupt, "bytes of"},
		{"half a header", func(_ *testing.T, _ string, b []byte) []byte { return b[:60] }, sqlite.ErrNotAStore, ""},
		{"a spoilt schema", func(_ *testing.T, _ string, b []byte) []byte {
			copy(b[100:page], bytes.Repeat([]byte{0xff}, page-100))
			return b
		}, sqlite.ErrCorrupt, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := fillStore(t, 20)
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if spoilt := c.spoil(t, path, content); spoilt != nil {
				if err := os.WriteFile(path, spoilt, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if content, err = os.ReadFile(path); err != nil {
				t.Fatal(err)
			}
			_, err = sqlite.Open(path, sqlite.Options{})
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Open returned %v", err)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, content) {
				t.Errorf("the file was changed (%v)", err)
			}
		})
	}
}

// A log without its file must not be applied to a new one.
func TestLogWithoutFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "store.db")
	store := open(t, path, sqlite.Options{})
	put(t, store, 0, 10)
	log, err := os.ReadFile(path + "-wal")
	if err != nil || len(log) == 0 {
		t.Fatalf("%d bytes of log, %v", len(log), err)
	}
	other := filepath.Join(dir, "other.db")
	if err := os.WriteFile(other+"-wal", log, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.Open(other, sqlite.Options{}); !errors.Is(err, sqlite.ErrCorrupt) || !strings.Contains(err.Error(), "other.db-wal") {
		t.Errorf("Open returned %v", err)
	}
	if after, err := os.ReadFile(other + "-wal"); err != nil || !bytes.Equal(after, log) {
		t.Errorf("the log was changed (%v)", err)
	}
}

func TestEmptyFileAndLeftovers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	for _, name := range []string{path, path + ".new", path + ".new-journal"} { // as a killed Open may leave them
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	store := open(t, path, sqlite.Options{})
	put(t, store, 0, 1)
	check(t, store)
	if _, err := os.Stat(path + ".new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the temporary file: %v", err)
	}
}

func TestMissingDirectoryAndBadOptions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none", "store.db")
	if _, err := sqlite.Open(path, sqlite.Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open in a missing directory returned %v", err)
	}
	if _, err := sqlite.Open(t.TempDir(), sqlite.Options{}); !errors.Is(err, sqlite.ErrNotAStore) && err == nil {
		t.Errorf("Open of a directory returned %v", err)
	}
	if _, err := sqlite.Open(path, sqlite.Options{Readers: -1}); err == nil {
		t.Error("negative options were taken")
	}
}

// twice stores an entry once more and all that follows from it.
const twice = `INSERT INTO entries (hash, gid, kind, modified, subject, cid, seq, prev, valid, shared, position, origin, life, raw)
		SELECT hash, gid, kind, modified, subject, cid, seq, prev, 0, 0, 0, origin, life, raw FROM entries WHERE eid = 3;
	INSERT INTO hashes SELECT substr(hash, 1, 8), (SELECT max(eid) FROM entries) FROM entries WHERE eid = 3;
	UPDATE groups SET unshared = 1`

// Check finds what is wrong, whichever table it is in.
func TestCheckFindsDamage(t *testing.T) {
	for name, statement := range map[string]string{
		"an entry is missing":      "DELETE FROM entries WHERE eid = 3",
		"a flag differs":           "UPDATE entries SET valid = 0, shared = 0, position = 0 WHERE eid = 3",
		"flags contradict":         "UPDATE entries SET shared = 0 WHERE eid = 3",
		"a hash differs":           "UPDATE entries SET hash = zeroblob(32) WHERE eid = 3",
		"a hash is missing":        "DELETE FROM hashes_recent WHERE eid = 3",
		"a hash of no entry":       "INSERT INTO hashes VALUES (zeroblob(8), 99)",
		"a hash in both tables":    "INSERT INTO hashes SELECT key, eid FROM hashes_recent WHERE eid = 3",
		"an entry is stored twice": twice,
		"a wrong count":            "UPDATE groups SET unshared = 1",
		"a chain is missing":       "DELETE FROM chains",
		"a group is missing":       "DELETE FROM groups",
		"a document is missing":    "DELETE FROM documents WHERE did = 3",
		"a document was deleted":   "UPDATE documents SET deleted = 1 WHERE did = 3",
		"a version is too high":    "UPDATE documents SET version = 1000 WHERE did = 3",
		"a position is too high":   "UPDATE entries SET position = 1000 WHERE eid = 3",
		"a position is used twice": "UPDATE entries SET position = 4 WHERE eid = 3",
		"a counter is missing":     "DELETE FROM counters",
		"a wait is missing":        "DELETE FROM quarantine_waits",
		"an item is missing":       "DELETE FROM quarantine",
		"the usage is wrong":       "UPDATE quarantine_usage SET items = 7",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store.db")
			store := open(t, path, sqlite.Options{})
			put(t, store, 0, 20)
			err := store.Update(context.Background(), func(tx groupsync.Tx) error {
				r := benchRecord(99)
				return tx.PutQuarantined(groupsync.Quarantined{Key: r.Hash, Group: r.Group, Raw: r.Raw, Waits: []groupsync.Wait{{Kind: "entry"}}})
			})
			if err != nil {
				t.Fatal(err)
			}
			check(t, store)
			raw(t, path, statement)
			if err := store.Check(context.Background()); !errors.Is(err, sqlite.ErrCorrupt) {
				t.Errorf("Check returned %v", err)
			}
		})
	}
}

// Damaged pages are found by whoever reads them, and by Check at any rate.
func TestDamagedPages(t *testing.T) {
	path := fillStore(t, 2000)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := len(content) / 2; at < len(content)*3/4; at += 4096 {
		copy(content[at/4096*4096:], bytes.Repeat([]byte{0xab}, 64))
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	store := open(t, path, sqlite.Options{})
	if err := store.Check(context.Background()); !errors.Is(err, sqlite.ErrCorrupt) {
		t.Errorf("Check returned %v", err)
	}
	err = store.View(context.Background(), func(r groupsync.Reader) error {
		for i := range 2000 {
			if _, _, err := r.Record(benchRecord(i).Hash); err != nil {
				return err
			}
		}
		return nil
	})
	if !errors.Is(err, sqlite.ErrCorrupt) {
		t.Errorf("reading everything returned %v", err)
	}
}

// The manual's way to make a backup of a store in use.
func TestBackupByVacuum(t *testing.T) {
	dir := t.TempDir()
	path, backup := filepath.Join(dir, "store.db"), filepath.Join(dir, "backup.db")
	store := open(t, path, sqlite.Options{})
	put(t, store, 0, 50)
	raw(t, path, "VACUUM INTO '"+backup+"'")
	put(t, store, 50, 50)
	wantCounts(t, store, 100)
	copied := open(t, backup, sqlite.Options{})
	wantCounts(t, copied, 50)
	check(t, copied)
}
