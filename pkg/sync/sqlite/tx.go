package sqlite

import (
	"database/sql"
	"errors"
	"fmt"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// A tx is the transaction of an Update. Counters, counts, sums and nodes of trees
// change in memory and are written once, by flush. Store.newTx hands what is
// known then to the next one.
type tx struct {
	*reader
	position, version counter
	recent            counter // rows of hashes_recent
	chains            map[chainKey]int64
	lastNode          int64 // the greatest nid of a tree, 0 if not known
	bytes             int   // of texts and blobs that were written
}

var _ groupsync.Tx = (*tx)(nil)

type chainKey struct {
	as   peercrypto.Hash
	dev  peercrypto.ID
	kind entry.Kind
}

// A counter is loaded when it is first needed.
type counter struct {
	value           int64
	loaded, changed bool
}

func (t *tx) exec(text string, args ...any) (sql.Result, error) {
	if err := t.usable(); err != nil {
		return nil, err
	}
	for _, arg := range args {
		switch v := arg.(type) {
		case []byte:
			t.bytes += len(v)
		case string:
			t.bytes += len(v)
		}
	}
	result, err := t.s.exec(text, args...)
	t.broken = err
	return result, err
}

func (t *tx) load(c *counter, name string) error {
	if c.loaded {
		return nil
	}
	n, err := t.counter(name)
	if err == nil {
		*c = counter{n, true, false}
	}
	return err
}

// next raises a counter.
func (t *tx) next(c *counter, name string) error {
	err := t.load(c, name)
	c.value++
	c.changed = true
	return err
}

// LastPosition sees positions of this transaction.
func (t *tx) LastPosition() (int64, error) {
	if err := errors.Join(t.usable(), t.load(&t.position, "position")); err != nil {
		return 0, fmt.Errorf("reading the last position: %w", err)
	}
	return t.position.value, nil
}

// flush writes what changed in memory only.
func (t *tx) flush() error {
	if t.position.changed || t.version.changed {
		if _, err := t.s.exec("UPDATE counters SET value = max(value, CASE name WHEN 'position' THEN ? WHEN 'version' THEN ? ELSE 0 END)",
			t.position.value, t.version.value); err != nil {
			return err
		}
		t.position.changed, t.version.changed = false, false
	}
	for _, g := range t.groups {
		if !g.changed {
			continue
		}
		ops, data := g.roots[entry.Operation], g.roots[entry.Data]
		if _, err := t.s.exec(`UPDATE groups SET operations = ?, operations_sum = ?, operations_tree = ?, data = ?, data_sum = ?, data_tree = ?,
			documents = ?, tombstones = ?, unshared = ? WHERE gid = ?`, ops.Count, ops.Sum[:], g.trees[entry.Operation], data.Count, data.Sum[:], g.trees[entry.Data],
			g.live, g.deleted, g.unshared, g.gid); err != nil {
			return err
		}
		g.changed = false
	}
	if err := t.settle(); err != nil {
		return err
	}
	return t.writeNodes()
}

// ensureGroup returns a group's row and makes it if need be.
func (t *tx) ensureGroup(id peercrypto.ID) (*groupRow, error) {
	g, err := t.group(id)
	if err != nil || g != nil {
		return g, err
	}
	if _, err := t.exec("INSERT INTO groups (id) VALUES (?)", string(id)); err != nil {
		return nil, err
	}
	return t.group(id)
}

// PutGroup stores what is kept of a group beside its log.
func (t *tx) PutGroup(record groupsync.GroupRecord) error {
	if record.ID == "" {
		return errors.New("storing a group: it has no id")
	}
	g, err := t.ensureGroup(record.ID)
	if err == nil {
		_, err = t.exec("UPDATE groups SET known = 1, joined = ?, gone = ?, meta = ? WHERE gid = ?",
			record.Joined, record.Left, record.Meta, g.gid)
	}
	if err != nil {
		return fmt.Errorf("storing group %s: %w", record.ID.Short(), err)
	}
	record.Meta = append([]byte(nil), record.Meta...)
	g.known, g.record = true, record
	return nil
}

func checkRecord(r groupsync.Record) error {
	switch {
	case r.Kind != entry.Operation && r.Kind != entry.Data:
		return errors.New("it is neither an operation nor data")
	case r.Modified < 0 || r.Modified >= maxModified:
		return errors.New("its time is out of range")
	case r.Hash.IsZero() || r.Group == "":
		return errors.New("it has no hash or group")
	}
	return checkFlags(r.Valid, r.Shared)
}

func checkFlags(valid, shared bool) error {
	if valid && !shared {
		return errors.New("valid entries are shared")
	}
	return nil
}

// PutRecord stores an entry, or its flags and bytes if it is there.
func (t *tx) PutRecord(record groupsync.Record) error {
	err := checkRecord(record)
	inserted := false
	if err == nil && len(record.Raw) > 0 {
		inserted, err = t.insert(record)
	}
	if err == nil && !inserted {
		err = t.update(record.Hash, record.Valid, record.Shared, record.Raw)
	}
	if err != nil {
		return fmt.Errorf("storing entry %s: %w", record.Hash.Short(), err)
	}
	return nil
}

// SetFlags changes the flags of an entry.
func (t *tx) SetFlags(hash peercrypto.Hash, valid, shared bool) error {
	err := checkFlags(valid, shared)
	if err == nil {
		err = t.update(hash, valid, shared, nil)
	}
	if err != nil {
		return fmt.Errorf("flagging entry %s: %w", hash.Short(), err)
	}
	return nil
}

// insert reports false if the hash is stored already.
func (t *tx) insert(record groupsync.Record) (bool, error) {
	g, err := t.ensureGroup(record.Group)
	if err != nil {
		return false, err
	}
	if found, err := t.stored(g, record); err != nil || found {
		return false, err
	}
	cid, err := t.chainOf(record)
	if err != nil {
		return false, err
	}
	if err := t.load(&t.position, "position"); err != nil {
		return false, err
	}
	position := int64(0)
	if record.Shared {
		position = t.position.value + 1
	}
	var prev any // NULL at seq 0
	if !record.Prev.IsZero() {
		prev = record.Prev[:]
	}
	result, err := t.exec(`INSERT INTO entries
		(hash, gid, kind, modified, subject, cid, seq, prev, valid, shared, position, origin, life, raw)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		record.Hash[:], g.gid, int64(record.Kind), record.Modified, string(record.Subject), cid, record.Seq, prev,
		record.Valid, record.Shared, position, record.Origin, t.life, record.Raw)
	if err != nil {
		return false, err
	}
	eid, err := result.LastInsertId()
	if err == nil {
		err = t.index(record.Hash, eid)
	}
	if err != nil {
		return false, err
	}
	if !record.Shared {
		g.setApart(record.Kind, 1)
		return true, nil
	}
	t.position.value, t.position.changed = position, true
	return true, t.put(g, record.Kind, item{record.Ref, eid})
}

// setApart counts data that is stored and not shared.
func (g *groupRow) setApart(kind entry.Kind, n int64) {
	if kind == entry.Data {
		g.unshared += n
		g.changed = true
	}
}

func (t *tx) chainOf(record groupsync.Record) (int64, error) {
	key := chainKey{record.As, record.Dev, record.Kind}
	if cid, ok := t.chains[key]; ok {
		return cid, nil
	}
	args := []any{key.as[:], string(key.dev), int64(key.kind)}
	var cid int64
	found, err := t.one(selectChain, args, &cid)
	if err == nil && !found {
		var result sql.Result
		result, err = t.exec("INSERT INTO chains (grant_hash, device, kind) VALUES (?, ?, ?)", args...)
		if err == nil {
			cid, err = result.LastInsertId()
		}
	}
	if err != nil {
		return 0, err
	}
	if t.chains == nil {
		t.chains = map[chainKey]int64{}
	}
	t.chains[key] = cid
	return cid, nil
}

// update changes the flags of a stored entry, and its bytes unless raw is nil.
func (t *tx) update(hash peercrypto.Hash, valid, shared bool, raw []byte) error {
	var gid, position int64
	it := item{Ref: groupsync.Ref{Hash: hash}}
	var kind entry.Kind
	var wasValid, wasShared bool
	found, err := t.one("SELECT e.eid, gid, kind, modified, valid, shared, position "+byHash, hashArgs(hash),
		&it.eid, &gid, &kind, &it.Modified, &wasValid, &wasShared, &position)
	if err == nil && !found {
		err = errors.New("it is not stored")
	}
	if err != nil {
		return err
	}
	if len(raw) > 0 {
		if _, err := t.exec("UPDATE entries SET raw = ? WHERE eid = ? AND raw <> ?", raw, it.eid, raw); err != nil {
			return err
		}
	}
	if valid == wasValid && shared == wasShared {
		return nil
	}
	if shared != wasShared {
		if position, err = t.share(gid, kind, it, shared); err != nil {
			return err
		}
	}
	_, err = t.exec("UPDATE entries SET valid = ?, shared = ?, position = ? WHERE eid = ?", valid, shared, position, it.eid)
	return err
}

// share takes an entry into its tree or out of it and returns its position.
func (t *tx) share(gid int64, kind entry.Kind, it item, shared bool) (int64, error) {
	id, err := t.name(gid)
	if err != nil {
		return 0, err
	}
	g, err := t.ensureGroup(id)
	if err != nil {
		return 0, err
	}
	if !shared {
		g.setApart(kind, 1)
		return 0, t.take(g, kind, it.Ref)
	}
	g.setApart(kind, -1)
	if err := t.put(g, kind, it); err != nil {
		return 0, err
	}
	err = t.next(&t.position, "position")
	return t.position.value, err
}

// PutValue stores a named value, or deletes it if value is nil.
func (t *tx) PutValue(bucket, key string, value []byte) error {
	var err error
	if value == nil {
		_, err = t.exec("DELETE FROM settings WHERE bucket = ? AND key = ?", bucket, key)
	} else {
		_, err = t.exec(`INSERT INTO settings (bucket, key, value) VALUES (?, ?, ?)
			ON CONFLICT (bucket, key) DO UPDATE SET value = excluded.value`, bucket, key, value)
	}
	if err != nil {
		return fmt.Errorf("storing value %s/%s: %w", bucket, key, err)
	}
	return nil
}

// PurgeGroup deletes everything of a group. Positions and versions go on rising.
func (t *tx) PurgeGroup(id peercrypto.ID) error {
	if err := t.purge(id); err != nil {
		return fmt.Errorf("purging group %s: %w", id.Short(), err)
	}
	return nil
}

func (t *tx) purge(id peercrypto.ID) error {
	if _, err := t.EvictQuarantine(id, "", 0, 0, 0); err != nil {
		return err
	}
	g, err := t.group(id)
	if err != nil || g == nil {
		return err
	}
	for _, root := range g.trees {
		if err := t.purgeTree(root); err != nil {
			return err
		}
	}
	for _, text := range []string{
		`CREATE TEMP TABLE purged AS SELECT DISTINCT cid FROM entries WHERE gid = ?`,
		`DELETE FROM hashes_recent WHERE (key, eid) IN (SELECT substr(hash, 1, 8), eid FROM entries WHERE gid = ?)`,
		`DELETE FROM hashes WHERE (key, eid) IN (SELECT substr(hash, 1, 8), eid FROM entries WHERE gid = ?)`,
		`DELETE FROM entries WHERE gid = ?`,
		`DELETE FROM documents WHERE gid = ?`,
		`DELETE FROM groups WHERE gid = ?`,
	} {
		if _, err := t.exec(text, g.gid); err != nil {
			return err
		}
	}
	for _, text := range []string{
		`DELETE FROM chains WHERE cid IN (SELECT cid FROM temp.purged)
			AND NOT EXISTS (SELECT 1 FROM entries e WHERE e.cid = chains.cid)`,
		`DROP TABLE temp.purged`,
	} {
		if _, err := t.exec(text); err != nil {
			return err
		}
	}
	delete(t.groups, id)
	delete(t.names, g.gid)
	t.chains, t.recent = nil, counter{}
	return nil
}
