package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

// A custom index is an index of SQLite over expressions, made while the program runs: two columns for each field, the rank of its type and its value,
// and the subject. The expressions of a query must be the same as those of the index, letter by letter.

// fieldRank is null for a field that is missing, an object or an array.
func fieldRank(field string) string {
	return `CASE json_type(json, ` + fieldPath(field) +
		`) WHEN 'null' THEN 0 WHEN 'false' THEN 1 WHEN 'true' THEN 1 WHEN 'integer' THEN 2 WHEN 'real' THEN 2 WHEN 'text' THEN 3 END`
}

func fieldOf(field string) string {
	if field == groupsync.ModifiedField {
		return "modified"
	}
	return `ifnull(json_extract(json, ` + fieldPath(field) + `), 0)`
}

// fieldPath is safe because fields are validated.
func fieldPath(field string) string {
	return `'$."` + strings.ReplaceAll(field, ".", `"."`) + `"'`
}

func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// within is what all documents of an index meet.
func within(spec groupsync.IndexSpec) string {
	text := "type = " + quote(spec.Type) + " AND deleted = 0"
	for _, field := range spec.Fields {
		if field != groupsync.ModifiedField {
			text += " AND " + fieldRank(field) + " IS NOT NULL"
		}
	}
	return text
}

func customIndex(xid int64) string { return fmt.Sprintf("documents_custom_%d", xid) }

type customSpec struct {
	groupsync.IndexSpec
	xid int64
}

func (r *reader) customIndexes() ([]customSpec, error) {
	var out []customSpec
	err := r.each("SELECT xid, name, type, fields FROM custom_indexes ORDER BY name", nil, func(rows *sql.Rows) (bool, error) {
		var x customSpec
		var fields string
		err := rows.Scan(&x.xid, &x.Name, &x.Type, &fields)
		x.Fields = strings.Split(fields, " ")
		out = append(out, x)
		return true, err
	})
	return out, err
}

// Indexes lists the custom indexes by name.
func (r *reader) Indexes() ([]groupsync.IndexSpec, error) {
	list, err := r.customIndexes()
	if err != nil {
		return nil, fmt.Errorf("reading indexes: %w", err)
	}
	var out []groupsync.IndexSpec
	for _, x := range list {
		out = append(out, x.IndexSpec)
	}
	return out, nil
}

// EnsureIndex makes a custom index.
func (t *tx) EnsureIndex(spec groupsync.IndexSpec) error {
	err := spec.Validate()
	var list []customSpec
	if err == nil {
		list, err = t.customIndexes()
	}
	at := slices.IndexFunc(list, func(x customSpec) bool { return x.Name == spec.Name })
	switch {
	case err != nil:
	case at >= 0 && list[at].Type == spec.Type && slices.Equal(list[at].Fields, spec.Fields):
		return nil
	case at >= 0:
		err = t.DropIndex(spec.Name)
	case len(list) >= groupsync.MaxIndexes:
		err = fmt.Errorf("%w: %d indexes", groupsync.ErrLimit, len(list))
	}
	if err == nil {
		err = t.createIndex(spec)
	}
	if err != nil {
		return fmt.Errorf("making index %s: %w", spec.Name, err)
	}
	return nil
}

func (t *tx) createIndex(spec groupsync.IndexSpec) error {
	result, err := t.exec("INSERT INTO custom_indexes (name, type, fields) VALUES (?, ?, ?)", spec.Name, spec.Type, strings.Join(spec.Fields, " "))
	if err != nil {
		return err
	}
	xid, err := result.LastInsertId()
	if err != nil {
		return err
	}
	columns := "gid, "
	for _, field := range spec.Fields {
		if field != groupsync.ModifiedField {
			columns += fieldRank(field) + ", "
		}
		columns += fieldOf(field) + ", "
	}
	return t.run("CREATE INDEX " + customIndex(xid) + " ON documents (" + columns + "subject) WHERE " + within(spec))
}

// run executes a text that is not kept.
func (t *tx) run(text string) error {
	if err := t.usable(); err != nil {
		return err
	}
	t.broken = t.s.run(text)
	return t.broken
}

// DropIndex removes a custom index, if it is there.
func (t *tx) DropIndex(name string) error {
	var xid int64
	found, err := t.one("SELECT xid FROM custom_indexes WHERE name = ?", []any{name}, &xid)
	if err == nil && found {
		_, err = t.exec("DELETE FROM custom_indexes WHERE xid = ?", xid)
		err = errors.Join(err, t.run("DROP INDEX "+customIndex(xid)))
	}
	if err != nil {
		return fmt.Errorf("dropping index %s: %w", name, err)
	}
	return nil
}
