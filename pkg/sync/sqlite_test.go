package sync_test

import (
	"path/filepath"
	"testing"

	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/sqlite"
)

func openSQLite(t testing.TB, name string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(filepath.Join(t.TempDir(), name+".db"), sqlite.Options{})
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestOverSQLite is the whole journey on the store that users have.
func TestOverSQLite(t *testing.T) {
	sa, sb := openSQLite(t, "a"), openSQLite(t, "b")
	a := openNode(t, identity(t, 0), sa, "a")
	b := openNode(t, identity(t, 1), sb, "b")
	c := newNode(t, 2)
	g := a.create("g")
	fill(t, a, g, 1_500)
	join(t, a, g, entry.Write, b, c)
	for i := range 20 {
		d := b.put(g, `{"type":"Note","n":%d}`, i)
		if i%3 == 0 {
			must(t, b.Delete(t.Context(), g, d.Subject))
		}
	}
	syncPair(t, a, b, g).end()
	must(t, a.Remove(t.Context(), g, b.UserID(), "test"))
	late := backDated(t, b, g)
	a.ingest(c, g, late)
	syncPair(t, a, c, g).end()
	if a.export(g) != c.export(g) {
		t.Fatal("SQLite and memory differ")
	}
	before := a.info(g)
	a.reopen()
	if after := a.info(g); after.Fingerprint != before.Fingerprint || after.Quarantined != 1 {
		t.Fatalf("%+v\n%+v", before, after)
	}
	must(t, sa.Check(t.Context()))
	must(t, sb.Check(t.Context()))
}
