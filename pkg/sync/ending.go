package sync

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/group"
)

// tellLeaveFor is how long a device that left a group stays on its topics, so that somebody learns of it, and all devices on those of a
// group that was deleted.
const tellLeaveFor = 30 * 24 * time.Hour

// meta reads the Engine's part of the record.
func (b *batch) meta() (m groupMeta, err error) {
	if len(b.rec.Meta) > 0 {
		err = json.Unmarshal(b.rec.Meta, &m)
	}
	return m, err
}

// putMeta writes the record with another Engine's part. It is shown after the commit.
func (b *batch) putMeta(m groupMeta) error {
	raw, err := m.encode()
	if err != nil {
		return err
	}
	b.rec.Meta = raw
	b.changed = true
	return b.tx.PutGroup(b.rec)
}

// changeMeta changes what is kept of a group beside its log.
func (e *Engine) changeMeta(ctx context.Context, g *replica, change func(m *groupMeta)) error {
	if err := e.lock(ctx); err != nil {
		return err
	}
	defer e.unlock()
	_, err := e.update(ctx, g, func(b *batch) error {
		m, err := b.meta()
		if err != nil {
			return err
		}
		change(&m)
		return b.putMeta(m)
	})
	return err
}

// leave ends the own membership: a leave under each grant of this user that counts, to be told to others.
func (b *batch) leave() error {
	m, err := b.meta()
	if err != nil {
		return err
	}
	m.Untold = b.now
	b.rec.Left = true
	if err := b.putMeta(m); err != nil {
		return err
	}
	return b.leaveAll()
}

// untold tells whether this user left and no other member's device is known to know.
func (v *view) untold(now int64) bool {
	return v.rec.Left && v.meta.Untold > 0 && now < v.meta.Untold+tellLeaveFor.Milliseconds()
}

// deletionTold tells whether a group was deleted so long ago that nobody stays on its topics to tell those who were away.
func (v *view) deletionTold(now int64) bool {
	return v.state.Deleted() && now >= v.deleted+tellLeaveFor.Milliseconds()
}

// leaveTold notes that another member's device has stored the leave, or that nobody came for too long: the group's topics are
// given up.
func (e *Engine) leaveTold(ctx context.Context, id peercrypto.ID) error {
	g, err := e.replica(id)
	if err != nil || g.view.Load().meta.Untold == 0 {
		return nil // purged, or known already
	}
	if err := e.changeMeta(ctx, g, func(m *groupMeta) { m.Untold = 0 }); err != nil {
		return fmt.Errorf("noting that others know of the leave from group %s: %w", id.Short(), err)
	}
	return nil
}

// learnLeft takes the log of a group that this user left, from a member by whose state this user is still in it: by a grant that a more senior
// one made and that this device did not know. It is left, too.
func (e *Engine) learnLeft(ctx context.Context, from, id peercrypto.ID, raws [][]byte) error {
	g, err := e.replica(id)
	if err != nil || !g.view.Load().rec.Left {
		return nil
	}
	var res IngestResult
	items, err := e.proveLog(ctx, from, id, nil, e.decodeAll(id, raws, &res))
	if err != nil {
		return fmt.Errorf("reading what became of group %s after the leave: %w", id.Short(), err)
	}
	for _, it := range items {
		it.from, it.origin = from, fromQuarantine
	}
	if err := e.lock(ctx); err != nil {
		return err
	}
	defer e.unlock()
	_, err = e.update(ctx, g, func(b *batch) error {
		if err := b.admit(items); err != nil || !b.rec.Left {
			return err
		}
		if _, member := b.state.Member(e.userID); member {
			return b.leave()
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading what became of group %s after the leave: %w", id.Short(), err)
	}
	return nil
}

// An ending is a revocation because of which a grant does not count.
type ending struct {
	op *entry.Entry
	// direct is false when it hit somebody on whom the grant rests.
	direct bool
}

// endings returns what ended the membership of a user who was a member, oldest first: of each grant the first revocation, so that nothing in
// its past is newer than the membership. It is empty for members and for those who never were; offered adds those who were asked and never accepted.
func (g *replica) endings(s *group.State, user peercrypto.ID, offered bool) []ending {
	if _, member := s.Member(user); member {
		return nil
	}
	g.logMu.RLock()
	defer g.logMu.RUnlock()
	var out []ending
	for _, p := range s.Principals(user) {
		if !p.Accepted && !offered {
			continue
		}
		end, ok := g.endOf(s, p)
		same := func(x ending) bool { return x.op.Hash == end.op.Hash }
		if ok && !slices.ContainsFunc(out, same) {
			out = append(out, end)
		}
	}
	slices.SortFunc(out, func(a, b ending) int { return compareEntries(a.op, b.op) })
	return out
}

// endOf finds the first revocation of a grant, or of that on which it rests.
func (g *replica) endOf(s *group.State, p group.Principal) (ending, bool) {
	for direct := true; ; direct = false {
		var first *entry.Entry
		for _, h := range p.Revoked {
			if op, ok := g.log.Get(h); ok && (first == nil || compareEntries(op, first) < 0) {
				first = op
			}
		}
		if first != nil {
			return ending{first, direct}, true
		}
		grant, ok := g.log.Get(p.Grant)
		if p.Granted || !ok {
			return ending{}, false
		}
		if p, ok = s.Principal(grant.As); !ok { // more senior: this ends at the create
			return ending{}, false
		}
	}
}

// appealFor is how long who was removed stays on the group's topics: a more senior member may have removed the remover meanwhile.
const appealFor = 7 * 24 * time.Hour

// appeals tells whether this user was removed by somebody whose deeds the owner may have ended before: then the removal is void for all
// who know of that, and this device has to hear of it.
func (e *Engine) appeals(g *replica, v *view, now int64) bool {
	if !v.rec.Joined || v.rec.Left {
		return false
	}
	if _, member := v.state.Member(e.userID); member {
		return false
	}
	r := g.removal(v.state, e.userID)
	return r != nil && r.By != v.state.Owner() && now < r.At.Add(appealFor).UnixMilli()
}

// appealing is appeals by the group's id.
func (e *Engine) appealing(id peercrypto.ID) bool {
	g, err := e.replica(id)
	return err == nil && e.appeals(g, g.view.Load(), e.now())
}

// removal tells who ended the membership of a user; nil if nobody else did.
func (g *replica) removal(s *group.State, user peercrypto.ID) *Removal {
	ends := g.endings(s, user, false)
	if len(ends) == 0 {
		return nil
	}
	last := ends[len(ends)-1]
	if last.op.Signer == user {
		return nil // left
	}
	r := &Removal{By: last.op.Signer, At: time.UnixMilli(last.op.Modified)}
	if op, ok := last.op.Op.(entry.Remove); ok && last.direct {
		r.Reason = op.Reason
	}
	return r
}
