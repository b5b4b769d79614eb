package sync_test

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/keys"
	"github.com/peersignal/peersignal/pkg/sync/storetest"
)

// What test/sim found, each as small as it got.

// otherDevice is a second device of a node's user.
func otherDevice(t testing.TB, n *node, name string) *node {
	t.Helper()
	ident := n.ident
	key, err := peercrypto.GenerateSigningKey()
	must(t, err)
	ident.Device, ident.DeviceCreated = key, time.Now().UnixMilli()
	return openNode(t, ident, storetest.NewMemory(), name)
}

// TestReadmittedElsewhere: somebody who was removed is admitted again on another device. The first one joins again when they meet; before
// that it only tells of the removal.
func TestReadmittedElsewhere(t *testing.T) {
	owner, first := newNode(t, 0), newNode(t, 1)
	second := otherDevice(t, first, "second")
	g := owner.create("g")
	must(t, first.Join(t.Context(), owner.invite(g, groupsync.InviteOptions{Uses: 3})))
	syncPair(t, owner, first, g).end()
	syncPair(t, first, second, g).end()
	c := syncPair(t, owner, first, g)
	must(t, owner.Remove(t.Context(), g, first.UserID(), ""))
	eventually(t, "the first device knows", func() bool { return !first.info(g).Joined })
	c.end()

	// The second one does not know yet and says that it is in the group.
	c = connect(t, first, second)
	eventually(t, "the second device knows", func() bool { return !second.info(g).Joined })
	if first.info(g).Joined {
		t.Fatal("joined by a log without a new grant")
	}
	c.end()

	must(t, second.Join(t.Context(), owner.invite(g, groupsync.InviteOptions{})))
	syncPair(t, owner, second, g).end()
	syncPair(t, first, second, g).end()
	owner.put(g, `{"type":"Note"}`)
	syncPair(t, owner, first, g).end()
}

// TestJoinWithClockBehind: an admission that lies ahead of the joiner's clock is no fake. The join says what is wrong and works later.
func TestJoinWithClockBehind(t *testing.T) {
	owner, joiner := newNode(t, 0), newNode(t, 1)
	g := owner.create("g")
	inv := owner.invite(g, groupsync.InviteOptions{})
	joiner.clock.add(-3 * time.Minute)
	must(t, joiner.Join(t.Context(), inv))
	events := joiner.Subscribe(t.Context())
	c := connect(t, owner, joiner)
	if ev := nextEvent[groupsync.JoinFailed](t, events); ev.Code != groupsync.RefusedClock || ev.Final {
		t.Fatalf("%+v", ev)
	}
	wantErr(t, <-c.errB, groupsync.ErrClock)
	c.cancel()
	joiner.clock.add(3 * time.Minute)
	syncPair(t, owner, joiner, g).end()
}

// TestJoinAgainBeforeTheLeaveIsKnown: who left and joins again meets a member who has not heard of the leave and shows a log without
// a new grant. That is no fake: the leave is told first, then the join is repeated in the same session.
func TestJoinAgainBeforeTheLeaveIsKnown(t *testing.T) {
	owner, member := newNode(t, 0), newNode(t, 1)
	g := owner.create("g")
	inv := owner.invite(g, groupsync.InviteOptions{Uses: 2})
	must(t, member.Join(t.Context(), inv))
	syncPair(t, owner, member, g).end()
	must(t, member.Leave(t.Context(), g))
	must(t, member.Join(t.Context(), inv))
	syncPair(t, owner, member, g).end()
	if n := len(owner.info(g).Members); n != 2 {
		t.Fatalf("%d members", n)
	}
}

// TestAcceptAfterWithdrawal: somebody accepts an offer that was taken back meanwhile, and is told.
func TestAcceptAfterWithdrawal(t *testing.T) {
	owner, guest := newNode(t, 0), newNode(t, 1)
	common, g := owner.create("common"), owner.create("g")
	join(t, owner, common, entry.Write, guest)
	must(t, owner.AddMember(t.Context(), g, guest.ident.Genesis, entry.Write))
	events := guest.Subscribe(t.Context())
	c := connect(t, owner, guest)
	nextEvent[groupsync.GroupOffered](t, events)
	c.end()
	must(t, owner.Remove(t.Context(), g, guest.UserID(), "a mistake"))
	must(t, guest.Accept(t.Context(), g))
	c = connect(t, owner, guest)
	if ev := nextEvent[groupsync.RemovedFromGroup](t, events); ev.Group != g || ev.Reason != "a mistake" {
		t.Fatalf("%+v", ev)
	}
	c.end()
}

// TestLeaveToldByAnotherDevice: a leave is told by each device of who left, not only by the one that wrote it.
func TestLeaveToldByAnotherDevice(t *testing.T) {
	owner, first := newNode(t, 0), newNode(t, 1)
	second := otherDevice(t, first, "second")
	common, g := owner.create("common"), owner.create("g")
	join(t, owner, common, entry.Write, first)
	join(t, owner, g, entry.Write, first)
	syncPair(t, first, second, g).end()
	must(t, first.Leave(t.Context(), g))
	c := connect(t, first, second)
	eventually(t, "the second device knows", func() bool { return !second.info(g).Joined })
	c.end()
	c = connect(t, second, owner)
	eventually(t, "the owner knows", func() bool { return len(owner.info(g).Members) == 1 })
	c.end()
}

// TestDeletionIsToldLater: who was away when the group was deleted still finds somebody who knows.
func TestDeletionIsToldLater(t *testing.T) {
	owner, member := newNode(t, 0), newNode(t, 1)
	g := owner.create("g")
	join(t, owner, g, entry.Write, member)
	must(t, owner.DeleteGroup(t.Context(), g))
	topics := func(n *node) (list []groupsync.Rendezvous) {
		return slices.DeleteFunc(n.Rendezvous(), func(r groupsync.Rendezvous) bool { return r.Group != g || r.Invite != nil })
	}
	if a, b := topics(owner), topics(member); len(a) != 1 || len(b) != 1 || a[0].Key != b[0].Key {
		t.Fatalf("they do not meet: %v, %v", a, b)
	}
	c := connect(t, owner, member)
	eventually(t, "the member knows", func() bool { return member.info(g).GroupDeleted })
	c.end()
	for _, n := range []*node{owner, member} {
		n.clock.add(31 * 24 * time.Hour)
		if len(topics(n)) != 0 {
			t.Error("the topic is kept for ever")
		}
	}
}

// TestVoidChangesThatALeaveNames: the owner removed a member before hearing of what they wrote and of their leave. None of that counts; but
// the leave names the last change, so that all of the chain is kept, in whatever order it comes.
func TestVoidChangesThatALeaveNames(t *testing.T) {
	for _, order := range [][][]int{{{0}, {1, 2}}, {{0, 1}, {2}}, {{2}, {0}, {1}}, {{2}, {1}, {0}}, {{0, 1, 2}}, {{0}, {2}, {1}}} {
		owner, member, other := newNode(t, 0), newNode(t, 1), newNode(t, 2)
		g := owner.create("g")
		join(t, owner, g, entry.Write, member, other)
		member.put(g, `{"type":"Note"}`)
		member.put(g, `{"type":"Note"}`)
		must(t, member.Leave(t.Context(), g))
		must(t, owner.Remove(t.Context(), g, member.UserID(), ""))
		var entries []*entry.Entry
		for _, raw := range member.exportLog(g) {
			e, err := entry.Decode(raw)
			must(t, err)
			if e.Kind == entry.Data || e.Op.Kind() == entry.KindLeave {
				entries = append(entries, e)
			}
		}
		slices.SortFunc(entries, func(a, b *entry.Entry) int { return cmp.Or(-cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Seq, b.Seq)) })
		if len(entries) != 3 || entries[2].Kind != entry.Operation {
			t.Fatalf("%d entries", len(entries))
		}
		for _, batch := range order {
			var list []*entry.Entry
			for _, i := range batch {
				list = append(list, entries[i])
			}
			owner.ingest(other, g, list...)
		}
		must(t, owner.store.View(t.Context(), func(r groupsync.Reader) error {
			for i, e := range entries {
				rec, ok, err := r.Record(e.Hash)
				if err != nil || !ok || rec.Valid || rec.Shared {
					t.Errorf("order %v: entry %d: stored %v, counts %v, shared %v: %v", order, i, ok, rec.Valid, rec.Shared, err)
				}
			}
			return nil
		}))
		if info := owner.info(g); info.Quarantined != 0 {
			t.Errorf("order %v: %d wait", order, info.Quarantined)
		}
	}
}

// TestKeyThatCameVoidsNothing: a device that was away gets the new key and does not know yet what the first one wrote before the rotation. It
// waits for that instead of setting the key by what it holds.
func TestKeyThatCameVoidsNothing(t *testing.T) {
	own, other, g := devices(t, 2)
	first, away := own[0], own[1]
	doc := first.put(g, `{"type":"Note"}`)
	must(t, first.RotateKey(t.Context(), keys.Rotated, nil))
	first.again()
	syncPair(t, first, other, g).end()
	meet(t, first, away, "the key comes", away.IdentityReplaced)
	away.again()
	away.reopen()
	syncPair(t, away, other, g).end()
	syncPair(t, first, other, g).end()
	for _, n := range []*node{first, away, other} {
		_, err := n.Get(t.Context(), g, doc.Subject)
		must(t, err)
	}
	away.put(g, `{"type":"Note"}`)
}

// TestKeyThatCameIsSetAlone: when no device of the user comes back, a member who holds the same is enough after a while.
func TestKeyThatCameIsSetAlone(t *testing.T) {
	own, other, g := devices(t, 2)
	first, away := own[0], own[1]
	must(t, first.RotateKey(t.Context(), keys.Rotated, nil))
	first.again()
	meet(t, first, away, "the key comes", away.IdentityReplaced)
	away.again()
	syncPair(t, away, other, g).end()
	wantErr(t, away.Rename(t.Context(), g, "early"), groupsync.ErrKeyPending)
	for _, n := range []*node{away, other} {
		n.clock.add(time.Hour)
		n.again()
	}
	c := connect(t, away, other)
	eventually(t, "the new key is set", func() bool { return away.Rename(t.Context(), g, "late") == nil })
	c.end()
	syncPair(t, away, other, g).end()
}

// TestDeleteWithNewKey: an owner deletes a group with a key that is not the one with which it was made.
func TestDeleteWithNewKey(t *testing.T) {
	owner, member := newNode(t, 0), newNode(t, 1)
	g := owner.create("g")
	join(t, owner, g, entry.Write, member)
	must(t, owner.RotateKey(t.Context(), keys.Rotated, nil))
	owner.again()
	must(t, owner.DeleteGroup(t.Context(), g))
	c := connect(t, owner, member)
	eventually(t, "the member knows", func() bool { return member.info(g).GroupDeleted })
	c.end()
}

// TestAddedWithNewKey: who has another key than the first one can be added, and who gets one before accepting can be added again.
func TestAddedWithNewKey(t *testing.T) {
	owner, guest := newNode(t, 0), newNode(t, 1)
	common, first, second := owner.create("common"), owner.create("first"), owner.create("second")
	join(t, owner, common, entry.Write, guest)
	add := func(g peercrypto.ID) {
		t.Helper()
		must(t, owner.AddMember(t.Context(), g, guest.ident.Genesis, entry.Write))
		events := guest.Subscribe(t.Context())
		c := connect(t, owner, guest)
		nextEvent[groupsync.GroupOffered](t, events)
		c.end()
	}
	rotate := func() {
		t.Helper()
		must(t, guest.RotateKey(t.Context(), keys.Rotated, nil))
		guest.again()
		syncPair(t, owner, guest, common).end()
	}
	rotate()
	add(first)
	must(t, guest.Accept(t.Context(), first))
	syncPair(t, owner, guest, first).end()
	add(second)
	wantErr(t, owner.AddMember(t.Context(), second, guest.ident.Genesis, entry.Write), groupsync.ErrLimit)
	rotate()
	wantErr(t, guest.Accept(t.Context(), second), groupsync.ErrKeyPending)
	must(t, owner.AddMember(t.Context(), second, guest.ident.Genesis, entry.Write))
	c := connect(t, owner, guest)
	eventually(t, "the new offer comes", func() bool { return guest.Accept(t.Context(), second) == nil })
	c.end()
	guest.put(second, `{"type":"Note"}`)
	syncPair(t, owner, guest, second).end()
}

// TestDeviceAddedAgain: a device whose welcome was lost gets another one.
func TestDeviceAddedAgain(t *testing.T) {
	own, _ := recovering(t)
	id, r := newDevice(t, own.card())
	_, err := own.AddDevice(t.Context(), r)
	must(t, err)
	r, err = groupsync.NewDeviceRequest(id, own.card(), time.Now())
	must(t, err)
	w, err := own.AddDevice(t.Context(), r)
	must(t, err)
	if id, err = w.Accept(id); err != nil || id.User.Public() != own.key() {
		t.Error(err)
	}
}

// TestAdmitTooLate: a claim that was used meanwhile is no request any more.
func TestAdmitTooLate(t *testing.T) {
	owner, admin, joiner := newNode(t, 0), newNode(t, 1), newNode(t, 2)
	g := owner.create("g")
	join(t, owner, g, entry.Admin, admin)
	inv := owner.invite(g, groupsync.InviteOptions{Manual: true})
	syncPair(t, owner, admin, g).end()
	must(t, joiner.Join(t.Context(), inv))
	events := joiner.Subscribe(t.Context())
	c := connect(t, owner, joiner)
	nextEvent[groupsync.JoinFailed](t, events)
	c.end()
	syncPair(t, admin, joiner, g).end()
	syncPair(t, admin, owner, g).end()
	wantErr(t, owner.Admit(t.Context(), g, joiner.UserID()), groupsync.ErrInvitation)
	if list, err := owner.JoinRequests(t.Context()); err != nil || len(list) > 0 {
		t.Errorf("%v %v", list, err)
	}
}

// waiting makes a device that got its user's key from the other one, in a group of that user alone, and waits for what the other one holds.
func waiting(t testing.TB) (*node, peercrypto.ID, peercrypto.Recovery) {
	t.Helper()
	first, secret := recovering(t)
	g := first.create("mine")
	second := first.addDevice()
	syncPair(t, first, second, g).end()
	must(t, first.RotateKey(t.Context(), keys.Rotated, nil))
	first.again()
	meet(t, first, second, "the key comes", second.IdentityReplaced)
	second.again()
	wantErr(t, second.Rename(t.Context(), g, "early"), groupsync.ErrKeyPending)
	return second, g, secret
}

// TestKeyThatCameToWhoIsAlone: in a group without other members nobody is waited for in vain.
func TestKeyThatCameToWhoIsAlone(t *testing.T) {
	second, g, _ := waiting(t)
	second.clock.add(time.Hour)
	second.again()
	must(t, second.Rename(t.Context(), g, "late"))
}

// TestWordsDoNotWait: a device that waits for another one sets its key by the words at once, with what it holds.
func TestWordsDoNotWait(t *testing.T) {
	second, g, secret := waiting(t)
	k, err := second.UserKeys(t.Context(), second.UserID())
	must(t, err)
	next := newKey(t)
	e, err := keys.Recover(secret, k.History.State, next, keys.Lost, second.clock.Now().UnixMilli())
	must(t, err)
	second.cfg.Identity = withKey(t, second.Identity(), next, e)
	second.reopen()
	must(t, second.Rename(t.Context(), g, "late"))
}

// TestMembershipAndItsEndCommitTogether: a device that was away gets in one frame that an admin was added, whom that admin added, and that the
// admin was removed. It counts nobody as a member in between, whom it would tell of the group.
func TestMembershipAndItsEndCommitTogether(t *testing.T) {
	owner, away, admin, guest := newNode(t, 0), newNode(t, 1), newNode(t, 2), newNode(t, 3)
	g := owner.create("g")
	join(t, owner, g, entry.Write, away)
	known := len(away.exportLog(g))
	join(t, owner, g, entry.Write, admin)
	must(t, owner.SetRole(t.Context(), g, admin.UserID(), entry.Admin))
	syncPair(t, owner, admin, g).end()
	join(t, admin, g, entry.Write, guest)
	syncPair(t, owner, admin, g).end()
	must(t, owner.Remove(t.Context(), g, admin.UserID(), ""))
	var list []*entry.Entry
	for _, raw := range owner.exportLog(g) {
		e, err := entry.Decode(raw)
		must(t, err)
		list = append(list, e)
	}
	events := away.Subscribe(t.Context())
	if res := away.ingest(owner, g, list...); res.Accepted != len(list)-known || res.Deferred+res.Rejected > 0 {
		t.Fatalf("%+v", res)
	}
	commits := 0
	for entries := 0; entries < len(list)-known; commits++ {
		entries += nextEvent[groupsync.Committed](t, events).Entries
	}
	if commits != 1 {
		t.Errorf("%d commits", commits)
	}
}

// TestWatchersSeeWhatBecomesVoid: a document of a member whom the owner removed before hearing of it goes away, for those who watch, too. It can be
// written anew.
func TestWatchersSeeWhatBecomesVoid(t *testing.T) {
	owner, member, other := newNode(t, 0), newNode(t, 1), newNode(t, 2)
	g := owner.create("g")
	join(t, owner, g, entry.Write, member, other)
	syncPair(t, owner, member, g).end()
	doc := member.put(g, `{"type":"Note"}`)
	syncPair(t, member, other, g).end()
	seen := make(chan groupsync.Change, 8)
	go func() {
		_ = other.WatchQuery(t.Context(), groupsync.DocumentQuery{Group: g, Type: "Note"}, func(c groupsync.Change) error {
			seen <- c
			return nil
		})
	}()
	for _, kind := range []groupsync.ChangeKind{groupsync.Added, groupsync.Ready} {
		if c := <-seen; c.Kind != kind {
			t.Fatalf("%+v", c)
		}
	}
	must(t, owner.Remove(t.Context(), g, member.UserID(), ""))
	syncPair(t, owner, other, g).end()
	if c := <-seen; c.Kind != groupsync.Removed || c.Document.Subject != doc.Subject {
		t.Fatalf("%+v", c)
	}
	if _, err := other.Get(t.Context(), g, doc.Subject); !errors.Is(err, groupsync.ErrNotFound) {
		t.Fatal(err)
	}
	owner.put(g, `{"id":%q,"type":"Note","again":true}`, doc.Subject)
	syncPair(t, owner, other, g).end()
	if c := <-seen; c.Kind != groupsync.Added || c.Document.Subject != doc.Subject {
		t.Fatalf("%+v", c)
	}
	if a, b := owner.export(g), other.export(g); a != b || !strings.Contains(a, "again") {
		t.Errorf("%s\n%s", a, b)
	}
}
