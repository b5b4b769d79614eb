package sync

import (
	"context"
	"errors"
	"fmt"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// A logPart is a log that is being received.
type logPart struct {
	flags uint64
	raws  [][]byte
	size  int64
}

// A logCollector puts LOG frames together; the ingester owns it.
type logCollector struct {
	s     *Session
	parts map[peercrypto.ID]*logPart
}

type noteLog struct {
	group peercrypto.ID
	flags uint64
	raws  [][]byte
}

// maxOpenLogs is how many logs a session may send at once.
const maxOpenLogs = 4

func (l *logCollector) add(ctx context.Context, f entriesFrame) error {
	if f.flags&flagFirst != 0 {
		if len(l.parts) >= maxOpenLogs && l.parts[f.group] == nil {
			return fmt.Errorf("%w: too many logs at once", ErrProtocol)
		}
		l.parts[f.group] = &logPart{flags: f.flags &^ flagLast}
	}
	p := l.parts[f.group]
	if p == nil {
		return nil // of a log that was refused before
	}
	for _, r := range f.raws {
		p.size += int64(len(r)) + 64
	}
	if p.size > l.limit(f.group, p.flags) {
		delete(l.parts, f.group)
		l.s.e.log.Warn("a group's log was refused: nobody asked for it, or it is too large",
			"group", f.group.Short(), "user", l.s.peer.UserID.Short())
		return nil
	}
	p.raws = append(p.raws, f.raws...)
	if f.flags&flagLast != 0 {
		delete(l.parts, f.group)
		l.s.note(ctx, noteLog{f.group, p.flags, p.raws})
	}
	return nil
}

func (l *logCollector) limit(group peercrypto.ID, flags uint64) int64 {
	limits := l.s.e.cfg.Limits
	switch {
	case flags&flagOffer != 0 && l.s.e.Admits(l.s.peer.UserID) == AdmitMember:
		return limits.OfferBytes
	case flags&flagOffer == 0 && (l.s.e.pendingJoins()[group] != nil || l.s.peer.UserID == l.s.e.userID || l.s.isAsking(group) || l.s.e.appealing(group)):
		return limits.JoinBytes
	}
	return 0
}

// logCame hands a complete log to the worker.
func (s *Session) logCame(n noteLog) {
	if n.flags&flagOffer != 0 {
		s.slowly(func(ctx context.Context) {
			if err := s.e.keepOffer(ctx, s.peer.UserID, n.group, n.raws); err != nil {
				s.e.log.Info("an offered group was dropped", "group", n.group.Short(), "user", s.peer.UserID.Short(), "err", err)
			}
		})
		return
	}
	if f := s.loop.farewells[n.group]; f != nil && s.isAsking(n.group) {
		s.learnLeft(n, f)
		return
	}
	j := s.e.pendingJoins()[n.group]
	if (j == nil || !s.loop.knocked[n.group]) && !s.loop.fetching[n.group] {
		return
	}
	delete(s.loop.fetching, n.group) // there may be another grant later
	s.proving.Add(1)                 // the session lasts as long
	if !s.slowly(func(ctx context.Context) { s.takeLog(ctx, n, j) }) {
		s.proving.Add(-1)
	}
}

// takeLog completes a join, or says why not.
func (s *Session) takeLog(ctx context.Context, n noteLog, j *pendingJoin) {
	defer s.proving.Add(-1)
	err := s.e.completeJoin(ctx, s.peer.UserID, n.group, j, n.raws)
	switch {
	case errors.Is(err, errFake):
		s.e.joinRefused(ctx, n.group, RefusedFake, err.Error())
		err = fmt.Errorf("%w: joining group %s: %w", ErrProtocol, n.group.Short(), err)
	case errors.Is(err, errJoinIDs):
		s.e.joinRefused(ctx, n.group, RefusedBusy, err.Error())
		err = fmt.Errorf("joining group %s: %w", n.group.Short(), err)
	case errors.Is(err, ErrClock): // the next session tries again
		s.e.joinRefused(ctx, n.group, RefusedClock, err.Error())
		err = fmt.Errorf("joining group %s: %w", n.group.Short(), err)
	}
	if err != nil {
		s.fail(err)
	}
}
