package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

func version(t *testing.T, s *session) int {
	t.Helper()
	var n int
	if _, err := s.one("PRAGMA user_version", nil, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Each migration is all or nothing, and runs once.
func TestMigrationsAreTransactions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	if err := create(path); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", dataSource(path))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s, err := openSession(context.Background(), db)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	texts, err := migrations()
	if err != nil || len(texts) != schemaVersion || version(t, s) != schemaVersion {
		t.Fatalf("%d migrations, the schema is %d, want %d (%v)", len(texts), version(t, s), schemaVersion, err)
	}
	good := migration{text: "CREATE TABLE added (n INTEGER); INSERT INTO added VALUES (7);"}
	bad := migration{text: "CREATE TABLE half (n INTEGER); INSERT INTO missing VALUES (1);"}
	later := migration{text: "CREATE TABLE half (n INTEGER);", then: func(*session, func(int64, int64)) error { return errHash }}
	if err := migrate(s, append(texts, good, later), nil); !errors.Is(err, errHash) {
		t.Errorf("a migration whose second half fails returned %v", err)
	}
	if err := migrate(s, append(texts, good, bad), nil); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("schema %d", schemaVersion+2)) {
		t.Errorf("a bad migration returned %v", err)
	}
	if version(t, s) != schemaVersion+1 {
		t.Errorf("the schema is %d, want %d", version(t, s), schemaVersion+1)
	}
	if _, err := s.one("SELECT n FROM half", nil, new(int)); err == nil {
		t.Error("half a migration was done")
	}
	if err := migrate(s, append(texts, good, migration{text: "CREATE TABLE half (n INTEGER);"}), nil); err != nil {
		t.Error(err)
	}
	n := 0
	if _, err := s.one("SELECT sum(n) FROM added", nil, &n); err != nil || n != 7 {
		t.Errorf("the sum is %d, %v: a migration was done twice", n, err)
	}
	if err := migrate(s, texts, nil); !errors.Is(err, ErrNewerSchema) {
		t.Errorf("the release before returned %v", err)
	}
}
