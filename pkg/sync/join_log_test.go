package sync_test

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/storetest"
)

// A gatedStore keeps the next transaction that begins after it was armed waiting.
type gatedStore struct {
	groupsync.Store
	armed         atomic.Bool
	entered, open chan struct{}
}

func (s *gatedStore) Update(ctx context.Context, fn func(groupsync.Tx) error) error {
	if s.armed.CompareAndSwap(true, false) {
		close(s.entered)
		<-s.open
	}
	return s.Store.Update(ctx, fn)
}

// TestJoinIsProvenBesideTheWriter: a log that answers a join is found to be forged while somebody else writes, and does not wait for that.
func TestJoinIsProvenBesideTheWriter(t *testing.T) {
	owner := newNode(t, 0)
	g := owner.create("g")
	inv := owner.invite(g, groupsync.InviteOptions{})
	member := newNode(t, 2)
	must(t, member.Join(t.Context(), inv))
	c := connect(t, owner, member)
	eventually(t, "the join", func() bool { return c.synced(g) })
	c.end()
	log := owner.logOf(g)

	gate := &gatedStore{Store: storetest.NewMemory(), entered: make(chan struct{}), open: make(chan struct{})}
	j := openNode(t, member.ident, gate, "user 2")
	own := j.create("own")
	must(t, j.Join(t.Context(), inv))
	events := j.Subscribe(t.Context())
	talk, done := openDoor(t, j, owner.peer(), inv)
	gate.armed.Store(true)
	wrote := make(chan error, 1)
	go func() {
		_, err := j.Put(context.Background(), own, json.RawMessage(`{"type":"Note"}`))
		wrote <- err
	}()
	<-gate.entered
	opened := sync.OnceFunc(func() { close(gate.open) })
	defer opened()
	talk.send(groupsync.Bulk, logFrame(g, 3, append(without(t, log, "add"), forge(t, log, "add"))))
	if ev := nextEvent[groupsync.JoinFailed](t, events); ev.Code != groupsync.RefusedFake {
		t.Errorf("%+v", ev)
	}
	wantErr(t, <-done, groupsync.ErrProtocol)
	opened()
	must(t, <-wrote)
}

// TestJoinedIDsAreBounded: a log with more users than are checked for one member is refused without being checked, and taken from another member.
func TestJoinedIDsAreBounded(t *testing.T) {
	owner, second, member := newNode(t, 0), newNode(t, 1), newNode(t, 2)
	g := owner.create("g")
	join(t, owner, g, entry.Write, second)
	inv := owner.invite(g, groupsync.InviteOptions{})
	must(t, member.Join(t.Context(), inv))
	c := connect(t, owner, member)
	eventually(t, "the join", func() bool { return c.synced(g) })
	c.end()
	log := owner.logOf(g) // with four ids

	j := openNode(t, member.ident, newStore(), "user 2", func(c *groupsync.Config) { c.Limits.JoinIDs = 5 })
	must(t, j.Join(t.Context(), inv))
	events := j.Subscribe(t.Context())
	answer := func(from *node, ops []json.RawMessage, want groupsync.RefusalCode) {
		t.Helper()
		talk, done := openDoor(t, j, from.peer(), inv)
		talk.send(groupsync.Bulk, logFrame(g, 3, ops))
		if ev := nextEvent[groupsync.JoinFailed](t, events); ev.Code != want {
			t.Errorf("%+v", ev)
		}
		if <-done == nil {
			t.Error("the session went on")
		}
	}
	forged := append(without(t, log, "add"), forge(t, log, "add"))
	answer(owner, forged, groupsync.RefusedFake)
	answer(owner, log, groupsync.RefusedBusy)
	answer(owner, forged, groupsync.RefusedBusy) // not even looked at
	wantNothing(t, j, g)
	j.clock.add(6 * time.Second)
	talk, _ := openDoor(t, j, owner.peer(), inv)
	talk.send(groupsync.Bulk, logFrame(g, 3, log))
	nextEvent[groupsync.GroupJoined](t, events)
}
