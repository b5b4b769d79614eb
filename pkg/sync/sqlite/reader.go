package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// Bounds of what is read before callbacks run.
const (
	pageRows     = 256
	pageBytes    = 4 << 20
	defaultLimit = 1000 // stands in for a limit of 0
)

// A reader is one transaction's view: of the snapshot of a View, or of the own
// writes of an Update.
type reader struct {
	s    *session
	life int64
	// groups holds rows that were read, in an Update with what it changed.
	groups map[peercrypto.ID]*groupRow
	names  map[int64]peercrypto.ID
	// nodes of trees that were read, in an Update with what it changed.
	nodes map[int64]*node
	memos [2]memo // the last answers of prefix
	// ended is set when the function of the transaction has returned, maybe
	// while a goroutine that it left behind still calls.
	ended  atomic.Bool
	broken error // the first error of SQLite
}

func newReader(s *session, life int64) *reader {
	return &reader{s: s, life: life, groups: map[peercrypto.ID]*groupRow{}, names: map[int64]peercrypto.ID{}, nodes: map[int64]*node{}}
}

func (r *reader) usable() error {
	if r.ended.Load() {
		return errEnded
	}
	return r.broken
}

// each is session.each, but breaks the transaction when it fails.
func (r *reader) each(text string, args []any, scan func(*sql.Rows) (bool, error)) error {
	if err := r.usable(); err != nil {
		return err
	}
	r.broken = r.s.each(text, args, scan)
	return r.broken
}

// one is session.one, but breaks the transaction when it fails.
func (r *reader) one(text string, args []any, dest ...any) (bool, error) {
	if err := r.usable(); err != nil {
		return false, err
	}
	found, err := r.s.one(text, args, dest...)
	r.broken = err
	return found, err
}

func limitOf(n int) int {
	if n <= 0 {
		return defaultLimit
	}
	return n
}

// A groupRow is a row of groups with the counts that transactions keep.
type groupRow struct {
	gid           int64
	known         bool
	record        groupsync.GroupRecord
	roots         [3]groupsync.Summary // by entry.Kind
	trees         [3]int64             // by entry.Kind, the nid of the root, 0 if there is none
	live, deleted int64
	unshared      int64 // data that is stored and in no tree
	changed       bool  // roots or counts differ from the row
}

// group returns the row of a group or nil. Only the transaction's owner changes it.
func (r *reader) group(id peercrypto.ID) (*groupRow, error) {
	if err := r.usable(); err != nil {
		return nil, err
	}
	if g := r.groups[id]; g != nil {
		return g, nil
	}
	g := &groupRow{record: groupsync.GroupRecord{ID: id}}
	ops, data := &g.roots[entry.Operation], &g.roots[entry.Data]
	var opsSum, dataSum []byte
	found, err := r.one(`SELECT gid, known, joined, gone, meta, operations, operations_sum, operations_tree,
		data, data_sum, data_tree, documents, tombstones, unshared FROM groups WHERE id = ?`, []any{string(id)},
		&g.gid, &g.known, &g.record.Joined, &g.record.Left, &g.record.Meta,
		&ops.Count, &opsSum, &g.trees[entry.Operation], &data.Count, &dataSum, &g.trees[entry.Data], &g.live, &g.deleted, &g.unshared)
	if err != nil || !found {
		return nil, err
	}
	copy(ops.Sum[:], opsSum)
	copy(data.Sum[:], dataSum)
	r.groups[id], r.names[g.gid] = g, id
	return g, nil
}

// name returns the id of a group's row.
func (r *reader) name(gid int64) (peercrypto.ID, error) {
	if err := r.usable(); err != nil {
		return "", err
	}
	if id, ok := r.names[gid]; ok {
		return id, nil
	}
	var id string
	found, err := r.one("SELECT id FROM groups WHERE gid = ?", []any{gid}, &id)
	if err == nil && !found {
		err = fmt.Errorf("%w: group %d has no row", ErrCorrupt, gid)
	}
	if err != nil {
		return "", err
	}
	r.names[gid] = peercrypto.ID(id)
	return r.names[gid], nil
}

// Groups lists the groups that PutGroup stored, by id.
func (r *reader) Groups() ([]groupsync.GroupRecord, error) {
	var out []groupsync.GroupRecord
	err := r.each("SELECT id, joined, gone, meta FROM groups WHERE known = 1 ORDER BY id", nil, func(rows *sql.Rows) (bool, error) {
		var g groupsync.GroupRecord
		err := rows.Scan((*string)(&g.ID), &g.Joined, &g.Left, &g.Meta)
		out = append(out, g)
		return true, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading groups: %w", err)
	}
	return out, nil
}

// Group reads what PutGroup stored.
func (r *reader) Group(id peercrypto.ID) (groupsync.GroupRecord, bool, error) {
	g, err := r.group(id)
	if err != nil {
		return groupsync.GroupRecord{}, false, fmt.Errorf("reading group %s: %w", id.Short(), err)
	}
	if g == nil || !g.known {
		return groupsync.GroupRecord{}, false, nil
	}
	record := g.record
	record.Meta = append([]byte(nil), record.Meta...)
	return record, true, nil
}

// DocumentCounts counts a group's live documents and tombstones.
func (r *reader) DocumentCounts(group peercrypto.ID) (live, deleted int64, err error) {
	g, err := r.group(group)
	if err != nil {
		return 0, 0, fmt.Errorf("counting documents of group %s: %w", group.Short(), err)
	}
	if g == nil {
		return 0, 0, nil
	}
	return g.live, g.deleted, nil
}

// LastPosition returns the highest position given so far.
func (r *reader) LastPosition() (int64, error) {
	n, err := r.counter("position")
	if err != nil {
		return 0, fmt.Errorf("reading the last position: %w", err)
	}
	return n, nil
}

func (r *reader) counter(name string) (int64, error) {
	var n int64
	found, err := r.one("SELECT value FROM counters WHERE name = ?", []any{name}, &n)
	if err == nil && !found {
		err = fmt.Errorf("%w: counter %s is missing", ErrCorrupt, name)
	}
	return n, err
}

// Value reads a named value.
func (r *reader) Value(bucket, key string) ([]byte, bool, error) {
	var v []byte
	found, err := r.one("SELECT value FROM settings WHERE bucket = ? AND key = ?", []any{bucket, key}, &v)
	if err != nil {
		return nil, false, fmt.Errorf("reading value %s/%s: %w", bucket, key, err)
	}
	if found && v == nil {
		v = []byte{} // the driver's way to return an empty blob
	}
	return v, found, nil
}

// Values calls fn for the values of a bucket by key.
func (r *reader) Values(bucket string, fn func(key string, value []byte) error) error {
	var keys []string
	var values [][]byte
	err := r.each("SELECT key, value FROM settings WHERE bucket = ? ORDER BY key", []any{bucket}, func(rows *sql.Rows) (bool, error) {
		var key string
		value := []byte{}
		err := rows.Scan(&key, &value)
		keys, values = append(keys, key), append(values, append([]byte{}, value...))
		return true, err
	})
	if err != nil {
		return fmt.Errorf("reading the values of %s: %w", bucket, err)
	}
	for i, key := range keys {
		if err := fn(key, values[i]); err != nil {
			return err
		}
	}
	return nil
}

var errHash = errors.New("a hash of the wrong length")

// setHash copies a column of 32 bytes, or none.
func setHash(h *peercrypto.Hash, b []byte) error {
	if len(b) == 0 {
		*h = peercrypto.Hash{}
		return nil
	}
	if len(b) != len(h) {
		return fmt.Errorf("%w: %w", ErrCorrupt, errHash)
	}
	copy(h[:], b)
	return nil
}
