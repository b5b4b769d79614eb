package sync_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/fold"
)

// fill stores n documents of about 300 bytes.
func fill(t testing.TB, n *node, group peercrypto.ID, count int) {
	t.Helper()
	for done := 0; done < count; {
		var docs []json.RawMessage
		for range min(1_000, count-done) {
			docs = append(docs, json.RawMessage(fmt.Sprintf(
				`{"type":"Row","number":%d,"text":"some text that makes the document a bit longer than the number alone would, %d"}`, done, done*7)))
			done++
		}
		res, err := n.PutMany(t.Context(), group, docs)
		must(t, err)
		for _, r := range res {
			must(t, r.Err)
		}
	}
}

func bulkSize() int {
	if testing.Short() || raceEnabled {
		return 3_000
	}
	return 20_000
}

func TestColdSync(t *testing.T) {
	a, b := newNode(t, 0), newNode(t, 1)
	g := a.create("bulk")
	fill(t, a, g, bulkSize())
	begin := time.Now()
	join(t, a, g, entry.Write, b)
	t.Logf("%d documents in %v", bulkSize(), time.Since(begin))
	if a.export(g) != b.export(g) {
		t.Fatal("exports differ")
	}
	if n := b.info(g); n.Quarantined != 0 {
		t.Fatalf("%d entries are left in quarantine", n.Quarantined)
	}
}

func TestEqualGroupsCostOneSmallMessage(t *testing.T) {
	a, b := newNode(t, 0), newNode(t, 1)
	g := a.create("bulk")
	fill(t, a, g, 1_000)
	join(t, a, g, entry.Write, b)
	c := syncPair(t, a, b, g)
	sa, sb := c.a.Status(), c.b.Status()
	c.end()
	if sa.FramesOut != 2 || sb.FramesOut != 2 { // HELLO, GROUPS
		t.Errorf("%d and %d frames for equal groups", sa.FramesOut, sb.FramesOut)
	}
	if n := sa.BytesOut + sb.BytesOut; n > 250 {
		t.Errorf("%d bytes for equal groups", n)
	}
	if sa.EntriesOut+sb.EntriesOut != 0 {
		t.Error("entries were sent")
	}
}

func TestTenDifferencesCost(t *testing.T) {
	a, b := newNode(t, 0), newNode(t, 1)
	g := a.create("bulk")
	fill(t, a, g, bulkSize())
	join(t, a, g, entry.Write, b)
	for i := range 5 {
		a.put(g, `{"type":"Row","new":%d}`, i)
		b.put(g, `{"type":"Row","new":%d}`, i)
	}
	c := syncPair(t, a, b, g)
	sa, sb := c.a.Status(), c.b.Status()
	c.end()
	if a.export(g) != b.export(g) {
		t.Fatal("exports differ")
	}
	bytes := sa.BytesOut + sb.BytesOut
	t.Logf("10 differences: %d bytes, %d frames, %d entries", bytes, sa.FramesOut+sb.FramesOut, sa.EntriesOut+sb.EntriesOut)
	if bytes > 20<<10 {
		t.Errorf("10 differences in %d cost %d bytes", bulkSize(), bytes)
	}
	if n := sa.EntriesOut + sb.EntriesOut; n != 10 {
		t.Errorf("%d entries were sent for 10 differences", n)
	}
}

func TestLivePushAndForwarding(t *testing.T) {
	a, b, c := newNode(t, 0), newNode(t, 1), newNode(t, 2)
	g := a.create("chain")
	join(t, a, g, entry.Write, b, c)
	syncPair(t, a, b, g).end()
	// A and C only meet B.
	ab, bc := syncPair(t, a, b, g), syncPair(t, b, c, g)
	for i := range 30 {
		d := a.put(g, `{"type":"Note","n":%d}`, i)
		eventually(t, "the document reaches C", func() bool {
			got, err := c.Get(t.Context(), g, d.Subject)
			return err == nil && string(got.JSON) == string(d.JSON)
		})
		d = c.put(g, `{"id":%q,"type":"Note","n":%d,"c":true}`, d.Subject, i)
		eventually(t, "the answer reaches A", func() bool {
			got, err := a.Get(t.Context(), g, d.Subject)
			return err == nil && string(got.JSON) == string(d.JSON)
		})
	}
	if n := ab.a.Status().EntriesIn; n != 30 {
		t.Errorf("A received %d entries for 30 of C", n)
	}
	ab.end()
	bc.end()
}

func TestMeshDoesNotRepeat(t *testing.T) {
	nodes := []*node{newNode(t, 0), newNode(t, 1), newNode(t, 2), newNode(t, 3)}
	a := nodes[0]
	g := a.create("mesh")
	join(t, a, g, entry.Write, nodes[1:]...)
	var all []*conversation
	for i := range nodes {
		for j := range i {
			all = append(all, syncPair(t, nodes[i], nodes[j], g))
		}
	}
	received := func() (n int64) {
		for _, c := range all {
			n += c.a.Status().EntriesIn + c.b.Status().EntriesIn
		}
		return n
	}
	before := received()
	for i := range 20 {
		d := a.put(g, `{"type":"Note","n":%d}`, i)
		for _, n := range nodes[1:] {
			eventually(t, "everybody has it", func() bool {
				_, err := n.Get(t.Context(), g, d.Subject)
				return err == nil
			})
		}
	}
	if n := received() - before; n > 120 {
		t.Errorf("%d entries were received for 20 of them at 3 nodes", n)
	}
}

func TestInterruptedSyncDoesNotRepeat(t *testing.T) {
	a, b := newNode(t, 0), newNode(t, 1)
	g := a.create("bulk")
	join(t, a, g, entry.Write, b)
	count := int64(9_000)
	if raceEnabled {
		count = 6_000
	}
	fill(t, a, g, int(count))
	var received, perEntry int64
	const breaks = 3
	for i := range breaks {
		c := connect(t, a, b)
		eventually(t, "some progress", func() bool { return b.info(g).Entries >= int64(i+1)*count/(breaks+1) })
		c.end()
		st := c.b.Status()
		received += st.EntriesIn
		if st.EntriesIn > 0 {
			perEntry = st.BytesIn / st.EntriesIn
		}
	}
	c := syncPair(t, a, b, g)
	c.end()
	received += c.b.Status().EntriesIn
	if a.export(g) != b.export(g) || b.info(g).Entries != count {
		t.Fatal("exports differ")
	}
	// What was on the way when a connection broke comes again: at most a window each time, and the frames around it.
	if most := count + breaks*(3<<20)/max(perEntry, 1); received > most {
		t.Errorf("%d entries received for %d, want at most %d", received, count, most)
	}
	t.Logf("%d entries received for %d", received, count)
}

func TestRemovedMemberStops(t *testing.T) {
	a, b, c := newNode(t, 0), newNode(t, 1), newNode(t, 2)
	g := a.create("g")
	join(t, a, g, entry.Write, b, c)
	syncPair(t, a, b, g).end()
	conv := syncPair(t, a, b, g)
	must(t, a.Remove(t.Context(), g, b.UserID(), "bye"))
	// Who was removed may be the first to hang up, which is no error.
	if err := <-conv.errA; err != nil && !errors.Is(err, groupsync.ErrNotAdmitted) {
		t.Fatalf("the session ended with %v", err)
	}
	secret := a.put(g, `{"type":"Note","secret":true}`)
	again := connect(t, a, b)
	wantErr(t, <-again.errB, groupsync.ErrNotAdmitted)
	<-again.errA
	if _, err := b.Get(t.Context(), g, secret.Subject); err == nil {
		t.Fatal("the removed member got a document")
	}
	// What B writes now, dated back to its own grant, does not count for those who know the removal.
	d := backDated(t, b, g)
	batch := [][]byte{d.Raw}
	res, err := a.Ingest(t.Context(), c.peer(), g, batch)
	must(t, err)
	if res.Deferred == 0 {
		t.Fatalf("%+v", res)
	}
	if _, err := a.Get(t.Context(), g, d.Subject); err == nil {
		t.Fatal("a removed member's write counts")
	}
	_, err = a.Ingest(t.Context(), b.peer(), g, batch)
	wantErr(t, err, groupsync.ErrNotAdmitted)
	if info := a.info(g); info.RotationDue || len(info.Members) != 2 {
		t.Fatalf("%+v", info)
	}
	// C, who got B's late write from B before it knew, drops it when it learns of the removal.
	must2(c.Ingest(t.Context(), b.peer(), g, batch))(t)
	if _, err := c.Get(t.Context(), g, d.Subject); err != nil {
		t.Fatal("it should count while the removal is not known")
	}
	syncPair(t, a, c, g).end()
	if _, err := c.Get(t.Context(), g, d.Subject); err == nil {
		t.Fatal("it still counts")
	}
	if a.export(g) != c.export(g) {
		t.Fatal("exports differ")
	}
}

// backDated signs a document under a member's grant as of the time of the grant.
func backDated(t testing.TB, n *node, g peercrypto.ID) *entry.Entry {
	t.Helper()
	grant := grantOf(t, n, g)
	subject := peercrypto.NewID(time.Now())
	value := fmt.Sprintf(`{"group":%q,"id":%q,"late":true,"type":"Note"}`, g, subject)
	e, err := entry.SignData(n.ident.User, entry.DataDraft{
		ID: peercrypto.NewID(time.Now()), Group: g, Subject: subject, Signer: n.UserID(), Modified: grant.Modified,
		As: grant.Hash, Dev: n.DeviceID() + ":x", Changes: []fold.Change{{Set: true, Value: json.RawMessage(value)}},
	})
	must(t, err)
	return e
}

// grantOf finds the add by which a user joined.
func grantOf(t testing.TB, n *node, g peercrypto.ID) *entry.Entry {
	t.Helper()
	for _, raw := range n.exportLog(g) {
		e, err := entry.Decode(raw)
		must(t, err)
		if op, ok := e.Op.(entry.Add); ok && op.UserID == n.UserID() {
			return e
		}
	}
	t.Fatal("no grant")
	return nil
}

func must2[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		must(t, err)
		return v
	}
}

func TestStrangerIsRefused(t *testing.T) {
	a, s := newNode(t, 0), newNode(t, 3)
	g := a.create("g")
	a.put(g, `{"type":"Note"}`)
	c := connect(t, a, s)
	wantErr(t, <-c.errA, groupsync.ErrNotAdmitted)
	// With an invitation open, strangers may knock; who knows ids only gets nothing.
	a.invite(g, groupsync.InviteOptions{})
	if a.Admits(s.UserID()) != groupsync.AdmitJoinOnly {
		t.Fatal(a.Admits(s.UserID()))
	}
	_, err := a.Ingest(t.Context(), s.peer(), g, nil)
	wantErr(t, err, groupsync.ErrNotAdmitted)
	pa, ps := newPipe()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- a.NewSession(s.peer(), pa).Run(ctx) }()
	talk := newRaw(t, ps)
	talk.hello()
	talk.expect(0x01)
	if got := talk.expect(0x02); len(got) != 2 || got[1] != 0 {
		t.Fatalf("a stranger was told groups: %x", got)
	}
	talk.send(groupsync.Control, append([]byte{0x08, 25}, append([]byte(g), 0)...))
	refused := talk.expect(0x09)
	unknown := peercrypto.NewID(time.Now())
	talk.send(groupsync.Control, append([]byte{0x08, 25}, append([]byte(unknown), 0)...))
	if other := talk.expect(0x09); string(refused[27:]) != string(other[27:]) {
		t.Fatalf("an oracle: %q and %q", refused[27:], other[27:])
	}
	cancel()
	<-done
}

func TestDeviceOfItsOwnUserGetsTheGroups(t *testing.T) {
	a := newNode(t, 0)
	g := a.create("mine")
	a.put(g, `{"type":"Note"}`)
	ident := a.ident
	key, err := peercrypto.GenerateSigningKey()
	must(t, err)
	ident.Device, ident.DeviceCreated = key, time.Now().UnixMilli()
	other := openNode(t, ident, newStore(), "user 0")
	c := connect(t, a, other)
	eventually(t, "the other device has it", func() bool { return c.synced(g) && other.export(g) == a.export(g) })
	other.put(g, `{"type":"Note","device":2}`)
	eventually(t, "the first device has it", func() bool { return other.export(g) == a.export(g) })
	c.end()
}

// TestRemovedMembersDataReachesNewcomers: what a removal's frontier keeps does not count before the end of the chain that it
// names is there, and there is more of it than fits into quarantine.
func TestRemovedMembersDataReachesNewcomers(t *testing.T) {
	a, b, c := newNode(t, 0), newNode(t, 1), newNode(t, 2)
	g := a.create("g")
	join(t, a, g, entry.Write, b)
	fill(t, b, g, 1_600)
	syncPair(t, a, b, g).end()
	must(t, a.Remove(t.Context(), g, b.UserID(), ""))
	if a.info(g).Documents != 1_600 {
		t.Fatal("the removal lost documents")
	}
	join(t, a, g, entry.Write, c)
	if info := c.info(g); info.Documents != 1_600 || info.Quarantined != 0 || a.export(g) != c.export(g) {
		t.Fatalf("%+v", info)
	}
}
