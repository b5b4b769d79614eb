package sync

import (
	"context"
	"fmt"
	"slices"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

const (
	// endWithin is how long a session without anything in common lasts at most, until its farewells are acknowledged.
	endWithin = 10 * time.Second
	// lingerFor is how long a session without anything in common waits for the other side to close it, so that the ACK of a farewell
	// arrives there.
	lingerFor = 2 * time.Second
)

// A farewell is what the other side was told of the end of a membership: its own, or that of this user.
type farewell struct {
	told    map[peercrypto.Hash]bool
	since   int64 // the other side has everything up to this position
	waiting int   // sent and not acknowledged
	// learning is set while the LOG is read that answers whether this user is out now by the other side's state. Before it comes, the group
	// is in Session.asking.
	learning bool
	// listed is set when the other side said that it shares the group: an ACK of who does not know this user as a member means nothing.
	listed bool
	// theirs is set when the other user left: its device may wait for an ACK of this one.
	theirs bool
}

type (
	// noteTold tells that the other side stored a farewell.
	noteTold struct{ group peercrypto.ID }
	// noteLearned tells that the answer to the question after it was read.
	noteLearned struct{ group peercrypto.ID }
)

// farewell tells why a group is not shared any more: that this user left, or that the other one was removed. since is a position up to which the other
// side has everything; listed tells whether it said that it shares the group.
func (s *Session) farewell(ctx context.Context, id peercrypto.ID, since int64, listed bool) {
	g, err := s.e.replica(id)
	if err != nil {
		return
	}
	f := s.loop.farewells[id]
	if f == nil {
		f = &farewell{told: map[peercrypto.Hash]bool{}, since: since, listed: listed}
	} else if listed && !f.listed {
		f.listed = true
		s.confirmed(id, f)
	}
	v := g.view.Load()
	if s.loop.looked[id] == v {
		return // nothing has changed since
	}
	s.loop.looked[id] = v
	_, member := v.state.Member(s.peer.UserID)
	var ops []*entry.Entry
	switch {
	case v.rec.Left && (member || s.peer.UserID == s.e.userID):
		ops, err = s.leaves(ctx, id, f.since)
	case v.rec.Joined && !v.rec.Left:
		var roots []peercrypto.Hash
		// Who says that it is a member may have accepted a grant after it was revoked.
		for _, end := range g.endings(v.state, s.peer.UserID, listed) {
			roots = append(roots, end.op.Hash)
			f.theirs = f.theirs || end.op.Signer == s.peer.UserID
		}
		if listed && member { // it counts this user as a member, who left on another device or was removed by a third
			for _, end := range g.endings(v.state, s.e.userID, false) {
				roots = append(roots, end.op.Hash)
			}
		}
		ops, err = s.pastOf(ctx, roots, f.since)
	}
	if err != nil {
		s.fail(fmt.Errorf("reading what ended a membership in group %s: %w", id.Short(), err))
		return
	}
	ops = slices.DeleteFunc(ops, func(op *entry.Entry) bool { return f.told[op.Hash] })
	if len(ops) == 0 {
		return
	}
	slices.SortFunc(ops, compareEntries)
	raws := make([][]byte, len(ops))
	for i, op := range ops {
		raws[i], f.told[op.Hash] = op.Raw, true
	}
	s.loop.farewells[id] = f
	f.waiting++
	s.jobs.add(job{group: id, raws: raws})
}

// leaves reads this user's leaves and what of the own operations before them the other side may lack.
func (s *Session) leaves(ctx context.Context, id peercrypto.ID, since int64) ([]*entry.Entry, error) {
	var roots []peercrypto.Hash
	err := s.e.store.View(ctx, func(r Reader) error {
		return r.Operations(id, func(rec Record) error {
			ent, err := entry.Decode(slices.Clone(rec.Raw))
			if err != nil {
				return err
			}
			if _, ok := ent.Op.(entry.Leave); ok && rec.Valid && ent.Signer == s.e.userID {
				roots = append(roots, ent.Hash)
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	ops, err := s.pastOf(ctx, roots, since)
	return slices.DeleteFunc(ops, func(op *entry.Entry) bool {
		return op.Signer != s.e.userID && !slices.Contains(roots, op.Hash)
	}), err
}

// pastOf reads operations and their past, as far as it became shared behind a position.
func (s *Session) pastOf(ctx context.Context, roots []peercrypto.Hash, since int64) ([]*entry.Entry, error) {
	var ops []*entry.Entry
	seen := map[peercrypto.Hash]bool{}
	err := s.e.store.View(ctx, func(r Reader) error {
		for queue := roots; len(queue) > 0; {
			h := queue[0]
			queue = queue[1:]
			if seen[h] || h.IsZero() {
				continue
			}
			seen[h] = true
			rec, ok, err := r.Record(h)
			if err != nil {
				return err
			}
			if !ok || rec.Position <= since && !slices.Contains(roots, h) {
				continue
			}
			op, err := entry.Decode(slices.Clone(rec.Raw))
			if err != nil {
				return err
			}
			ops = append(ops, op)
			queue = append(append(queue, op.Deps...), op.As, op.Prev)
		}
		return nil
	})
	return ops, err
}

// sendFarewell notes how much has to be acknowledged until the other side knows.
func (s *Session) sendFarewell(ctx context.Context, j job) error {
	if err := s.sendEntries(ctx, j.group, j.raws); err != nil {
		return err
	}
	if s.jobs.await(j.group) {
		s.note(ctx, noteTold{j.group})
	}
	return nil
}

// told takes the acknowledgement of a farewell.
func (s *Session) told(ctx context.Context, id peercrypto.ID) error {
	f := s.loop.farewells[id]
	f.waiting--
	s.confirmed(id, f)
	return s.changed(ctx)
}

// confirmed notes that a member has stored this user's leave, and asks once more: the other side may know this user by a grant that a more
// senior one made meanwhile, and that has to be left, too. Who wants to join again asks for that.
func (s *Session) confirmed(id peercrypto.ID, f *farewell) {
	g, err := s.e.replica(id)
	if err != nil || f.waiting > 0 || !f.listed || s.peer.UserID == s.e.userID {
		return
	}
	v := g.view.Load()
	left := v.rec.Left
	if left {
		s.slowly(func(ctx context.Context) {
			if err := s.e.leaveTold(ctx, id); err != nil {
				s.fail(err)
			}
		})
	}
	_, member := v.state.Member(s.peer.UserID)
	j := s.e.pendingJoins()[id]
	switch {
	case j != nil && s.loop.knocked[id] && member: // who is none must show that it knows the invitation
		s.tell(rawFrame{id, j.claim}.encode(frameJoin))
	case j == nil && left:
		s.setAsking(id, true)
		s.tell(rawFrame{group: id}.encode(frameJoin))
	}
}

// setAsking notes whether LOG or REFUSED is expected for a group that this user left.
func (s *Session) setAsking(id peercrypto.ID, asking bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if asking {
		s.asking[id] = true
	} else {
		delete(s.asking, id)
	}
}

func (s *Session) isAsking(id peercrypto.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asking[id]
}

// learnLeft reads the log by which this user is still in a group that was left.
func (s *Session) learnLeft(n noteLog, f *farewell) {
	s.setAsking(n.group, false)
	f.learning = s.slowly(func(ctx context.Context) {
		if err := s.e.learnLeft(ctx, s.peer.UserID, n.group, n.raws); err != nil {
			s.fail(err)
		}
		s.note(ctx, noteLearned{n.group})
	})
}

// refused takes REFUSED: about a join, or the confirmation that this user is not in a group any more.
func (s *Session) refused(ctx context.Context, r refusedFrame) error {
	if s.isAsking(r.group) {
		s.setAsking(r.group, false)
		return s.proceed(ctx)
	}
	delete(s.loop.fetching, r.group)
	s.slowly(func(ctx context.Context) { s.e.joinRefused(ctx, r.group, r.code, r.text) })
	return nil
}

// over tells whether nothing is in common any more and everything about that was said.
func (s *Session) over() bool {
	if s.proving.Load() > 0 {
		return false
	}
	admission, now := AdmitMember, s.e.cfg.Now()
	if len(s.loop.groups) == 0 {
		admission = s.e.Admits(s.peer.UserID)
	}
	s.loop.common = s.loop.common || len(s.loop.groups) > 0 || len(s.loop.farewells) > 0
	switch {
	case admission == AdmitMember:
		s.loop.ending = time.Time{}
		return false
	case !s.loop.common:
		limit := strangerWithin
		if s.loop.joins == 0 && len(s.loop.knocked) == 0 {
			limit = endWithin // nobody asks for anything
		}
		return admission == AdmitNone || now.Sub(s.since) > limit
	case s.loop.ending.IsZero():
		s.loop.ending = now
	}
	wait, done := lingerFor, len(s.loop.farewells) > 0
	for id, f := range s.loop.farewells {
		if f.waiting > 0 || f.learning || s.isAsking(id) {
			wait, done = endWithin, false
		}
		done = done && !f.theirs
		if s.loop.knocked[id] && s.e.pendingJoins()[id] != nil {
			wait, done = endWithin, false // it joins again
		}
	}
	return done || now.Sub(s.loop.ending) >= wait
}
