package sync

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

const (
	// maxJoinFrames is how many JOIN and KNOCK frames a session takes.
	maxJoinFrames = 64
	// maxLater is how many announced entries a session remembers while another one is bringing them.
	maxLater = 4_096
)

// A laterWant is an entry that another session was asked for.
type laterWant struct {
	group peercrypto.ID
	at    time.Time
}

func (s *Session) handleHashes(ctx context.Context, t frameType, f hashFrame) error {
	switch {
	case t == frameWant:
		tells := len(f.hashes) > 0 && (s.mayTell(f.group, entry.Data) || s.mayTell(f.group, entry.Operation))
		if tells && !s.jobs.answer(f.group, f.hashes) {
			return fmt.Errorf("%w: it asks for too much at once", ErrProtocol)
		}
	case t == frameHave && s.loop.groups[f.group] != nil:
		return s.want(ctx, f)
	}
	return nil
}

// want asks for announced entries that are not here and that no other session is bringing.
func (s *Session) want(ctx context.Context, f hashFrame) error {
	var has []bool
	err := s.e.store.View(ctx, func(r Reader) error {
		var err error
		has, err = r.Has(f.hashes)
		return err
	})
	if err != nil {
		return err
	}
	now := s.e.cfg.Now()
	var ask []peercrypto.Hash
	for i, h := range f.hashes {
		switch {
		case has[i]:
			delete(s.loop.later, h)
		case s.e.wanted.claim(h, s, now.UnixMilli()):
			delete(s.loop.later, h)
			ask = append(ask, h)
		case len(s.loop.later) < maxLater:
			s.loop.later[h] = laterWant{f.group, now.Add(wantFor)}
		}
	}
	if len(ask) > 0 {
		s.tell(hashFrame{f.group, ask}.encode(frameWant))
	}
	return nil
}

// askLater asks for what another session was asked for and did not bring.
func (s *Session) askLater(ctx context.Context, now time.Time) {
	due := map[peercrypto.ID][]peercrypto.Hash{}
	for h, w := range s.loop.later {
		if !now.Before(w.at) && len(due[w.group]) < maxHashes {
			due[w.group] = append(due[w.group], h)
			delete(s.loop.later, h)
		}
	}
	for group, hashes := range due {
		if s.loop.groups[group] == nil {
			continue
		}
		if err := s.want(ctx, hashFrame{group, hashes}); err != nil {
			s.fail(err)
		}
	}
}

func (s *Session) handleRaw(t frameType, f rawFrame) error {
	if t == frameAccept {
		s.slowly(func(ctx context.Context) {
			if err := s.e.takeAccept(ctx, s.peer, f.group, f.raw); err != nil {
				s.e.log.Info("an acceptance was dropped", "group", f.group.Short(), "user", s.peer.UserID.Short(), "err", err)
			}
		})
		return nil
	}
	if err := s.countJoin(); err != nil {
		return err
	}
	if !s.slowly(func(ctx context.Context) { s.note(ctx, noteJoin{f.group, s.e.admit(ctx, s.peer, f.group, f.raw)}) }) {
		s.tell(refusedFrame{f.group, RefusedBusy, "too many joins at once"}.encode())
	}
	return nil
}

func (s *Session) countJoin() error {
	if s.loop.joins++; s.loop.joins > maxJoinFrames {
		return fmt.Errorf("%w: too many attempts to join", ErrProtocol)
	}
	return nil
}

type noteJoin struct {
	group  peercrypto.ID
	answer *refusal
}

// joinAnswered sends the log to who was admitted, or the refusal.
func (s *Session) joinAnswered(ctx context.Context, n noteJoin) error {
	if n.answer == nil {
		s.jobs.add(job{group: n.group, log: true})
		return s.changed(ctx)
	}
	if n.answer.code == RefusedWaiting || n.answer.code == RefusedNotAdmin {
		s.loop.joining[n.group] = true
	}
	s.tell(refusedFrame{n.group, n.answer.code, n.answer.text}.encode())
	return nil
}

// takeAccept stores a user's consent to a grant that waits for it.
func (e *Engine) takeAccept(ctx context.Context, p Peer, id peercrypto.ID, raw []byte) error {
	g, err := e.replica(id)
	if err != nil {
		return err
	}
	ent, err := entry.Decode(raw)
	if err != nil {
		return err
	}
	v := g.view.Load()
	_, isAccept := ent.Op.(entry.Accept)
	if !e.shares(v, e.userID) || !isAccept || ent.Group != id || ent.Signer != p.UserID ||
		!slices.Contains(v.state.Unaccepted(p.UserID), ent.As) {
		return fmt.Errorf("group %s: %w", id.Short(), ErrNotAdmitted)
	}
	if err := e.lock(ctx); err != nil {
		return err
	}
	defer e.unlock()
	_, err = e.update(ctx, g, func(b *batch) error {
		return b.admit([]*item{{ent: ent, from: p.UserID, origin: fromQuarantine}})
	})
	return err
}

// knockAll asks whether the other device knows an invitation that this one wants to use. Only who knows the invitation understands.
func (s *Session) knockAll() {
	var knocks []knock
	for id, j := range s.e.pendingJoins() {
		if !s.loop.knocked[id] && len(knocks) < maxKnocks && len(s.loop.knocked) < maxKnocks {
			s.loop.knocked[id] = true
			knocks = append(knocks, s.knock("knock", j.key().Public()))
		}
	}
	if len(knocks) > 0 {
		s.tell(encodeKnocks(frameKnock, knocks))
	}
}

func (s *Session) knock(what string, ipk peercrypto.PublicKey) knock {
	sum := sha256.Sum256(slices.Concat(s.loop.rec.Salt[:], []byte(what), ipk[:]))
	return knock(sum[:16])
}

func (s *Session) handleKnocks(_ context.Context, t frameType, knocks []knock) error {
	if t == frameOpen {
		for id, j := range s.e.pendingJoins() {
			if s.loop.knocked[id] && slices.Contains(knocks, s.knock("open", j.key().Public())) {
				s.tell(rawFrame{id, j.claim}.encode(frameJoin))
			}
		}
		return nil
	}
	if err := s.countJoin(); err != nil {
		return err
	}
	var answer []knock
	for _, g := range s.e.replicas() {
		v := g.view.Load()
		if !s.e.shares(v, s.e.userID) {
			continue
		}
		v.state.InviteKeys(func(ipk peercrypto.PublicKey) bool {
			if slices.Contains(knocks, s.knock("knock", ipk)) {
				answer = append(answer, s.knock("open", ipk))
			}
			return len(answer) < maxKnocks
		})
	}
	if len(answer) > 0 {
		s.tell(encodeKnocks(frameOpen, answer))
	}
	return nil
}

// tellConsents tells accepts that the other side does not seem to know, and offers groups to which its user was added.
func (s *Session) tellConsents(ctx context.Context) {
	if !s.loop.listed {
		return
	}
	for _, g := range s.e.replicas() {
		v := g.view.Load()
		if gs := s.loop.groups[g.id]; gs != nil && gs.remote == nil && v.meta.Accept != nil && !s.loop.accepts[g.id] {
			s.loop.accepts[g.id] = true
			s.tellAccept(ctx, g.id, *v.meta.Accept)
		}
		grant, added := v.added(s.peer.UserID)
		if added && s.e.shares(v, s.e.userID) && !v.state.Deleted() && !s.loop.offered[grant] {
			s.loop.offered[grant] = true
			s.offer(ctx, g.id)
		}
	}
}

func (s *Session) tellAccept(ctx context.Context, group peercrypto.ID, accept peercrypto.Hash) {
	err := s.e.store.View(ctx, func(r Reader) error {
		rec, ok, err := r.Record(accept)
		if ok && err == nil {
			s.tell(rawFrame{group, rec.Raw}.encode(frameAccept))
		}
		return err
	})
	if err != nil {
		s.fail(err)
	}
}

// offer sends the log of a group that waits for the other user's consent, if it is small enough.
func (s *Session) offer(ctx context.Context, group peercrypto.ID) {
	var size int64
	err := s.e.store.View(ctx, func(r Reader) error {
		return r.Shared(Scope{group, entry.Operation}, Ref{}, endRef, func(rec Record) (bool, error) {
			size += int64(len(rec.Raw))
			return size <= s.e.cfg.Limits.OfferBytes, nil
		})
	})
	switch {
	case err != nil:
		s.fail(err)
	case size > s.e.cfg.Limits.OfferBytes:
		s.e.log.Warn("a group's log is too large to offer; send an invitation instead",
			"group", group.Short(), "user", s.peer.UserID.Short())
	default:
		s.jobs.add(job{group: group, log: true, flags: flagOffer})
	}
}

// tellName tells a new name of the own user.
func (s *Session) tellName() {
	doc := s.e.UserDoc()
	if string(doc) == s.loop.userDoc || len(s.loop.groups) == 0 {
		return
	}
	s.loop.userDoc = string(doc)
	s.tell(encodeUsers([][]byte{doc}))
}

// askNames asks for the documents of members whose name is not known here.
func (s *Session) askNames(ctx context.Context, id peercrypto.ID) error {
	g, err := s.e.replica(id)
	if err != nil {
		return nil // purged meanwhile
	}
	var ask []peercrypto.ID
	err = s.e.store.View(ctx, func(r Reader) error {
		for _, m := range g.view.Load().state.Members() {
			if m.UserID == s.e.userID || s.loop.named[m.UserID] || len(ask) == maxUsers {
				continue
			}
			_, ok, err := r.Value(bucketUsers, string(m.UserID))
			if err != nil {
				return err
			}
			if ok {
				continue
			}
			s.loop.named[m.UserID] = true
			if m.UserID == s.peer.UserID && len(s.peer.UserDoc) > 0 {
				s.learn(s.peer.UserDoc) // it was no member yet when the session began
			} else {
				ask = append(ask, m.UserID)
			}
		}
		return nil
	})
	if err == nil && len(ask) > 0 {
		s.tell(encodeNames(ask))
	}
	return err
}

// tellUsers answers NAMES with what is known of members of shared groups.
func (s *Session) tellUsers(ctx context.Context, users []peercrypto.ID) error {
	common := map[peercrypto.ID]bool{}
	for id := range s.loop.groups {
		if g, err := s.e.replica(id); err == nil {
			for _, m := range g.view.Load().state.Members() {
				common[m.UserID] = true
			}
		}
	}
	var docs [][]byte
	size := 0
	flush := func() {
		if len(docs) > 0 {
			s.tell(encodeUsers(docs))
		}
		docs, size = nil, 0
	}
	err := s.e.store.View(ctx, func(r Reader) error {
		for _, u := range users {
			if !common[u] {
				continue
			}
			raw, ok, err := r.Value(bucketUsers, string(u))
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			if size+len(raw) > softFrame {
				flush()
			}
			docs, size = append(docs, slices.Clone(raw)), size+len(raw)+4
		}
		return nil
	})
	flush()
	return err
}

// have counts the entries held here; it is for display.
func (s *Session) have(ctx context.Context, id peercrypto.ID) int64 {
	var n int64
	_ = s.e.store.View(ctx, func(r Reader) error {
		ops, data, err := summaries(r, id)
		n = ops.Count + data.Count
		return err
	})
	return n
}
