package sync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/recon"
)

const (
	// maxJobs is how many jobs wait before loop stops making new ones.
	maxJobs = 2_048
	// maxWantedHashes is how many entries that the other side asked for wait to be sent; one that asks for more breaks the protocol. 16 MiB.
	maxWantedHashes = 1 << 19
	// chunkRecords and chunkBytes bound what is read in one transaction. A store reads pages of some hundred, of which the last one is read again.
	chunkRecords = 2048
	chunkBytes   = 1 << 20
	// ingestBytes is about how much is taken in with one transaction.
	ingestBytes = 1 << 20
)

// writeBulk does the jobs.
func (s *Session) writeBulk(ctx context.Context) error {
	for {
		j, ok := s.jobs.take()
		if !ok {
			return ctx.Err()
		}
		if err := s.do(ctx, j); err != nil {
			return err
		}
		if n := s.jobs.len(); n == 0 || n == maxJobs/2 {
			poke(s.wake)
		}
	}
}

func (s *Session) do(ctx context.Context, j job) error {
	switch {
	case j.mark != nil:
		return s.send(ctx, Bulk, j.mark.encode(frameMark))
	case j.marked != nil:
		return s.sendMarked(ctx, *j.marked)
	case j.raws != nil:
		return s.sendFarewell(ctx, j)
	case j.log:
		return s.sendLog(ctx, j)
	case j.refs != nil:
		return s.sendRefs(ctx, j)
	case j.hashes != nil:
		return s.sendHashes(ctx, j.group, j.hashes)
	}
	return s.sendRange(ctx, Scope{j.group, j.kind}, *j.pushed)
}

func (s *Session) sendMarked(ctx context.Context, f markFrame) error {
	var sum Summary
	err := s.e.store.View(ctx, func(r Reader) error {
		var err error
		sum, err = r.Summary(f.scope, Ref{}, endRef)
		return err
	})
	if err != nil {
		return err
	}
	f.digest = s.digest(sum)
	return s.send(ctx, Bulk, f.encode(frameMarked))
}

// mayTell tells whether entries of a group may go to the other device now.
func (s *Session) mayTell(group peercrypto.ID, kind entry.Kind) bool {
	g, err := s.e.replica(group)
	if err != nil {
		return false
	}
	v := g.view.Load()
	if s.e.shares(v, s.peer.UserID) {
		return true
	}
	_, member := v.state.Member(s.peer.UserID)
	return v.rec.Left && member && kind == entry.Operation
}

// sendRange sends what the other side lacks, oldest first, in pages of bounded size.
func (s *Session) sendRange(ctx context.Context, scope Scope, p recon.Send) error {
	lo, hi := Ref{p.Lo.Modified, p.Lo.Hash}, Ref{p.Hi.Modified, p.Hi.Hash}
	for more := true; more; {
		var chunk []Record
		size := 0
		err := s.e.store.View(ctx, func(r Reader) error {
			chunk, size, more = nil, 0, false
			return r.Shared(scope, lo, hi, func(rec Record) (bool, error) {
				if n := len(chunk); n > 0 && chunkFull(n, size, rec.Modified == chunk[n-1].Modified) {
					lo, more = rec.Ref, true
					return false, nil
				}
				size += len(rec.Raw)
				chunk = append(chunk, rec)
				return true, nil
			})
		})
		if err != nil {
			return fmt.Errorf("reading entries of group %s: %w", scope.Group.Short(), err)
		}
		if !s.mayTell(scope.Group, scope.Kind) {
			return nil
		}
		if err := s.sendRecords(ctx, scope.Group, chunk); err != nil {
			return err
		}
	}
	return nil
}

// chunkFull tells whether a chunk ends. Entries of one moment stay together as far as memory allows, because only sorting all of them puts chains in
// order; what is in the wrong order costs the receiver a stay in quarantine.
func chunkFull(records, size int, sameMoment bool) bool {
	if sameMoment {
		return records >= 4*chunkRecords || size > 8*chunkBytes
	}
	return records >= chunkRecords || size > chunkBytes
}

// sendRefs sends single entries, oldest first.
func (s *Session) sendRefs(ctx context.Context, j job) error {
	slices.SortFunc(j.refs, Ref.Compare)
	for start := 0; start < len(j.refs); {
		end := start + 1
		for end < len(j.refs) && !chunkFull(end-start, 0, j.refs[end].Modified == j.refs[end-1].Modified) {
			end++
		}
		hashes := make([]peercrypto.Hash, 0, end-start)
		for _, ref := range j.refs[start:end] {
			hashes = append(hashes, ref.Hash)
		}
		if err := s.sendHashes(ctx, j.group, hashes); err != nil {
			return err
		}
		start = end
	}
	return nil
}

// sendRecords sends records so that one comes behind the one before it in its chain also where both have the same time.
func (s *Session) sendRecords(ctx context.Context, group peercrypto.ID, recs []Record) error {
	slices.SortFunc(recs, func(a, b Record) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Modified, b.Modified), cmp.Compare(a.Seq, b.Seq), a.Compare(b.Ref))
	})
	raws := make([][]byte, len(recs))
	for i, r := range recs {
		raws[i] = r.Raw
	}
	if err := s.sendEntries(ctx, group, raws); err != nil {
		return err
	}
	s.note(ctx, noteSent{group, int64(len(recs))})
	return nil
}

func (s *Session) sendEntries(ctx context.Context, group peercrypto.ID, raws [][]byte) error {
	return s.pack(raws, func(part [][]byte, _, _ bool) error {
		return s.spendAndSend(ctx, frameEntries, entriesFrame{group: group, raws: part})
	})
}

// spendAndSend encodes into the buffers of the bulk writer. Credit is counted before packing: it bounds what the other side has to hold.
func (s *Session) spendAndSend(ctx context.Context, t frameType, f entriesFrame) error {
	frame := f.appendTo(s.plain[:0], t)
	if cap(frame) <= 2*maxSmallFrame {
		s.plain = frame
	}
	if !s.jobs.spend(cost(len(frame))) {
		return ctx.Err()
	}
	if s.packs.Load() {
		if packed := pack(s.packed[:0], frame); len(packed) > 0 {
			if frame = packed; cap(packed) <= 2*maxSmallFrame {
				s.packed = packed
			}
		}
	}
	s.counters.entriesOut.Add(int64(len(f.raws)))
	return s.send(ctx, Bulk, frame)
}

// pack calls fn with parts that fit into a frame.
func (s *Session) pack(raws [][]byte, fn func(part [][]byte, first, last bool) error) error {
	for start := 0; start < len(raws); {
		end, size := start, 64
		for end < len(raws) && (end == start || size+len(raws[end])+4 <= softFrame) {
			size += len(raws[end]) + 4
			end++
		}
		if err := fn(raws[start:end], start == 0, end == len(raws)); err != nil {
			return err
		}
		start = end
	}
	return nil
}

// sendHashes sends entries by hash, and NOTFOUND for those that are not shared here.
func (s *Session) sendHashes(ctx context.Context, group peercrypto.ID, hashes []peercrypto.Hash) error {
	var recs []Record
	var missing []peercrypto.Hash
	size := 0
	err := s.e.store.View(ctx, func(r Reader) error {
		for len(hashes) > 0 && size <= 8*chunkBytes {
			h := hashes[0]
			hashes = hashes[1:]
			rec, ok, err := r.Record(h)
			if err != nil {
				return err
			}
			if !ok || rec.Group != group || !rec.Shared || !s.mayTell(group, rec.Kind) {
				missing = append(missing, h)
				continue
			}
			size += len(rec.Raw)
			recs = append(recs, rec)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading entries of group %s: %w", group.Short(), err)
	}
	for part := range slices.Chunk(missing, maxHashes) {
		s.tell(hashFrame{group, part}.encode(frameNotFound))
	}
	if err := s.sendRecords(ctx, group, recs); err != nil || len(hashes) == 0 {
		return err
	}
	return s.sendHashes(ctx, group, hashes)
}

// sendLog sends all operations of a group.
func (s *Session) sendLog(ctx context.Context, j job) error {
	if j.flags&flagOffer == 0 && !s.mayTell(j.group, entry.Operation) {
		return nil
	}
	var raws [][]byte
	err := s.e.store.View(ctx, func(r Reader) error {
		return r.Shared(Scope{j.group, entry.Operation}, Ref{}, endRef, func(rec Record) (bool, error) {
			raws = append(raws, rec.Raw)
			return true, nil
		})
	})
	if err != nil {
		return fmt.Errorf("reading the log of group %s: %w", j.group.Short(), err)
	}
	return s.pack(raws, func(part [][]byte, first, last bool) error {
		f := entriesFrame{group: j.group, flags: j.flags, raws: part}
		if first {
			f.flags |= flagFirst
		}
		if last {
			f.flags |= flagLast
		}
		return s.spendAndSend(ctx, frameLog, f)
	})
}

// Notes of the committer and of the bulk writer.
type (
	noteSent struct {
		group   peercrypto.ID
		entries int64
	}
	noteIngested struct {
		group peercrypto.ID
		res   IngestResult
	}
	noteMark struct {
		t frameType
		f markFrame
	}
)

// ingestAll decodes and verifies what comes on the bulk lane; commitAll stores it meanwhile, in the same order.
func (s *Session) ingestAll(ctx context.Context) error {
	var held *bulkFrame // read ahead
	for {
		f, err := s.nextBulk(ctx, &held)
		if err != nil {
			return err
		}
		work := bulkWork{bulkFrame: f}
		if body, ok := f.body.(entriesFrame); ok && f.t == frameEntries {
			raws, more := s.gather(body, &held)
			work.size += more
			if work.delivery, err = s.prepare(ctx, body.group, raws); err != nil {
				return err
			}
		}
		select {
		case s.verified <- work:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// bulkWork is a frame of the bulk lane, or several ENTRIES that were verified together.
type bulkWork struct {
	bulkFrame
	delivery delivery
}

// commitAll stores what was verified and acknowledges it.
func (s *Session) commitAll(ctx context.Context) error {
	logs := logCollector{s: s, parts: map[peercrypto.ID]*logPart{}}
	bad, rework := 0, newReworkBudget()
	for {
		var work bulkWork
		select {
		case work = <-s.verified:
		case <-ctx.Done():
			return ctx.Err()
		}
		switch body := work.body.(type) {
		case markFrame:
			s.note(ctx, noteMark{work.t, body})
			continue
		case entriesFrame:
			if work.t == frameLog {
				if err := logs.add(ctx, body); err != nil {
					return err
				}
				break
			}
			res, err := s.takeIn(ctx, work.delivery)
			if err != nil {
				return err
			}
			if bad += res.bad; res.Accepted > 0 {
				bad = 0
			}
			if err := pause(ctx, rework.delay(time.Now(), res.again, len(work.delivery.items))); err != nil {
				return err
			}
		}
		s.tell(encodeAck(s.jobs.done(work.size)))
		if bad >= s.e.cfg.Limits.BadEntries {
			return fmt.Errorf("%w (%d)", ErrBadEntries, bad)
		}
	}
}

func (s *Session) nextBulk(ctx context.Context, held **bulkFrame) (bulkFrame, error) {
	if f := *held; f != nil {
		*held = nil
		return *f, nil
	}
	select {
	case f := <-s.inbox:
		return f, nil
	case <-ctx.Done():
		return bulkFrame{}, ctx.Err()
	}
}

// gather adds frames of the same group that are there already: one transaction for all of them.
func (s *Session) gather(first entriesFrame, held **bulkFrame) (raws [][]byte, size int64) {
	raws = first.raws
	for size < ingestBytes {
		select {
		case f := <-s.inbox:
			body, ok := f.body.(entriesFrame)
			if !ok || f.t != frameEntries || body.group != first.group {
				*held = &f
				return raws, size
			}
			raws = append(raws, body.raws...)
			size += f.size
		default:
			return raws, size
		}
	}
	return raws, size
}

// prepare verifies; entries of a group that is not shared are dropped.
func (s *Session) prepare(ctx context.Context, group peercrypto.ID, raws [][]byte) (delivery, error) {
	s.counters.entriesIn.Add(int64(len(raws)))
	d, err := s.e.prepare(ctx, s.peer.UserID, group, raws, s.number)
	if errors.Is(err, ErrNotAdmitted) {
		return delivery{group: group}, s.dropped(group)
	}
	return d, err
}

// takeIn stores.
func (s *Session) takeIn(ctx context.Context, d delivery) (IngestResult, error) {
	res, err := s.e.commit(ctx, d)
	if errors.Is(err, ErrNotAdmitted) {
		return IngestResult{}, s.dropped(d.group)
	}
	if err != nil {
		return res, err
	}
	s.e.wanted.turns.moved(d.group, s, res.Accepted)
	s.note(ctx, noteIngested{d.group, res})
	return res, nil
}

func (s *Session) dropped(group peercrypto.ID) error {
	s.e.log.Info("entries dropped: the group is not shared with their sender",
		"group", group.Short(), "user", s.peer.UserID.Short())
	return nil
}
