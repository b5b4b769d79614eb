package sync

import (
	"context"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// noted takes what the ingester and the worker tell.
func (s *Session) noted(ctx context.Context, n any) error {
	switch n := n.(type) {
	case noteIngested:
		return s.ingested(ctx, n)
	case noteSent:
		if gs := s.loop.groups[n.group]; gs != nil {
			gs.sent += n.entries
			gs.all.out += n.entries
			if !gs.equal {
				s.progress(ctx, gs)
			}
		}
	case noteMark:
		if n.t == frameMark {
			return s.marked(n.f)
		}
		return s.endRound(ctx, n.f)
	case noteLog:
		s.logCame(n)
	case noteJoin:
		return s.joinAnswered(ctx, n)
	case noteTold:
		return s.told(ctx, n.group)
	case noteOwn:
		s.ownNoted(n)
	case noteLearned:
		s.loop.farewells[n.group].learning = false
		return s.changed(ctx)
	}
	return nil
}

// askMissing asks for entries that received ones refer to and that did not come by themselves.
func (s *Session) askMissing(ctx context.Context, gs *groupSession) error {
	if len(gs.missing) == 0 || gs.round.phase != idle {
		return nil
	}
	list := gs.missing
	gs.missing = nil
	var has []bool
	err := s.e.store.View(ctx, func(r Reader) error {
		var err error
		has, err = r.Has(list)
		return err
	})
	if err != nil {
		return err
	}
	var ask []peercrypto.Hash
	for i, h := range list {
		if !has[i] && !s.loop.asked[h] && len(s.loop.asked) < maxWanted {
			s.loop.asked[h] = true
			ask = append(ask, h)
		}
	}
	if len(ask) > 0 {
		s.tell(hashFrame{gs.id, ask}.encode(frameWant))
	}
	return nil
}

func (s *Session) ingested(ctx context.Context, n noteIngested) error {
	gs := s.loop.groups[n.group]
	if gs == nil {
		return nil
	}
	gs.missing = append(gs.missing, n.res.Missing[:min(len(n.res.Missing), maxMissing-len(gs.missing))]...)
	if err := s.askMissing(ctx, gs); err != nil {
		return err
	}
	if n.res.Accepted > 0 {
		gs.all.in += int64(n.res.Accepted)
		s.progress(ctx, gs)
	}
	return nil
}

// progress tells how far a group is, on both sides.
func (s *Session) progress(ctx context.Context, gs *groupSession) {
	if gs.remote != nil {
		gs.have = s.have(ctx, gs.id)
		s.e.bus.publish(Progress{
			Group: gs.id, Peer: s.peer.DeviceID, Have: gs.have, Want: max(gs.want(), gs.have), Unsent: gs.unsent(),
			Received: gs.all.in, Sent: gs.all.out,
		})
	}
	s.publishStatus()
}
