package sync_test

import (
	"encoding/json"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/group"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// rekeyOf makes the operation by which a node's user gets another key in a group, covering nothing.
func rekeyOf(t testing.TB, n *node, g peercrypto.ID, next peercrypto.SigningKey) *entry.Entry {
	t.Helper()
	l := group.NewLog(g)
	for _, raw := range n.logOf(g) {
		e, err := entry.Decode(raw)
		must(t, err)
		must(t, l.Restore(e))
	}
	d, err := group.NextRekey(l, l.State(), grantOf(t, n, g).Hash, n.DeviceID())
	must(t, err)
	event, err := keys.NewRotate(keys.Genesis(n.ident.Genesis), keys.Signers{Key: n.ident.User, New: next}, keys.Compromised, d.Modified)
	must(t, err)
	d.ID, d.Op = n.DeviceID(), entry.Rekey{Events: []keys.Event{event}}
	e, err := entry.SignOperation(next, d)
	must(t, err)
	return e
}

// TestUnknownKeyWaits delivers what is signed with a new key before the operation that sets it.
func TestUnknownKeyWaits(t *testing.T) {
	a, b, g := pair(t)
	old := newPen(t, b, g).write(nil)
	if res := a.ingest(b, g, old); res.Accepted != 1 {
		t.Fatalf("%+v", res)
	}
	id, _, err := peercrypto.NewIdentity(a.clock.Now())
	must(t, err)
	next := id.User
	r := rekeyOf(t, b, g, next)
	p := newPen(t, b, g)
	p.n = &node{Engine: b.Engine, ident: id, t: t}
	p.grant = r
	first, second := p.write(nil), p.write(nil)
	if res := a.ingest(b, g, second, first); res.Deferred != 2 || res.Accepted != 0 || res.Rejected != 0 {
		t.Errorf("before the rekey: %+v", res)
	}
	if res := a.ingest(b, g, r); res.Accepted == 0 || res.Rejected != 0 {
		t.Errorf("the rekey: %+v", res)
	}
	for i, e := range []*entry.Entry{first, second} {
		if _, err := a.Get(t.Context(), g, e.Subject); err != nil {
			t.Errorf("change %d under the new key: %v", i, err)
		}
	}
	_, err = a.Get(t.Context(), g, old.Subject)
	wantErr(t, err, groupsync.ErrNotFound) // the rekey covers nothing
	// The old key is over: what it signs is kept aside, and refused under the new one.
	if res := a.ingest(b, g, newPen(t, b, g).write(func(d *entry.DataDraft) { d.Dev = b.DeviceID() + ":late" })); res.Deferred != 1 {
		t.Errorf("by the old key: %+v", res)
	}
	forged := newPen(t, b, g)
	forged.grant = r
	if res := a.ingest(b, g, forged.write(func(d *entry.DataDraft) { d.Dev = b.DeviceID() + ":forged" })); res.Rejected != 1 {
		t.Errorf("by the old key as if by the new one: %+v", res)
	}
	// The other replica says the same, whatever came first.
	b.ingest(a, g, r, second, first, old)
	if a.export(g) != b.export(g) {
		t.Error("replicas differ")
	}
}

// TestContendingKeys delivers two rekeys by the old key: the member stays, and can't write.
func TestContendingKeys(t *testing.T) {
	a, b, g := pair(t)
	for range 2 {
		id, _, err := peercrypto.NewIdentity(a.clock.Now())
		must(t, err)
		r := rekeyOf(t, b, g, id.User)
		a.ingest(b, g, r)
		b.ingest(a, g, r)
	}
	_, err := b.Put(t.Context(), g, json.RawMessage(`{"type":"Note"}`))
	wantErr(t, err, groupsync.ErrKeyFrozen)
	wantErr(t, a.SetRole(t.Context(), g, b.UserID(), entry.Read), groupsync.ErrKeyFrozen)
	a.put(g, `{"type":"Note"}`)
	syncPair(t, a, b, g).end()
	if a.export(g) != b.export(g) {
		t.Error("a frozen member does not read")
	}
	must(t, a.Remove(t.Context(), g, b.UserID(), "settled"))
}
