package sync

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/group"
)

// Ingest takes entries of a group from another device. It returns after the durable commit. What can be stored is stored even if other
// entries of the call are refused; the error tells only what concerns all of them: the sender is no member, or the store failed.
func (e *Engine) Ingest(ctx context.Context, from Peer, group peercrypto.ID, raws [][]byte) (IngestResult, error) {
	return e.ingest(ctx, from.UserID, group, raws, fromQuarantine)
}

func (e *Engine) ingest(ctx context.Context, from, id peercrypto.ID, raws [][]byte, origin int64) (IngestResult, error) {
	if err := e.enter(); err != nil {
		return IngestResult{}, err
	}
	defer e.active.Done()
	d, err := e.decodeFrom(ctx, from, id, raws, origin)
	if err != nil {
		return d.res, err
	}
	// Operations first: data of the same call may need them, and is verified when they are there.
	for _, kind := range []entry.Kind{entry.Operation, entry.Data} {
		part := delivery{group: id, from: from, items: d.of(kind), res: d.res}
		if err := e.verifyAll(ctx, &part); err != nil {
			return d.res, err
		}
		if d.res, err = e.commit(ctx, part); err != nil {
			return d.res, err
		}
	}
	return d.res, nil
}

// A delivery is what a device sent of one group, on its way to the store. Its preparation, in which nothing is written, may overlap the
// commit of the one before: what it refers to and is not there yet is looked for again when it is committed.
type delivery struct {
	group peercrypto.ID
	from  peercrypto.ID // user
	items []*item
	bad   map[peercrypto.Hash]bool // refused
	res   IngestResult
}

func (d *delivery) of(kind entry.Kind) []*item {
	return slices.DeleteFunc(slices.Clone(d.items), func(it *item) bool { return it.ent.Kind != kind })
}

// prepare decodes and verifies.
func (e *Engine) prepare(ctx context.Context, from, id peercrypto.ID, raws [][]byte, origin int64) (delivery, error) {
	d, err := e.decodeFrom(ctx, from, id, raws, origin)
	if err != nil {
		return d, err
	}
	return d, e.verifyAll(ctx, &d)
}

func (e *Engine) decodeFrom(ctx context.Context, from, id peercrypto.ID, raws [][]byte, origin int64) (d delivery, err error) {
	d.group, d.from = id, from
	if _, err := e.sharedWith(from, id); err != nil {
		return d, err
	}
	d.items, err = e.skipKnown(ctx, e.decodeAll(id, raws, &d.res), &d.res)
	if err != nil {
		return d, fmt.Errorf("taking entries of group %s: %w", id.Short(), err)
	}
	for _, it := range d.items {
		it.from, it.origin = from, origin
	}
	return d, nil
}

// sharedWith returns a group from which a user's entries are taken.
func (e *Engine) sharedWith(user, id peercrypto.ID) (*replica, error) {
	g, err := e.replica(id)
	if err != nil || !e.shares(g.view.Load(), user) {
		return nil, fmt.Errorf("entries of group %s from user %s: %w", id.Short(), user.Short(), ErrNotAdmitted)
	}
	return g, nil
}

// commit judges a delivery and stores it. What has to be proven first is proven without the lock, and judged then: each turn proves what the one
// before made known.
func (e *Engine) commit(ctx context.Context, d delivery) (IngestResult, error) {
	for len(d.items) > 0 {
		if err := e.commitOnce(ctx, &d); err != nil || len(d.items) == 0 {
			return d.res, err
		}
		g, err := e.sharedWith(d.from, d.group)
		if err != nil {
			return d.res, err
		}
		if err := e.proveOps(ctx, g, d.items); err != nil {
			return d.res, err
		}
	}
	return d.res, nil
}

// commitOnce leaves in d what was put aside.
func (e *Engine) commitOnce(ctx context.Context, d *delivery) error {
	if err := e.lock(ctx); err != nil {
		return err
	}
	defer e.unlock()
	g, err := e.sharedWith(d.from, d.group) // it may have been left or purged meanwhile
	if err != nil {
		return err
	}
	b, err := e.update(ctx, g, func(b *batch) error {
		b.result, b.bad = d.res, d.bad
		return b.admitAgain(d.items)
	})
	if err != nil {
		return fmt.Errorf("taking entries of group %s: %w", d.group.Short(), err)
	}
	d.res, d.items = b.result, b.aside
	return nil
}

// admitAgain is admit for items of which some may lie in quarantine.
func (b *batch) admitAgain(items []*item) error {
	for _, it := range items {
		if it.released {
			if err := b.tx.DeleteQuarantined(peercrypto.Sum(it.ent.Raw)); err != nil {
				return err
			}
		}
	}
	return b.admit(items)
}

// parallel calls fn for 0 … n-1 on all workers.
func (e *Engine) parallel(n int, fn func(i int)) {
	workers := min(e.cfg.Limits.Workers, n, 4*runtime.GOMAXPROCS(0))
	if workers <= 1 || n < 8 {
		for i := range n {
			fn(i)
		}
		return
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				fn(i)
			}
		})
	}
	wg.Wait()
}

// decodeAll decodes and hashes.
func (e *Engine) decodeAll(id peercrypto.ID, raws [][]byte, res *IngestResult) []*item {
	items := make([]*item, len(raws))
	errs := make([]error, len(raws))
	e.parallel(len(raws), func(i int) {
		ent, err := entry.Decode(raws[i])
		switch {
		case err != nil:
			errs[i] = err
		case ent.Group != id:
			errs[i] = entry.Unsound("it belongs to another group")
		default:
			items[i] = &item{ent: ent}
		}
	})
	for _, err := range errs {
		if err != nil {
			res.refuse(peercrypto.Hash{}, err)
			e.log.Warn("entry refused", "group", id.Short(), "err", err)
		}
	}
	return slices.DeleteFunc(items, func(it *item) bool { return it == nil })
}

// known tells which entries of a group are stored, all at once where they lie in a range of which nothing is.
func known(r Reader, items []*item) ([]bool, error) {
	hashes := make([]peercrypto.Hash, len(items))
	var lo, hi Ref
	data := true
	for i, it := range items {
		hashes[i] = it.ent.Hash
		data = data && it.ent.Kind == entry.Data
		if i == 0 || it.ent.Modified < lo.Modified {
			lo = Ref{Modified: it.ent.Modified}
		}
		hi.Modified = max(hi.Modified, it.ent.Modified+1)
	}
	if len(items) > 0 && data {
		if unknown, err := r.Unknown(Scope{items[0].ent.Group, entry.Data}, lo, hi); unknown || err != nil {
			return make([]bool, len(items)), err
		}
	}
	return r.Has(hashes)
}

// skipKnown leaves out entries that are stored with the same bytes, before anything is verified.
func (e *Engine) skipKnown(ctx context.Context, items []*item, res *IngestResult) ([]*item, error) {
	err := e.store.View(ctx, func(r Reader) error {
		has, err := known(r, items)
		if err != nil {
			return err
		}
		for i, it := range items {
			if !has[i] {
				continue
			}
			rec, ok, err := r.Record(it.ent.Hash)
			if err != nil {
				return err
			}
			// A twin with another signature goes on: the smaller one is kept.
			if ok && string(rec.Raw) == string(it.ent.Raw) {
				items[i] = nil
				res.Known++
			}
		}
		return nil
	})
	return slices.DeleteFunc(items, func(it *item) bool { return it == nil }), err
}

// verifyAll checks in parallel what needs no lock. Data whose references are all known is sound afterwards, or refused, and operations are proven; the
// rest is left to the batch.
func (e *Engine) verifyAll(ctx context.Context, d *delivery) error {
	d.bad = map[peercrypto.Hash]bool{}
	if len(d.items) == 0 {
		return nil
	}
	g, err := e.sharedWith(d.from, d.group)
	if err != nil {
		return err
	}
	prevs, err := e.prevRefs(ctx, d.items)
	if err != nil {
		return fmt.Errorf("taking entries of group %s: %w", d.group.Short(), err)
	}
	errs := make([]error, len(d.items))
	g.logMu.RLock()
	e.parallel(len(d.items), func(i int) {
		if it := d.items[i]; it.ent.Kind == entry.Data {
			errs[i] = group.CheckData(g.log, it.ent, prevs[it.ent.Prev])
			it.sound = errs[i] == nil
		}
	})
	g.logMu.RUnlock()
	left := d.items[:0]
	for i, it := range d.items {
		if isUnsound(errs[i]) {
			d.bad[it.ent.Hash] = true
			d.res.refuse(it.ent.Hash, errs[i])
			e.log.Warn("entry refused", "group", g.id.Short(), "entry", it.ent.Hash.Short(), "err", errs[i])
			continue
		}
		left = append(left, it)
	}
	d.items = left
	return e.proveOps(ctx, g, d.items)
}

// prevRefs finds the entries before these in their chains, in the store or among them. An entry is only taken as sound because of one among
// them when that one turns out sound too: the batch looks for it again.
func (e *Engine) prevRefs(ctx context.Context, items []*item) (map[peercrypto.Hash]*group.DataRef, error) {
	refs := make(map[peercrypto.Hash]*group.DataRef, len(items))
	for _, it := range items {
		if it.ent.Kind == entry.Data {
			ref := it.ref()
			refs[it.ent.Hash] = &ref
		}
	}
	err := e.store.View(ctx, func(r Reader) error {
		for _, it := range items {
			if it.ent.Kind != entry.Data || it.ent.Seq == 0 || refs[it.ent.Prev] != nil {
				continue
			}
			rec, ok, err := r.Record(it.ent.Prev)
			if err != nil {
				return err
			}
			if ok && rec.Kind == entry.Data {
				refs[rec.Hash] = &group.DataRef{Hash: rec.Hash, Prev: rec.Prev, As: rec.As, Seq: rec.Seq}
			}
		}
		return nil
	})
	return refs, err
}

func isUnsound(err error) bool {
	if err == nil {
		return false
	}
	var missing *group.MissingError
	return !errors.As(err, &missing)
}
