package sync

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/recon"
)

const (
	// tickEvery is how often loop looks for what is due.
	tickEvery = time.Second
	// recheckAfter is when a group that changed since it was equal is compared again, should anything have been lost.
	recheckAfter = time.Minute
	// followBatch is how many new entries are told at once.
	followBatch = 256
)

// A groupSession is what a session knows of one group that both sides share.
type groupSession struct {
	id     peercrypto.ID
	remote *element // what the other side said last
	told   element  // what it was told last
	equal  bool
	// live is set when the group was compared, so that new entries are told one by one from position on.
	live     bool
	position int64
	// checked is when the group was found equal last, and up to which position.
	checked         time.Time
	checkedPosition int64
	sent            int64 // entries sent since the other side told its count
	have            int64 // entries held here when something moved last
	all             transferred

	missing []peercrypto.Hash // entries that others refer to; asked for when no round is going on that may bring them

	round   round
	backoff time.Duration
	retryAt time.Time
}

// transferred counts the entries of a group that a session moved.
type transferred struct{ in, out int64 }

// runLoop owns the state of the session.
func (s *Session) runLoop(ctx context.Context) error {
	wake, stop := s.e.bus.follow()
	defer stop()
	var own hello
	own.version, own.features, own.salt = protocolVersion, featurePacked, s.salt
	s.tell(own.encode())
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case f := <-s.ctl:
			err = s.handle(ctx, f.(controlFrame))
		case n := <-s.notes:
			err = s.noted(ctx, n)
		case <-wake:
			err = s.changed(ctx)
		case <-s.wake:
			err = s.proceed(ctx)
		case <-tick.C:
			err = s.tick(ctx)
		}
		if err != nil {
			return err
		}
	}
}

func (s *Session) handle(ctx context.Context, f controlFrame) error {
	if (f.t == frameHello) == s.loop.greeted {
		return fmt.Errorf("%w: HELLO must be the first frame and only that", ErrProtocol)
	}
	if own, ok := f.body.(ownFrame); ok {
		s.handleOwn(f.t, own)
		return nil
	}
	if s.keysOnly && f.t != frameHello {
		return nil
	}
	switch body := f.body.(type) {
	case hello:
		return s.greet(ctx, body)
	case []element:
		return s.compareAll(ctx, body)
	case reconFrame:
		return s.reconcile(ctx, body)
	case hashFrame:
		return s.handleHashes(ctx, f.t, body)
	case rawFrame:
		return s.handleRaw(f.t, body)
	case refusedFrame:
		return s.refused(ctx, body)
	case []knock:
		return s.handleKnocks(ctx, f.t, body)
	case []peercrypto.ID:
		return s.tellUsers(ctx, body)
	case [][]byte:
		s.learn(body...)
	}
	return nil
}

func (s *Session) greet(ctx context.Context, h hello) error {
	if h.version != protocolVersion {
		return fmt.Errorf("%w: it speaks version %d, this release %d", ErrProtocol, h.version, protocolVersion)
	}
	first, second := s.salt[:], h.salt[:]
	if !s.lower {
		first, second = second, first
	}
	s.loop.rec.Salt = sha256.Sum256(slices.Concat(first, second))
	s.loop.greeted = true
	s.packs.Store(h.features&featurePacked != 0)
	s.loop.userDoc = string(s.e.UserDoc())
	if len(s.peer.UserDoc) > 0 {
		s.learn(s.peer.UserDoc)
	}
	return s.changed(ctx)
}

func (s *Session) learn(docs ...[]byte) {
	s.slowly(func(ctx context.Context) {
		for _, doc := range docs {
			if _, err := s.e.learnUser(ctx, doc); err != nil {
				s.e.log.Warn("a user's document could not be stored", "err", err)
				return
			}
		}
	})
}

// changed looks at the groups again after something was committed.
func (s *Session) changed(ctx context.Context) error {
	if s.e.stale(s.peer) && !s.keysOnly {
		return ErrKeyRefused
	}
	if !s.loop.greeted {
		return nil
	}
	s.tellOwn()
	if s.keysOnly {
		return nil
	}
	generation := s.e.generation.Load()
	if generation == s.loop.generation {
		return s.proceed(ctx)
	}
	s.loop.generation = generation
	fresh, err := s.regroup(ctx)
	if err != nil {
		return err
	}
	if err := s.announceGroups(ctx, fresh); err != nil {
		return err
	}
	s.knockAll()
	s.tellConsents(ctx)
	s.tellName()
	for id := range s.loop.farewells {
		s.farewell(ctx, id, 0, false) // there may be another leave
	}
	return s.proceed(ctx)
}

// regroup brings the set of shared groups up to date and returns those that are new.
func (s *Session) regroup(ctx context.Context) ([]*groupSession, error) {
	var fresh []*groupSession
	shared := map[peercrypto.ID]bool{}
	for _, g := range s.e.replicas() {
		v := g.view.Load()
		if !s.e.shares(v, s.peer.UserID) {
			continue
		}
		shared[g.id] = true
		if s.loop.groups[g.id] == nil {
			gs := &groupSession{id: g.id}
			s.loop.groups[g.id] = gs
			fresh = append(fresh, gs)
			if s.loop.joining[g.id] {
				delete(s.loop.joining, g.id)
				s.jobs.add(job{group: g.id, log: true})
			}
		}
	}
	for _, gs := range s.loop.order {
		s.loop.common = true
		if id := gs.id; !shared[id] {
			delete(s.loop.groups, id)
			s.jobs.drop(id)
			s.farewell(ctx, id, gs.checkedPosition, gs.remote != nil)
		}
	}
	s.loop.order = slices.SortedFunc(maps.Values(s.loop.groups), func(a, b *groupSession) int { return cmp.Compare(a.id, b.id) })
	s.publishStatus()
	return fresh, nil
}

// announceGroups sends GROUPS for new groups. The first one may be empty: it tells that there are none.
func (s *Session) announceGroups(ctx context.Context, fresh []*groupSession) error {
	first := !s.loop.listedOwn
	s.loop.listedOwn = true
	if len(fresh) == 0 && !first {
		return nil
	}
	var list []element
	for _, gs := range fresh {
		el, position, err := s.element(ctx, gs.id)
		if err != nil {
			return err
		}
		gs.position = position // reconciliation brings what is before it
		if !first {
			el.flags |= flagAsk // the other side may have told its part before this one could hear it
		}
		gs.told = el
		list = append(list, el)
	}
	for part := range slices.Chunk(list, maxGroups) {
		s.tell(encodeGroups(part))
	}
	if len(list) == 0 {
		s.tell(encodeGroups(nil))
	}
	return nil
}

func (s *Session) digest(sum Summary) digest {
	return digest{sum.Count, s.loop.rec.Fingerprint(recon.Summary(sum))}
}

// element describes a group and tells up to which position it does.
func (s *Session) element(ctx context.Context, id peercrypto.ID) (el element, position int64, err error) {
	err = s.e.store.View(ctx, func(r Reader) error {
		ops, data, err := summaries(r, id)
		if err != nil {
			return err
		}
		el = element{group: id, ops: s.digest(ops), data: s.digest(data)}
		position, err = r.LastPosition()
		return err
	})
	return el, position, err
}

// compareAll takes the other side's GROUPS.
func (s *Session) compareAll(ctx context.Context, list []element) error {
	for i := range list {
		gs := s.loop.groups[list[i].group]
		if gs == nil {
			s.unshared(ctx, list[i].group)
			continue
		}
		gs.remote, gs.sent = &list[i], 0
		delete(s.loop.fetching, gs.id)
		if err := s.compare(ctx, gs, list[i].flags&flagAsk != 0); err != nil {
			return err
		}
	}
	if !s.loop.listed {
		s.loop.listed = true
		s.tellConsents(ctx)
	}
	s.publishStatus()
	return nil
}

// unshared handles a group that the other side thinks is shared.
func (s *Session) unshared(ctx context.Context, id peercrypto.ID) {
	g, err := s.e.replica(id)
	if err == nil {
		s.farewell(ctx, id, 0, true)
	}
	// This user's other device is in a group that this one does not know yet, or from which somebody removed this user: there may be a new grant.
	unknown := errors.Is(err, ErrNotFound) || err == nil && !g.view.Load().rec.Left
	j := s.e.pendingJoins()[id]
	back := j != nil && j.back != nil                                // who says that this is a member knows the way back
	appeal := err == nil && s.e.appeals(g, g.view.Load(), s.e.now()) // or that the removal is void
	if unknown && (s.peer.UserID == s.e.userID || back || appeal) && !s.loop.fetching[id] {
		s.loop.fetching[id] = true
		s.tell(rawFrame{group: id}.encode(frameJoin))
	}
}

// compare decides what to do about a group after its remote side changed.
func (s *Session) compare(ctx context.Context, gs *groupSession, asked bool) error {
	own, position, err := s.element(ctx, gs.id)
	if err != nil {
		return err
	}
	equal := own.ops == gs.remote.ops && own.data == gs.remote.data
	if equal {
		if err := s.foundEqual(ctx, gs, position); err != nil {
			return err
		}
	}
	gs.equal = equal
	// The other side may have found a difference in what it was told last, which is none any more: it waits for an answer.
	stale := own.ops != gs.told.ops || own.data != gs.told.data
	if asked || (stale && (equal || !s.lower)) {
		own.flags = 0
		gs.told = own
		s.tell(encodeGroups([]element{own}))
	}
	if !equal && s.lower && gs.round.phase == idle && !s.e.cfg.Now().Before(gs.retryAt) {
		kind := entry.Data
		if own.ops != gs.remote.ops {
			kind = entry.Operation
		}
		return s.startRound(ctx, gs, own, kind)
	}
	return nil
}

// foundEqual goes on with new entries from the position of the comparison.
func (s *Session) foundEqual(ctx context.Context, gs *groupSession, position int64) error {
	news := !gs.equal
	gs.live, gs.position = true, max(gs.position, position)
	gs.checked, gs.checkedPosition = s.e.cfg.Now(), position
	gs.backoff = 0
	if !news {
		return nil
	}
	var fp string
	err := s.e.store.View(ctx, func(r Reader) error {
		ops, data, err := summaries(r, gs.id)
		fp = fingerprintText(ops, data)
		return err
	})
	if err != nil {
		return err
	}
	s.e.bus.publish(Synced{Group: gs.id, Peer: s.peer.DeviceID, Fingerprint: fp})
	if g, err := s.e.replica(gs.id); err == nil && g.view.Load().meta.Returning {
		s.slowly(func(ctx context.Context) { s.e.synced(ctx, gs.id, s.peer.UserID) })
	}
	return s.askNames(ctx, gs.id)
}

// proceed does what waits for room: reconciliation and new entries.
func (s *Session) proceed(ctx context.Context) error {
	if s.over() {
		return ErrNotAdmitted
	}
	for _, gs := range s.loop.order {
		if gs.round.more {
			if err := s.advance(ctx, gs); err != nil {
				return err
			}
		}
		if err := s.askMissing(ctx, gs); err != nil {
			return err
		}
		if g, err := s.e.replica(gs.id); err == nil && gs.live && gs.round.phase == idle && g.head.Load() > gs.position {
			if err := s.follow(ctx, gs, g); err != nil {
				return err
			}
		}
	}
	return nil
}

// follow tells new entries: own ones directly, others by hash.
func (s *Session) follow(ctx context.Context, gs *groupSession, g *replica) error {
	gs.position = g.behind(gs.position, s.number) // the other side brought them
	for s.jobs.len() < maxJobs && len(s.out) < outQueue/4 {
		var recs []Record
		err := s.e.store.View(ctx, func(r Reader) error {
			var err error
			recs, err = r.SharedAfter(gs.id, gs.position, followBatch)
			return err
		})
		if err != nil {
			return fmt.Errorf("following group %s: %w", gs.id.Short(), err)
		}
		if len(recs) == 0 {
			return nil
		}
		var own, others []peercrypto.Hash
		for _, rec := range recs {
			gs.position = rec.Position
			switch rec.Origin {
			case s.number:
			case 0:
				own = append(own, rec.Hash)
			default:
				others = append(others, rec.Hash)
			}
		}
		if len(own) > 0 {
			s.jobs.add(job{group: gs.id, hashes: own})
		}
		if len(others) > 0 {
			s.tell(hashFrame{gs.id, others}.encode(frameHave))
		}
	}
	return nil
}

func (s *Session) tick(ctx context.Context) error {
	now := s.e.cfg.Now()
	if s.e.stale(s.peer) && !s.keysOnly {
		return ErrKeyRefused
	}
	if !s.loop.greeted {
		if now.Sub(s.since) > helloWithin {
			return fmt.Errorf("%w: no HELLO", ErrProtocol)
		}
		if s.e.Admits(s.peer.UserID) == AdmitNone {
			return ErrNotAdmitted
		}
		return nil
	}
	if s.keysOnly {
		return nil
	}
	for _, gs := range s.loop.order {
		if err := s.tickGroup(ctx, gs, now); err != nil {
			return err
		}
	}
	s.askLater(ctx, now)
	return s.proceed(ctx)
}

// tickGroup starts rounds that wait, and compares again what changed a while ago.
func (s *Session) tickGroup(ctx context.Context, gs *groupSession, now time.Time) error {
	if !s.lower || gs.remote == nil || gs.round.phase != idle {
		return nil
	}
	if !gs.equal && !gs.retryAt.IsZero() && !now.Before(gs.retryAt) {
		gs.retryAt = time.Time{}
		return s.ask(ctx, gs)
	}
	if gs.equal && now.Sub(gs.checked) >= recheckAfter && gs.position > gs.checkedPosition {
		gs.checked = now
		return s.ask(ctx, gs)
	}
	return nil
}

// ask tells the own side of a group and asks for the other's.
func (s *Session) ask(ctx context.Context, gs *groupSession) error {
	el, _, err := s.element(ctx, gs.id)
	if err != nil {
		return err
	}
	gs.told = el
	el.flags = flagAsk
	s.tell(encodeGroups([]element{el}))
	return nil
}

// want is how many entries the other side holds, as it said last.
func (gs *groupSession) want() int64 { return gs.remote.ops.count + gs.remote.data.count }

// unsent estimates how many entries the other side lacks that were not sent yet.
func (gs *groupSession) unsent() int64 {
	if gs.equal {
		return 0
	}
	return max(0, gs.have-gs.want()-gs.sent)
}

// publishStatus lets Status see the groups.
func (s *Session) publishStatus() {
	list := make([]SessionGroup, 0, len(s.loop.groups))
	for _, gs := range s.loop.groups {
		sg := SessionGroup{Group: gs.id, Synced: gs.equal, Received: gs.all.in, Sent: gs.all.out}
		if gs.remote != nil {
			sg.Want, sg.Unsent = gs.want(), gs.unsent()
		}
		list = append(list, sg)
	}
	slices.SortFunc(list, func(a, b SessionGroup) int { return cmp.Compare(a.Group, b.Group) })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = list
}
