package sync_test

import (
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// TestBlock ends a membership for good: a junior admin can't bring the user back.
func TestBlock(t *testing.T) {
	a, b, g := pair(t)
	must(t, a.SetRole(t.Context(), g, b.UserID(), entry.Admin))
	c := newNode(t, 2)
	join(t, a, g, entry.Write, c)
	syncPair(t, a, b, g).end()
	doc := c.put(g, `{"type":"Note"}`)
	syncPair(t, a, c, g).end()
	wantErr(t, b.Block(t.Context(), g, a.UserID()), groupsync.ErrOwner)
	must(t, a.Block(t.Context(), g, c.UserID()))
	if _, err := a.Get(t.Context(), g, doc.Subject); err != nil {
		t.Errorf("what was written before: %v", err)
	}
	syncPair(t, a, b, g).end()
	join(t, b, g, entry.Write, newNode(t, 3)) // others can still be admitted by the junior
	wantErr(t, b.AddMember(t.Context(), g, c.ident.Genesis, entry.Write), groupsync.ErrNotAdmin)
	for _, m := range b.info(g).Members {
		if m.UserID == c.UserID() {
			t.Error("the blocked user is a member")
		}
	}
}

// TestAdopt takes up what a removal left void.
func TestAdopt(t *testing.T) {
	a, b, g := pair(t)
	c := newNode(t, 2)
	join(t, a, g, entry.Write, c)
	early := b.put(g, `{"type":"Note","n":1}`)
	syncPair(t, a, b, g).end()
	late := b.put(g, `{"type":"Note","n":2}`)
	must(t, a.Remove(t.Context(), g, b.UserID(), ""))
	e := newPen(t, b, g).write(nil)
	if res := a.ingest(c, g, e); res.Deferred != 1 {
		t.Fatalf("a change outside of the frontier: %+v", res)
	}
	_, err := a.Get(t.Context(), g, e.Subject)
	wantErr(t, err, groupsync.ErrNotFound)
	wantErr(t, a.Adopt(t.Context(), g, []peercrypto.Hash{peercrypto.Sum([]byte("nothing"))}), groupsync.ErrNotFound)
	must(t, a.Adopt(t.Context(), g, []peercrypto.Hash{e.Hash}))
	if _, err := a.Get(t.Context(), g, e.Subject); err != nil {
		t.Errorf("what was adopted: %v", err)
	}
	if _, err := a.Get(t.Context(), g, early.Subject); err != nil {
		t.Errorf("what was written before: %v", err)
	}
	_, err = a.Get(t.Context(), g, late.Subject)
	wantErr(t, err, groupsync.ErrNotFound)
}

// TestCheckpoint keeps what a junior admin's removal would make void.
func TestCheckpoint(t *testing.T) {
	a, b, g := pair(t)
	must(t, a.SetRole(t.Context(), g, b.UserID(), entry.Admin))
	c := newNode(t, 2)
	join(t, a, g, entry.Write, c)
	syncPair(t, a, b, g).end()
	doc := c.put(g, `{"type":"Note"}`)
	syncPair(t, a, c, g).end()
	n, err := a.Checkpoint(t.Context(), g, c.UserID())
	if must(t, err); n == 0 {
		t.Error("it names nothing")
	}
	must(t, b.Remove(t.Context(), g, c.UserID(), "")) // without the note
	syncPair(t, a, b, g).end()
	for _, x := range []*node{a, b} {
		if _, err := x.Get(t.Context(), g, doc.Subject); err != nil {
			t.Errorf("the note: %v", err)
		}
	}
	_, err = b.Checkpoint(t.Context(), g, "0000000000000000000000000")
	wantErr(t, err, groupsync.ErrNotFound)
}
