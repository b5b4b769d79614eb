package sync

import (
	"context"
	"errors"
	"fmt"
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/group"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// AddMember adds a user directly, with the key that this device knows of them. It counts when the user accepted. That user's devices learn of it from
// members whom they meet in another group. Who got another key before accepting can be added again.
func (e *Engine) AddMember(ctx context.Context, id peercrypto.ID, user peercrypto.UserGenesis, role entry.Role) error {
	if err := user.Validate(); err != nil {
		return fmt.Errorf("adding a member to group %s: %w", id.Short(), err)
	}
	u := user.ID() // costly, so not by the writer
	key, events, err := e.keyOf(ctx, u, user)
	if err != nil {
		return fmt.Errorf("adding user %s to group %s: %w", u.Short(), id.Short(), err)
	}
	return e.write(ctx, id, entry.Admin, func(b *batch) error {
		asked := slices.ContainsFunc(b.state.Unaccepted(u), func(h peercrypto.Hash) bool {
			p, ok := b.state.Principal(h)
			return ok && p.Key == key // with another key they could not accept
		})
		if _, ok := b.state.Member(u); ok || asked {
			return fmt.Errorf("adding user %s to group %s: they are a member or were asked already; use SetRole: %w",
				u.Short(), id.Short(), ErrLimit)
		}
		_, err := b.operation(entry.Admin, entry.Add{UserID: u, User: user, Keys: events, Role: role})
		if err == nil && len(b.state.Unaccepted(u)) == 0 {
			return fmt.Errorf("user %s was blocked: %w", u.Short(), ErrNotAdmin)
		}
		return err
	})
}

// keyOf is the key of a user who is to be added, as far as it is known here, and the events that lead to it.
func (e *Engine) keyOf(ctx context.Context, id peercrypto.ID, user peercrypto.UserGenesis) (peercrypto.PublicKey, []keys.Event, error) {
	k, err := e.UserKeys(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return user.Key, nil, nil
	case err != nil:
		return user.Key, nil, err
	case k.Pin.Genesis != user.Hash():
		return user.Key, nil, nil
	case !k.Pin.Usable():
		return user.Key, nil, ErrKeyFrozen
	}
	return k.History.State.Key(), k.History.Line, nil
}

// usable returns the grants of a user that nothing revokes, accepted or not, the most senior first.
func usable(s *group.State, user peercrypto.ID) []group.Principal {
	return slices.DeleteFunc(s.Principals(user), func(p group.Principal) bool { return !p.Granted || len(p.Revoked) > 0 })
}

// frontier returns what of a grant counts and is held here, whatever its keys were: a revocation with it keeps exactly that.
func (b *batch) frontier(grant peercrypto.Hash) ([]peercrypto.Hash, error) {
	heads := map[peercrypto.Hash]bool{}
	prevs := map[peercrypto.Hash]bool{}
	for _, as := range b.state.Terms(grant) {
		err := b.tx.DataOf(as, func(r Record) error {
			if r.Valid {
				prevs[r.Prev] = true
				heads[r.Hash] = true
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	var ends []peercrypto.Hash
	for h := range heads {
		if !prevs[h] {
			ends = append(ends, h)
		}
	}
	return group.FrontierOf(b.g.log, grant, ends), nil
}

// Remove removes a user, also before they accepted, and makes a new rendezvous key in the same transaction. What they wrote
// and this device holds stays; everything else by them is void. The invitations by which they came are closed.
func (e *Engine) Remove(ctx context.Context, id, user peercrypto.ID, reason string) error {
	if user == e.userID {
		return e.Leave(ctx, id)
	}
	err := e.write(ctx, id, entry.Admin, func(b *batch) error {
		grants := usable(b.state, user)
		if len(grants) == 0 {
			return ErrNotFound
		}
		if user == b.state.Owner() {
			return ErrOwner
		}
		for _, p := range grants {
			if err := b.revoke(p, func(frontier []peercrypto.Hash) entry.Op {
				return entry.Remove{Grant: p.Grant, Frontier: frontier, Reason: reason}
			}); err != nil {
				return err
			}
		}
		if err := b.withdraw(user); err != nil {
			return err
		}
		return b.rotate()
	})
	if err != nil {
		return fmt.Errorf("removing user %s from group %s: %w", user.Short(), id.Short(), err)
	}
	return nil
}

// withdraw closes the open invitations by which a user came: who has such a link could come back with it, also as somebody else.
func (b *batch) withdraw(user peercrypto.ID) error {
	used := map[peercrypto.Hash]bool{}
	for _, p := range b.state.Principals(user) {
		if ent, ok := b.g.log.Get(p.Grant); ok {
			if add, ok := ent.Op.(entry.Add); ok && add.Invite != nil {
				used[*add.Invite] = true
			}
		}
	}
	for _, open := range b.state.Invites(b.now) {
		if !used[open.Hash] {
			continue
		}
		if _, err := b.operation(entry.Admin, entry.Uninvite{Invite: open.Hash}); err != nil {
			return err
		}
	}
	return nil
}

// revoke writes a revocation of a grant; what is not sound for lack of seniority is ErrNotAdmin.
func (b *batch) revoke(p group.Principal, op func(frontier []peercrypto.Hash) entry.Op) error {
	frontier, err := b.frontier(p.Grant)
	if err != nil {
		return err
	}
	_, err = b.operation(entry.Admin, op(frontier))
	if errors.Is(err, entry.ErrUnsound) {
		return fmt.Errorf("%w: %w", ErrNotAdmin, err)
	}
	return err
}

// SetRole changes the role of a member.
func (e *Engine) SetRole(ctx context.Context, id, user peercrypto.ID, role entry.Role) error {
	err := e.write(ctx, id, entry.Admin, func(b *batch) error {
		m, ok := b.state.Member(user)
		switch {
		case !ok:
			return ErrNotFound
		case user == b.state.Owner():
			return ErrOwner
		case len(m.Principals) == 0:
			return ErrKeyFrozen
		case m.Role == role:
			return errAborted
		}
		// The first grant gets the role; others would go on giving theirs.
		for i, h := range m.Principals {
			p, _ := b.state.Principal(h)
			if err := b.revoke(p, func(frontier []peercrypto.Hash) entry.Op {
				if i > 0 {
					return entry.Remove{Grant: h, Frontier: frontier}
				}
				return entry.RoleChange{Grant: h, Role: role, Key: p.Key, Frontier: frontier}
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("changing the role of user %s in group %s: %w", user.Short(), id.Short(), err)
	}
	return nil
}

// Leave ends the own membership with all that was written so far. The group is not synced from then on. Connected members are told at once; if there are
// none, this device stays on the group's topics until one other member's device has stored the leave, at most 30 days. The data stays until Purge. The
// owner can't leave.
func (e *Engine) Leave(ctx context.Context, id peercrypto.ID) error {
	err := e.write(ctx, id, entry.Read, func(b *batch) error {
		if b.state.Owner() == e.userID {
			return ErrOwner
		}
		return b.leave()
	})
	if err != nil {
		return fmt.Errorf("leaving group %s: %w", id.Short(), err)
	}
	return nil
}

// leaveAll writes a leave under each grant of this user that still counts.
func (b *batch) leaveAll() error {
	m, _ := b.state.Member(b.e.userID)
	for _, h := range m.Principals {
		frontier, err := b.frontier(h)
		if err != nil {
			return err
		}
		if _, err := b.operationAs(h, entry.Leave{Frontier: frontier}); err != nil {
			return err
		}
	}
	return nil
}
