package sync

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

const (
	// maintainEvery is how often Run looks for what is due.
	maintainEvery = 5 * time.Second
	// rotateWithin spreads the devices of admins, so that mostly one of them writes a new rendezvous key.
	rotateWithin = 30 * time.Second
	// dueBatch is how many deferred entries are taken up at once.
	dueBatch = 500
)

// A maintainer is what Run remembers.
type maintainer struct {
	e *Engine
	// rotate is when this device makes a new key for a group that needs one.
	rotate map[peercrypto.ID]int64
	// open is the number of open invitations and joins at the last look, to notice expiry.
	open int
	// expired is when the quarantine was looked through last.
	expired int64
}

// Run does what is due: deferred entries whose time came, new rendezvous keys where this user is an admin, a second leave
// where a more senior grant undid the first, expiry of joins, invitations, quarantined entries and documents. It returns ctx.Err(), or nil after Close.
func (e *Engine) Run(ctx context.Context) error {
	if err := e.enter(); err != nil {
		return err
	}
	defer e.active.Done()
	m := maintainer{e: e, rotate: map[peercrypto.ID]int64{}}
	wake, stop := e.bus.follow()
	defer stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-e.done:
			return nil
		case <-wake:
		case <-timer.C:
			timer.Reset(maintainEvery)
			if err := m.tick(ctx); err != nil && ctx.Err() == nil {
				e.log.Warn("maintenance failed; it is tried again", "err", err)
			}
		}
		m.noticeRotation()
	}
}

func (m *maintainer) tick(ctx context.Context) error {
	return errors.Join(
		m.releaseDue(ctx),
		m.expireQuarantine(ctx),
		m.expireDocuments(ctx),
		m.rotateKeys(ctx),
		m.e.settleKeys(ctx),
		m.leaveAgain(ctx),
		m.forgetLeaves(ctx),
		m.expireJoins(ctx),
	)
}

// releaseDue judges deferred entries whose time came.
func (m *maintainer) releaseDue(ctx context.Context) error {
	for {
		due := map[peercrypto.ID][]Quarantined{}
		n := 0
		err := m.e.store.View(ctx, func(r Reader) error {
			return r.Due(m.e.now(), dueBatch, func(q Quarantined) error {
				q.Raw = append([]byte(nil), q.Raw...)
				due[q.Group] = append(due[q.Group], q)
				n++
				return nil
			})
		})
		if err != nil || n == 0 {
			return err
		}
		for id, items := range due {
			if err := m.e.retry(ctx, id, items); err != nil {
				return fmt.Errorf("releasing deferred entries of group %s: %w", id.Short(), err)
			}
		}
		if n < dueBatch {
			return nil
		}
	}
}

// retry takes quarantined items through the pipeline again.
func (e *Engine) retry(ctx context.Context, id peercrypto.ID, held []Quarantined) error {
	g, err := e.replica(id)
	if errors.Is(err, ErrNotFound) {
		return e.store.Update(ctx, func(tx Tx) error {
			for _, q := range held {
				if err := tx.DeleteQuarantined(q.Key); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		return err
	}
	var items []*item
	for _, q := range held {
		if it := releasedItem(q); it != nil {
			items = append(items, it)
		}
	}
	if err := e.proveOps(ctx, g, items); err != nil {
		return err
	}
	if err := e.lock(ctx); err != nil {
		return err
	}
	defer e.unlock()
	_, err = e.update(ctx, g, func(b *batch) error {
		for _, q := range held {
			if err := b.tx.DeleteQuarantined(q.Key); err != nil {
				return err
			}
		}
		return b.admit(items)
	})
	return err
}

// expireQuarantine deletes what waited too long, once an hour.
func (m *maintainer) expireQuarantine(ctx context.Context) error {
	now := m.e.now()
	if now-m.expired < time.Hour.Milliseconds() {
		return nil
	}
	m.expired = now
	before := now - m.e.cfg.Limits.QuarantineAge.Milliseconds()
	return m.e.store.Update(ctx, func(tx Tx) error {
		_, err := tx.EvictQuarantine("", "", noLimit, m.e.cfg.Limits.TotalBytes, before)
		return err
	})
}

// noticeRotation plans a new key where one is due and this user may write it.
func (m *maintainer) noticeRotation() {
	for _, g := range m.e.replicas() {
		v := g.view.Load()
		_, admin := v.state.ActiveGrant(m.e.userID, entry.Admin)
		if !admin || !v.rec.Joined || v.rec.Left || !v.state.RotationDue() || v.state.Deleted() {
			delete(m.rotate, g.id)
			continue
		}
		if _, planned := m.rotate[g.id]; !planned {
			m.rotate[g.id] = m.e.now() + chance(rotateWithin)
		}
	}
}

// chance returns a random time below d, in ms. It asks the one source of chance that a test can set.
func chance(d time.Duration) int64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return int64(binary.BigEndian.Uint64(b[:]) % uint64(d.Milliseconds()))
}

func (m *maintainer) rotateKeys(ctx context.Context) error {
	for id, at := range m.rotate {
		if m.e.now() < at {
			continue
		}
		delete(m.rotate, id)
		err := m.e.write(ctx, id, entry.Admin, func(b *batch) error {
			if !b.state.RotationDue() {
				return errAborted
			}
			return b.rotate()
		})
		if errors.Is(err, ErrKeyPending) || errors.Is(err, ErrKeyFrozen) {
			continue
		}
		if err != nil {
			return fmt.Errorf("making a new rendezvous key for group %s: %w", id.Short(), err)
		}
	}
	return nil
}

// leaveAgain writes a leave for grants that appeared or became active after this user left.
func (m *maintainer) leaveAgain(ctx context.Context) error {
	for _, g := range m.e.replicas() {
		v := g.view.Load()
		if _, member := v.state.Member(m.e.userID); !v.rec.Left || !member {
			continue
		}
		if err := m.e.leaveOnceMore(ctx, g); err != nil {
			return fmt.Errorf("leaving group %s again: %w", g.id.Short(), err)
		}
	}
	return nil
}

func (e *Engine) leaveOnceMore(ctx context.Context, g *replica) error {
	if err := e.lock(ctx); err != nil {
		return err
	}
	defer e.unlock()
	_, err := e.update(ctx, g, func(b *batch) error { return b.leave() })
	return err
}

// forgetLeaves gives up to tell leaves that nobody came for.
func (m *maintainer) forgetLeaves(ctx context.Context) error {
	for _, g := range m.e.replicas() {
		if v := g.view.Load(); v.meta.Untold > 0 && !v.untold(m.e.now()) {
			if err := m.e.leaveTold(ctx, g.id); err != nil {
				return err
			}
		}
	}
	return nil
}

// expireJoins ends joins whose invitation expired and notices invitations that did.
func (m *maintainer) expireJoins(ctx context.Context) error {
	now, open := m.e.now(), 0
	for id, j := range m.e.pendingJoins() {
		open++
		if now <= j.inv.Expires {
			continue
		}
		if err := m.e.dropJoin(ctx, id); err != nil {
			return err
		}
		m.e.bus.publish(JoinFailed{Group: id, Code: RefusedExpired, Reason: "the invitation has expired; ask for a new one", Final: true})
	}
	for _, g := range m.e.replicas() {
		open += len(g.view.Load().state.Invites(now))
	}
	if open != m.open {
		m.open = open
		m.e.bus.publish(RendezvousChanged{})
	}
	return nil
}
