package sync_test

import (
	"fmt"
	"testing"
	"time"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// TestOfferOfAnyName: an offered log is kept byte by byte, whatever is in it.
func TestOfferOfAnyName(t *testing.T) {
	a, b := newNode(t, 0), newNode(t, 1)
	known, g := a.create("known"), a.create("R&D <\u2028>")
	join(t, a, known, entry.Write, b)
	must(t, a.AddMember(t.Context(), g, b.ident.Genesis, entry.Write))
	events := b.Subscribe(t.Context())
	c := connect(t, a, b)
	nextEvent[groupsync.GroupOffered](t, events)
	must(t, b.Accept(t.Context(), g))
	eventually(t, "it is synced", func() bool { return c.synced(g) })
	c.end()
}

// TestOffersAreBounded has a member who offers more than this device looks at for one member. To offer the same again costs nothing.
func TestOffersAreBounded(t *testing.T) {
	a := newNode(t, 0)
	b := newNode(t, 1, func(c *groupsync.Config) { c.Limits.OfferIDs = 6 })
	known := a.create("known")
	join(t, a, known, entry.Write, b)
	for i := range 3 { // each has three ids
		g := a.create(fmt.Sprint("offered ", i))
		must(t, a.AddMember(t.Context(), g, b.ident.Genesis, entry.Write))
	}
	for range 5 {
		c := syncPair(t, a, b, known)
		eventually(t, "two of three offers", func() bool { return offered(t, b) == 2 })
		c.end()
	}
	b.clock.add(10 * time.Second)
	c := connect(t, a, b)
	eventually(t, "the third one later", func() bool { return offered(t, b) == 3 })
	c.end()
}

func offered(t testing.TB, n *node) (count int) {
	t.Helper()
	groups, err := n.Groups(t.Context())
	must(t, err)
	for _, g := range groups {
		if g.Offered {
			count++
		}
	}
	return count
}

// TestOfferByNoMember: an offered log is kept only when it is a member of it who shows it.
func TestOfferByNoMember(t *testing.T) {
	a, b, c := newNode(t, 0), newNode(t, 1), newNode(t, 2)
	known := c.create("known")
	join(t, c, known, entry.Write, b)
	foreign, own := a.create("foreign"), c.create("own")
	must(t, a.AddMember(t.Context(), foreign, b.ident.Genesis, entry.Write))
	must(t, c.AddMember(t.Context(), own, b.ident.Genesis, entry.Write))
	events := b.Subscribe(t.Context())
	pb, pc := newPipe()
	go func() { _ = b.NewSession(c.peer(), pb).Run(t.Context()) }()
	talk := newRaw(t, pc)
	talk.hello()
	talk.send(groupsync.Bulk, logFrame(foreign, 7, a.logOf(foreign)))
	talk.send(groupsync.Bulk, logFrame(own, 7, c.logOf(own)))
	if ev := nextEvent[groupsync.GroupOffered](t, events); ev.Group != own || offered(t, b) != 1 {
		t.Errorf("%+v, %d groups", ev, offered(t, b))
	}
}
