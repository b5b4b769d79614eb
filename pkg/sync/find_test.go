package sync_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// tasks is a group with documents of which each second one is done, and an index.
func tasks(t *testing.T, n *node, count int) peercrypto.ID {
	t.Helper()
	g := n.create("tasks")
	for i := range count {
		n.put(g, `{"type":"Task","done":%v,"due":%d}`, i%2 == 1, i)
	}
	must(t, n.EnsureIndex(t.Context(), groupsync.IndexSpec{Name: "due", Type: "Task", Fields: []string{"done", "due"}}))
	return g
}

func openTasks(g peercrypto.ID) groupsync.DocumentQuery {
	return groupsync.DocumentQuery{
		Group: g, Type: "Task", OrderBy: "due", Where: []groupsync.Condition{{Field: "done", Op: groupsync.Equal, Value: false}},
	}
}

// TestFind pages through a query by cursors, also one of many pages of the store.
func TestFind(t *testing.T) {
	for _, kind := range []string{"memory", "sqlite"} {
		t.Run(kind, func(t *testing.T) {
			store := newStore()
			if kind == "sqlite" {
				store = openSQLite(t, "find")
			}
			n := openNode(t, identity(t, 0), store, "a")
			g := tasks(t, n, 21)
			q := openTasks(g)
			q.Limit = 4
			var got []string
			for {
				p, err := n.Find(t.Context(), q)
				must(t, err)
				for _, d := range p.Documents {
					v, _ := d.Field("due")
					got = append(got, fmt.Sprint(v.Number))
				}
				if q.Cursor = p.Next; p.Next == "" {
					break
				}
			}
			if want := "0 2 4 6 8 10 12 14 16 18 20"; strings.Join(got, " ") != want {
				t.Errorf("found %v", got)
			}
			q = openTasks(g)
			q.OrderBy = "priority"
			_, err := n.Find(t.Context(), q)
			wantErr(t, err, groupsync.ErrNoIndex)
			must(t, n.DropIndex(t.Context(), "due"))
			wantErr(t, n.DropIndex(t.Context(), "due"), groupsync.ErrNotFound)
			_, err = n.Find(t.Context(), openTasks(g))
			wantErr(t, err, groupsync.ErrNoIndex)
		})
	}
}

// TestListManyPages: an order by a field goes on over the pages that are read at once.
func TestListManyPages(t *testing.T) {
	n := newNode(t, 0)
	g := n.create("g")
	fill(t, n, g, 1_200)
	q := groupsync.DocumentQuery{Group: g, OrderBy: groupsync.ModifiedField, Descending: true, Limit: 1_100}
	var last groupsync.Document
	count := 0
	must(t, n.List(t.Context(), q, func(d groupsync.Document) error {
		if count > 0 && (d.Modified > last.Modified || d.Modified == last.Modified && d.Subject >= last.Subject) {
			t.Fatal("out of order")
		}
		last = d
		count++
		return nil
	}))
	if count != 1_100 {
		t.Errorf("%d documents", count)
	}
}

// TestWatchQuery tells what enters, changes in and leaves a result, by whomever it is written.
func TestWatchQuery(t *testing.T) {
	a, b := newNode(t, 0), newNode(t, 1)
	g := tasks(t, a, 4)
	join(t, a, g, entry.Write, b)
	c := syncPair(t, a, b, g)
	defer c.end()
	must(t, b.EnsureIndex(t.Context(), groupsync.IndexSpec{Name: "due", Type: "Task", Fields: []string{"done", "due"}}))
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan string)
	ended := make(chan error, 1)
	go func() {
		ended <- b.WatchQuery(ctx, openTasks(g), func(c groupsync.Change) error {
			v, _ := c.Document.Field("due")
			select {
			case told <- fmt.Sprint(c.Kind, " ", v.Number):
			case <-ctx.Done():
			}
			return nil
		})
	}()
	wants := func(list ...string) {
		t.Helper()
		for _, want := range list {
			if got := <-told; got != want {
				t.Fatalf("told %s, want %s", got, want)
			}
		}
	}
	wants("added 0", "added 2", "ready 0")
	doc := a.put(g, `{"type":"Task","done":false,"due":9}`)
	wants("added 9")
	a.put(g, `{"id":%q,"type":"Task","done":false,"due":8}`, doc.Subject)
	wants("changed 8")
	a.put(g, `{"id":%q,"type":"Task","done":true,"due":8}`, doc.Subject)
	wants("removed 8")
	b.put(g, `{"type":"Note"}`)
	b.put(g, `{"id":%q,"type":"Task","done":false,"due":7}`, doc.Subject)
	wants("added 7")
	must(t, a.Delete(t.Context(), g, doc.Subject))
	wants("removed 0")
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

func TestWatchQueryRefuses(t *testing.T) {
	n := newNode(t, 0)
	g := tasks(t, n, 1)
	for _, change := range []func(*groupsync.DocumentQuery){
		func(q *groupsync.DocumentQuery) { q.Limit = 1 },
		func(q *groupsync.DocumentQuery) { q.Cursor = "x" },
		func(q *groupsync.DocumentQuery) { q.ByVersion = true },
		func(q *groupsync.DocumentQuery) { q.IncludeDeleted = true },
	} {
		q := openTasks(g)
		change(&q)
		wantErr(t, n.WatchQuery(t.Context(), q, func(groupsync.Change) error { return nil }), groupsync.ErrQuery)
	}
	stop := errors.New("enough")
	wantErr(t, n.WatchQuery(t.Context(), openTasks(g), func(groupsync.Change) error { return stop }), stop)
	list, err := n.Indexes(t.Context())
	must(t, err)
	if !slices.ContainsFunc(list, func(s groupsync.IndexSpec) bool { return s.Name == "due" }) {
		t.Errorf("%v", list)
	}
}
