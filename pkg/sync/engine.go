package sync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/group"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// An Engine keeps the groups of one device. It is safe for concurrent use.
type Engine struct {
	cfg      Config
	store    Store
	log      *slog.Logger
	userID   peercrypto.ID
	deviceID peercrypto.ID
	genesis  peercrypto.Hash

	// writer is held by the one goroutine that judges and writes. It owns each group's log.
	writer chan struct{}
	// next is the number that the next session marks its entries with; written by the holder of mu.
	next int64

	mu       sync.RWMutex
	groups   map[peercrypto.ID]*replica
	joins    map[peercrypto.ID]*pendingJoin
	proofs   map[peercrypto.ID]*logProof // of logs that are checked now, by group
	sessions map[*Session]struct{}
	userDoc  []byte
	closed   bool
	// current are the keys of users who were looked at since the start.
	current map[peercrypto.ID]peercrypto.PublicKey

	line   []keys.Event // the own key history; read-only
	selfMu sync.Mutex   // guards self, held while it is written
	self   selfRecord
	// replaced is set when another key than Identity's is stored.
	replaced atomic.Bool
	pinning  sync.Mutex // held while what is remembered of a user's keys is read and written

	// generation rises whenever members, groups, joins or the own name change: sessions look at their groups again then.
	generation atomic.Int64
	// ownGeneration rises whenever other own devices should be told of keys.
	ownGeneration atomic.Int64

	bus     bus
	wanted  wantTable
	offered offerBudget
	joined  offerBudget   // by logs that answer a join
	done    chan struct{} // closed by Close
	active  sync.WaitGroup
}

// Open loads the groups from the store and evaluates them.
func Open(ctx context.Context, cfg Config) (*Engine, error) {
	cfg, err := cfg.validate()
	if err != nil {
		return nil, err
	}
	e := &Engine{
		cfg: cfg, store: cfg.Store, log: cfg.Logger,
		userID: cfg.Identity.UserID(), deviceID: cfg.Identity.DeviceID(), genesis: cfg.Identity.Genesis.Hash(),
		writer:   make(chan struct{}, 1),
		groups:   map[peercrypto.ID]*replica{},
		joins:    map[peercrypto.ID]*pendingJoin{},
		proofs:   map[peercrypto.ID]*logProof{},
		sessions: map[*Session]struct{}{},
		done:     make(chan struct{}),
		current:  map[peercrypto.ID]peercrypto.PublicKey{},
	}
	made, err := e.loadSelf(ctx)
	if err != nil {
		return nil, fmt.Errorf("opening the sync engine: %w", err)
	}
	if err := e.loadLine(); err != nil {
		return nil, fmt.Errorf("opening the sync engine: %w", err)
	}
	if err := e.load(ctx); err != nil {
		return nil, fmt.Errorf("opening the sync engine: %w", err)
	}
	if err := e.loadUserDoc(ctx); err != nil {
		return nil, fmt.Errorf("opening the sync engine: %w", err)
	}
	if err := e.noteKey(ctx, made); err != nil {
		return nil, fmt.Errorf("opening the sync engine: %w", err)
	}
	if err := e.settleKeys(ctx); err != nil {
		e.log.Warn("the new key could not be set everywhere; it is tried again", "err", err)
	}
	return e, nil
}

func (e *Engine) load(ctx context.Context) error {
	return e.store.View(ctx, func(r Reader) error {
		recs, err := r.Groups()
		if err != nil {
			return err
		}
		for _, rec := range recs {
			g, err := loadReplica(r, rec)
			if err != nil {
				return fmt.Errorf("loading group %s: %w", rec.ID.Short(), err)
			}
			e.groups[rec.ID] = g
		}
		return e.loadJoins(r)
	})
}

// Close ends sessions, watches and subscriptions and waits for them. It does not close the store.
func (e *Engine) Close() error {
	e.mu.Lock()
	if !e.closed {
		e.closed = true
		close(e.done)
	}
	e.mu.Unlock()
	e.active.Wait()
	e.bus.close()
	return nil
}

// enter counts a call that Close waits for. The caller calls e.active.Done when err is nil.
func (e *Engine) enter() error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.closed {
		return ErrClosed
	}
	e.active.Add(1)
	return nil
}

// lock makes the caller the writer.
func (e *Engine) lock(ctx context.Context) error {
	select {
	case e.writer <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-e.done:
		return ErrClosed
	}
}

func (e *Engine) unlock() { <-e.writer }

func (e *Engine) now() int64 { return e.cfg.Now().UnixMilli() }

// UserID is the id of the own user.
func (e *Engine) UserID() peercrypto.ID { return e.userID }

// DeviceID is the id of the own device.
func (e *Engine) DeviceID() peercrypto.ID { return e.deviceID }

// replica returns a group that is stored here.
func (e *Engine) replica(id peercrypto.ID) (*replica, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.closed {
		return nil, ErrClosed
	}
	if g := e.groups[id]; g != nil {
		return g, nil
	}
	return nil, fmt.Errorf("group %s: %w", id.Short(), ErrNotFound)
}

// replicas lists the groups by id: what is done for all of them is done in an order that does not depend on chance.
func (e *Engine) replicas() []*replica {
	e.mu.RLock()
	defer e.mu.RUnlock()
	out := make([]*replica, 0, len(e.groups))
	for _, g := range e.groups {
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b *replica) int { return cmp.Compare(a.id, b.id) })
	return out
}

// mayWrite tells whether this user is an active member with at least that role.
func (e *Engine) mayWrite(v *view, needs entry.Role) error {
	m, member := v.state.Member(e.userID)
	switch {
	case !v.rec.Joined || v.rec.Left || !member:
		return fmt.Errorf("group %s: %w", v.rec.ID.Short(), ErrNotMember)
	case v.state.Deleted():
		return fmt.Errorf("group %s: %w", v.rec.ID.Short(), ErrDeleted)
	case len(m.Principals) == 0 && needs != entry.Read:
		return fmt.Errorf("group %s: %w", v.rec.ID.Short(), ErrKeyFrozen)
	case e.lags(v.state):
		return fmt.Errorf("group %s: %w", v.rec.ID.Short(), ErrKeyPending)
	case !m.Role.AtLeast(needs) && needs == entry.Admin:
		return fmt.Errorf("group %s: %w", v.rec.ID.Short(), ErrNotAdmin)
	case !m.Role.AtLeast(needs):
		return fmt.Errorf("group %s: %w", v.rec.ID.Short(), ErrReadOnly)
	}
	return nil
}

// shares tells whether a group may be synced with a user: both are active members and this one consented.
func (e *Engine) shares(v *view, user peercrypto.ID) bool {
	if !v.rec.Joined || v.rec.Left {
		return false
	}
	if _, ok := v.state.Member(e.userID); !ok {
		return false
	}
	_, ok := v.state.Member(user)
	return ok
}

// Admits tells what a user may do in a session with this device.
func (e *Engine) Admits(user peercrypto.ID) Admission {
	if user == e.userID {
		return AdmitMember
	}
	open := false
	now := e.now()
	for _, g := range e.replicas() {
		v := g.view.Load()
		if e.shares(v, user) {
			return AdmitMember
		}
		if _, ok := v.state.Member(user); ok && (v.untold(now) || e.appeals(g, v, now)) {
			return AdmitMember // to be told that this user left, or to tell whether the removal stands
		}
		open = open || e.welcomes(v, user, now)
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	if open || len(e.joins) > 0 {
		return AdmitJoinOnly
	}
	return AdmitNone
}

// welcomes tells whether a stranger may come for a group: it is open for somebody, or for this user, whose consent it waits for.
func (e *Engine) welcomes(v *view, user peercrypto.ID, now int64) bool {
	if !v.rec.Joined || v.rec.Left || v.state.Deleted() {
		return false
	}
	if _, ok := v.state.Member(e.userID); !ok {
		return false
	}
	_, added := v.added(user)
	return added || len(v.state.Invites(now)) > 0 || len(e.closedInvites(v, now)) > 0
}

// maxClosedTopics is how many closed invitations of a group keep their topic.
const maxClosedTopics = 32

// closedInvites are those whose users this device, if an admin's, still meets, only to tell them that they come too
// late: of many, the ones that would have lasted longest.
func (e *Engine) closedInvites(v *view, now int64) []group.OpenInvite {
	if m, ok := v.state.Member(e.userID); !ok || !m.Role.AtLeast(entry.Admin) {
		return nil
	}
	closed := v.state.ClosedInvites(now)
	slices.SortStableFunc(closed, func(a, b group.OpenInvite) int { return cmp.Compare(b.Expires, a.Expires) })
	return closed[:min(len(closed), maxClosedTopics)]
}

// Rendezvous lists the topics on which this device wants to meet others.
func (e *Engine) Rendezvous() []Rendezvous {
	now := e.now()
	out := e.selfTopics(now)
	for _, g := range e.replicas() {
		v := g.view.Load()
		shares := e.shares(v, e.userID)
		if !shares && !v.untold(now) && !e.appeals(g, v, now) || v.deletionTold(now) {
			continue
		}
		for _, k := range v.state.RendezvousKeys() {
			out = append(out, Rendezvous{Key: k.Key, Announce: k.Announce, Group: v.rec.ID})
		}
		if !shares || v.state.Deleted() {
			continue // here only to tell that this user left, to hear whether a removal stands, or to tell that the group is no more
		}
		for _, inv := range v.state.Invites(now) {
			out = append(out, inviteTopic(v.rec.ID, InviteInfo{IPK: inv.IPK}))
		}
		for _, inv := range e.closedInvites(v, now) {
			out = append(out, inviteTopic(v.rec.ID, InviteInfo{IPK: inv.IPK, Closed: true}))
		}
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	for id, j := range e.joins {
		if now < j.inv.Expires && j.back != nil {
			out = append(out, Rendezvous{Key: *j.back, Announce: true, Group: id, Invite: &InviteInfo{IPK: j.key().Public(), Joining: true}})
		} else if now < j.inv.Expires {
			out = append(out, inviteTopic(id, InviteInfo{IPK: j.key().Public(), Joining: true}))
		}
	}
	return out
}

func inviteTopic(id peercrypto.ID, inv InviteInfo) Rendezvous {
	inv.EnvSalt = peercrypto.InviteEnvelopeKey(inv.IPK)
	return Rendezvous{Key: peercrypto.InviteRendezvousKey(inv.IPK), Announce: true, Group: id, Invite: &inv}
}

// errAborted makes a transaction have no effect without being an error for the caller.
var errAborted = errors.New("nothing to write")

const (
	// maxAhead is how far ahead of the clock an entry may be written or counted.
	maxAhead = int64(time.Minute / time.Millisecond)
	// maxDeferred is how far ahead an entry may be to be remembered at all.
	maxDeferred = int64(24 * time.Hour / time.Millisecond)
)
