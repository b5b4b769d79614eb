package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"strconv"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

// waitTime is the kind of wait whose ref is a time.
const waitTime = "time"

// eachHeld reads the items that a statement names by qid, then calls fn for one
// after the other, so that few are in memory.
func (r *reader) eachHeld(text string, args []any, fn func(groupsync.Quarantined) error) error {
	var ids []int64
	err := r.each(text, args, func(rows *sql.Rows) (bool, error) {
		var qid int64
		err := rows.Scan(&qid)
		ids = append(ids, qid)
		return true, err
	})
	if err != nil {
		return fmt.Errorf("reading the quarantine: %w", err)
	}
	for _, qid := range ids {
		q, found, err := r.held(qid)
		if err != nil {
			return fmt.Errorf("reading the quarantine: %w", err)
		}
		if !found {
			continue // fn deleted it
		}
		if err := fn(q); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) held(qid int64) (q groupsync.Quarantined, found bool, err error) {
	var key, hash []byte
	found, err = r.one("SELECT key, grp, sender, received, hash, raw FROM quarantine WHERE qid = ?", []any{qid},
		&key, (*string)(&q.Group), (*string)(&q.From), &q.Received, &hash, &q.Raw)
	if err = errors.Join(err, setHash(&q.Key, key), setHash(&q.Hash, hash)); err != nil || !found {
		return q, false, err
	}
	err = r.each("SELECT kind, ref FROM quarantine_waits WHERE qid = ? ORDER BY rowid", []any{qid}, func(rows *sql.Rows) (bool, error) {
		var w groupsync.Wait
		err := rows.Scan(&w.Kind, &w.Ref)
		q.Waits = append(q.Waits, w)
		return true, err
	})
	return q, true, err
}

// Waiting calls fn for the items that wait for w, oldest first.
func (r *reader) Waiting(group peercrypto.ID, w groupsync.Wait, fn func(groupsync.Quarantined) error) error {
	return r.eachHeld(`SELECT q.qid FROM quarantine_waits w INDEXED BY quarantine_waits_for CROSS JOIN quarantine q ON q.qid = w.qid
		WHERE w.grp = ? AND w.kind = ? AND w.ref = ? ORDER BY q.received, q.key`, []any{string(group), w.Kind, w.Ref}, fn)
}

// Due calls fn for the items whose time has come, earliest first.
func (r *reader) Due(now int64, limit int, fn func(groupsync.Quarantined) error) error {
	return r.eachHeld(`SELECT qid FROM quarantine_waits INDEXED BY quarantine_waits_due
		WHERE kind = 'time' AND ref <= ? GROUP BY qid ORDER BY min(ref), qid LIMIT ?`,
		[]any{fmt.Sprintf("%013d", max(now, 0)), limitOf(limit)}, fn)
}

// Quarantine calls fn for items, oldest first.
func (r *reader) Quarantine(group peercrypto.ID, limit int, fn func(groupsync.Quarantined) error) error {
	where, args := heldBy(group, "")
	return r.eachHeld("SELECT qid FROM quarantine"+where+" ORDER BY received, key LIMIT ?", append(args, limitOf(limit)), fn)
}

// heldBy selects by group and sender, each only if it is not empty.
func heldBy(group, from peercrypto.ID) (where string, args []any) {
	where = " WHERE 1"
	if group != "" {
		where += " AND grp = ?"
		args = append(args, string(group))
	}
	if from != "" {
		where += " AND sender = ?"
		args = append(args, string(from))
	}
	return where, args
}

// QuarantineUsage counts what is held.
func (r *reader) QuarantineUsage(group, from peercrypto.ID) (groupsync.QuarantineUsage, error) {
	var u groupsync.QuarantineUsage
	where, args := heldBy(group, from)
	_, err := r.one("SELECT coalesce(sum(items), 0), coalesce(sum(bytes), 0) FROM quarantine_usage"+where, args, &u.Items, &u.Bytes)
	if err != nil {
		return groupsync.QuarantineUsage{}, fmt.Errorf("counting the quarantine: %w", err)
	}
	return u, nil
}

func checkHeld(q groupsync.Quarantined) error {
	if q.Key.IsZero() || q.Group == "" || len(q.Raw) == 0 {
		return errors.New("it has no key, group or bytes")
	}
	if len(q.Waits) == 0 {
		return errors.New("it waits for nothing")
	}
	for _, w := range q.Waits {
		if w.Kind != waitTime {
			continue
		}
		if ms, err := strconv.ParseInt(w.Ref, 10, 64); err != nil || len(w.Ref) != 13 || ms < 0 {
			return errors.New("a wait for a time needs 13 digits of unix milliseconds")
		}
	}
	return nil
}

// PutQuarantined holds an item.
func (t *tx) PutQuarantined(q groupsync.Quarantined) error {
	err := checkHeld(q)
	if err == nil {
		err = t.hold(q)
	}
	if err != nil {
		return fmt.Errorf("quarantining entry %s: %w", q.Hash.Short(), err)
	}
	return nil
}

func (t *tx) hold(q groupsync.Quarantined) error {
	if err := t.DeleteQuarantined(q.Key); err != nil {
		return err
	}
	result, err := t.exec("INSERT INTO quarantine (key, grp, sender, received, hash, raw) VALUES (?, ?, ?, ?, ?, ?)",
		q.Key[:], string(q.Group), string(q.From), q.Received, q.Hash[:], q.Raw)
	if err != nil {
		return err
	}
	qid, err := result.LastInsertId()
	if err != nil {
		return err
	}
	for _, w := range q.Waits {
		if _, err := t.exec(`INSERT INTO quarantine_waits (qid, grp, kind, ref) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			qid, string(q.Group), w.Kind, w.Ref); err != nil {
			return err
		}
	}
	_, err = t.exec(`INSERT INTO quarantine_usage (grp, sender, items, bytes) VALUES (?, ?, 1, ?)
		ON CONFLICT (grp, sender) DO UPDATE SET items = items + 1, bytes = bytes + excluded.bytes`,
		string(q.Group), string(q.From), len(q.Raw))
	return err
}

// heldItem is what deleting needs to know.
type heldItem struct {
	qid, size, received int64
	group, sender       string
}

const selectItem = "SELECT qid, length(raw), received, grp, sender FROM quarantine"

func (h *heldItem) columns() []any {
	return []any{&h.qid, &h.size, &h.received, &h.group, &h.sender}
}

// DeleteQuarantined lets an item go, if it is held.
func (t *tx) DeleteQuarantined(key peercrypto.Hash) error {
	var h heldItem
	found, err := t.one(selectItem+" WHERE key = ?", []any{key[:]}, h.columns()...)
	if err == nil && found {
		err = t.release(h)
	}
	if err != nil {
		return fmt.Errorf("deleting from the quarantine: %w", err)
	}
	return nil
}

func (t *tx) release(h heldItem) error {
	if _, err := t.exec("DELETE FROM quarantine WHERE qid = ?", h.qid); err != nil {
		return err
	}
	if _, err := t.exec("DELETE FROM quarantine_waits WHERE qid = ?", h.qid); err != nil {
		return err
	}
	if _, err := t.exec("UPDATE quarantine_usage SET items = items - 1, bytes = bytes - ? WHERE grp = ? AND sender = ?",
		h.size, h.group, h.sender); err != nil {
		return err
	}
	_, err := t.exec("DELETE FROM quarantine_usage WHERE grp = ? AND sender = ? AND items = 0", h.group, h.sender)
	return err
}

// EvictQuarantine lets the oldest items go; a negative limit is none.
func (t *tx) EvictQuarantine(group, from peercrypto.ID, maxItems, maxBytes, before int64) (int64, error) {
	evicted, err := t.evict(group, from, maxItems, maxBytes, before)
	if err != nil {
		return 0, fmt.Errorf("evicting from the quarantine: %w", err)
	}
	return evicted, nil
}

func (t *tx) evict(group, from peercrypto.ID, maxItems, maxBytes, before int64) (int64, error) {
	u, err := t.QuarantineUsage(group, from)
	if err != nil {
		return 0, err
	}
	where, args := heldBy(group, from)
	for evicted := int64(0); ; {
		var page []heldItem
		err := t.each(selectItem+where+" ORDER BY received, key LIMIT ?", append(args[:len(args):len(args)], pageRows),
			func(rows *sql.Rows) (bool, error) {
				var h heldItem
				err := rows.Scan(h.columns()...)
				page = append(page, h)
				return true, err
			})
		if err != nil || len(page) == 0 {
			return evicted, err
		}
		for _, h := range page {
			over := maxItems >= 0 && u.Items > maxItems || maxBytes >= 0 && u.Bytes > maxBytes
			if !over && h.received >= before {
				return evicted, nil
			}
			if err := t.release(h); err != nil {
				return evicted, err
			}
			u.Items--
			u.Bytes -= h.size
			evicted++
		}
	}
}
