package sync_test

import (
	"context"
	"errors"
	"testing"
	"time"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// TestTTL: a document whose time is over is not shown and its content goes, on each device by its own clock; what is compared stays the same, and a
// later change can bring it back.
func TestTTL(t *testing.T) {
	a, b := newNode(t, 0), newNode(t, 1)
	g := a.create("g")
	join(t, a, g, entry.Write, b)
	end := time.Now().Add(time.Hour).UnixMilli()
	short := a.put(g, `{"type":"Note","text":"short","ttl":%d}`, end)
	a.put(g, `{"type":"Note","text":"long"}`)
	syncPair(t, a, b, g).end()
	before := b.info(g)

	b.clock.add(2 * time.Hour)
	_, err := b.Get(t.Context(), g, short.Subject)
	wantErr(t, err, groupsync.ErrNotFound)
	count := func(n *node) (live int) {
		t.Helper()
		must(t, n.List(t.Context(), groupsync.DocumentQuery{Group: g}, func(groupsync.Document) error { live++; return nil }))
		return live
	}
	if count(a) != 2 || count(b) != 1 {
		t.Errorf("%d and %d documents", count(a), count(b))
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	eventually(t, "the content is gone", func() bool { return b.info(g).Documents == 1 })
	cancel()
	<-done
	if got := b.info(g); got.Fingerprint != before.Fingerprint || got.Entries != before.Entries {
		t.Error("the log changed")
	}
	stop := errors.New("seen")
	err = b.Watch(t.Context(), g, 0, func(d groupsync.Document) error {
		if d.Subject == short.Subject && d.Deleted {
			return stop
		}
		return nil
	})
	wantErr(t, err, stop)

	// A change that knows nothing of that puts the end off: the document is whole again.
	a.put(g, `{"id":%q,"type":"Note","text":"short","more":1,"ttl":%d}`, short.Subject, end+10*time.Hour.Milliseconds())
	syncPair(t, a, b, g).end()
	got, err := b.Get(t.Context(), g, short.Subject)
	must(t, err)
	want, err := a.Get(t.Context(), g, short.Subject)
	must(t, err)
	if string(got.JSON) != string(want.JSON) {
		t.Errorf("%s, %s", got.JSON, want.JSON)
	}
	if count(b) != 2 {
		t.Error("it is not listed")
	}
}
