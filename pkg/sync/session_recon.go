package sync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/recon"
)

const (
	minBackoff = time.Second
	maxBackoff = time.Minute
	// busyOut is how many control frames may wait before a reconciliation does.
	busyOut = 64
	// stepsAtOnce is how many steps loop goes on with a reconciliation before it looks at something else.
	stepsAtOnce = 16
)

type phase uint8

const (
	idle       phase = iota
	exchanging       // RECON frames go back and forth; the higher device waits for MARK
	settling         // the lower device sent MARK and waits for MARKED
)

// A round is one reconciliation of one scope.
type round struct {
	phase    phase
	number   uint64
	kind     entry.Kind
	ex       *recon.Exchange // nil when idle or settling
	waits    bool            // with more: another session is bringing what is missing
	more     bool            // ex can go on when there is room to send
	asked    bool            // the last frame that was sent asked something
	messages uint64          // RECON frames of the lower device: sent there, processed at the other
	own      digest          // of the scope when the round began, at the lower device
	remote   digest
	mark     *markFrame // came before the RECON frames that it follows
	// lacking is what the other side lacks. It is collected until the exchange ends, because the order in which ranges are settled is
	// not the order in which chains can be judged.
	lacking []recon.Send
	singles int // elements of lists in lacking
}

// source reads a scope for package recon.
type source struct {
	r     Reader
	scope Scope
}

func (x source) Summary(lo, hi recon.Ref) (recon.Summary, error) {
	s, err := x.r.Summary(x.scope, Ref{lo.Modified, lo.Hash}, Ref{hi.Modified, hi.Hash})
	return recon.Summary(s), err
}

func (x source) Split(lo, hi recon.Ref, parts int) ([]recon.Part, error) {
	ps, err := x.r.Split(x.scope, Ref{lo.Modified, lo.Hash}, Ref{hi.Modified, hi.Hash}, parts)
	out := make([]recon.Part, len(ps))
	for i, p := range ps {
		out[i] = recon.Part{End: recon.Ref{Modified: p.End.Modified, Hash: p.End.Hash}, Summary: recon.Summary(p.Summary)}
	}
	return out, err
}

func (x source) Refs(lo, hi recon.Ref, limit int) ([]recon.Ref, error) {
	rs, err := x.r.Refs(x.scope, Ref{lo.Modified, lo.Hash}, Ref{hi.Modified, hi.Hash}, limit)
	out := make([]recon.Ref, len(rs))
	for i, r := range rs {
		out[i] = recon.Ref{Modified: r.Modified, Hash: r.Hash}
	}
	return out, err
}

// startRound reconciles a scope; own is this side of the group. When another session is bringing what this side lacks, advance tries again.
func (s *Session) startRound(ctx context.Context, gs *groupSession, own element, kind entry.Kind) error {
	if s.waits(gs, own, kind) {
		gs.round.phase, gs.round.ex, gs.round.more, gs.round.waits = idle, nil, true, true
		return nil
	}
	gs.round = round{
		phase: exchanging, number: gs.round.number + 1, kind: kind,
		own: own.of(kind), remote: gs.remote.of(kind),
	}
	gs.round.ex = s.loop.rec.Round(gs.round.number).Ask()
	return s.advance(ctx, gs)
}

// waits tells whether another session is bringing what this side lacks; otherwise this one has its turn if it lacks something.
func (s *Session) waits(gs *groupSession, own element, kind entry.Kind) bool {
	if kind != entry.Data || gs.remote == nil || gs.remote.data.count <= own.data.count {
		return false
	}
	return !s.e.wanted.turns.take(gs.id, s)
}

// reconcile takes a RECON frame.
func (s *Session) reconcile(ctx context.Context, f reconFrame) error {
	gs := s.loop.groups[f.scope.Group]
	if gs == nil {
		return nil // not shared (any more)
	}
	rd := &gs.round
	if !s.lower && f.round > rd.number {
		*rd = round{phase: exchanging, number: f.round, kind: f.scope.Kind}
		rd.ex = s.loop.rec.Round(f.round).Answer()
		rd.waits = true // unless it has its turn
	}
	if rd.phase != exchanging || f.round != rd.number || f.scope.Kind != rd.kind {
		return nil // of a round that was given up
	}
	if rd.ex == nil { // MARK came first
		rd.ex = s.loop.rec.Round(f.round).Answer()
	}
	if err := rd.ex.Receive(f.ranges); err != nil {
		return fmt.Errorf("%w: reconciling group %s: %w", ErrProtocol, gs.id.Short(), err)
	}
	return s.advance(ctx, gs)
}

// advance goes on with the reconciliation of a group as far as there is room to send; proceed calls it again for the rest.
func (s *Session) advance(ctx context.Context, gs *groupSession) error {
	rd := &gs.round
	if rd.waits {
		if s.lower && s.e.wanted.turns.taken(gs.id, s) {
			return nil // the end of that turn wakes loop
		}
		if s.lower {
			rd.more, rd.waits = false, false
			return s.compare(ctx, gs, false)
		}
		own, _, err := s.element(ctx, gs.id)
		if err != nil {
			return err
		}
		if rd.waits = s.waits(gs, own, rd.kind); rd.waits {
			rd.more = true
			return nil
		}
	}
	if rd.ex == nil {
		return nil
	}
	rd.more = true
	for range stepsAtOnce {
		if len(s.out) >= busyOut || s.jobs.len() >= maxJobs {
			return nil // the writers wake loop
		}
		var step recon.Step
		err := s.e.store.View(ctx, func(r Reader) error {
			var err error
			step, err = rd.ex.Next(source{r, Scope{gs.id, rd.kind}})
			return err
		})
		if errors.Is(err, recon.ErrMessage) {
			err = fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		if err != nil {
			return fmt.Errorf("reconciling group %s: %w", gs.id.Short(), err)
		}
		s.push(gs, step)
		if step.Frame != nil {
			s.tell(reconFrame{Scope{gs.id, rd.kind}, rd.number, step.Frame}.encode())
		}
		if step.Idle {
			rd.more = false
			return s.stepped(gs, step)
		}
	}
	poke(s.wake)
	return nil
}

// stepped ends the exchange if nothing is left to say: the lower device with MARK.
func (s *Session) stepped(gs *groupSession, step recon.Step) error {
	rd := &gs.round
	if !s.lower {
		rd.messages = rd.ex.Processed()
		if !rd.asked {
			s.flush(gs)
		}
		if rd.mark != nil {
			return s.marked(*rd.mark)
		}
		return nil
	}
	if step.Over {
		rd.phase, rd.ex = settling, nil
		s.flush(gs)
		s.jobs.add(job{group: gs.id, mark: &markFrame{scope: Scope{gs.id, rd.kind}, round: rd.number, messages: rd.messages}})
	}
	return nil
}

// maxSingles is how many single entries are collected before they are sent out of order.
const maxSingles = 1 << 18

// push collects what a step found and remembers what it asked.
func (s *Session) push(gs *groupSession, step recon.Step) {
	rd := &gs.round
	if step.Frame != nil {
		rd.asked = step.Open
		if s.lower {
			rd.messages++
		}
	}
	rd.lacking = append(rd.lacking, step.Send...)
	for _, send := range step.Send {
		rd.singles += len(send.Only)
	}
	if rd.singles > maxSingles {
		s.flush(gs)
	}
}

// flush queues what was collected, oldest first: single entries of neighbouring ranges in one job, and neighbouring ranges as one.
func (s *Session) flush(gs *groupSession) {
	list := gs.round.lacking
	gs.round.lacking, gs.round.singles = nil, 0
	slices.SortFunc(list, func(a, b recon.Send) int { return a.Lo.Compare(b.Lo) })
	var jobs []job
	for _, send := range list {
		last := len(jobs) - 1
		switch {
		case send.Only == nil && last >= 0 && jobs[last].pushed != nil && jobs[last].pushed.Hi == send.Lo:
			jobs[last].pushed.Hi = send.Hi
		case send.Only == nil:
			jobs = append(jobs, job{group: gs.id, kind: gs.round.kind, pushed: &send})
		default:
			if last < 0 || jobs[last].refs == nil {
				jobs, last = append(jobs, job{group: gs.id, kind: gs.round.kind}), last+1
			}
			for _, ref := range send.Only {
				jobs[last].refs = append(jobs[last].refs, Ref{ref.Modified, ref.Hash})
			}
		}
	}
	s.jobs.add(jobs...)
}

// marked takes a MARK: everything before it on the bulk lane was processed.
func (s *Session) marked(f markFrame) error {
	gs := s.loop.groups[f.scope.Group]
	if gs == nil || s.lower {
		return nil
	}
	rd := &gs.round
	if f.round > rd.number || (f.round == rd.number && rd.messages < f.messages) {
		// RECON frames are still on their way on the other lane.
		if rd.number != f.round {
			*rd = round{phase: exchanging, number: f.round, kind: f.scope.Kind}
		}
		rd.mark = &f
		return nil
	}
	if f.round != rd.number || rd.phase == idle {
		return nil
	}
	s.flush(gs)
	s.e.wanted.turns.end(gs.id, s)
	rd.mark, rd.phase, rd.ex = nil, idle, nil
	gs.live = true
	s.jobs.add(job{group: gs.id, marked: &markFrame{scope: f.scope, round: f.round}})
	poke(s.wake)
	return nil
}

// endRound takes a MARKED: both sides have processed what the round brought.
func (s *Session) endRound(ctx context.Context, f markFrame) error {
	gs := s.loop.groups[f.scope.Group]
	if gs == nil || !s.lower || gs.round.phase != settling || gs.round.number != f.round || gs.round.kind != f.scope.Kind {
		return nil
	}
	gs.round.phase = idle
	gs.live, gs.sent = true, 0
	remote := *gs.remote
	remote.set(f.scope.Kind, f.digest)
	gs.remote = &remote
	own, position, err := s.element(ctx, gs.id)
	if err != nil {
		return err
	}
	kind := f.scope.Kind
	if kind == entry.Data {
		s.e.wanted.turns.end(gs.id, s) // another round takes it again
	}
	progress := own.of(kind) != gs.round.own || remote.of(kind) != gs.round.remote
	switch {
	case own.of(kind) != remote.of(kind) && progress:
		return s.startRound(ctx, gs, own, kind)
	case kind == entry.Operation && own.data != remote.data:
		// Also if operations still differ: what one side can't take yet must not hold up the rest.
		return s.startRound(ctx, gs, own, entry.Data)
	case own.ops == remote.ops && own.data == remote.data:
		if err := s.foundEqual(ctx, gs, position); err != nil {
			return err
		}
		gs.equal, gs.told = true, own
		s.tell(encodeGroups([]element{own}))
	default:
		gs.backoff = min(max(2*gs.backoff, minBackoff), maxBackoff)
		gs.retryAt = s.e.cfg.Now().Add(gs.backoff)
	}
	s.publishStatus()
	return s.proceed(ctx)
}

func (e *element) of(kind entry.Kind) digest {
	if kind == entry.Operation {
		return e.ops
	}
	return e.data
}

func (e *element) set(kind entry.Kind, d digest) {
	if kind == entry.Operation {
		e.ops = d
	} else {
		e.data = d
	}
}
