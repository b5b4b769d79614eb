package sqlite

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// The order of joins is fixed by CROSS JOIN, the index by INDEXED BY: a
// statement whose index is gone fails instead of becoming slow.
const (
	recordColumns    = recordBegin + "e.raw "
	recordWithoutRaw = recordBegin + "NULL "
	recordBegin      = `SELECT e.hash, e.modified, e.gid, e.kind, e.subject, c.grant_hash, c.device, e.seq, e.prev,
		e.valid, e.shared, e.position, e.origin, e.life, `
	withChain = ` CROSS JOIN chains c ON c.cid = e.cid `
)

// A rawRecord is a row before its group has a name.
type rawRecord struct {
	groupsync.Record
	gid, life int64
}

func scanRecord(rows *sql.Rows) (rawRecord, error) {
	var r rawRecord
	var hash, as, prev, raw sql.RawBytes
	err := rows.Scan(&hash, &r.Modified, &r.gid, &r.Kind, (*string)(&r.Subject), &as, (*string)(&r.Dev), &r.Seq, &prev,
		&r.Valid, &r.Shared, &r.Position, &r.Origin, &r.life, &raw)
	r.Raw = bytes.Clone(raw)
	return r, errors.Join(err, setHash(&r.Hash, hash), setHash(&r.As, as), setHash(&r.Prev, prev))
}

// finish fills in what scanRecord can't know.
func (r *reader) finish(row rawRecord) (groupsync.Record, error) {
	id, err := r.name(row.gid)
	row.Group = id
	if row.life != r.life {
		row.Origin = 0 // the session that brought it ended with its process
	}
	return row.Record, err
}

// records reads at most limit rows, and not many more bytes than pageBytes
// unless all is set.
func (r *reader) records(text string, args []any, all bool) ([]groupsync.Record, error) {
	var rows []rawRecord
	size := 0
	err := r.each(text, args, func(cursor *sql.Rows) (bool, error) {
		row, err := scanRecord(cursor)
		rows = append(rows, row)
		size += len(row.Raw)
		return all || size < pageBytes, err
	})
	if err != nil {
		return nil, err
	}
	out := make([]groupsync.Record, len(rows))
	for i, row := range rows {
		if out[i], err = r.finish(row); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// walk calls fn for the records of a statement that orders by (modified, hash)
// and whose last parameters are the first ref and the number of rows.
func (r *reader) walk(text string, args []any, lo groupsync.Ref, fn func(groupsync.Record) (bool, error)) error {
	for {
		page, err := r.records(text, append(args[:len(args):len(args)], lo.Modified, lo.Hash[:], pageRows), false)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return nil
		}
		for _, record := range page {
			if more, err := fn(record); err != nil || !more {
				return err
			}
		}
		lo = after(page[len(page)-1].Ref)
	}
}

// after returns the smallest ref that is greater.
func after(ref groupsync.Ref) groupsync.Ref {
	for i := len(ref.Hash) - 1; i >= 0; i-- {
		if ref.Hash[i]++; ref.Hash[i] != 0 {
			return ref
		}
	}
	ref.Modified++
	return ref
}

// Record reads an entry.
func (r *reader) Record(hash peercrypto.Hash) (groupsync.Record, bool, error) {
	rows, err := r.records(recordColumns+byHash+withChain, hashArgs(hash), true)
	return first("reading entry "+hash.Short(), rows, err)
}

func first(what string, rows []groupsync.Record, err error) (groupsync.Record, bool, error) {
	if err != nil {
		return groupsync.Record{}, false, fmt.Errorf("%s: %w", what, err)
	}
	if len(rows) == 0 {
		return groupsync.Record{}, false, nil
	}
	return rows[0], true, nil
}

// always turns a callback of one kind into the other.
func always(fn func(groupsync.Record) error) func(groupsync.Record) (bool, error) {
	return func(record groupsync.Record) (bool, error) { return true, fn(record) }
}

// Operations calls fn for all operations of a group in order.
func (r *reader) Operations(group peercrypto.ID, fn func(groupsync.Record) error) error {
	g, err := r.group(group)
	if err != nil {
		return fmt.Errorf("reading operations of group %s: %w", group.Short(), err)
	}
	if g == nil {
		return nil
	}
	return r.walk(recordColumns+`FROM entries e INDEXED BY entries_operations`+withChain+`
		WHERE e.kind = 1 AND e.gid = ? AND (e.modified, e.hash) >= (?, ?) ORDER BY e.modified, e.hash LIMIT ?`,
		[]any{g.gid}, groupsync.Ref{}, always(fn))
}

// SubjectEntries calls fn for the valid data of a subject in order.
func (r *reader) SubjectEntries(group, subject peercrypto.ID, fn func(groupsync.Record) error) error {
	g, err := r.group(group)
	if err != nil {
		return fmt.Errorf("reading entries of document %s: %w", subject.Short(), err)
	}
	if g == nil {
		return nil
	}
	return r.walk(recordColumns+`FROM entries e INDEXED BY entries_subject`+withChain+`
		WHERE e.kind = 2 AND e.valid = 1 AND e.gid = ? AND e.subject = ? AND (e.modified, e.hash) >= (?, ?)
		ORDER BY e.modified, e.hash LIMIT ?`,
		[]any{g.gid, string(subject)}, groupsync.Ref{}, always(fn))
}

// ChainHead reads the last entry of a chain.
func (r *reader) ChainHead(as peercrypto.Hash, dev peercrypto.ID, kind entry.Kind) (groupsync.Record, bool, error) {
	what := "reading the head of a chain of grant " + as.Short()
	var cid int64
	found, err := r.one(selectChain, []any{as[:], string(dev), int64(kind)}, &cid)
	if err != nil || !found {
		return first(what, nil, err)
	}
	rows, err := r.records(recordColumns+`FROM entries e INDEXED BY entries_chain`+withChain+`
		WHERE e.cid = ?1 AND e.seq = (SELECT max(seq) FROM entries WHERE cid = ?1) ORDER BY e.hash LIMIT 1`, []any{cid}, true)
	return first(what, rows, err)
}

// ChainAt reads the entries at a place of a chain.
func (r *reader) ChainAt(as peercrypto.Hash, dev peercrypto.ID, kind entry.Kind, seq int64, limit int) ([]groupsync.Record, error) {
	var cid int64
	found, err := r.one(selectChain, []any{as[:], string(dev), int64(kind)}, &cid)
	var rows []groupsync.Record
	if err == nil && found {
		rows, err = r.records(recordWithoutRaw+`FROM entries e INDEXED BY entries_chain`+withChain+`
			WHERE e.cid = ? AND e.seq = ? ORDER BY e.hash LIMIT ?`, []any{cid, seq, limit}, true)
	}
	if err != nil {
		return nil, fmt.Errorf("reading a place in a chain of grant %s: %w", as.Short(), err)
	}
	return rows, nil
}

const selectChain = "SELECT cid FROM chains WHERE grant_hash = ? AND device = ? AND kind = ?"

// DataOf calls fn for all data of a grant, chain by chain in the order of seq, without Raw.
func (r *reader) DataOf(as peercrypto.Hash, fn func(groupsync.Record) error) error {
	var chains []int64
	err := r.each("SELECT cid FROM chains WHERE grant_hash = ? AND kind = 2 ORDER BY device", []any{as[:]}, func(rows *sql.Rows) (bool, error) {
		var cid int64
		err := rows.Scan(&cid)
		chains = append(chains, cid)
		return true, err
	})
	if err != nil {
		return fmt.Errorf("reading data of grant %s: %w", as.Short(), err)
	}
	for _, cid := range chains {
		if err := r.chain(cid, fn); err != nil {
			return err
		}
	}
	return nil
}

// chain pages by (seq, rowid), which is the order of the index.
func (r *reader) chain(cid int64, fn func(groupsync.Record) error) error {
	const text = `SELECT e.hash, e.modified, e.gid, e.kind, e.subject, c.grant_hash, c.device, e.seq, e.prev,
		e.valid, e.shared, e.position, e.origin, e.life, NULL, e.eid
		FROM entries e INDEXED BY entries_chain` + withChain + `
		WHERE e.cid = ? AND (e.seq, e.eid) > (?, ?) ORDER BY e.seq, e.eid LIMIT ?`
	seq, eid := int64(-1), int64(0)
	for {
		var rows []rawRecord
		err := r.each(text, []any{cid, seq, eid, pageRows}, func(cursor *sql.Rows) (bool, error) {
			var row rawRecord
			var hash, as, prev, raw sql.RawBytes
			err := cursor.Scan(&hash, &row.Modified, &row.gid, &row.Kind, (*string)(&row.Subject), &as, (*string)(&row.Dev), &row.Seq, &prev,
				&row.Valid, &row.Shared, &row.Position, &row.Origin, &row.life, &raw, &eid)
			rows = append(rows, row)
			last := &rows[len(rows)-1]
			return true, errors.Join(err, setHash(&last.Hash, hash), setHash(&last.As, as), setHash(&last.Prev, prev))
		})
		if err != nil {
			return fmt.Errorf("reading a chain: %w", err)
		}
		if len(rows) == 0 {
			return nil
		}
		seq = rows[len(rows)-1].Seq
		for _, row := range rows {
			record, err := r.finish(row)
			if err == nil {
				err = fn(record)
			}
			if err != nil {
				return err
			}
		}
	}
}

// SharedAfter reads the shared entries of a group with greater positions.
func (r *reader) SharedAfter(group peercrypto.ID, position int64, limit int) ([]groupsync.Record, error) {
	g, err := r.group(group)
	if err == nil && g != nil {
		var out []groupsync.Record
		out, err = r.records(recordWithoutRaw+`FROM entries e INDEXED BY entries_position`+withChain+`
			WHERE e.shared = 1 AND e.gid = ? AND e.position > ? ORDER BY e.position LIMIT ?`,
			[]any{g.gid, position, limitOf(limit)}, true)
		if err == nil {
			return out, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("reading group %s after position %d: %w", group.Short(), position, err)
	}
	return nil, nil
}
