package sync

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/recon"
)

const (
	// maxSteps is how many RECON frames a side may send in a round; 20 are enough for any set that fits on a disk.
	maxSteps   = 1_000
	minBackoff = time.Second
	maxBackoff = time.Minute
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
	messages uint64 // RECON frames of the lower device: sent there, processed at the other
	own      digest // of the scope when the round began, at the lower device
	remote   digest
	parked   *reconFrame
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

// startRound reconciles a scope; own is this side of the group.
func (s *Session) startRound(ctx context.Context, gs *groupSession, own element, kind entry.Kind) error {
	gs.round = round{
		phase: exchanging, number: gs.round.number + 1, kind: kind, messages: 1,
		own: own.of(kind), remote: gs.remote.of(kind),
	}
	scope := Scope{gs.id, kind}
	var msg []byte
	err := s.e.store.View(ctx, func(r Reader) error {
		var err error
		msg, err = s.loop.rec.Start(source{r, scope})
		return err
	})
	if err != nil {
		return fmt.Errorf("reconciling group %s: %w", gs.id.Short(), err)
	}
	s.tell(reconFrame{scope, gs.round.number, msg}.encode())
	return nil
}

// reconcile answers a RECON frame.
func (s *Session) reconcile(ctx context.Context, f reconFrame) error {
	gs := s.loop.groups[f.scope.Group]
	if gs == nil {
		return nil // not shared (any more)
	}
	if s.jobs.len() >= maxJobs {
		if gs.round.parked != nil {
			return fmt.Errorf("%w: two RECON frames at once", ErrProtocol)
		}
		gs.round.parked = &f
		return nil
	}
	rd := &gs.round
	if !s.lower && f.round > rd.number {
		*rd = round{phase: exchanging, number: f.round, kind: f.scope.Kind}
	}
	if rd.phase != exchanging || f.round != rd.number || f.scope.Kind != rd.kind {
		return nil // of a round that was given up
	}
	var res recon.Result
	err := s.e.store.View(ctx, func(r Reader) error {
		var err error
		res, err = s.loop.rec.Step(source{r, f.scope}, f.ranges)
		return err
	})
	if err != nil {
		return fmt.Errorf("%w: reconciling group %s: %w", ErrProtocol, gs.id.Short(), err)
	}
	s.push(gs, res)
	if s.lower {
		return s.stepLower(gs, f, res)
	}
	return s.stepHigher(gs, f, res)
}

// maxSingles is how many single entries are collected before they are sent out of order.
const maxSingles = 1 << 18

func (s *Session) push(gs *groupSession, res recon.Result) {
	rd := &gs.round
	rd.lacking = append(rd.lacking, res.Send...)
	for _, send := range res.Send {
		rd.singles += len(send.Only)
	}
	if rd.singles > maxSingles {
		s.flush(gs)
	}
}

// flush queues what was collected, oldest first: single entries of neighbouring ranges in one job, and neighbouring ranges as one.
func (s *Session) flush(gs *groupSession) {
	list := gs.round.lacking
	gs.sent += int64(gs.round.singles)
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

// stepLower goes on, or ends the exchange with MARK.
func (s *Session) stepLower(gs *groupSession, f reconFrame, res recon.Result) error {
	rd := &gs.round
	if !res.Final {
		if rd.messages++; rd.messages > maxSteps {
			return fmt.Errorf("%w: a reconciliation does not end", ErrProtocol)
		}
		s.tell(reconFrame{f.scope, f.round, res.Reply}.encode())
	}
	if res.Final || !res.Open {
		rd.phase = settling
		s.flush(gs)
		s.jobs.add(job{group: gs.id, mark: &markFrame{scope: f.scope, round: f.round, messages: rd.messages}})
	}
	return nil
}

func (s *Session) stepHigher(gs *groupSession, f reconFrame, res recon.Result) error {
	rd := &gs.round
	if rd.messages++; rd.messages > maxSteps {
		return fmt.Errorf("%w: a reconciliation does not end", ErrProtocol)
	}
	if !res.Final {
		s.tell(reconFrame{f.scope, f.round, res.Reply}.encode())
	}
	if res.Final || !res.Open {
		s.flush(gs)
	}
	if rd.mark != nil {
		return s.marked(*rd.mark)
	}
	return nil
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
	rd.mark, rd.phase = nil, idle
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
