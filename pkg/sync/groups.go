package sync

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// CreateGroup makes a group owned by this user. Its create and its first rendezvous key are written in one transaction.
func (e *Engine) CreateGroup(ctx context.Context, name string) (GroupInfo, error) {
	if err := e.enter(); err != nil {
		return GroupInfo{}, err
	}
	defer e.active.Done()
	if err := entry.CheckName(name); err != nil {
		return GroupInfo{}, fmt.Errorf("creating a group: %w", err)
	}
	create, err := entry.SignCreate(e.cfg.Identity.User, entry.CreateDraft{
		ID: peercrypto.NewID(e.cfg.Now()), Owner: e.cfg.Identity.Genesis, Dev: e.deviceID, Name: name, Modified: e.now(), Keys: e.line,
	})
	if err != nil {
		return GroupInfo{}, fmt.Errorf("creating a group: %w", err)
	}
	if err := e.lock(ctx); err != nil {
		return GroupInfo{}, err
	}
	defer e.unlock()
	g := newReplica(create.Group)
	err = e.begin(ctx, g, groupMeta{}, func(b *batch) error {
		if err := b.insert(create); err != nil {
			return err
		}
		return b.rotate()
	})
	if err != nil {
		return GroupInfo{}, fmt.Errorf("creating a group: %w", err)
	}
	return e.Group(ctx, g.id)
}

// begin writes a group of which this user becomes a member, new here or left before, and makes it known after the commit.
func (e *Engine) begin(ctx context.Context, g *replica, meta groupMeta, fn func(b *batch) error) error {
	_, err := e.update(ctx, g, func(b *batch) error {
		raw, err := meta.encode()
		if err != nil {
			return err
		}
		b.rec = GroupRecord{ID: g.id, Joined: true, Meta: raw}
		if err := b.tx.PutGroup(b.rec); err != nil {
			return err
		}
		b.events = append(b.events, GroupJoined{g.id})
		b.changed = true
		b.committed = func() {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.groups[g.id] = g
		}
		return fn(b)
	})
	return err
}

// rotate writes a rendezvous key of the next epoch.
func (b *batch) rotate() error {
	_, err := b.operation(entry.Admin, entry.RVKey{Epoch: b.g.log.NextEpoch(), Key: entry.TopicKey(newSecret())})
	return err
}

// Groups lists all groups, offered and left ones too, sorted by id.
func (e *Engine) Groups(ctx context.Context) ([]GroupInfo, error) {
	var out []GroupInfo
	err := e.store.View(ctx, func(r Reader) error {
		for _, g := range e.replicas() {
			info, err := e.groupInfo(r, g)
			if err != nil {
				return err
			}
			out = append(out, info)
		}
		offers, err := e.offers(r)
		for _, o := range offers {
			out = append(out, o.info())
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing groups: %w", err)
	}
	slices.SortStableFunc(out, func(a, b GroupInfo) int { return cmp.Compare(a.ID, b.ID) })
	return mergeOffers(out), nil
}

// mergeOffers joins the offer of a group that was left with what is known of it.
func mergeOffers(in []GroupInfo) []GroupInfo {
	var out []GroupInfo
	for _, g := range in {
		if n := len(out); n > 0 && out[n-1].ID == g.ID {
			out[n-1].Offered, out[n-1].OfferedBy, out[n-1].OfferedRole = g.Offered, g.OfferedBy, g.OfferedRole
			continue
		}
		out = append(out, g)
	}
	return out
}

// Group returns one group.
func (e *Engine) Group(ctx context.Context, id peercrypto.ID) (GroupInfo, error) {
	var found []GroupInfo
	err := e.store.View(ctx, func(r Reader) error {
		if g, err := e.replica(id); err == nil {
			info, err := e.groupInfo(r, g)
			if err != nil {
				return err
			}
			found = append(found, info)
		}
		raw, ok, err := r.Value(bucketOffers, string(id))
		if err != nil || !ok {
			return err
		}
		var o offer
		err = json.Unmarshal(raw, &o)
		found = append(found, o.info())
		return err
	})
	if err == nil && len(found) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return GroupInfo{}, fmt.Errorf("group %s: %w", id.Short(), err)
	}
	return mergeOffers(found)[0], nil
}

func (e *Engine) groupInfo(r Reader, g *replica) (GroupInfo, error) {
	v := g.view.Load()
	s := v.state
	info := GroupInfo{
		ID: v.rec.ID, Name: s.Name(), Owner: s.Owner(), Left: v.rec.Left,
		GroupDeleted: s.Deleted(),
	}
	m, member := s.Member(e.userID)
	if member {
		info.Role = m.Role
	}
	info.Joined = v.rec.Joined && !v.rec.Left && member
	info.RotationDue = info.Joined && s.RotationDue()
	info.Left = v.rec.Left || (v.rec.Joined && !member)
	info.Untold = v.untold(e.now())
	for _, a := range s.Alarms() {
		info.Alarms = append(info.Alarms, alarmText(a))
	}
	for _, f := range v.meta.Forks {
		info.Alarms = append(info.Alarms, f.text())
	}
	err := e.setRemoval(r, g, v, &info)
	if err != nil {
		return info, err
	}
	if info.Members, err = e.memberInfos(r, v); err != nil {
		return info, err
	}
	if info.Documents, info.Deleted, err = r.DocumentCounts(v.rec.ID); err != nil {
		return info, err
	}
	ops, data, err := summaries(r, v.rec.ID)
	if err != nil {
		return info, err
	}
	info.Operations, info.Entries, info.Fingerprint = ops.Count, data.Count, fingerprintText(ops, data)
	u, err := r.QuarantineUsage(v.rec.ID, "")
	info.Quarantined = u.Items
	return info, err
}

// setRemoval tells who removed this user.
func (e *Engine) setRemoval(r Reader, g *replica, v *view, info *GroupInfo) (err error) {
	if !v.rec.Joined || v.rec.Left {
		return nil
	}
	if info.Removed = g.removal(v.state, e.userID); info.Removed != nil {
		info.Removed.Name, err = e.nameOf(r, info.Removed.By)
	}
	return err
}

func summaries(r Reader, id peercrypto.ID) (ops, data Summary, err error) {
	if ops, err = r.Summary(Scope{id, entry.Operation}, Ref{}, endRef); err != nil {
		return ops, data, err
	}
	data, err = r.Summary(Scope{id, entry.Data}, Ref{}, endRef)
	return ops, data, err
}

// fingerprintText is 16 hex characters over both summaries.
func fingerprintText(ops, data Summary) string {
	var b []byte
	for _, s := range []Summary{ops, data} {
		b = binary.BigEndian.AppendUint64(b, uint64(s.Count))
		b = append(b, s.Sum[:]...)
	}
	return peercrypto.Sum(b).Hex()[:16]
}

// Members lists the members of a group, sorted by id.
func (e *Engine) Members(ctx context.Context, id peercrypto.ID) ([]MemberInfo, error) {
	g, err := e.replica(id)
	if err != nil {
		return nil, err
	}
	var out []MemberInfo
	err = e.store.View(ctx, func(r Reader) error {
		out, err = e.memberInfos(r, g.view.Load())
		return err
	})
	return out, err
}

func (e *Engine) memberInfos(r Reader, v *view) ([]MemberInfo, error) {
	var out []MemberInfo
	for _, m := range v.state.Members() {
		name, err := e.nameOf(r, m.UserID)
		if err != nil {
			return nil, err
		}
		out = append(out, MemberInfo{
			UserID: m.UserID, Name: name, Role: m.Role, Owner: m.UserID == v.state.Owner(), Self: m.UserID == e.userID,
		})
	}
	return out, nil
}

// Rename changes the name of a group.
func (e *Engine) Rename(ctx context.Context, id peercrypto.ID, name string) error {
	if err := entry.CheckName(name); err != nil {
		return fmt.Errorf("renaming group %s: %w", id.Short(), err)
	}
	return e.write(ctx, id, entry.Admin, func(b *batch) error {
		if b.state.Name() == name {
			return errAborted
		}
		_, err := b.operation(entry.Admin, entry.Policy{Name: &name})
		return err
	})
}

// DeleteGroup marks the group as deleted for everybody. Only the owner can. Each device keeps its data until Purge.
func (e *Engine) DeleteGroup(ctx context.Context, id peercrypto.ID) error {
	return e.write(ctx, id, entry.Admin, func(b *batch) error {
		if b.state.Owner() != e.userID {
			return fmt.Errorf("deleting group %s: %w", id.Short(), ErrNotOwner)
		}
		create, _ := b.g.log.Create() // it names the owner
		for _, p := range usable(b.state, e.userID) {
			if p.Grant == create.Hash {
				_, err := b.operationAs(p.As, entry.Delete{}) // under the key in use
				return err
			}
		}
		return fmt.Errorf("deleting group %s: %w", id.Short(), ErrNotOwner)
	})
}

// Purge forgets everything of a group on this device. The group must have been left or deleted, or this user removed from it; to leave a group is
// a message to others, to purge it is not.
func (e *Engine) Purge(ctx context.Context, id peercrypto.ID) error {
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
	if v := g.view.Load(); e.shares(v, e.userID) && !v.state.Deleted() {
		return fmt.Errorf("purging group %s: leave it first: %w", id.Short(), ErrLimit)
	}
	if err := e.store.Update(ctx, func(tx Tx) error { return tx.PurgeGroup(id) }); err != nil {
		return fmt.Errorf("purging group %s: %w", id.Short(), err)
	}
	e.mu.Lock()
	delete(e.groups, id)
	e.mu.Unlock()
	e.generation.Add(1)
	e.bus.wakeAll()
	e.bus.publish(GroupChanged{id}, RendezvousChanged{})
	return nil
}
