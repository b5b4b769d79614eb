package sync

import (
	"context"
	"errors"
	"fmt"
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/group"
)

var errJoinIDs = errors.New("the group's log names more users than this device checks for one member at once; try it later, or with another member")

// proveLog checks the signatures and ids of a log that came as a whole, which can take minutes, while nobody is kept from writing. What it returns
// needs no other proof. A log of a user's own device is taken at any size.
func (e *Engine) proveLog(ctx context.Context, from, id peercrypto.ID, items []*item) ([]*item, error) {
	slices.SortFunc(items, func(a, b *item) int { return compareEntries(a.ent, b.ent) })
	stored := func(*item) bool { return false }
	if g, err := e.replica(id); err == nil {
		stored = g.holds
	}
	unknown := slices.DeleteFunc(slices.Clone(items), stored)
	if from != e.userID && !e.joined.take(from, idsIn(unknown), e.cfg.Limits.JoinIDs, e.cfg.Now()) {
		return nil, errJoinIDs
	}
	log, proven := group.NewLog(id), items[:0]
	for _, it := range items {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if log.Has(it.ent.Hash) {
			continue
		}
		var err error
		if stored(it) {
			err = log.Restore(it.ent)
		} else {
			_, err = log.Add(it.ent)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errFake, err)
		}
		it.proven = true
		proven = append(proven, it)
	}
	return proven, nil
}

// holds tells whether an operation is in the log with these bytes.
func (g *replica) holds(it *item) bool {
	g.logMu.RLock()
	defer g.logMu.RUnlock()
	have, ok := g.log.Get(it.ent.Hash)
	return ok && have.Signature == it.ent.Signature
}

// take inserts an operation, without proof where there was one.
func (g *replica) take(it *item) error {
	if !it.proven {
		_, err := g.add(it.ent)
		return err
	}
	g.logMu.Lock()
	defer g.logMu.Unlock()
	return g.restore(it.ent)
}

// wouldTake is take without the insertion.
func (g *replica) wouldTake(it *item) error {
	if it.proven {
		return g.log.CheckProven(it.ent)
	}
	return g.log.Check(it.ent)
}
