package sqlite_test

import (
	"database/sql"
	"os"
	"strings"
	"testing"

	"github.com/peersignal/peersignal/pkg/sync/sqlite"
)

// Every statement of the manual works.
func TestManual(t *testing.T) {
	manual, err := os.ReadFile("../../../docs/storage.md")
	if err != nil {
		t.Fatal(err)
	}
	path := unpackFixture(t, "schema1")
	if err := open(t, path, sqlite.Options{}).Close(); err != nil { // migrates
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	// Prepared only: the entries of the fixture are no JSON.
	statements := 0
	for _, block := range strings.Split(string(manual), "```sql\n")[1:] {
		text, _, _ := strings.Cut(block, "```")
		for statement := range strings.SplitSeq(text, ";\n") {
			if statement = strings.TrimSpace(statement); statement == "" {
				continue
			}
			statements++
			stmt, err := db.Prepare(statement)
			if err != nil {
				t.Errorf("%s\n%v", statement, err)
				continue
			}
			_ = stmt.Close()
		}
	}
	if statements < 9 {
		t.Errorf("%d statements found", statements)
	}
}
