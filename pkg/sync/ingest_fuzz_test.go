package sync_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// FuzzIngest gives an engine what a member might send. Nothing counts that nobody signed, and each entry is counted once in the result.
func FuzzIngest(f *testing.F) {
	a, b := newNode(f, 0), newNode(f, 1)
	g := a.create("g")
	join(f, a, g, entry.Write, b)
	d := b.put(g, `{"type":"Note","list":[1,{"x":2}]}`)
	b.put(g, `{"id":%q,"type":"Note","list":[1]}`, d.Subject)
	must(f, b.Delete(f.Context(), g, d.Subject))
	known := b.exportLog(g)
	for _, raw := range known {
		f.Add([]byte(raw))
	}
	before := a.info(g)
	f.Fuzz(func(t *testing.T, raw []byte) {
		res, err := a.Ingest(t.Context(), b.peer(), g, [][]byte{bytes.Clone(raw)})
		if err != nil {
			t.Fatal(err)
		}
		if res.Accepted+res.Known+res.Deferred+res.Rejected != 1 {
			t.Fatalf("%+v", res)
		}
		signed := slices.ContainsFunc(known, func(k json.RawMessage) bool { return bytes.Equal(k, raw) })
		if res.Accepted > 0 && !signed {
			t.Fatalf("accepted: %s", raw)
		}
		now, err := a.Group(t.Context(), g)
		must(t, err)
		if !signed && (now.Operations < before.Operations || now.Entries < before.Entries) {
			t.Fatal("something that counted is gone")
		}
	})
}
