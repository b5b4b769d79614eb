package sync_test

import (
	"slices"
	"strings"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// alarms counts the Alarm events until something else, which is done here, was told.
func (n *node) alarms(do func()) (texts []string) {
	n.t.Helper()
	events := n.Subscribe(n.t.Context())
	do()
	_, err := n.CreateGroup(n.t.Context(), "marker")
	must(n.t, err)
	for ev := range events {
		switch ev := ev.(type) {
		case groupsync.Alarm:
			texts = append(texts, ev.Text)
		case groupsync.GroupJoined:
			return texts
		}
	}
	return texts
}

func TestForkedDataChain(t *testing.T) {
	a, b, g := pair(t)
	first, copied := newPen(t, b, g), newPen(t, b, g)
	chain := []*entry.Entry{first.write(nil)}
	copied.seq, copied.prev = first.seq, first.prev
	for range 20 {
		chain = append(chain, first.write(nil))
	}
	var other []*entry.Entry
	for range 25 {
		other = append(other, copied.write(nil))
	}
	// A chain that comes in any order is no fork.
	if got := a.alarms(func() {
		for _, e := range slices.Backward(chain[1:]) {
			a.ingest(b, g, e)
		}
		a.ingest(b, g, chain[0])
		a.ingest(b, g, chain...)
	}); len(got) != 0 || len(a.info(g).Alarms) != 0 || a.info(g).Entries != 21 {
		t.Fatalf("%v", got)
	}
	// Two changes at one place are told once, however many follow.
	got := a.alarms(func() { a.ingest(b, g, other[:3]...) })
	if len(got) != 1 || !strings.Contains(got[0], "chain forked: user "+b.UserID().Short()) {
		t.Fatalf("%v", got)
	}
	for _, e := range []*entry.Entry{chain[1], other[0]} {
		if !strings.Contains(got[0], e.Hash.Short()) {
			t.Fatalf("%v does not name %s", got, e.Hash.Short())
		}
	}
	if got := a.alarms(func() { a.ingest(b, g, other[3:10]...) }); len(got) != 0 {
		t.Fatalf("%v", got)
	}
	a.reopen()
	if got := a.alarms(func() { a.ingest(b, g, other[10:]...) }); len(got) != 0 {
		t.Fatalf("%v", got)
	}
	info := a.info(g)
	if !slices.Equal(info.Alarms, got) || info.Entries != 46 || info.Documents != 46 {
		t.Fatalf("%d entries, alarms %v", info.Entries, info.Alarms)
	}
	// A new chain with the same device is another place: seq 0.
	third := newPen(t, b, g).write(func(d *entry.DataDraft) { d.Dev = b.DeviceID() + ":third" })
	twin := newPen(t, b, g).write(func(d *entry.DataDraft) { d.Dev = b.DeviceID() + ":third" })
	if got := a.alarms(func() { a.ingest(b, g, third, twin) }); len(got) != 1 {
		t.Fatalf("%v", got)
	}
}

// TestRestoredBackup: a device goes on from an old copy of its store. It and others are told, and nothing is lost.
func TestRestoredBackup(t *testing.T) {
	a, b, g := pair(t)
	b.put(g, `{"type":"Note","n":1}`)
	syncPair(t, a, b, g).end()
	backup := openNode(t, b.ident, newStore(), "user 1")
	restore(t, b, backup, g)
	for range 5 {
		b.put(g, `{"type":"Note","lost":true}`)
	}
	syncPair(t, a, b, g).end()
	for range 2 {
		backup.put(g, `{"type":"Note","new":true}`)
	}
	var there []string
	here := a.alarms(func() {
		there = backup.alarms(func() { syncPair(t, a, backup, g).end() })
	})
	if len(here) != 1 || len(there) != 1 {
		t.Fatalf("%v, %v", here, there)
	}
	if info := backup.info(g); info.Documents != 8 || a.export(g) != backup.export(g) {
		t.Fatalf("%+v", info)
	}
	must2(backup.Put(t.Context(), g, []byte(`{"type":"Note","later":true}`)))(t)
	syncPair(t, a, backup, g).end()
}

// restore brings what a node holds of a group to one with the same keys, as a copy of its files would.
func restore(t testing.TB, from, to *node, g peercrypto.ID) {
	t.Helper()
	must(t, to.store.Update(t.Context(), func(tx groupsync.Tx) error {
		return from.store.View(t.Context(), func(r groupsync.Reader) error {
			rec, _, err := r.Group(g)
			if err != nil {
				return err
			}
			if err := tx.PutGroup(rec); err != nil {
				return err
			}
			recs, err := r.SharedAfter(g, 0, 1_000)
			if err != nil {
				return err
			}
			for _, rec := range recs {
				full, _, err := r.Record(rec.Hash)
				if err == nil {
					err = tx.PutRecord(full)
				}
				if err != nil {
					return err
				}
			}
			return r.Documents(groupsync.DocumentQuery{Group: g}, func(d groupsync.Document) error {
				_, err := tx.PutDocument(d)
				return err
			})
		})
	}))
	to.reopen()
}
