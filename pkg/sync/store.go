package sync

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// Errors of a Store. Implementations wrap them with what was being done.
var (
	// ErrStoreFull is returned when the disk or the store's quota has no room; the transaction had no effect.
	ErrStoreFull = errors.New("the store is full")
	// ErrStoreReadOnly is returned when the store's files can't be written.
	ErrStoreReadOnly = errors.New("the store is read-only")
	// ErrStoreInUse is returned by an opener when another process holds the store.
	ErrStoreInUse = errors.New("the store is in use by another process")
	// ErrStoreClosed is returned after Close.
	ErrStoreClosed = errors.New("the store is closed")
)

// A Store keeps everything that an Engine must not lose. It is safe for concurrent use; writers take turns.
//
// storetest.Run is the conformance suite that every implementation passes.
type Store interface {
	// Update runs fn in one read-write transaction. It is durable when Update returns nil and had no effect
	// otherwise, also when the process is killed at any moment. fn runs once; tx is valid until fn returns.
	Update(ctx context.Context, fn func(tx Tx) error) error
	// View runs fn on one consistent snapshot. It does not wait for writers.
	View(ctx context.Context, fn func(r Reader) error) error
	// Close waits for running transactions. It is idempotent.
	Close() error
}

// A Ref is what orders an entry: the total order of the whole system is (Modified, Hash).
type Ref struct {
	Modified int64 // unix ms
	Hash     peercrypto.Hash
}

// Compare orders by Modified, then by the raw bytes of Hash.
func (r Ref) Compare(o Ref) int {
	switch {
	case r.Modified < o.Modified:
		return -1
	case r.Modified > o.Modified:
		return 1
	}
	return r.Hash.Compare(o.Hash)
}

// Between returns the shortest ref r with a < r <= b, for a < b: as few bytes of a hash in front of zeros as possible.
func Between(a, b Ref) Ref {
	r := Ref{Modified: b.Modified}
	if a.Modified < b.Modified {
		return r
	}
	for i := range b.Hash {
		r.Hash[i] = b.Hash[i]
		if a.Hash[i] != b.Hash[i] {
			break
		}
	}
	return r
}

// A Record is a stored entry with what the store indexes. Slices are the caller's to keep.
type Record struct {
	Ref
	Group   peercrypto.ID
	Kind    entry.Kind
	Subject peercrypto.ID
	As      peercrypto.Hash // grant; zero for create
	Prev    peercrypto.Hash // zero at seq 0
	Dev     peercrypto.ID   // chain's device, inherited from seq 0
	Seq     int64
	Raw     []byte // canonical bytes with signature

	Valid  bool  // counts: members, documents
	Shared bool  // travels and is fingerprinted (docs/formats.md, section 6); Valid implies Shared
	Origin int64 // 0: written here; else the number of the session that brought it (this process's life only)
	// Position is given by the store, rising, whenever an entry becomes Shared. Readers that follow
	// the log keep a position instead of a queue.
	Position int64
}

// A Scope is one set that is reconciled: a group's operations or its data.
type Scope struct {
	Group peercrypto.ID
	Kind  entry.Kind
}

// A Summary describes the shared entries of a range: how many, and the sum of their hashes modulo 2^256
// (little-endian limbs are an implementation's business; Sum is big-endian here).
type Summary struct {
	Count int64
	Sum   [32]byte
}

// A Part is one of the consecutive ranges that Split returns; it ends before End.
type Part struct {
	End Ref
	Summary
}

// A Document is the fold of a subject's valid data changes.
type Document struct {
	Group    peercrypto.ID
	Subject  peercrypto.ID
	Type     string // "" when deleted
	Modified int64  // unix ms
	Deleted  bool
	JSON     []byte // canonical; nil when deleted
	// Last orders the last change that was folded in: a later one is applied without folding anew.
	Last Ref
	// Version is given by the store, rising, at each Put. Watchers keep a version instead of a queue.
	Version int64
}

// A DocumentQuery selects documents of one group: in the order of (Subject); of (Version) with ByVersion; or of (OrderBy, Subject). Conditions
// and orders by fields need an index (IndexSpec) of the query's Type, except those by ModifiedField alone.
type DocumentQuery struct {
	Group          peercrypto.ID
	Type           string        // "" = any
	After          peercrypto.ID // subjects greater than this
	AfterVersion   int64         // >= 0 with ByVersion: versions greater than this, in the order of versions
	ByVersion      bool
	IncludeDeleted bool
	Limit          int // 0 = 1,000

	Where      []Condition // all are met
	OrderBy    string      // a field; documents without it are left out
	Descending bool        // both OrderBy and Subject
	Cursor     string      // of CursorAfter: go on behind that document
}

// TTL returns when a document ends by the field ttl of its JSON: unix ms, above 0 and below 2^53, cut to an integer.
// It reports false if there is no such number.
func TTL(document []byte) (int64, bool) {
	if !bytes.Contains(document, []byte(`"ttl":`)) {
		return 0, false
	}
	var fields map[string]json.RawMessage
	var ttl *float64
	if json.Unmarshal(document, &fields) != nil || json.Unmarshal(fields["ttl"], &ttl) != nil || ttl == nil {
		return 0, false
	}
	return int64(*ttl), *ttl >= 1 && *ttl < 1<<53
}

// A GroupRecord is what is kept of a group beside its log.
type GroupRecord struct {
	ID peercrypto.ID
	// Joined is false for a group whose log is known but to which this user has not consented:
	// nothing of it is announced or synced.
	Joined bool
	// Left is set when this user left or was removed; the data stays until it is purged.
	Left bool
	// Meta is the Engine's own JSON (server URLs, pending claim…); the store does not look into it.
	Meta []byte
}

// A Wait names what a quarantined entry waits for.
type Wait struct {
	// Kind is "entry" (Ref = hash text), "time" (Ref = due unix ms, 13 digits), "void" (Ref = hash text of the grant that must be judged
	// differently, or of the item itself, by which others that refer to it find it) or "dev" (Ref = device of the item's chain,
	// never satisfied). A store knows "time" only.
	Kind string
	Ref  string
}

// A Quarantined item is an entry that can't be judged yet. It is never shown, relayed, or counted.
type Quarantined struct {
	Key      peercrypto.Hash // SHA-256 of the full bytes, signature included
	Group    peercrypto.ID
	Hash     peercrypto.Hash // the entry's own hash
	Raw      []byte
	From     peercrypto.ID // user who sent it
	Received int64         // unix ms
	Waits    []Wait
}

// QuarantineUsage counts what is held.
type QuarantineUsage struct {
	Items int64
	Bytes int64
}

// A Reader reads one snapshot. Results are in the stated order; missing things are (zero, false, nil).
type Reader interface {
	Groups() ([]GroupRecord, error)
	Group(id peercrypto.ID) (GroupRecord, bool, error)

	Record(hash peercrypto.Hash) (Record, bool, error)
	// Has tells for each hash whether its entry is stored (valid or not).
	Has(hashes []peercrypto.Hash) ([]bool, error)
	// Unknown tells that no entry of a scope with lo <= ref < hi is stored, valid or not, for the price of a Summary. Where that price does not
	// tell, it says false: then Has tells.
	Unknown(s Scope, lo, hi Ref) (bool, error)
	// Operations calls fn for every stored operation of a group in (Modified, Hash) order. Record is valid during the call.
	Operations(group peercrypto.ID, fn func(Record) error) error
	// ChainHead is the record with the highest seq (of several, the smallest hash) of a chain; only stored entries count.
	ChainHead(as peercrypto.Hash, dev peercrypto.ID, kind entry.Kind) (Record, bool, error)
	// ChainAt returns at most limit records at a place of a chain, by hash, without Raw. More than one are a fork.
	ChainAt(as peercrypto.Hash, dev peercrypto.ID, kind entry.Kind, seq int64, limit int) ([]Record, error)
	// DataOf calls fn for every data record of a grant, valid or not, without Raw.
	DataOf(as peercrypto.Hash, fn func(Record) error) error
	// SubjectEntries calls fn for the valid data records of a subject in (Modified, Hash) order.
	SubjectEntries(group, subject peercrypto.ID, fn func(Record) error) error
	// SharedAfter returns at most limit shared records of a group, either kind, with Position > after, in order of Position, without Raw.
	SharedAfter(group peercrypto.ID, after int64, limit int) ([]Record, error)
	// LastPosition is the highest Position given so far, in any group.
	LastPosition() (int64, error)

	// Summary covers shared entries with lo <= ref < hi. The whole scope costs O(1); Split and Summary of parts must not
	// cost more than the logarithm of the count for each part.
	Summary(s Scope, lo, hi Ref) (Summary, error)
	// Split cuts lo <= ref < hi into at most parts consecutive ranges whose counts differ from the average by half of it
	// at most; the last one ends at hi, and others at bounds that are short (see Between) and need not be stored refs.
	Split(s Scope, lo, hi Ref, parts int) ([]Part, error)
	// Refs returns at most limit refs of shared entries with lo <= ref < hi, in order.
	Refs(s Scope, lo, hi Ref, limit int) ([]Ref, error)
	// Shared calls fn for shared records with lo <= ref < hi in order, until fn returns false or an error.
	Shared(s Scope, lo, hi Ref, fn func(Record) (bool, error)) error

	Document(group, subject peercrypto.ID) (Document, bool, error)
	Documents(q DocumentQuery, fn func(Document) error) error
	// Indexes lists what EnsureIndex made, by name.
	Indexes() ([]IndexSpec, error)
	// Expired returns at most limit live documents of any group whose TTL is at or before now (unix ms), the earliest first.
	Expired(now int64, limit int) ([]Document, error)
	// DocumentCounts returns how many documents live and deleted ones a group has, in O(1). Tombstones without Last do not count: who never had what became
	// void has none.
	DocumentCounts(group peercrypto.ID) (live, deleted int64, err error)

	// Waiting calls fn for the items of a group that wait for w.
	Waiting(group peercrypto.ID, w Wait, fn func(Quarantined) error) error
	// Due calls fn for items that wait for a time at or before now (unix ms).
	Due(now int64, limit int, fn func(Quarantined) error) error
	// QuarantineUsage counts by group ("" = all) and sender ("" = all).
	QuarantineUsage(group, from peercrypto.ID) (QuarantineUsage, error)
	// Quarantine lists items, oldest first.
	Quarantine(group peercrypto.ID, limit int, fn func(Quarantined) error) error

	// Value reads a small named value of the Engine or its owner (contacts, settings).
	Value(bucket, key string) ([]byte, bool, error)
	// Values calls fn for a bucket in order of keys.
	Values(bucket string, fn func(key string, value []byte) error) error
}

// A Tx reads its own writes.
type Tx interface {
	Reader

	PutGroup(g GroupRecord) error
	// PutRecord inserts a record, or, if its hash is there, updates Valid, Shared and (when Raw is not nil) Raw.
	// It keeps the summaries of its scope and gives a Position when the entry becomes Shared.
	PutRecord(r Record) error
	// SetFlags changes Valid and Shared of a stored record.
	SetFlags(hash peercrypto.Hash, valid, shared bool) error
	// PutDocument inserts or replaces; Version is given by the store and returned.
	PutDocument(d Document) (version int64, err error)
	DeleteDocument(group, subject peercrypto.ID) error // forgets it, tombstone included

	// EnsureIndex makes an index, or another one in place of that of the same name. It reads all documents of its type. Too many fail with
	// ErrLimit.
	EnsureIndex(s IndexSpec) error
	// DropIndex removes an index, if it is there.
	DropIndex(name string) error

	// PutQuarantined inserts or replaces by Key.
	PutQuarantined(q Quarantined) error
	DeleteQuarantined(key peercrypto.Hash) error
	// EvictQuarantine deletes the oldest items of a group (""=all) and sender (""=all) until usage is within items and
	// bytes, and those received before the given unix ms. It returns how many were deleted.
	EvictQuarantine(group, from peercrypto.ID, maxItems, maxBytes, before int64) (int64, error)

	PutValue(bucket, key string, value []byte) error // nil deletes
	// PurgeGroup deletes everything of a group.
	PurgeGroup(id peercrypto.ID) error
}
