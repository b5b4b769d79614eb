package peer

import (
	"context"
	"sync"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

// queueLen is how many events wait for a slow reader of a subscription.
const queueLen = 1024

// A hub spreads events over subscriptions and never waits for one.
type hub struct {
	mu   sync.Mutex
	subs map[*subscription]struct{}
}

// A subscription's queue keeps its last place for Lagged, so that the reader
// learns about the gap where it is.
type subscription struct {
	queue  chan Event
	lagged bool // guarded by hub.mu
}

func (h *hub) publish(ev Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subs {
		s.push(ev)
	}
}

// push is called with hub.mu held; it is the only sender.
func (s *subscription) push(ev Event) {
	if len(s.queue) < cap(s.queue)-1 {
		s.lagged = false
		s.queue <- ev
		return
	}
	if !s.lagged {
		s.lagged = true
		s.queue <- Lagged{}
	}
}

func (h *hub) add(s *subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subs == nil {
		h.subs = map[*subscription]struct{}{}
	}
	h.subs[s] = struct{}{}
}

func (h *hub) remove(s *subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.subs, s)
}

// Events subscribes. The channel first tells the state: ServerUp if the server
// is reached, DeviceDiscovered for each device that is present, DeviceConnected
// for each that is connected; then what happens. It is closed when ctx ends or
// the peer does; until then it should be read. A reader that is 1,024 events
// behind gets Lagged and misses some; DocumentChanged is never missed, because
// documents are read from the store by their versions.
func (p *Peer) Events(ctx context.Context) <-chan Event {
	out := make(chan Event)
	f := &follower{peer: p, out: out, after: map[peercrypto.ID]int64{}, watched: map[peercrypto.ID]bool{}}
	f.sub = &subscription{}
	f.err = f.begin(ctx)
	p.mu.Lock()
	state := p.stateLocked()
	f.sub.queue = make(chan Event, len(state)+queueLen)
	for _, ev := range state {
		f.sub.queue <- ev
	}
	p.hub.add(f.sub)
	started := p.goRunLocked(func() { f.run(ctx) })
	p.mu.Unlock()
	if !started {
		p.hub.remove(f.sub)
		close(out)
	}
	return out
}

func (p *Peer) stateLocked() []Event {
	var state []Event
	if p.server != "" {
		state = append(state, ServerUp{Name: p.server})
	}
	for _, d := range p.devices {
		if d.present() {
			state = append(state, DeviceDiscovered{Device: d.id, User: d.user})
		}
		if d.conn != nil {
			state = append(state, DeviceConnected{Device: d.id, User: d.user, Outgoing: d.conn.conn.Outgoing()})
		}
	}
	return state
}

// A follower feeds one subscription's channel, from its queue and from the
// documents of each joined group.
type follower struct {
	peer    *Peer
	out     chan<- Event
	sub     *subscription
	err     error                   // of begin: documents are not followed
	after   map[peercrypto.ID]int64 // by group: documents up to this version are old
	watched map[peercrypto.ID]bool
	wg      sync.WaitGroup
}

// begin notes where each group's documents stand.
func (f *follower) begin(ctx context.Context) error {
	groups, err := f.peer.engine.Groups(ctx)
	if err != nil {
		return err
	}
	for _, g := range groups {
		if f.after[g.ID], err = f.peer.LastVersion(ctx, g.ID); err != nil {
			return err
		}
	}
	return nil
}

func (f *follower) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer context.AfterFunc(f.peer.ctx, cancel)()
	defer func() {
		cancel()
		f.wg.Wait()
		f.peer.hub.remove(f.sub)
		close(f.out)
	}()
	if f.err != nil {
		f.peer.log.Error("events of documents are not followed", "error", f.err)
	}
	f.watchGroups(ctx)
	for {
		select {
		case ev := <-f.sub.queue:
			switch ev.(type) {
			case GroupJoined, GroupChanged, Lagged:
				f.watchGroups(ctx)
			}
			if !f.emit(ctx, ev) {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (f *follower) emit(ctx context.Context, ev Event) bool {
	select {
	case f.out <- ev:
		return true
	case <-ctx.Done():
		return false
	}
}

// watchGroups starts to follow the documents of groups that are new.
func (f *follower) watchGroups(ctx context.Context) {
	groups, err := f.peer.engine.Groups(ctx)
	if err != nil || f.err != nil {
		return
	}
	for _, g := range groups {
		if f.watched[g.ID] || !g.Joined {
			continue
		}
		f.watched[g.ID] = true
		f.wg.Go(func() {
			err := f.peer.engine.Watch(ctx, g.ID, f.after[g.ID], func(d groupsync.Document) error {
				if !f.emit(ctx, DocumentChanged{Document: d}) {
					return ctx.Err()
				}
				return nil
			})
			if err != nil && ctx.Err() == nil {
				f.peer.log.Warn("watching a group ended", "group", g.ID.Short(), "error", err)
			}
		})
	}
}
