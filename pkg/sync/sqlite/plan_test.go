package sqlite

import (
	"database/sql"
	"strings"
	"testing"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

// explain returns how SQLite does a statement.
func explain(t *testing.T, store *Store, text string, args []any) string {
	t.Helper()
	var plan []string
	err := store.View(t.Context(), func(view groupsync.Reader) error {
		return view.(*reader).each("EXPLAIN QUERY PLAN "+text, args, func(rows *sql.Rows) (bool, error) {
			var id, parent, unused int
			var detail string
			err := rows.Scan(&id, &parent, &unused, &detail)
			plan = append(plan, detail)
			return true, err
		})
	})
	if err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	return strings.Join(plan, "; ")
}

// Both ends of what is read are found in the index, and nothing is sorted.
func TestPlans(t *testing.T) {
	store := treeStore(t)
	const (
		eq    = "(gid=? AND <expr>=? AND <expr>=?"
		first = "documents_custom_1 (gid=?"
	)
	err := store.Update(t.Context(), func(tx groupsync.Tx) error {
		for _, spec := range []groupsync.IndexSpec{
			{Name: "a", Type: "It's", Fields: []string{"a.b"}}, {Name: "b", Type: "T", Fields: []string{"b", "c"}},
			{Name: "c", Type: "T", Fields: []string{"d", "modified"}},
		} {
			if err := tx.EnsureIndex(spec); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	where := func(field, op string) groupsync.Condition {
		return groupsync.Condition{Field: field, Op: groupsync.Operator(op), Value: 1}
	}
	type q = groupsync.DocumentQuery
	for _, c := range []struct {
		q     groupsync.DocumentQuery
		p     part
		wants string
	}{
		{q{ByVersion: true}, whole, "documents_version (gid=? AND version>?)"},
		{q{Type: "T"}, sameKey, "documents_type (gid=? AND type=? AND subject>?)"},
		{q{}, sameKey, "(gid=? AND subject>?)"},
		{q{Descending: true}, sameKey, "(gid=? AND subject<?)"},
		{q{After: "x"}, whole, "(gid=? AND subject>?)"},
		{q{OrderBy: "modified"}, sameKey, "documents_modified (gid=? AND modified=? AND subject>?)"},
		{q{OrderBy: "modified", Descending: true}, greater, "documents_modified (gid=? AND modified<?)"},
		{q{OrderBy: "modified", Where: []groupsync.Condition{where("modified", ">="), where("modified", "<")}}, whole, "(gid=? AND modified>? AND modified<?)"},
		{q{OrderBy: "a.b", Type: "It's"}, whole, first},
		{q{OrderBy: "a.b", Type: "It's", Descending: true}, sameKey, "documents_custom_1 " + eq + " AND subject<?)"},
		{q{OrderBy: "a.b", Type: "It's"}, greater, first + " AND <expr>=? AND <expr>>?)"},
		{q{OrderBy: "a.b", Type: "It's"}, types, first + " AND <expr>>?)"},
		{q{OrderBy: "a.b", Type: "It's", Where: []groupsync.Condition{where("a.b", ">"), where("a.b", "<=")}}, whole, first + " AND <expr>=? AND <expr>>? AND <expr><?)"},
		{q{Type: "It's", Where: []groupsync.Condition{where("a.b", "=")}}, sameKey, "documents_custom_1 " + eq + " AND subject>?)"},
		{q{OrderBy: "c", Type: "T", Where: []groupsync.Condition{where("b", "=")}}, whole, "documents_custom_2 " + eq},
		{q{OrderBy: "c", Type: "T", Where: []groupsync.Condition{where("b", "="), where("c", ">")}}, whole, "documents_custom_2 " + eq + " AND <expr>=? AND <expr>>?)"},
		{q{OrderBy: "modified", Type: "T", Where: []groupsync.Condition{where("d", "="), where("modified", ">")}}, whole, "documents_custom_3 " + eq + " AND modified>?)"},
	} {
		var x query
		err := store.View(t.Context(), func(view groupsync.Reader) (err error) {
			x, err = view.(*reader).plan(&groupRow{gid: 1}, c.q)
			return err
		})
		if err != nil {
			t.Errorf("%+v: %v", c.q, err)
			continue
		}
		x.From = &groupsync.QueryCursor{Value: groupsync.FieldValue{Rank: 2}, Subject: "x"}
		text, args := x.statement(c.p, 1)
		if plan := explain(t, store, text, args); !strings.Contains(plan, c.wants) || strings.Contains(plan, "TEMP B-TREE") {
			t.Errorf("%+v, part %d\n%s\nis done by %s, want %s", c.q, c.p, text, plan, c.wants)
		}
	}
	for text, wants := range map[string]string{
		recordsOfRows:        "SEARCH e USING INTEGER PRIMARY KEY (rowid=?)",
		"SELECT 1 " + byHash: "SEARCH hashes_recent USING PRIMARY KEY (key=?); SEARCH e USING INTEGER PRIMARY KEY (rowid=?); UNION ALL; SEARCH hashes USING PRIMARY KEY (key=?); SEARCH e",
		hasText[0]:           "SEARCH h USING PRIMARY KEY (key=?); SEARCH e USING INTEGER PRIMARY KEY (rowid=?); ",
		hasText[1]:           "SEARCH h USING PRIMARY KEY (key=?); SEARCH e USING INTEGER PRIMARY KEY (rowid=?); ",
		expiredRows:          "documents_expires (expires>? AND expires<?)",
	} {
		if plan := explain(t, store, text, make([]any, strings.Count(strings.ReplaceAll(text, "?1)", ""), "?"))); !strings.Contains(plan, wants) || strings.Contains(plan, "TEMP B-TREE") {
			t.Errorf("%s\nis done by %s, want %s", text, plan, wants)
		}
	}
}
