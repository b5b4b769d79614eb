package sync_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/fold"
)

// A pen signs entries of a member by hand.
type pen struct {
	t     testing.TB
	n     *node
	group peercrypto.ID
	grant *entry.Entry
	seq   int64
	prev  peercrypto.Hash
}

func newPen(t testing.TB, n *node, group peercrypto.ID) *pen {
	return &pen{t: t, n: n, group: group, grant: grantOf(t, n, group)}
}

// write signs the next change of a chain; change may alter the draft before.
func (p *pen) write(change func(*entry.DataDraft)) *entry.Entry {
	p.t.Helper()
	subject := peercrypto.NewID(time.Now())
	d := entry.DataDraft{
		ID: peercrypto.NewID(time.Now()), Group: p.group, Subject: subject, Signer: p.n.UserID(),
		Modified: max(time.Now().UnixMilli(), p.grant.Modified), As: p.grant.Hash, Seq: p.seq, Prev: p.prev,
		Changes: []fold.Change{{Set: true, Value: json.RawMessage(fmt.Sprintf(`{"group":%q,"id":%q,"type":"Note"}`, p.group, subject))}},
	}
	if p.seq == 0 {
		d.Dev = p.n.DeviceID() + ":pen"
	}
	if change != nil {
		change(&d)
	}
	e, err := entry.SignData(p.n.ident.User, d)
	must(p.t, err)
	p.seq, p.prev = p.seq+1, e.Hash
	return e
}

func (n *node) ingest(from *node, group peercrypto.ID, entries ...*entry.Entry) groupsync.IngestResult {
	n.t.Helper()
	var raws [][]byte
	for _, e := range entries {
		raws = append(raws, bytes.Clone(e.Raw))
	}
	res, err := n.Ingest(n.t.Context(), from.peer(), group, raws)
	must(n.t, err)
	return res
}

func pair(t testing.TB) (a, b *node, g peercrypto.ID) {
	t.Helper()
	a, b = newNode(t, 0), newNode(t, 1)
	g = a.create("g")
	join(t, a, g, entry.Write, b)
	return a, b, g
}

func TestIngestRefusals(t *testing.T) {
	a, b, g := pair(t)
	other := a.create("other")
	p := newPen(t, b, g)
	good := p.write(nil)

	wrong := bytes.Replace(good.Raw, []byte(`"signature":"`), []byte(`"signature":"AAAA`), 1)
	i := bytes.Index(wrong, []byte("AAAA"))
	wrong = slices.Delete(wrong, i+4+80, i+4+84)
	foreign := newPen(t, b, g).write(func(d *entry.DataDraft) { d.Group = other; d.Changes = nil; d.SubjectDeleted = true })
	signedByOther := func() []byte {
		d := newPen(t, b, g)
		d.n = &node{Engine: b.Engine, ident: identity(t, 5), t: t}
		return d.write(nil).Raw
	}()
	for name, raw := range map[string][]byte{
		"empty":           {},
		"no JSON":         []byte("hello"),
		"not canonical":   append([]byte(" "), good.Raw...),
		"wrong signature": wrong,
		"of other group":  foreign.Raw,
		"of other key":    signedByOther,
		"oversized":       []byte(`{"a":"` + strings.Repeat("x", 1<<20) + `"}`),
	} {
		res, err := a.Ingest(t.Context(), b.peer(), g, [][]byte{raw})
		must(t, err)
		if res.Rejected != 1 || len(res.Errors) != 1 || res.Errors[0].Err == nil {
			t.Errorf("%s: %+v", name, res)
		}
	}
	if u := a.info(g); u.Quarantined != 0 || u.Entries != 0 {
		t.Fatalf("%+v", u)
	}
	// A twin with a broken signature shadows nothing.
	if res := a.ingest(b, g, good); res.Accepted != 1 {
		t.Fatalf("%+v", res)
	}
	if res := a.ingest(b, g, good, good); res.Known != 2 {
		t.Fatalf("%+v", res)
	}
}

func TestIngestOutOfOrder(t *testing.T) {
	a, b, g := pair(t)
	p := newPen(t, b, g)
	var chain []*entry.Entry
	for range 10 {
		chain = append(chain, p.write(nil))
	}
	for _, e := range slices.Backward(chain[1:]) {
		res := a.ingest(b, g, e)
		if res.Deferred != 1 || len(res.Missing) != 1 || res.Missing[0] != e.Prev {
			t.Fatalf("%+v", res)
		}
	}
	if info := a.info(g); info.Quarantined != 9 || info.Entries != 0 {
		t.Fatalf("%+v", info)
	}
	q, err := a.Quarantine(t.Context(), g, 0)
	must(t, err)
	if len(q) != 9 || q[0].From != b.UserID() || !strings.Contains(q[0].Describe(), "waits for entry") {
		t.Fatalf("%d items, %q", len(q), q[0].Describe())
	}
	a.reopen()
	a.ingest(b, g, chain[0])
	if info := a.info(g); info.Quarantined != 0 || info.Entries != 10 || info.Documents != 10 {
		t.Fatalf("%+v", info)
	}
}

func TestQuarantineLimits(t *testing.T) {
	store := newStore()
	a := openNode(t, identity(t, 0), store, "a", func(c *groupsync.Config) {
		c.Limits = groupsync.Limits{SenderItems: 5, GroupItems: 8, QuarantineAge: time.Hour}
	})
	b, c := newNode(t, 1), newNode(t, 2)
	g := a.create("g")
	join(t, a, g, entry.Write, b, c)
	syncPair(t, a, b, g).end()
	for _, n := range []*node{b, c} {
		p := newPen(t, n, g)
		p.write(nil) // never sent
		for range 20 {
			if res := a.ingest(n, g, p.write(nil)); res.Deferred != 1 {
				t.Fatalf("%+v", res)
			}
		}
	}
	if n := a.info(g).Quarantined; n != 8 {
		t.Fatalf("%d entries in quarantine", n)
	}
	count := map[peercrypto.ID]int{}
	q, err := a.Quarantine(t.Context(), "", 0)
	must(t, err)
	for _, it := range q {
		count[it.From]++
	}
	if count[c.UserID()] != 5 || count[b.UserID()] != 3 {
		t.Fatalf("%v", count)
	}
	a.clock.add(2 * time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	eventually(t, "they expired", func() bool { return a.info(g).Quarantined == 0 })
	cancel()
	<-done
}

func TestFutureEntries(t *testing.T) {
	identity(t, 1)
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(25 * 365 * 24 * time.Hour) // the bubble begins before the first valid date
		a, b, g := pair(t)
		p := newPen(t, b, g)
		soon := p.write(func(d *entry.DataDraft) { d.Modified += (time.Hour).Milliseconds() })
		behind := p.write(nil)
		far := newPen(t, b, g).write(func(d *entry.DataDraft) {
			d.Modified += (48 * time.Hour).Milliseconds()
			d.Dev = b.DeviceID() + ":far"
		})
		res := a.ingest(b, g, soon, behind, far)
		if res.Deferred != 2 || res.Rejected != 1 || a.info(g).Quarantined != 2 {
			t.Fatalf("%+v", res)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		time.Sleep(58 * time.Minute)
		synctest.Wait()
		if a.info(g).Entries != 0 {
			t.Fatal("it counts too early")
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if info := a.info(g); info.Entries != 2 || info.Quarantined != 0 {
			t.Fatalf("%+v", info)
		}
		// A subject whose last change lies ahead can't be written over with this clock.
		ahead := newPen(t, b, g).write(func(d *entry.DataDraft) {
			d.Modified += (59 * time.Second).Milliseconds()
			d.Dev = b.DeviceID() + ":ahead"
		})
		if res := a.ingest(b, g, ahead); res.Accepted != 1 {
			t.Fatalf("%+v", res)
		}
		a.clock.add(-10 * time.Second)
		_, err := a.Put(t.Context(), g, json.RawMessage(fmt.Sprintf(`{"id":%q,"type":"Note","x":1}`, ahead.Subject)))
		wantErr(t, err, groupsync.ErrClock)
		cancel()
		wantErr(t, <-done, context.Canceled)
	})
}

func TestRotationAfterLeave(t *testing.T) {
	identity(t, 1)
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(25 * 365 * 24 * time.Hour) // the bubble begins before the first valid date
		a, b, g := pair(t)
		key := a.Rendezvous()[1].Key
		must(t, b.Leave(t.Context(), g))
		c := connect(t, a, b)
		synctest.Wait()
		c.end()
		if !a.info(g).RotationDue {
			t.Fatal("not due")
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		cancel()
		<-done
		if a.info(g).RotationDue {
			t.Fatal("no new key was made")
		}
		var keys int
		for _, r := range a.Rendezvous() {
			if r.Group == g && r.Announce && r.Key == key {
				t.Fatal("the old key is announced")
			}
			if r.Group == g && r.Invite == nil {
				keys++
			}
		}
		if keys != 2 {
			t.Fatalf("%d keys are listened on", keys)
		}
	})
}

// A fullStore fails transactions while it is full.
type fullStore struct {
	groupsync.Store
	full bool
}

func (s *fullStore) Update(ctx context.Context, fn func(groupsync.Tx) error) error {
	return s.Store.Update(ctx, func(tx groupsync.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		if s.full {
			return groupsync.ErrStoreFull // at commit, after everything was written
		}
		return nil
	})
}

func TestStoreFullAndOnAgain(t *testing.T) {
	store := &fullStore{Store: newStore()}
	a := openNode(t, identity(t, 0), store, "a")
	b := newNode(t, 1)
	g := a.create("g")
	join(t, a, g, entry.Write, b)
	p := newPen(t, b, g)
	e1, e2 := p.write(nil), p.write(nil)
	before := a.info(g).Fingerprint
	store.full = true
	_, err := a.Ingest(t.Context(), b.peer(), g, [][]byte{e1.Raw})
	wantErr(t, err, groupsync.ErrStoreFull)
	_, err = a.Put(t.Context(), g, json.RawMessage(`{"type":"Note"}`))
	wantErr(t, err, groupsync.ErrStoreFull)
	wantErr(t, a.Remove(t.Context(), g, b.UserID(), ""), groupsync.ErrStoreFull)
	wantErr(t, a.Rename(t.Context(), g, "other"), groupsync.ErrStoreFull)
	if info := a.info(g); info.Fingerprint != before || info.Name != "g" || len(info.Members) != 2 {
		t.Fatalf("%+v", info)
	}
	b.put(g, `{"type":"Note","by":"b"}`)
	c := connect(t, a, b)
	wantErr(t, <-c.errA, groupsync.ErrStoreFull)
	store.full = false
	if res := a.ingest(b, g, e1, e2); res.Accepted != 2 {
		t.Fatalf("%+v", res)
	}
	must(t, a.Rename(t.Context(), g, "other"))
	a.put(g, `{"type":"Note"}`)
	syncPair(t, a, b, g).end()
	if a.export(g) != b.export(g) || b.info(g).Name != "other" {
		t.Fatal("they differ")
	}
}

func TestBadEntriesEndTheSession(t *testing.T) {
	a, b, g := pair(t)
	pa, pb := newPipe()
	done := make(chan error, 1)
	go func() { done <- a.NewSession(b.peer(), pa).Run(t.Context()) }()
	raw := newRaw(t, pb)
	raw.hello()
	raw.expect(0x02)
	bad := []byte(`{"not":"an entry"}`)
	for range 100 {
		f := append([]byte{0x10, 25}, g...)
		f = append(append(f, 1, byte(len(bad))), bad...)
		if err := pb.Send(t.Context(), groupsync.Bulk, f); err != nil {
			break
		}
	}
	if err := <-done; !errors.Is(err, groupsync.ErrBadEntries) {
		t.Fatal(err)
	}
}

func TestWatchAndEvents(t *testing.T) {
	a := newNode(t, 0)
	g := a.create("g")
	first := a.put(g, `{"type":"Note","n":1}`)
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(chan groupsync.Document)
	done := make(chan error, 1)
	go func() {
		done <- a.Watch(ctx, g, 0, func(d groupsync.Document) error { seen <- d; return nil })
	}()
	if d := <-seen; d.Subject != first.Subject {
		t.Fatalf("%+v", d)
	}
	must(t, a.Delete(t.Context(), g, first.Subject))
	if d := <-seen; !d.Deleted || d.Subject != first.Subject {
		t.Fatalf("%+v", d)
	}
	cancel()
	wantErr(t, <-done, context.Canceled)

	events := a.Subscribe(t.Context())
	for i := range 600 {
		a.put(g, `{"type":"Note","n":%d}`, i)
	}
	if ev := nextEvent[groupsync.Lagged](t, events); ev.Lost == 0 {
		t.Fatalf("%+v", ev)
	}
	must(t, a.Close())
	for range events {
	}
	_, err := a.Put(t.Context(), g, json.RawMessage(`{"type":"Note"}`))
	wantErr(t, err, groupsync.ErrClosed)
}
