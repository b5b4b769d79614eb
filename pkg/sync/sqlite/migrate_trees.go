package sqlite

import (
	"database/sql"
	"errors"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
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
	var ids []peercrypto.ID
	err := t.each("SELECT id FROM groups", nil, func(rows *sql.Rows) (bool, error) {
		var id string
		err := rows.Scan(&id)
		ids = append(ids, peercrypto.ID(id))
		return true, err
	})
	if err != nil {
		return err
	}
	for _, id := range ids {
		g, err := t.group(id)
		if err != nil {
			return err
		}
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
		g.changed = true
	}
	if err := t.flush(); err != nil {
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
