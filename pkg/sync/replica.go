package sync

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/group"
)

// flags are those of a stored operation.
type flags struct{ valid, shared bool }

// A replica is a group in memory: its log and what the store holds of it. The Engine's writer owns it, except for view, which
// anybody may read, and log, which verifiers read under logMu while nobody writes.
type replica struct {
	id    peercrypto.ID
	logMu sync.RWMutex // held for writing by the writer while it adds to log
	log   *group.Log

	ops    []peercrypto.Hash // everything in log, in the order of arrival
	devs   map[peercrypto.Hash]peercrypto.ID
	stored map[peercrypto.Hash]flags
	// named are the hashes that frontiers name and that are not known here. While there are some, entries that do not count for
	// now may be their ancestors, so they are stored and not quarantined.
	named map[peercrypto.Hash]struct{}
	// broken is set when a transaction failed after log was changed: it is loaded anew before the next write.
	broken bool

	view atomic.Pointer[view]
	// head is at least the position of the last shared entry; anybody may read it.
	head atomic.Int64
	// last is where the entries that were shared last came from; anybody may read it.
	last atomic.Pointer[stretch]
}

// A view is what is published of a replica after a commit. It is immutable.
type view struct {
	rec   GroupRecord
	meta  groupMeta
	state *group.State
	// deleted is when the group was deleted, in unix ms.
	deleted int64
}

// added returns a grant of a user who was added and did not accept yet.
func (v *view) added(user peercrypto.ID) (peercrypto.Hash, bool) {
	waiting := v.state.Unaccepted(user)
	if len(waiting) == 0 {
		return peercrypto.Hash{}, false
	}
	return waiting[0], true
}

// groupMeta is the Engine's part of a GroupRecord.
type groupMeta struct {
	// Accept is the operation by which this user consented to a grant without a claim. Members who do not know it get it.
	Accept *peercrypto.Hash `json:"accept,omitempty"`
	// Manual lists invitations whose users are admitted by Admit.
	Manual []peercrypto.Hash `json:"manual,omitempty"`
	// Untold is when this user left, in unix ms, until another member's device has stored the leave.
	Untold int64 `json:"untold,omitempty"`
	// Returning is set while this user's new key waits for what the old one wrote.
	Returning bool `json:"returning,omitempty"`
	// Awaits is until when, in unix ms, only another own device tells what the old key wrote; Met is set when a member's device held the
	// same before that.
	Awaits int64 `json:"awaits,omitempty"`
	Met    bool  `json:"met,omitempty"`
	// Forks are the data chains that were found to fork, at most 64; each was told once.
	Forks []forkedChain `json:"forks,omitempty"`
}

func (m groupMeta) encode() ([]byte, error) { return json.Marshal(m) }

func newReplica(id peercrypto.ID) *replica {
	return &replica{
		id: id, log: group.NewLog(id),
		devs:   map[peercrypto.Hash]peercrypto.ID{},
		stored: map[peercrypto.Hash]flags{},
		named:  map[peercrypto.Hash]struct{}{},
	}
}

// loadReplica reads a group's log. Operations in quarantine that are sound but do not count are part of it.
func loadReplica(r Reader, rec GroupRecord) (*replica, error) {
	g := newReplica(rec.ID)
	err := r.Operations(rec.ID, func(op Record) error {
		ent, err := entry.Decode(op.Raw)
		if err != nil {
			return fmt.Errorf("stored operation %s: %w", op.Hash.Short(), err)
		}
		if err := g.restore(ent); err != nil {
			return err
		}
		g.stored[op.Hash] = flags{op.Valid, op.Shared}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := g.loadVoid(r); err != nil {
		return nil, err
	}
	if err := g.findNamed(r); err != nil {
		return nil, err
	}
	head, err := r.LastPosition()
	if err != nil {
		return nil, err
	}
	g.head.Store(head)
	return g, g.publish(rec)
}

// loadVoid adds the quarantined operations that were found sound before.
func (g *replica) loadVoid(r Reader) error {
	var void []*entry.Entry
	err := r.Quarantine(g.id, 1<<30, func(q Quarantined) error {
		if !slices.Contains(q.Waits, waitVoid(q.Hash)) {
			return nil
		}
		ent, err := entry.Decode(q.Raw)
		if err == nil && ent.Kind == entry.Operation {
			void = append(void, ent)
		}
		return nil
	})
	slices.SortFunc(void, compareEntries)
	for _, ent := range void {
		// One whose reference was evicted can't be placed any more; it will come again when somebody needs it.
		_ = g.restore(ent)
	}
	return err
}

func (g *replica) findNamed(r Reader) error {
	hashes := make([]peercrypto.Hash, 0, len(g.named))
	for h := range g.named {
		hashes = append(hashes, h)
	}
	has, err := r.Has(hashes)
	for i := range has {
		if has[i] {
			delete(g.named, hashes[i])
		}
	}
	return err
}

// add checks and inserts an operation, or keeps the smaller signature of one that is there.
func (g *replica) add(ent *entry.Entry) (group.Outcome, error) {
	g.logMu.Lock()
	defer g.logMu.Unlock()
	out, err := g.log.Add(ent)
	if err == nil && out == group.Inserted {
		g.inserted(ent)
	}
	return out, err
}

// restore inserts an operation that was checked before it was stored.
func (g *replica) restore(ent *entry.Entry) error {
	if g.log.Has(ent.Hash) {
		return nil
	}
	if err := g.log.Restore(ent); err != nil {
		return err
	}
	g.inserted(ent)
	return nil
}

func (g *replica) inserted(ent *entry.Entry) {
	dev := ent.Dev
	if ent.Seq > 0 {
		dev = g.devs[ent.Prev]
	}
	g.devs[ent.Hash] = dev
	g.ops = append(g.ops, ent.Hash)
	delete(g.named, ent.Hash)
	for _, h := range entry.Frontier(ent.Op) {
		if _, known := g.devs[h]; !known {
			g.named[h] = struct{}{}
		}
	}
}

// publish makes a new view out of the log.
func (g *replica) publish(rec GroupRecord) error {
	v := &view{rec: rec}
	if len(rec.Meta) > 0 {
		if err := json.Unmarshal(rec.Meta, &v.meta); err != nil {
			return fmt.Errorf("reading the record of group %s: %w", rec.ID.Short(), err)
		}
	}
	g.logMu.Lock()
	v.state = g.log.State()
	if v.state.Deleted() {
		v.deleted = g.deletedAt(v.state)
	}
	g.logMu.Unlock()
	g.view.Store(v)
	return nil
}

// deletedAt is when the owner deleted the group, in unix ms; the last time counts. The log ends with that, so this is not asked often.
func (g *replica) deletedAt(s *group.State) (at int64) {
	for _, h := range g.ops {
		if ent, ok := g.log.Get(h); ok && ent.Op.Kind() == (entry.Delete{}).Kind() && s.Valid(h) {
			at = max(at, ent.Modified)
		}
	}
	return at
}

// heal loads a replica anew whose log went ahead of the store.
func (e *Engine) heal(r Reader, g *replica) error {
	rec, ok, err := r.Group(g.id)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("group %s: %w", g.id.Short(), ErrNotFound)
	}
	fresh, err := loadReplica(r, rec)
	if err != nil {
		return err
	}
	g.logMu.Lock()
	g.log = fresh.log
	g.logMu.Unlock()
	g.ops, g.devs, g.stored, g.named = fresh.ops, fresh.devs, fresh.stored, fresh.named
	g.broken = false
	g.head.Store(fresh.head.Load())
	g.view.Store(fresh.view.Load())
	return nil
}

// lookup returns an operation of the log.
func (g *replica) lookup(h peercrypto.Hash) (*entry.Entry, error) {
	if ent, ok := g.log.Get(h); ok {
		return ent, nil
	}
	return nil, errors.New("the log lost an operation")
}

// sortOps brings operations of the log in the order (modified, hash), in which what is referred to comes first.
func (g *replica) sortOps(hashes []peercrypto.Hash) {
	slices.SortFunc(hashes, func(a, b peercrypto.Hash) int {
		x, _ := g.log.Get(a)
		y, _ := g.log.Get(b)
		return compareEntries(x, y)
	})
}

// compareEntries is the order (modified, hash).
func compareEntries(a, b *entry.Entry) int {
	return Ref{a.Modified, a.Hash}.Compare(Ref{b.Modified, b.Hash})
}
