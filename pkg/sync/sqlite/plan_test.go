package sqlite

import (
	"context"
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

// Both ends of a range are found in the index, and nothing is sorted.
func TestPlans(t *testing.T) {
	store, err := Open(filepath.Join(t.TempDir(), "store.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, c := range []struct {
		text  string
		args  int
		wants string
	}{
		{recordsOfRows, 1, "SEARCH e USING INTEGER PRIMARY KEY (rowid=?)"},
		{documentStatement(groupsync.DocumentQuery{ByVersion: true}), 5, "documents_version (gid=? AND version>?)"},
		{documentStatement(groupsync.DocumentQuery{Type: "T"}), 5, "documents_type (gid=? AND type=? AND subject>?)"},
		{documentStatement(groupsync.DocumentQuery{}), 5, "(gid=? AND subject>?)"},
	} {
		err := store.View(context.Background(), func(view groupsync.Reader) error {
			var plan []string
			err := view.(*reader).each("EXPLAIN QUERY PLAN "+c.text, make([]any, c.args), func(rows *sql.Rows) (bool, error) {
				var id, parent, unused int
				var detail string
				err := rows.Scan(&id, &parent, &unused, &detail)
				plan = append(plan, detail)
				return true, err
			})
			if all := strings.Join(plan, "; "); !strings.Contains(all, c.wants) || strings.Contains(all, "TEMP B-TREE") {
				t.Errorf("%s\nis done by %s", c.text, all)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
