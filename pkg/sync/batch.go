package sync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/group"
)

// fromQuarantine marks entries whose sender's session is not known any more.
const fromQuarantine = -1

// An item is an entry on its way through a batch.
type item struct {
	ent *entry.Entry
	// sound is set when everything but the references within the same call was checked already.
	sound bool
	// proven is set when the signatures and ids of an operation were checked already.
	proven bool
	// fault is why an operation turned out unsound before the batch.
	fault    error
	from     peercrypto.ID
	received int64
	// released is set for an item out of quarantine, which is not counted in the result.
	released bool
	origin   int64
	// dev is the device of the chain, known after admission.
	dev peercrypto.ID
}

func (it *item) ref() group.DataRef {
	return group.DataRef{Hash: it.ent.Hash, Prev: it.ent.Prev, As: it.ent.As, Seq: it.ent.Seq}
}

// A batch is one transaction on one group. Everything that is written goes through it, in the same order: operations, their
// evaluation, data, the judgement of what changed, documents, quarantine.
type batch struct {
	e   *Engine
	g   *replica
	tx  Tx
	now int64

	rec     GroupRecord
	before  *group.State // nil for a new group
	state   *group.State
	changed bool // operations were added to the log

	newOps  []*item
	seen    map[peercrypto.Hash]*item   // data admitted in this batch: stored or waiting for judgement
	held    map[peercrypto.Hash][]*item // by grant: new data of principals that are not free
	judged  map[peercrypto.Hash]bool    // grants of which something is to be judged: true means everything
	fresh   []peercrypto.Hash           // entries that became known here: others may wait for them
	touched map[peercrypto.ID]*subject
	opItems map[peercrypto.Hash]*item // new operations by hash
	bad     map[peercrypto.Hash]bool  // refused: what builds on it is refused too

	heads       map[chainKey]chainHead // of data chains, as far as they were needed
	lookedAt    map[chainKey]bool      // chains that were searched for forks
	chain       *chainEnd              // of the own data, once it was needed
	folded      int                    // documents written
	position    int64                  // the last one given
	aside       []*item                // to be proven before they are admitted, and what refers to them
	asideOf     map[peercrypto.Hash]bool
	quarantined bool // limits must be enforced
	keepers     map[peercrypto.ID]struct{}
	kept        map[peercrypto.Hash]bool // put into quarantine
	missing     map[peercrypto.Hash]bool // what those wait for
	ahead       bool                     // something was left out because of its time
	waiting     bool                     // the group has quarantined entries
	shared      sharing
	result      IngestResult
	events      []Event
	committed   func() // called after the commit, before anybody is told
	// rekeyedUsers are those for whom a new key may have come.
	rekeyedUsers map[peercrypto.ID]bool
}

// update runs fn and what follows from it in one transaction. rec is used for a group that the store does not have yet.
func (e *Engine) update(ctx context.Context, g *replica, fn func(b *batch) error) (*batch, error) {
	var b *batch
	err := e.store.Update(ctx, func(tx Tx) error {
		if g.broken {
			if err := e.heal(tx, g); err != nil {
				return err
			}
		}
		var err error
		if b, err = e.newBatch(g, tx); err != nil {
			return err
		}
		if err := fn(b); err != nil {
			return err
		}
		return b.finish()
	})
	if err != nil {
		if b != nil && (b.changed || len(b.seen) > 0) {
			g.broken = true
		}
		return b, err
	}
	e.announce(b)
	return b, nil
}

func (e *Engine) newBatch(g *replica, tx Tx) (*batch, error) {
	b := &batch{
		e: e, g: g, tx: tx, now: e.now(),
		seen:     map[peercrypto.Hash]*item{},
		held:     map[peercrypto.Hash][]*item{},
		judged:   map[peercrypto.Hash]bool{},
		touched:  map[peercrypto.ID]*subject{},
		opItems:  map[peercrypto.Hash]*item{},
		bad:      map[peercrypto.Hash]bool{},
		keepers:  map[peercrypto.ID]struct{}{},
		kept:     map[peercrypto.Hash]bool{},
		missing:  map[peercrypto.Hash]bool{},
		heads:    map[chainKey]chainHead{},
		lookedAt: map[chainKey]bool{},
	}
	if v := g.view.Load(); v != nil {
		b.rec, b.before, b.state = v.rec, v.state, v.state
	}
	u, err := tx.QuarantineUsage(g.id, "")
	b.waiting = u.Items > 0
	return b, err
}

// announce publishes what was committed.
func (e *Engine) announce(b *batch) {
	if b.changed || b.before == nil {
		if err := b.g.publish(b.rec); err != nil {
			e.log.Error("a group can't be shown as it is stored", "group", b.g.id.Short(), "err", err)
		}
		e.generation.Add(1)
		b.events = append(b.events, GroupChanged{b.g.id}, RendezvousChanged{})
		e.alarm(b)
		e.removed(b)
		defer e.rekeyed(b)
	}
	if b.committed != nil {
		b.committed()
	}
	if b.shared.entries > 0 {
		b.g.moveHead(b.position, b.shared)
	}
	if b.shared.entries > 0 || b.changed || b.folded > 0 {
		b.events = append(b.events, Committed{Group: b.g.id, Position: b.position, Entries: b.shared.entries})
	}
	if len(b.events) > 0 {
		e.bus.wakeAll()
		e.bus.publish(b.events...)
	}
	if void := len(b.g.ops) - len(b.g.stored); int64(void) > 2*e.cfg.Limits.GroupItems {
		b.g.broken = true // loads the log without what was evicted
	}
}

// alarm tells what the evaluation found suspicious since the last state.
func (e *Engine) alarm(b *batch) {
	old := map[string]bool{}
	if b.before != nil {
		for _, a := range b.before.Alarms() {
			old[alarmText(a)] = true
		}
	}
	for _, a := range b.state.Alarms() {
		if text := alarmText(a); !old[text] {
			b.events = append(b.events, Alarm{Group: b.g.id, Text: text})
		}
	}
}

// removed tells this user that somebody ended the membership.
func (e *Engine) removed(b *batch) {
	if b.before == nil || !b.rec.Joined || b.rec.Left {
		return
	}
	if _, was := b.before.Member(e.userID); !was {
		return
	}
	if r := b.g.removal(b.state, e.userID); r != nil {
		b.events = append(b.events, RemovedFromGroup{Group: b.g.id, By: r.By, Reason: r.Reason})
	}
}

func alarmText(a group.Alarm) string {
	names := make([]string, 0, 4)
	for _, h := range a.Ops[:min(len(a.Ops), 4)] {
		names = append(names, h.Short())
	}
	return fmt.Sprintf("%s: user %s, operations %s", a.Kind, a.UserID.Short(), strings.Join(names, ", "))
}

// admit takes items through the pipeline until nothing more is released by them.
func (b *batch) admit(items []*item) error {
	for len(items) > 0 {
		var ops, data []*item
		for _, it := range items {
			if it.ent.Kind == entry.Operation {
				ops = append(ops, it)
			} else {
				data = append(data, it)
			}
		}
		if err := b.admitOps(ops); err != nil {
			return err
		}
		if err := b.admitData(data); err != nil {
			return err
		}
		if err := b.judge(); err != nil {
			return err
		}
		var err error
		if items, err = b.release(); err != nil {
			return err
		}
	}
	return nil
}

// finish judges, folds and enforces limits.
func (b *batch) finish() error {
	if err := b.settle(); err != nil {
		return err
	}
	// What was written locally may be what others waited for.
	items, err := b.release()
	if err != nil {
		return err
	}
	if err := b.admit(items); err != nil {
		return err
	}
	if err := b.foldTouched(); err != nil {
		return err
	}
	if err := b.enforceLimits(); err != nil {
		return err
	}
	b.listMissing()
	b.position, err = b.tx.LastPosition()
	return err
}

// settle evaluates after operations and judges what they changed.
func (b *batch) settle() error {
	if err := b.evaluate(); err != nil {
		return err
	}
	return b.judge()
}

func (b *batch) admitOps(items []*item) error {
	// In this order a reference comes before what refers to it.
	slices.SortFunc(items, func(x, y *item) int { return compareEntries(x.ent, y.ent) })
	for _, it := range items {
		if err := b.admitOp(it); err != nil {
			return err
		}
	}
	return b.evaluate()
}

func (b *batch) admitOp(it *item) error {
	if have, ok := b.g.log.Get(it.ent.Hash); ok {
		return b.knownOp(it, have)
	}
	if it.fault != nil {
		b.refuse(it, it.fault)
		return nil
	}
	if it.claimsIDs() && !it.proven {
		return b.admitUnproven(it)
	}
	if late, err := b.early(it); late || err != nil {
		return err
	}
	err := b.g.take(it)
	var missing *group.MissingError
	switch {
	case err == nil:
		b.changed = true
		b.newOps = append(b.newOps, it)
		b.opItems[it.ent.Hash] = it
		b.noteKeys(it.ent)
		return nil
	case errors.As(err, &missing):
		return b.quarantine(it, missing.Refs)
	}
	b.refuse(it, err)
	return nil
}

// early defers or refuses what lies ahead of the clock. Only what is sound is remembered.
func (b *batch) early(it *item) (bool, error) {
	ahead := it.ent.Modified - b.now
	switch {
	case ahead <= maxAhead:
		return false, nil
	case ahead > maxDeferred:
		b.ahead = true
		b.refuse(it, fmt.Errorf("%w: it is dated %d minutes ahead of this device's clock", errAhead, ahead/60_000))
		return true, nil
	}
	if it.ent.Kind == entry.Operation {
		err := b.g.wouldTake(it)
		var missing *group.MissingError
		if errors.As(err, &missing) {
			return true, b.quarantine(it, missing.Refs)
		}
		if err != nil {
			b.refuse(it, err)
			return true, nil
		}
	}
	return true, b.deferUntil(it, it.ent.Modified-maxAhead)
}

var errAhead = errors.New("not admitted now")

// knownOp keeps the smaller of two valid signatures, so that replicas export the same bytes.
func (b *batch) knownOp(it *item, have *entry.Entry) error {
	b.count(it, &b.result.Known)
	if it.ent.Signature.Compare(have.Signature) >= 0 {
		return nil
	}
	out, err := b.g.add(it.ent)
	if err != nil || out != group.Replaced {
		return nil
	}
	b.changed = true
	if f, ok := b.g.stored[it.ent.Hash]; ok {
		return b.tx.PutRecord(b.opRecord(it.ent, f, 0))
	}
	return nil
}

func (b *batch) opRecord(ent *entry.Entry, f flags, origin int64) Record {
	return Record{
		Ref: Ref{ent.Modified, ent.Hash}, Group: ent.Group, Kind: ent.Kind, Subject: ent.Subject, As: ent.As,
		Prev: ent.Prev, Dev: b.g.devs[ent.Hash], Seq: ent.Seq, Raw: ent.Raw,
		Valid: f.valid, Shared: f.valid || f.shared, Origin: origin,
	}
}

// evaluate computes the state after new operations, stores them and corrects the flags of the old ones.
func (b *batch) evaluate() error {
	if len(b.newOps) == 0 && b.state != nil {
		return nil
	}
	b.g.logMu.Lock()
	state := b.g.log.State()
	b.g.logMu.Unlock()
	old := b.state
	b.state = state
	if err := b.findNamed(); err != nil {
		return err
	}
	changed := state.Changed(old)
	touched := changed.Ops
	if len(b.g.named) > 0 && len(b.g.stored) < len(b.g.ops) {
		touched = slices.Clone(b.g.ops) // what was void may be what a frontier names
	}
	b.g.sortOps(touched)
	for _, h := range touched {
		if err := b.storeOp(h); err != nil {
			return err
		}
	}
	b.newOps = b.newOps[:0]
	return b.markJudged(changed, old)
}

// storeOp brings the store in line with the evaluation of one operation.
func (b *batch) storeOp(h peercrypto.Hash) error {
	want := flags{b.state.Valid(h), b.state.Shared(h)}
	want.shared = want.shared || want.valid
	is, stored := b.g.stored[h]
	it := b.opItems[h]
	if stored && is == want {
		return nil
	}
	if stored {
		if want.shared && !is.shared {
			b.shared.add(ofSeveral)
		}
		b.g.stored[h] = want
		return b.tx.SetFlags(h, want.valid, want.shared)
	}
	if !want.shared && len(b.g.named) == 0 {
		if it == nil {
			return nil // in quarantine already
		}
		return b.quarantineVoid(it)
	}
	ent, err := b.g.lookup(h)
	if err != nil {
		return err
	}
	origin := int64(fromQuarantine)
	if it != nil {
		origin = it.origin
		b.count(it, &b.result.Accepted)
		delete(b.opItems, h)
	}
	if it == nil || it.released {
		if err := b.tx.DeleteQuarantined(peercrypto.Sum(ent.Raw)); err != nil {
			return err
		}
	}
	if want.shared {
		b.shared.add(origin)
	}
	b.g.stored[h] = want
	b.fresh = append(b.fresh, h)
	return b.tx.PutRecord(b.opRecord(ent, want, origin))
}

// markJudged finds the grants whose data may be judged differently now. Under a new one nothing is stored or void yet: it waited.
func (b *batch) markJudged(changed group.Changes, old *group.State) error {
	if old == nil {
		return nil
	}
	for _, h := range changed.Grants {
		if _, known := old.Principal(h); known {
			b.judged[h] = true
		}
	}
	for _, h := range changed.Data {
		grant, err := b.grantOf(h)
		if err != nil {
			return err
		}
		if !grant.IsZero() && !b.state.Free(grant) {
			b.judged[grant] = true
		}
	}
	return nil
}

// count raises n for an item of this call.
func (b *batch) count(it *item, n *int) {
	if !it.released {
		*n++
	}
}

func (b *batch) refuse(it *item, err error) {
	if !errors.Is(err, errAhead) {
		b.bad[it.ent.Hash] = true
	}
	if !it.released {
		b.result.refuse(it.ent.Hash, err)
	}
	b.e.log.Warn("entry refused", "group", b.g.id.Short(), "entry", it.ent.Hash.Short(), "err", err)
}

func (r *IngestResult) refuse(h peercrypto.Hash, err error) {
	r.Rejected++
	if errors.Is(err, entry.ErrUnsound) || errors.Is(err, entry.ErrTooLarge) {
		r.bad++
	}
	if len(r.Errors) < 16 {
		r.Errors = append(r.Errors, RefusedEntry{h, err})
	}
}

// byChain orders data so that an entry comes behind the one before it in its chain, also when both have the same time.
func byChain(x, y *item) int {
	return cmp.Or(
		cmp.Compare(x.ent.Seq, y.ent.Seq),
		compareEntries(x.ent, y.ent),
	)
}
