package sync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/group"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// ErrKeyPending is returned for writes to a group that knows this user by another key than this device has.
var ErrKeyPending = errors.New("this group knows you by another key: after a recovery it has to sync first; if another of your devices changed the key, this one needs it, too")

// ParseHistory reads the key events of an identity and checks that they lead from the genesis to a key.
func ParseHistory(genesis peercrypto.UserGenesis, raw [][]byte, key peercrypto.PublicKey) ([]keys.Event, error) {
	events, err := parseEvents(raw)
	if err != nil {
		return nil, err
	}
	h := keys.Evaluate(keys.Genesis(genesis), events)
	switch {
	case h.Frozen() || len(h.Path) != len(events):
		return nil, errors.New("reading a key history: its events do not follow each other")
	case h.State.Key() != key || h.State.Ended():
		return nil, errors.New("reading a key history: it leads to another key")
	}
	return events, nil
}

func parseEvents(raw [][]byte) ([]keys.Event, error) {
	if len(raw) > entry.MaxKeyEvents {
		return nil, fmt.Errorf("reading a key history: it has %d events, more than %d: %w", len(raw), entry.MaxKeyEvents, ErrLimit)
	}
	events := make([]keys.Event, len(raw))
	for i := range raw {
		var err error
		if events[i], err = keys.Parse(raw[i]); err != nil {
			return nil, fmt.Errorf("reading a key history: %w", err)
		}
	}
	return events, nil
}

// loadLine reads the own history out of the configured identity.
func (e *Engine) loadLine() (err error) {
	id := e.cfg.Identity
	if len(id.History) > 0 {
		e.line, err = ParseHistory(id.Genesis, id.History, id.User.Public())
	}
	return err
}

// lags tells whether a grant of this user has another key than this device.
func (e *Engine) lags(s *group.State) bool {
	mine := e.cfg.Identity.User.Public()
	return slices.ContainsFunc(usable(s, e.userID), func(p group.Principal) bool { return p.Valid && p.Key != mine })
}

// settleKeys writes a rekey in each group that knows this user by an older key, except where a sync has to come first.
func (e *Engine) settleKeys(ctx context.Context) error {
	if len(e.line) == 0 {
		return nil
	}
	var errs []error
	for _, g := range e.replicas() {
		if v := g.view.Load(); !v.meta.Returning || e.waited(v) {
			err := e.settleGroup(ctx, g)
			if errors.Is(err, ErrKeyPending) { // only the user can help, who is told when writing
				e.log.Debug("the new key is not set", "err", err)
				continue
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// settleGroup writes a rekey for each grant of this user that has an older key. Its frontier is what this device holds.
func (e *Engine) settleGroup(ctx context.Context, g *replica) error {
	settled := func(v *view) bool {
		return len(e.line) == 0 || !e.shares(v, e.userID) || v.state.Deleted() || !e.lags(v.state)
	}
	if v := g.view.Load(); settled(v) && !v.meta.Returning {
		return nil
	}
	if err := e.lock(ctx); err != nil {
		return err
	}
	defer e.unlock()
	_, err := e.update(ctx, g, func(b *batch) error {
		m, err := b.meta()
		if err != nil {
			return err
		}
		if m.Returning {
			m.Returning, m.Awaits, m.Met = false, 0, false
			if err := b.putMeta(m); err != nil {
				return err
			}
		}
		if settled(g.view.Load()) {
			return nil
		}
		for _, p := range usable(b.state, e.userID) {
			if err := b.rekey(p); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("setting the new key in group %s: %w", g.id.Short(), err)
	}
	return nil
}

// rekey replaces the key of one grant by this device's: under the last of the grant's keys from which the own history goes on.
func (b *batch) rekey(p group.Principal) error {
	line := b.e.line
	if !p.Valid || p.Key == b.e.cfg.Identity.User.Public() {
		return nil // one that was not accepted has no other key
	}
	best, as := -1, peercrypto.Hash{}
	for _, h := range b.state.Terms(p.Grant) {
		q, ok := b.state.Principal(h)
		if !ok {
			continue
		}
		at := 0
		if q.Head != b.e.genesis {
			at = slices.IndexFunc(line, func(ev keys.Event) bool { return ev.Hash() == q.Head }) + 1
			if at == 0 {
				continue
			}
		}
		if at > best && at < len(line) {
			best, as = at, h
		}
	}
	if best < 0 {
		return fmt.Errorf("the key there does not lead to this device's: %w", ErrKeyPending)
	}
	frontier, err := b.frontier(p.Grant)
	if err != nil {
		return err
	}
	d, err := group.NextRekey(b.g.log, b.state, as, b.e.deviceID)
	if err != nil {
		return err
	}
	events := line[best:]
	for len(events) > 0 && events[len(events)-1].Op != keys.Rotate {
		events = events[:len(events)-1]
	}
	if len(events) == 0 {
		return fmt.Errorf("no new key follows the one there: %w", ErrKeyPending)
	}
	d.Op = entry.Rekey{Events: events, Frontier: frontier}
	_, err = b.sign(d)
	return err
}

// noteLag marks a group that was joined under an older key: the rekey waits until what the old key wrote is here.
func (b *batch) noteLag() error {
	if len(b.e.line) == 0 || !b.e.lags(b.state) {
		return nil
	}
	m, err := b.meta()
	if err != nil {
		return err
	}
	m.Returning = true
	return b.putMeta(m)
}

// awaitOwn is how long a device that got a key from another one waits for what that one, or a third, holds of each group.
const awaitOwn = 10 * time.Minute

// waited tells whether a device that got a key from another one need not wait any longer: a member's device holds the same, or there is no other member.
func (e *Engine) waited(v *view) bool {
	m := v.meta
	return m.Awaits > 0 && e.now() >= m.Awaits && (m.Met || len(v.state.Members()) == 1)
}

// noteKey marks the groups that know this user by an older key, if the new one came from another device: that device has written rekeys,
// or knows who has. A second one, by what this device holds, would void what the others wrote meanwhile. made tells that the key was set on this device
// instead, by the words: then what this device holds is what the user wants to keep, and nothing waits for other devices.
func (e *Engine) noteKey(ctx context.Context, made bool) error {
	e.selfMu.Lock()
	came := e.self.Came
	e.selfMu.Unlock()
	if !came && !made {
		return nil
	}
	for _, g := range e.replicas() {
		change := func(m *groupMeta) { m.Returning, m.Awaits, m.Met = true, e.now()+awaitOwn.Milliseconds(), false }
		v := g.view.Load()
		marks := came && e.shares(v, e.userID) && e.lags(v.state)
		if !came && v.meta.Awaits > 0 {
			marks, change = true, func(m *groupMeta) { m.Returning, m.Awaits, m.Met = false, 0, false }
		}
		if !marks {
			continue
		}
		if err := e.changeMeta(ctx, g, change); err != nil {
			return err
		}
	}
	if !came {
		return nil
	}
	return e.changeSelf(ctx, func(r *selfRecord) error {
		r.Came = false
		return nil
	})
}

// synced is called when a device of a user was found to hold the same of a group.
func (e *Engine) synced(ctx context.Context, id, user peercrypto.ID) {
	g, err := e.replica(id)
	if err != nil {
		return
	}
	switch m := g.view.Load().meta; {
	case !m.Returning:
		return
	case user != e.userID && e.now() < m.Awaits:
		if !m.Met {
			err = e.changeMeta(ctx, g, func(m *groupMeta) { m.Met = true })
		}
	default:
		err = e.settleGroup(ctx, g)
	}
	if err != nil && ctx.Err() == nil {
		e.log.Warn("the new key could not be set; it is tried again", "err", err)
	}
}
