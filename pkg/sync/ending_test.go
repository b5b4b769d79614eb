package sync_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// keysOf counts the rendezvous keys that a node holds of a group.
func (n *node) keysOf(g peercrypto.ID) (keys int) {
	n.t.Helper()
	for _, raw := range n.exportLog(g) {
		e, err := entry.Decode(raw)
		must(n.t, err)
		if _, ok := e.Op.(entry.RVKey); ok {
			keys++
		}
	}
	return keys
}

// topics counts where a node wants to be met because of a group.
func (n *node) topics(g peercrypto.ID) (topics int) {
	for _, r := range n.Rendezvous() {
		if r.Group == g {
			topics++
		}
	}
	return topics
}

// wantRemoved checks that a node knows who removed it and why.
func wantRemoved(t testing.TB, n *node, g peercrypto.ID, by *node, reason string) {
	t.Helper()
	info := n.info(g)
	if info.Joined || !info.Left || info.Role != "" || info.Removed == nil {
		t.Fatalf("%+v", info)
	}
	r := *info.Removed
	if r.By != by.UserID() || r.Reason != reason || r.Name == "" || r.At.IsZero() {
		t.Fatalf("removed by %+v", r)
	}
	if n.topics(g) != 0 {
		t.Fatal("it still looks for the group's members")
	}
	_, err := n.Put(t.Context(), g, []byte(`{"type":"Note"}`))
	wantErr(t, err, groupsync.ErrNotMember)
}

func TestRemovedMemberIsTold(t *testing.T) {
	a, b, c := newNode(t, 0), newNode(t, 1), newNode(t, 2)
	g := a.create("g")
	join(t, a, g, entry.Write, b, c)
	conv := syncPair(t, a, b, g)
	// What B can't have yet and what the removal builds on comes with it.
	must(t, a.Rename(t.Context(), g, "renamed"))
	events := b.Subscribe(t.Context())
	must(t, a.Remove(t.Context(), g, b.UserID(), "they moved away"))
	ev := nextEvent[groupsync.RemovedFromGroup](t, events)
	if ev.Group != g || ev.By != a.UserID() || ev.Reason != "they moved away" {
		t.Fatalf("%+v", ev)
	}
	// Who notices first that nothing is shared ends it, which is in order for the other.
	if err := <-conv.errA; err != nil {
		wantErr(t, err, groupsync.ErrNotAdmitted)
	}
	<-conv.errB
	wantRemoved(t, b, g, a, "they moved away")
	if a.keysOf(g) != 2 || b.keysOf(g) != 1 {
		t.Fatalf("the owner holds %d keys, who was removed %d", a.keysOf(g), b.keysOf(g))
	}
	if q := b.info(g).Quarantined; q != 0 {
		t.Fatalf("%d entries can't be judged", q)
	}
	b.reopen()
	wantRemoved(t, b, g, a, "they moved away")
	if a.info(g).Removed != nil || c.info(g).Removed != nil {
		t.Fatal("others think that they were removed")
	}
	must(t, b.Purge(t.Context(), g))
}

// TestRemovedMemberOfAnotherGroup: the session goes on for what is still shared, and shows nothing else.
func TestRemovedMemberOfAnotherGroup(t *testing.T) {
	for _, connected := range []bool{true, false} {
		a, b := newNode(t, 0), newNode(t, 1)
		g, other := a.create("g"), a.create("other")
		join(t, a, g, entry.Write, b)
		join(t, a, other, entry.Write, b)
		var conv *conversation
		if connected {
			conv = syncPair(t, a, b, g)
		}
		must(t, a.Remove(t.Context(), g, b.UserID(), ""))
		if !connected {
			conv = connect(t, a, b) // told when they meet for another reason
		}
		eventually(t, "it is told", func() bool { return b.info(g).Removed != nil })
		wantRemoved(t, b, g, a, "")
		eventually(t, "the status shows what is shared", func() bool {
			s := conv.a.Status().Groups
			return len(s) == 1 && s[0].Group == other && s[0].Synced
		})
		d := b.put(other, `{"type":"Note"}`)
		eventually(t, "the other group is synced", func() bool {
			_, err := a.Get(t.Context(), other, d.Subject)
			return err == nil
		})
		if b.keysOf(g) != 1 {
			t.Fatal("it got the new key")
		}
		conv.end()
	}
}

// TestRemovedMemberIsToldByOthers: also a member who did not remove anybody tells it; and who joined by somebody who was removed before the
// remover knew of the join is out, too.
func TestRemovedMemberIsToldByOthers(t *testing.T) {
	a, b, c, d := newNode(t, 0), newNode(t, 1), newNode(t, 2), newNode(t, 3)
	g := a.create("g")
	join(t, a, g, entry.Write, b)
	join(t, a, g, entry.Admin, c)
	syncPair(t, a, b, g).end()
	bc := syncPair(t, b, c, g)
	must(t, a.Remove(t.Context(), g, b.UserID(), "bye"))
	ac := connect(t, a, c)
	eventually(t, "B is told by C", func() bool { return b.info(g).Removed != nil })
	<-bc.errB
	<-bc.errA
	wantRemoved(t, b, g, a, "bye")
	ac.end()
	if b.keysOf(g) != 1 {
		t.Fatal("it got the new key")
	}

	join(t, c, g, entry.Write, d) // A does not know
	cd := syncPair(t, c, d, g)
	must(t, a.Remove(t.Context(), g, c.UserID(), "both of you"))
	a.put(g, `{"type":"Note"}`)
	keys := d.keysOf(g)
	ac = connect(t, a, c)
	// A removed C before C's admission of D was known, so D never counted for A, and only C can tell.
	eventually(t, "C is told by A, D by C", func() bool { return c.info(g).Removed != nil && d.info(g).Removed != nil })
	ac.end()
	cd.end()
	if r := d.info(g).Removed; r.By != a.UserID() || r.Reason != "" {
		t.Fatalf("%+v", r)
	}
	if d.keysOf(g) != keys || c.keysOf(g) != keys {
		t.Fatal("they got the new key")
	}
}

func TestLeaveIsToldLater(t *testing.T) {
	a, b, c := newNode(t, 0), newNode(t, 1), newNode(t, 2)
	g := a.create("g")
	join(t, a, g, entry.Admin, b)
	join(t, a, g, entry.Write, c)
	syncPair(t, a, b, g).end()
	b.invite(g, groupsync.InviteOptions{}) // an operation that only B has: the leave builds on it
	must(t, b.Leave(t.Context(), g))
	if !b.info(g).Untold || b.topics(g) != 1 || b.Admits(a.UserID()) != groupsync.AdmitMember {
		t.Fatalf("%+v, %d topics", b.info(g), b.topics(g))
	}
	b.reopen()
	if !b.info(g).Untold || b.topics(g) != 1 {
		t.Fatal("it forgot that nobody knows")
	}
	// Who does not count B as a member yet can't take the leave.
	ctx, cancel := context.WithCancel(t.Context())
	pa, pb := newPipe()
	done := make(chan error, 1)
	go func() { done <- b.NewSession(c.peer(), pb).Run(ctx) }()
	talk := newRaw(t, pa)
	talk.hello()
	talk.expect(0x02)
	cancel()
	<-done
	if !b.info(g).Untold {
		t.Fatal("nobody acknowledged the leave")
	}
	conv := connect(t, a, b)
	<-conv.errA
	<-conv.errB
	if info := a.info(g); len(info.Members) != 2 || info.Quarantined != 0 {
		t.Fatalf("%+v", info)
	}
	if info := b.info(g); info.Untold || !info.Left || info.Removed != nil || b.topics(g) != 0 {
		t.Fatalf("%+v, %d topics", info, b.topics(g))
	}
	if b.Admits(c.UserID()) != groupsync.AdmitNone {
		t.Fatal("it still wants to meet members")
	}
	b.reopen()
	if b.info(g).Untold {
		t.Fatal("it forgot that somebody knows")
	}
}

func TestLeaveIsNotToldForEver(t *testing.T) {
	identity(t, 1)
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(25 * 365 * 24 * time.Hour) // the bubble begins before the first valid date
		_, b, g := pair(t)
		must(t, b.Leave(t.Context(), g))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.Run(ctx) }()
		events := b.Subscribe(ctx)
		b.clock.add(30*24*time.Hour - time.Minute)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if b.topics(g) != 1 {
			t.Fatal("it gave up too early")
		}
		time.Sleep(time.Minute)
		nextEvent[groupsync.RendezvousChanged](t, events)
		if b.info(g).Untold || b.topics(g) != 0 {
			t.Fatalf("%+v", b.info(g))
		}
		cancel()
		<-done
	})
}

// TestSecondLeave: while B leaves, the owner makes B an admin. The new grant is senior to the one under which B left, so it stands, until B's device
// learns of it and leaves again.
func TestSecondLeave(t *testing.T) {
	a, b := newNode(t, 0), newNode(t, 1)
	g := a.create("g")
	join(t, a, g, entry.Write, b)
	must(t, b.Leave(t.Context(), g))
	must(t, a.SetRole(t.Context(), g, b.UserID(), entry.Admin))
	d := a.put(g, `{"type":"Note"}`)
	conv := connect(t, a, b)
	eventually(t, "the owner knows", func() bool { return len(a.info(g).Members) == 1 })
	<-conv.errA
	<-conv.errB
	var role, left peercrypto.Hash
	for _, raw := range a.exportLog(g) {
		e, err := entry.Decode(raw)
		must(t, err)
		switch e.Op.(type) {
		case entry.RoleChange:
			role = e.Hash
		case entry.Leave: // the first one does not count: who wrote the role did not know of it
			left = e.As
		}
	}
	if role.IsZero() || left != role {
		t.Fatalf("the leave that counts is under %v, not %v", left, role)
	}
	if info := b.info(g); info.Joined || !info.Left || info.Untold || info.Role != "" {
		t.Fatalf("%+v", info)
	}
	if _, err := b.Get(t.Context(), g, d.Subject); err == nil {
		t.Fatal("who left got a document")
	}
}

// TestOwnDeviceLearnsOfTheEnd: devices of one user tell each other that a membership ended.
func TestOwnDeviceLearnsOfTheEnd(t *testing.T) {
	for _, leave := range []bool{true, false} {
		a, b := newNode(t, 0), newNode(t, 1)
		g := a.create("g")
		join(t, a, g, entry.Write, b)
		ident := b.ident
		key, err := peercrypto.GenerateSigningKey()
		must(t, err)
		ident.Device, ident.DeviceCreated = key, time.Now().UnixMilli()
		other := openNode(t, ident, newStore(), "user 1")
		syncPair(t, b, other, g).end()
		if leave {
			must(t, b.Leave(t.Context(), g))
		} else {
			conv := syncPair(t, a, b, g)
			must(t, a.Remove(t.Context(), g, b.UserID(), "bye"))
			<-conv.errA
			<-conv.errB
		}
		conv := connect(t, b, other)
		eventually(t, "the other device knows", func() bool { return other.info(g).Left })
		conv.end()
		if removed := other.info(g).Removed != nil; removed == leave {
			t.Fatalf("%+v", other.info(g))
		}
		if leave != b.info(g).Untold {
			t.Fatal("the own device is no other member")
		}
	}
}

// TestRemovedMemberWhoKeepsAsking: who pretends not to know gets the removal and what it builds on, and nothing newer.
func TestRemovedMemberWhoKeepsAsking(t *testing.T) {
	a, b, g := pair(t)
	must(t, a.Remove(t.Context(), g, b.UserID(), "bye"))
	secret := a.put(g, `{"type":"Note","secret":true}`)
	var newest *entry.Entry
	for _, raw := range a.exportLog(g) {
		e, err := entry.Decode(raw)
		must(t, err)
		if e.Subject == secret.Subject {
			newest = e
		}
	}
	pa, pb := newPipe()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- a.NewSession(b.peer(), pa).Run(ctx) }()
	talk := newRaw(t, pb)
	talk.hello()
	talk.expect(0x02)
	id := append([]byte{25}, g...)
	talk.send(groupsync.Control, slices.Concat([]byte{0x06}, id, []byte{1}, newest.Hash[:]))         // WANT
	talk.send(groupsync.Control, slices.Concat([]byte{0x08}, id, []byte{0}))                         // JOIN
	talk.send(groupsync.Control, slices.Concat([]byte{0x02, 1}, id, []byte{1, 3}, make([]byte, 33))) // GROUPS
	talk.send(groupsync.Control, slices.Concat([]byte{0x06}, id, []byte{1}, newest.Hash[:]))         // WANT
	got := talk.expect(0x10)
	if !bytes.Contains(got, []byte(`"reason":"bye"`)) || bytes.Contains(got, []byte(`"epoch":1`)) || bytes.Contains(got, []byte(secret.Subject)) {
		t.Fatalf("%s", got)
	}
	talk.send(groupsync.Control, binary.AppendUvarint([]byte{0x04}, uint64(max(len(got), 1<<10)))) // ACK
	wantErr(t, <-done, groupsync.ErrNotAdmitted)
	for {
		lane, f, err := pb.Recv(t.Context())
		if err != nil {
			break
		}
		if lane == groupsync.Bulk || f[0] != 0x09 && f[0] != 0x02 { // REFUSED
			t.Fatalf("%x", f)
		}
	}
}
