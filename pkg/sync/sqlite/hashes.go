package sqlite

import (
	"database/sql"
	"fmt"
	"strings"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// Entries are found by the first bytes of their hashes, in a small table of recent ones and a large one of all others. Hashes have no order: in one
// large index a batch of 2,000 entries changes as many pages. So the recent ones are moved into the large table together, in the order of keys.
const (
	// keySize is the length of keys. Entries with the same key are told apart by their hashes.
	keySize = 8
	// minRecent is how many entries are recent at least before they are moved; with many others, it is one of recentOf.
	minRecent = 16 << 10
	recentOf  = 32
)

// byHash continues a SELECT from e, a row of entries. Its arguments are hashArgs.
const byHash = `FROM (SELECT eid FROM hashes_recent WHERE key = ?1 UNION ALL SELECT eid FROM hashes WHERE key = ?1) h
	CROSS JOIN entries e ON e.eid = h.eid AND e.hash = ?2 `

func hashArgs(hash peercrypto.Hash) []any { return []any{hash[:keySize], hash[:]} }

// hasAtOnce is how many hashes one statement looks for where there are as many, which costs a third of as many statements.
const hasAtOnce = 32

// hasText returns the places of the hashes that are stored: of one, and of hasAtOnce.
var hasText = func() (texts [2]string) {
	for i, n := range []int{1, hasAtOnce} {
		asked := make([]string, n)
		for place := range asked {
			asked[place] = fmt.Sprintf("(%d, ?)", place)
		}
		from := func(table string) string {
			return "SELECT a.place FROM asked a CROSS JOIN " + table + " h ON h.key = substr(a.hash, 1, 8) CROSS JOIN entries e ON e.eid = h.eid AND e.hash = a.hash"
		}
		texts[i] = "WITH asked (place, hash) AS (VALUES " + strings.Join(asked, ", ") + ") " + from("hashes_recent") + " UNION ALL " + from("hashes")
	}
	return texts
}()

// Has tells which entries are stored.
func (r *reader) Has(hashes []peercrypto.Hash) ([]bool, error) {
	out := make([]bool, len(hashes))
	for start := 0; start < len(hashes); {
		n, text := 1, hasText[0]
		if len(hashes)-start >= hasAtOnce {
			n, text = hasAtOnce, hasText[1]
		}
		args := make([]any, n)
		for i := range args {
			args[i] = hashes[start+i][:]
		}
		err := r.each(text, args, func(rows *sql.Rows) (bool, error) {
			var place int
			err := rows.Scan(&place)
			out[start+place] = err == nil
			return true, err
		})
		if err != nil {
			return nil, fmt.Errorf("looking for entry %s: %w", hashes[start].Short(), err)
		}
		start += n
	}
	return out, nil
}

// Unknown tells that nothing of a range is stored, if that can be told at once.
func (r *reader) Unknown(s groupsync.Scope, lo, hi groupsync.Ref) (bool, error) {
	g, err := r.scope(s)
	if err != nil {
		return false, rangeError(s, err)
	}
	if g == nil || s.Kind != entry.Data || g.unshared > 0 {
		return g == nil, nil
	}
	sum, err := r.Summary(s, lo, hi)
	return sum.Count == 0, err
}

// stored tells whether an entry is there.
func (t *tx) stored(g *groupRow, record groupsync.Record) (bool, error) {
	if record.Kind == entry.Data && g.unshared == 0 {
		return t.contains(g.trees[entry.Data], record.Ref)
	}
	return t.one("SELECT 1 "+byHash, hashArgs(record.Hash), new(int))
}

// index makes an entry known by its hash.
func (t *tx) index(hash peercrypto.Hash, eid int64) error {
	if !t.recent.loaded {
		if _, err := t.one("SELECT count(*) FROM hashes_recent", nil, &t.recent.value); err != nil {
			return err
		}
		t.recent.loaded = true
	}
	_, err := t.exec("INSERT INTO hashes_recent (key, eid) VALUES (?, ?)", hash[:keySize], eid)
	t.recent.value++
	return err
}

// settle moves the recent entries to the others if there are too many.
func (t *tx) settle() error {
	if !t.recent.loaded || t.recent.value <= max(minRecent, t.position.value/recentOf) {
		return nil
	}
	for _, text := range []string{"INSERT INTO hashes SELECT key, eid FROM hashes_recent ORDER BY key, eid", "DELETE FROM hashes_recent"} {
		if _, err := t.exec(text); err != nil {
			return err
		}
	}
	t.recent.value = 0
	return nil
}
