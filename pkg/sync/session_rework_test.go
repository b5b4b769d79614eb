package sync_test

import (
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// TestReworkIsCounted: what is stored and read again counts, of an older change its subject, and a
// removed member's change that an admin adopts everything by that member. One that nothing names costs nothing.
func TestReworkIsCounted(t *testing.T) {
	a, b, g := pair(t)
	c := newNode(t, 2)
	join(t, a, g, entry.Write, c)
	p := newPen(t, b, g)
	start := p.write(func(d *entry.DataDraft) { d.Modified += time.Second.Milliseconds() })
	next := p.write(func(d *entry.DataDraft) { d.Modified += 2 * time.Second.Milliseconds() })
	if res := a.ingest(b, g, start, next); res.Accepted != 2 || res.Again() != 0 {
		t.Fatalf("%+v", res)
	}
	q := newPen(t, c, g)
	older := q.write(func(d *entry.DataDraft) { d.Subject, d.Changes, d.SubjectDeleted = start.Subject, nil, true })
	if res := a.ingest(c, g, older); res.Accepted != 1 || res.Again() != 2 {
		t.Errorf("an older change: %+v", res)
	}
	must(t, a.Remove(t.Context(), g, b.UserID(), ""))
	late := p.write(nil)
	create, err := entry.Decode(a.logOf(g)[0])
	must(t, err)
	if res := a.ingest(c, g, late); res.Deferred != 1 || res.Again() != 0 {
		t.Errorf("a removed member's change: %+v", res)
	}
	if res := a.ingest(c, g, sideOp(t, a, create, create, 0, entry.Adopt{Entries: []peercrypto.Hash{late.Hash}})); res.Accepted != 1 || res.Again() != 2 {
		t.Errorf("its adoption: %+v", res)
	}
}
