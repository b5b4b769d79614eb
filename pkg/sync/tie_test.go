package sync_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/fold"
)

// TestFirstSeen: two changes of one moment come in different orders to two devices. They show the same document, and as an option what came to
// each first.
func TestFirstSeen(t *testing.T) {
	a, b, w := newNode(t, 0), newNode(t, 1), newNode(t, 2)
	g := a.create("g")
	join(t, a, g, entry.Write, b, w)
	syncPair(t, a, b, g).end()
	syncPair(t, a, w, g).end()
	doc := w.put(g, `{"type":"Note","text":"","other":1}`)
	syncPair(t, a, w, g).end()
	syncPair(t, b, w, g).end()
	var versions [2]*entry.Entry
	moment := time.Now().UnixMilli() + 10
	for i := range versions {
		p := newPen(t, w, g)
		versions[i] = p.write(func(d *entry.DataDraft) {
			d.Dev += peercrypto.ID(fmt.Sprintf("%d", i))
			d.Subject, d.Modified = doc.Subject, moment
			d.Changes = []fold.Change{{Path: "text", Set: true, Value: fmt.Appendf(nil, `"version %d"`, i)}}
		})
	}
	a.ingest(w, g, versions[0])
	a.ingest(w, g, versions[1])
	b.ingest(w, g, versions[1])
	b.ingest(w, g, versions[0])
	differ := 0
	for i, n := range []*node{a, b} {
		common, err := n.Get(t.Context(), g, doc.Subject)
		must(t, err)
		local, tied, err := n.GetFirstSeen(t.Context(), g, doc.Subject)
		must(t, err)
		if !strings.Contains(string(local.JSON), fmt.Sprintf(`"version %d"`, i)) || !strings.Contains(string(local.JSON), `"other":1`) {
			t.Errorf("device %d shows %s", i, local.JSON)
		}
		if tied != (string(common.JSON) != string(local.JSON)) {
			t.Errorf("tied is %v", tied)
		}
		if tied {
			differ++
		}
	}
	if differ != 1 || a.info(g).Fingerprint != b.info(g).Fingerprint {
		t.Errorf("%d devices show something else", differ)
	}
	plain := a.put(g, `{"type":"Note"}`)
	if _, tied, err := a.GetFirstSeen(t.Context(), g, plain.Subject); err != nil || tied {
		t.Errorf("%v, %v", tied, err)
	}
}
