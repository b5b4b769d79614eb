package sync_test

import (
	"testing"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// TestProgressOnBothSides: who sends sees how much is left, who receives how much came.
func TestProgressOnBothSides(t *testing.T) {
	const changes = 3_000
	a, b := newNode(t, 0), newNode(t, 1)
	g := a.create("g")
	join(t, a, g, entry.Write, b)
	fill(t, a, g, changes)
	sender, receiver := a.Subscribe(t.Context()), b.Subscribe(t.Context())
	c := connect(t, a, b)
	defer c.end()
	left := int64(changes)
	for left > 0 {
		ev := nextEvent[groupsync.Progress](t, sender)
		if ev.Unsent > left || ev.Sent+ev.Unsent > changes+10 || ev.Have < changes {
			t.Fatalf("%+v after %d", ev, left)
		}
		left = ev.Unsent
	}
	for came := int64(0); came < changes; {
		ev := nextEvent[groupsync.Progress](t, receiver)
		if ev.Received <= came || ev.Want < changes {
			t.Fatalf("%+v after %d", ev, came)
		}
		came = ev.Received
	}
	eventually(t, "both are equal", func() bool { return c.synced(g) })
	for _, s := range a.Sessions() {
		if st := s.Groups[0]; st.Unsent != 0 || st.Sent < changes {
			t.Errorf("%+v", st)
		}
	}
}
