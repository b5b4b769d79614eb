package sqlite

import (
	"database/sql"
	"errors"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// buildTrees is the second half of migration 2: the trees of all scopes out of the index that they replace.
func buildTrees(s *session, progress func(done, total int64)) error {
	t := &tx{reader: newReader(s, 0)}
	var total, done int64
	if _, err := t.one("SELECT count(*) FROM entries WHERE shared = 1", nil, &total); err != nil {
		return err
	}
	var groups []*groupRow
	err := t.each("SELECT gid FROM groups", nil, func(rows *sql.Rows) (bool, error) {
		g := &groupRow{}
		groups = append(groups, g)
		return true, rows.Scan(&g.gid)
	})
	if err != nil {
		return err
	}
	for _, g := range groups {
		for _, kind := range []entry.Kind{entry.Operation, entry.Data} {
			err := t.buildTree(g, kind, func(n int) {
				if done += int64(n); progress != nil {
					progress(done, total)
				}
			})
			if err != nil {
				return err
			}
		}
		if _, err := t.exec("UPDATE groups SET operations_tree = ?, data_tree = ? WHERE gid = ?",
			g.trees[entry.Operation], g.trees[entry.Data], g.gid); err != nil {
			return err
		}
	}
	if err := t.writeNodes(); err != nil {
		return err
	}
	return s.run("DROP INDEX entries_range")
}

// buildTree reads a scope in order, page by page.
func (t *tx) buildTree(g *groupRow, kind entry.Kind, done func(n int)) error {
	const text = `SELECT modified, hash, eid FROM entries INDEXED BY entries_range WHERE shared = 1 AND gid = ? AND kind = ?
		AND (modified, hash) >= (?, ?) ORDER BY modified, hash LIMIT 4096`
	for lo := (groupsync.Ref{}); ; {
		var page []item
		err := t.each(text, []any{g.gid, int64(kind), lo.Modified, lo.Hash[:]}, func(rows *sql.Rows) (bool, error) {
			var it item
			var hash sql.RawBytes
			err := rows.Scan(&it.Modified, &hash, &it.eid)
			err = errors.Join(err, setHash(&it.Hash, hash))
			page = append(page, it)
			return true, err
		})
		if err != nil || len(page) == 0 {
			return err
		}
		for _, it := range page {
			if err := t.grow(g, kind, it); err != nil {
				return err
			}
		}
		done(len(page))
		lo = after(page[len(page)-1].Ref)
	}
}
