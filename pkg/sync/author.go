package sync

import (
	"context"
	"errors"
	"fmt"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/fold"
	"github.com/peersignal/peersignal/pkg/sync/group"
)

// write runs fn in a transaction on a group in which this user has at least a role.
func (e *Engine) write(ctx context.Context, id peercrypto.ID, needs entry.Role, fn func(b *batch) error) error {
	if err := e.enter(); err != nil {
		return err
	}
	defer e.active.Done()
	g, err := e.replica(id)
	if err != nil {
		return err
	}
	if err := e.lock(ctx); err != nil {
		return err
	}
	defer e.unlock()
	_, err = e.update(ctx, g, func(b *batch) error {
		// Under the lock and after a heal, this is what counts.
		if err := e.mayWrite(g.view.Load(), needs); err != nil {
			return err
		}
		return fn(b)
	})
	if errors.Is(err, errAborted) {
		return nil
	}
	return err
}

// operation writes an operation of this user.
func (b *batch) operation(needs entry.Role, op entry.Op) (*entry.Entry, error) {
	grant, ok := b.state.ActiveGrant(b.e.userID, needs)
	if !ok {
		return nil, fmt.Errorf("group %s: %w", b.g.id.Short(), ErrNotMember)
	}
	return b.operationAs(grant, op)
}

// operationAs writes an operation under one of this user's grants, merging heads before it where there are too many.
func (b *batch) operationAs(grant peercrypto.Hash, op entry.Op) (*entry.Entry, error) {
	for {
		d, err := group.NextOpAs(b.g.log, b.state, grant, b.e.deviceID)
		if err != nil {
			return nil, err
		}
		_, merging := d.Op.(entry.Merge)
		if !merging {
			d.Op = op
		}
		ent, err := b.sign(d)
		if err != nil || !merging {
			return ent, err
		}
	}
}

// sign completes, signs and adds an operation. It must count: nobody writes for nothing.
func (b *batch) sign(d entry.OpDraft) (*entry.Entry, error) {
	d.ID = peercrypto.NewID(time.UnixMilli(b.now))
	d.Modified = max(d.Modified, b.now)
	if err := b.clock(d.Modified); err != nil {
		return nil, err
	}
	ent, err := entry.SignOperation(b.e.cfg.Identity.User, d)
	if err != nil {
		return nil, err
	}
	if err := b.insert(ent); err != nil {
		return nil, err
	}
	if _, isAccept := d.Op.(entry.Accept); !isAccept && !b.state.Valid(ent.Hash) {
		return nil, fmt.Errorf("writing an operation of kind %q: it would not count: %w", d.Op.Kind(), ErrNotAdmin)
	}
	return ent, nil
}

// insert takes in an operation that was written here and evaluates.
func (b *batch) insert(ent *entry.Entry) error {
	if _, err := b.g.add(ent); err != nil {
		return fmt.Errorf("writing an operation of kind %q: %w", ent.Op.Kind(), err)
	}
	it := &item{ent: ent, sound: true, from: b.e.userID}
	b.changed = true
	b.newOps = append(b.newOps, it)
	b.opItems[ent.Hash] = it
	b.noteKeys(ent)
	return b.evaluate()
}

func (b *batch) clock(modified int64) error {
	if modified > b.now+maxAhead {
		return fmt.Errorf("writing to group %s, whose entries are %v ahead: %w",
			b.g.id.Short(), time.Duration(modified-b.now)*time.Millisecond, ErrClock)
	}
	return nil
}

// A chainEnd is where this device's data chain under a grant goes on.
type chainEnd struct {
	grant    peercrypto.Hash
	modified int64 // of the grant
	seq      int64 // next
	prev     peercrypto.Hash
	last     int64 // modified of prev
}

// dataChain finds the end of the chain; the batch keeps it.
func (b *batch) dataChain() (*chainEnd, error) {
	if b.chain != nil {
		return b.chain, nil
	}
	grant, ok := b.state.ActiveGrant(b.e.userID, entry.Write)
	if !ok {
		return nil, fmt.Errorf("group %s: %w", b.g.id.Short(), ErrReadOnly)
	}
	p, _ := b.state.Principal(grant)
	c, end := &chainEnd{grant: grant, modified: p.Modified}, chainHead{seq: -1}
	head, ok, err := b.tx.ChainHead(grant, b.e.deviceID, entry.Data)
	if err != nil {
		return nil, err
	}
	if ok {
		c.seq, c.prev, c.last = head.Seq+1, head.Hash, head.Modified
		end = chainHead{head.Seq, head.Hash}
	}
	b.heads[chainKey{grant, b.e.deviceID}] = end
	b.chain = c
	return c, nil
}

// change writes a data change of this user and folds it in.
func (b *batch) change(doc Document, changes []fold.Change, deleted bool) (Document, error) {
	c, err := b.dataChain()
	if err != nil {
		return doc, err
	}
	b.now = max(b.now, b.e.now()) // a long transaction spreads over time: few entries of one moment
	d := entry.DataDraft{
		ID: peercrypto.NewID(time.UnixMilli(b.now)), Group: b.g.id, Subject: doc.Subject, Signer: b.e.userID,
		Modified: max(b.now, c.modified+1, doc.Modified+1, c.last),
		As:       c.grant, Seq: c.seq, Prev: c.prev, Changes: changes, SubjectDeleted: deleted,
	}
	if c.seq == 0 {
		d.Dev = b.e.deviceID
	}
	if err := b.clock(d.Modified); err != nil {
		return doc, err
	}
	ent, err := entry.SignData(b.e.cfg.Identity.User, d)
	if err != nil {
		return doc, fmt.Errorf("%w: %w", ErrInvalidDocument, err)
	}
	it := &item{ent: ent, sound: true, from: b.e.userID, dev: b.e.deviceID}
	b.seen[ent.Hash] = it
	if err := b.storeData(it, flags{true, true}); err != nil {
		return doc, err
	}
	c.seq, c.prev, c.last = c.seq+1, ent.Hash, ent.Modified
	return b.foldSubject(doc.Subject, false)
}
