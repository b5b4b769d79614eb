package sync

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/group"
)

// each calls fn for 0 … n-1 on all workers, one after the other on each, until ctx ends.
func (e *Engine) each(ctx context.Context, n int, fn func(i int)) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(e.cfg.Limits.Workers, n) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n) && ctx.Err() == nil; i = next.Add(1) - 1 {
				fn(int(i))
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}

// proveOps checks the signatures of operations whose "as" is known or among them, and derives the ids that they claim: tens of milliseconds each, for which
// nobody is kept from writing. So what came together is committed together, and nobody sees a membership without its end. What it leaves unproven has
// an "as" that comes from elsewhere.
func (e *Engine) proveOps(ctx context.Context, g *replica, items []*item) error {
	var ops []*item
	for _, it := range items {
		if it.ent.Kind == entry.Operation && !it.proven && it.fault == nil {
			ops = append(ops, it)
		}
	}
	signed := e.proveSignatures(g, ops)
	return e.each(ctx, len(signed), func(i int) {
		it := signed[i]
		it.fault = group.ProveIDs(it.ent)
		it.proven = it.fault == nil
	})
}

// proveSignatures returns the operations with good signatures: on all cores those under known grants, then the others in an order in which a grant comes
// before what is written under it.
func (e *Engine) proveSignatures(g *replica, ops []*item) (signed []*item) {
	g.logMu.RLock()
	defer g.logMu.RUnlock()
	errs := make([]error, len(ops))
	e.parallel(len(ops), func(i int) { errs[i] = g.log.ProveSignatures(ops[i].ent) })
	var later []*item
	among := g.log.NewSigned()
	for i, it := range ops {
		switch {
		case errs[i] == nil:
			signed = append(signed, it)
			among.Note(it.ent)
		case isUnsound(errs[i]):
			it.fault = errs[i]
		default:
			later = append(later, it)
		}
	}
	slices.SortFunc(later, func(a, b *item) int { return compareEntries(a.ent, b.ent) })
	for _, it := range later {
		switch err := among.Prove(it.ent); {
		case err == nil:
			signed = append(signed, it)
		case isUnsound(err):
			it.fault = err
		}
	}
	return signed
}

// claimsIDs tells whether an operation holds ids whose derivation is not the writer's business.
func (it *item) claimsIDs() bool {
	_, add := it.ent.Op.(entry.Add)
	return add
}

// admitUnproven decides about an operation of which nobody derived the ids, as far as that is possible without.
func (b *batch) admitUnproven(it *item) error {
	err := b.g.log.CheckProven(it.ent)
	var missing *group.MissingError
	switch {
	case err == nil:
		return b.putAside(it)
	case errors.As(err, &missing):
		return b.quarantine(it, missing.Refs)
	}
	b.refuse(it, err)
	return nil
}

// putAside keeps an operation whose ids nobody derived yet, and what refers to one, until somebody who does not hold the lock did that: commit for what it
// brought itself, Run for what comes out of quarantine otherwise.
func (b *batch) putAside(it *item) error {
	if b.aside == nil {
		b.asideOf = map[peercrypto.Hash]bool{}
	}
	b.aside = append(b.aside, it)
	b.asideOf[it.ent.Hash] = true
	if !it.released {
		return nil
	}
	return b.keep(it, []Wait{waitTime(b.now)})
}
