package sync_test

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
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

// A register writes adds to a group by hand, each at the beginning of a chain of its own.
type register struct {
	t    testing.TB
	by   peercrypto.Identity
	as   *entry.Entry // the grant under which it writes
	next int
}

// add returns an add of a user with a fresh body, to which the id does not fit.
func (r *register) add(role entry.Role) *entry.Entry {
	r.t.Helper()
	key, err := peercrypto.GenerateSigningKey()
	must(r.t, err)
	body := peercrypto.UserGenesis{V: 1, Created: time.Now().UnixMilli(), Key: key.Public()}
	return r.addOf(peercrypto.NewID(time.Now()), body, role)
}

func (r *register) addOf(id peercrypto.ID, body peercrypto.UserGenesis, role entry.Role) *entry.Entry {
	r.t.Helper()
	r.next++
	e, err := entry.SignOperation(r.by.User, entry.OpDraft{
		ID: peercrypto.NewID(time.Now()), Group: r.as.Group, Signer: r.by.UserID(), Modified: r.as.Modified + int64(r.next),
		As: r.as.Hash, Deps: []peercrypto.Hash{r.as.Hash}, Dev: peercrypto.DeviceBody{Created: int64(r.next), Key: body.Key}.ID(),
		Op: entry.Add{UserID: id, User: body, Role: role},
	})
	must(r.t, err)
	return e
}

func bodyOf(e *entry.Entry) peercrypto.UserGenesis { return e.Op.(entry.Add).User }

// TestJoinedIDsAreBounded: a log with more users than are checked for one member is refused without being checked. What was checked once counts no more.
func TestJoinedIDsAreBounded(t *testing.T) {
	owner, member := newNode(t, 0), newNode(t, 2)
	g := owner.create("g")
	inv := owner.invite(g, groupsync.InviteOptions{})
	must(t, member.Join(t.Context(), inv))
	c := connect(t, owner, member)
	eventually(t, "the join", func() bool { return c.synced(g) })
	c.end()
	log := owner.logOf(g) // of its ids, that of the group counts
	create, err := entry.Decode(log[first(t, log, "create")])
	must(t, err)

	j := openNode(t, member.ident, newStore(), "user 2", func(c *groupsync.Config) { c.Limits.JoinIDs = 5 })
	must(t, j.Join(t.Context(), inv))
	events := j.Subscribe(t.Context())
	reg := register{t: t, by: owner.ident, as: create}
	answer := func(strangers int, want groupsync.RefusalCode) (checked int) {
		t.Helper()
		ops := slices.Clone(log)
		var bodies []peercrypto.UserGenesis
		for range strangers {
			e := reg.add(entry.Read)
			ops, bodies = append(ops, e.Raw), append(bodies, bodyOf(e))
		}
		talk, done := openDoor(t, j, owner.peer(), inv)
		talk.send(groupsync.Bulk, logFrame(g, 3, ops))
		if ev := nextEvent[groupsync.JoinFailed](t, events); ev.Code != want {
			t.Errorf("%+v", ev)
		}
		if <-done == nil {
			t.Error("the session went on")
		}
		for _, b := range bodies {
			if b.HasID() {
				checked++
			}
		}
		return checked
	}
	if n := answer(5, groupsync.RefusedBusy); n != 0 {
		t.Errorf("%d ids of a log that is too large were checked", n)
	}
	if n := answer(4, groupsync.RefusedFake); n == 0 {
		t.Error("a wrong id was found without looking at it")
	}
	wantNothing(t, j, g)
	j.clock.add(10 * time.Second)
	talk, _ := openDoor(t, j, owner.peer(), inv)
	talk.send(groupsync.Bulk, logFrame(g, 3, log))
	nextEvent[groupsync.GroupJoined](t, events)
}

// A watchedStore notices ids that are derived in a transaction, by whoever holds it.
type watchedStore struct {
	groupsync.Store
	t      testing.TB
	bodies []peercrypto.UserGenesis
	writes int
}

func (s *watchedStore) Update(ctx context.Context, fn func(groupsync.Tx) error) error {
	derived := func() (n int) {
		for _, b := range s.bodies {
			if b.HasID() {
				n++
			}
		}
		return n
	}
	return s.Store.Update(ctx, func(tx groupsync.Tx) error {
		before := derived()
		err := fn(tx)
		if after := derived(); after != before {
			s.t.Errorf("%d ids were derived in a transaction", after-before)
		}
		s.writes++
		return err
	})
}

// TestIDsAreNotDerivedByTheWriter: the ids in operations of an admin who is made in the same call, or for whom they waited, are checked outside of transactions.
func TestIDsAreNotDerivedByTheWriter(t *testing.T) {
	owner, first, second := newNode(t, 0), newNode(t, 1), newNode(t, 2)
	g := owner.create("g")
	log := owner.logOf(g)
	create, err := entry.Decode(log[0])
	must(t, err)
	store := &watchedStore{Store: storetest.NewMemory(), t: t}
	inv := owner.invite(g, groupsync.InviteOptions{})
	j := openNode(t, identity(t, 3), store, "user 3")
	must(t, j.Join(t.Context(), inv))
	c := connect(t, owner, j)
	eventually(t, "the join", func() bool { return c.synced(g) })
	c.end()

	owners := register{t: t, by: owner.ident, as: create}
	chain := func() (adds, ops []*entry.Entry) {
		made := owners.addOf(first.UserID(), first.ident.Genesis, entry.Admin)
		reg := register{t: t, by: first.ident, as: made}
		again := reg.addOf(second.UserID(), second.ident.Genesis, entry.Admin)
		deep := register{t: t, by: second.ident, as: again}
		adds = []*entry.Entry{reg.add(entry.Read), deep.add(entry.Admin), deep.add(entry.Read)}
		for _, e := range adds {
			store.bodies = append(store.bodies, bodyOf(e))
		}
		good := deep.addOf(owner.UserID(), owner.ident.Genesis, entry.Read)
		return adds, append([]*entry.Entry{made, again, good}, adds...)
	}
	wrong, ops := chain()
	res := j.ingest(owner, g, ops...)
	if res.Accepted != 1 || res.Deferred != 2 || res.Rejected != len(wrong) { // who did not accept adds nobody
		t.Errorf("%+v", res)
	}
	wrong, ops = chain()
	if res := j.ingest(owner, g, ops[1:]...); res.Deferred != 2+len(wrong) {
		t.Errorf("%+v", res)
	}
	if res := j.ingest(owner, g, ops[0]); res.Accepted != 1 || res.Rejected != 0 {
		t.Errorf("%+v", res)
	}
	for _, b := range store.bodies {
		if !b.HasID() {
			t.Error("an id was refused without being derived")
		}
	}
	if q, err := j.Quarantine(t.Context(), g, 0); err != nil || len(q) != 4 {
		t.Errorf("%d entries wait, %v", len(q), err)
	}
}
