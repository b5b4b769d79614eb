package sqlite

import (
	"database/sql"
	"fmt"
	"strings"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

// A query is read page by page, each behind the last document of the one before it. SQLite can't seek in an index of expressions by several columns
// at once, so what is behind a place is up to three ranges, one after the other: the same value and greater subjects, the same type and greater
// values, greater types.
type query struct {
	groupsync.DocumentQuery
	groupsync.QueryPlan
	gid   int64
	index string // of SQLite
}

// plan looks for the index that answers a query.
func (r *reader) plan(g *groupRow, q groupsync.DocumentQuery) (query, error) {
	x := query{DocumentQuery: q, gid: g.gid}
	var list []customSpec
	var specs []groupsync.IndexSpec
	var err error
	if len(q.Where) > 0 || q.OrderBy != "" {
		list, err = r.customIndexes()
		for _, custom := range list {
			specs = append(specs, custom.IndexSpec)
		}
	}
	if err == nil {
		x.QueryPlan, err = q.Plan(specs)
	}
	switch {
	case err != nil:
		return x, err
	case q.ByVersion:
		x.index = "documents_version"
	case x.Order == groupsync.ModifiedField:
		x.index = "documents_modified"
	case q.Type != "":
		x.index = "documents_type"
	default:
		x.index = "sqlite_autoindex_documents_1"
	}
	for _, custom := range list {
		if x.Index != nil && custom.Name == x.Index.Name {
			x.index = customIndex(custom.xid)
		}
	}
	return x, nil
}

// A part of what is left of a query.
type part uint8

const (
	whole   part = iota
	sameKey      // greater subjects
	greater      // greater values of the same type
	types        // greater types
)

// parts are what is behind a place.
func (x *query) parts() []part {
	switch {
	case x.From == nil:
		return []part{whole}
	case x.Order == "":
		return []part{sameKey}
	case x.Order == groupsync.ModifiedField:
		return []part{sameKey, greater}
	}
	return []part{sameKey, greater, types}
}

// moveTo goes on behind a document.
func (x *query) moveTo(d groupsync.Document) {
	if x.ByVersion {
		x.AfterVersion = d.Version
		return
	}
	x.From = &groupsync.QueryCursor{Subject: d.Subject}
	if x.Order != "" {
		x.From.Value, _ = d.Field(x.Order)
	}
}

// statement reads at most limit rows of a part.
func (x *query) statement(p part, limit int) (text string, args []any) {
	where := func(condition string, values ...any) {
		text += " AND " + condition
		args = append(args, values...)
	}
	text, args = documentColumns+"INDEXED BY "+x.index+" WHERE gid = ?", []any{x.gid}
	switch {
	case x.Index != nil:
		where(within(*x.Index))
	case x.Type != "":
		where("type = ?", x.Type)
	}
	if !x.IncludeDeleted && x.Index == nil {
		where("deleted = 0")
	}
	if x.ByVersion {
		where("version > ?", x.AfterVersion)
	}
	if x.After != "" {
		where("subject > ?", string(x.After))
	}
	for _, c := range x.Where {
		if c.Field != groupsync.ModifiedField {
			where(fmt.Sprintf("%s = %d", fieldRank(c.Field), c.FieldValue().Rank))
		}
		where(compared(c.Field, " "+string(c.Op)+" ", c.FieldValue()))
	}
	x.behind(p, where)
	return text + " ORDER BY " + x.orderBy(p) + " LIMIT ?", append(args, limit)
}

// behind adds the conditions of a part.
func (x *query) behind(p part, where func(condition string, values ...any)) {
	if p == whole {
		return
	}
	beyond := " > "
	if x.Descending {
		beyond = " < "
	}
	if p == types {
		where(fmt.Sprintf("%s%s%d", fieldRank(x.Order), beyond, x.From.Value.Rank))
		return
	}
	if x.Order != "" {
		if x.Order != groupsync.ModifiedField {
			where(fmt.Sprintf("%s = %d", fieldRank(x.Order), x.From.Value.Rank))
		}
		if p == greater {
			where(compared(x.Order, beyond, x.From.Value))
			return
		}
		where(compared(x.Order, " = ", x.From.Value))
	}
	where("subject"+beyond+"?", string(x.From.Subject))
}

// compared compares a field with a value that SQLite reads out of the same text as the field's: it keeps an integer beyond 2^53 in another way
// than a float64, so a page could otherwise begin with the document behind which it goes on.
func compared(field, op string, v groupsync.FieldValue) (condition string, value any) {
	if field == groupsync.ModifiedField {
		return fieldOf(field) + op + "?", v.Any()
	}
	return fieldOf(field) + op + "json_extract(?, '$')", v.JSON()
}

// orderBy leaves out what is the same in all of a part: SQLite does not see that of expressions, and would sort.
func (x *query) orderBy(p part) string {
	if x.ByVersion {
		return "version"
	}
	columns := []string{"subject"}
	if x.Order != "" && p != sameKey {
		columns = []string{fieldOf(x.Order), "subject"}
	}
	fixed := p == sameKey || p == greater || x.Order == "" || x.Order == groupsync.ModifiedField
	for _, c := range x.Where {
		fixed = fixed || c.Field == x.Order // its type is
	}
	if !fixed {
		columns = append([]string{fieldRank(x.Order)}, columns...)
	}
	if x.Descending {
		return strings.Join(columns, " DESC, ") + " DESC"
	}
	return strings.Join(columns, ", ")
}

// page reads some documents of a part; full tells that there may be more.
func (r *reader) page(x *query, p part, limit int) (page []groupsync.Document, full bool, err error) {
	text, args := x.statement(p, limit)
	size := 0
	err = r.each(text, args, func(rows *sql.Rows) (bool, error) {
		d, err := scanDocument(rows, x.Group)
		page = append(page, d)
		size += len(d.JSON)
		full = len(page) == limit || size >= pageBytes
		return !full, err
	})
	return page, full, err
}

// Documents calls fn for the documents that match, in the order of the query.
func (r *reader) Documents(q groupsync.DocumentQuery, fn func(groupsync.Document) error) error {
	g, err := r.group(q.Group)
	if err == nil && g == nil {
		_, err = r.plan(&groupRow{}, q) // a bad query is one in any group
		if err == nil {
			return nil
		}
	}
	var x query
	if err == nil {
		x, err = r.plan(g, q)
	}
	if err != nil {
		return fmt.Errorf("reading documents of group %s: %w", q.Group.Short(), err)
	}
	parts := x.parts()
	for left := limitOf(q.Limit); left > 0 && len(parts) > 0; {
		page, full, err := r.page(&x, parts[0], min(left, pageRows))
		if err != nil {
			return fmt.Errorf("reading documents of group %s: %w", q.Group.Short(), err)
		}
		for _, d := range page {
			if err := fn(d); err != nil {
				return err
			}
		}
		left -= len(page)
		if !full {
			parts = parts[1:]
			continue
		}
		x.moveTo(page[len(page)-1])
		parts = x.parts()
	}
	return nil
}

const expiredRows = `SELECT subject, type, modified, deleted, json, last_modified, last_hash, version, gid FROM documents INDEXED BY documents_expires
	WHERE expires IS NOT NULL AND expires <= ? ORDER BY expires, did LIMIT ?`

// Expired reads documents whose time is over.
func (r *reader) Expired(now int64, limit int) ([]groupsync.Document, error) {
	var out []groupsync.Document
	var gids []int64
	err := r.each(expiredRows, []any{now, limitOf(limit)}, func(rows *sql.Rows) (bool, error) {
		var gid int64
		d, err := scanDocument(rows, "", &gid)
		out, gids = append(out, d), append(gids, gid)
		return true, err
	})
	for i := range out {
		if err == nil {
			out[i].Group, err = r.name(gids[i])
		}
	}
	if err != nil {
		return nil, fmt.Errorf("reading expired documents: %w", err)
	}
	return out, nil
}
