package sync

import (
	"context"
	"fmt"
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// maxNamed is how many entries one operation of Checkpoint and Adopt names; more are split.
const maxNamed = 256

// Block ends each grant of a user, also those that juniors make later, and makes a new rendezvous key in the same transaction. What
// they wrote and this device holds stays. There is no way back but for somebody more senior: to end a membership only, use Remove.
func (e *Engine) Block(ctx context.Context, id, user peercrypto.ID) error {
	err := e.write(ctx, id, entry.Admin, func(b *batch) error {
		switch {
		case user == b.state.Owner():
			return ErrOwner
		case user == e.userID:
			return fmt.Errorf("this is you: %w", ErrNotAdmin)
		}
		frontier, err := b.frontierOf(user)
		if err != nil {
			return err
		}
		if _, err := b.operation(entry.Admin, entry.Block{UserID: user, Frontier: frontier}); err != nil {
			return err
		}
		if len(usable(b.state, user)) > 0 {
			return ErrNotAdmin // they outrank this admin
		}
		if err := b.withdraw(user); err != nil {
			return err
		}
		return b.rotate()
	})
	if err != nil {
		return fmt.Errorf("blocking user %s in group %s: %w", user.Short(), id.Short(), err)
	}
	return nil
}

// frontierOf is what of all grants of a user counts and is held here.
func (b *batch) frontierOf(user peercrypto.ID) ([]peercrypto.Hash, error) {
	var all []peercrypto.Hash
	for _, p := range b.state.Principals(user) {
		ends, err := b.frontier(p.Grant)
		if err != nil {
			return nil, err
		}
		all = append(all, ends...)
	}
	slices.SortFunc(all, peercrypto.Hash.Compare)
	return slices.Compact(all), nil
}

// Checkpoint keeps what a user wrote so far and this device holds, whatever admins junior to this one revoke later with what frontier; ""
// means all users. It returns how many chains it named. It reads everything that they wrote.
func (e *Engine) Checkpoint(ctx context.Context, id, user peercrypto.ID) (int, error) {
	named := 0
	err := e.write(ctx, id, entry.Admin, func(b *batch) error {
		users := map[peercrypto.ID]bool{}
		for _, p := range b.state.Principals(user) {
			users[p.UserID] = true
		}
		var all []peercrypto.Hash
		for u := range users {
			ends, err := b.frontierOf(u)
			if err != nil {
				return err
			}
			all = append(all, ends...)
		}
		if len(all) == 0 {
			return ErrNotFound
		}
		slices.SortFunc(all, peercrypto.Hash.Compare)
		named = len(all)
		for part := range slices.Chunk(all, maxNamed) {
			if _, err := b.operation(entry.Admin, entry.Checkpoint{Frontier: part}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("making a checkpoint of group %s: %w", id.Short(), err)
	}
	return named, nil
}

// Adopt takes up entries that a revocation left void: those named, with what comes before them in their chains. Quarantine lists
// what this device holds of them. It does not help against a revocation by somebody senior to this admin.
func (e *Engine) Adopt(ctx context.Context, id peercrypto.ID, entries []peercrypto.Hash) error {
	sorted := slices.Clone(entries)
	slices.SortFunc(sorted, peercrypto.Hash.Compare)
	sorted = slices.Compact(sorted)
	err := e.write(ctx, id, entry.Admin, func(b *batch) error {
		if len(sorted) == 0 {
			return ErrNotFound
		}
		for _, h := range sorted {
			if err := b.adoptable(h); err != nil {
				return err
			}
		}
		for part := range slices.Chunk(sorted, maxNamed) {
			if _, err := b.operation(entry.Admin, entry.Adopt{Entries: part}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("adopting entries of group %s: %w", id.Short(), err)
	}
	return nil
}

// adoptable checks that an entry is here, so that nobody adopts what was mistyped.
func (b *batch) adoptable(h peercrypto.Hash) error {
	if b.g.log.Has(h) {
		return nil
	}
	has, err := b.tx.Has([]peercrypto.Hash{h})
	if err != nil || has[0] {
		return err
	}
	held := false
	if err := b.tx.Waiting(b.g.id, waitVoid(h), func(q Quarantined) error {
		held = held || q.Hash == h
		return nil
	}); err != nil {
		return err
	}
	if !held {
		return fmt.Errorf("entry %s is not on this device: %w", h.Short(), ErrNotFound)
	}
	return nil
}
