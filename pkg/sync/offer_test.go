package sync_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
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

// TestOffersThatAreNone: an offered log is kept only when it asks this user, is sound to the last entry, and of a group that there still is.
func TestOffersThatAreNone(t *testing.T) {
	b, c := newNode(t, 1), newNode(t, 2)
	known := c.create("known")
	join(t, c, known, entry.Write, b)
	asks := func(name string) peercrypto.ID {
		g := c.create(name)
		must(t, c.AddMember(t.Context(), g, b.ident.Genesis, entry.Write))
		return g
	}
	notAsked, broken, forged, deleted, withdrawn, own := c.create("not asked"), asks("broken"), asks("forged"), asks("deleted"), asks("withdrawn"), asks("own")
	must(t, c.DeleteGroup(t.Context(), deleted))
	must(t, c.Remove(t.Context(), withdrawn, b.UserID(), ""))
	mixed := append(c.logOf(own), c.logOf(notAsked)...)
	b.reopen() // the session below is the first that offers
	events := b.Subscribe(t.Context())
	pb, pc := newPipe()
	go func() { _ = b.NewSession(c.peer(), pb).Run(t.Context()) }()
	talk := newRaw(t, pc)
	talk.hello()
	for _, log := range [][]byte{
		logFrame(notAsked, 7, c.logOf(notAsked)),
		logFrame(broken, 7, append(c.logOf(broken), json.RawMessage(`{"op":1}`))),
		logFrame(forged, 7, append(without(t, c.logOf(forged), "add"), forge(t, c.logOf(forged), "add"))),
		logFrame(deleted, 7, c.logOf(deleted)),
		logFrame(withdrawn, 7, c.logOf(withdrawn)),
		logFrame(own, 7, mixed),
		logFrame(own, 7, nil),
		logFrame(own, 7, without(t, c.logOf(own), "create")),
		logFrame(own, 7, c.logOf(own)),
	} {
		talk.send(groupsync.Bulk, log)
	}
	if ev := nextEvent[groupsync.GroupOffered](t, events); ev.Group != own || offered(t, b) != 1 {
		t.Errorf("%+v, %d groups", ev, offered(t, b))
	}
	if len(b.info(own).Members) != 0 {
		t.Error("it counts before it is accepted")
	}
}

// TestDeclinedAndTooMany: what was declined is not offered again, but by a new grant; and so many offers wait at a time.
func TestDeclinedAndTooMany(t *testing.T) {
	a := newNode(t, 0)
	b := newNode(t, 1, func(c *groupsync.Config) { c.Limits.Offers = 2 })
	known, g := a.create("known"), a.create("g")
	join(t, a, known, entry.Write, b)
	must(t, a.AddMember(t.Context(), g, b.ident.Genesis, entry.Write))
	events := b.Subscribe(t.Context())
	meet(t, a, b, "the offer", func() bool { return offered(t, b) == 1 })
	nextEvent[groupsync.GroupOffered](t, events)
	must(t, b.Decline(t.Context(), g))

	second := a.create("second") // offered behind the first one, in each session
	must(t, a.AddMember(t.Context(), second, b.ident.Genesis, entry.Write))
	meet(t, a, b, "the second offer", func() bool { return offered(t, b) > 0 })
	if ev := nextEvent[groupsync.GroupOffered](t, events); ev.Group != second || offered(t, b) != 1 {
		t.Errorf("%+v, %d groups", ev, offered(t, b))
	}
	must(t, a.Remove(t.Context(), g, b.UserID(), ""))
	must(t, a.AddMember(t.Context(), g, b.ident.Genesis, entry.Write))
	meet(t, a, b, "the offer by another grant", func() bool { return offered(t, b) == 2 })
	if ev := nextEvent[groupsync.GroupOffered](t, events); ev.Group != g {
		t.Errorf("%+v", ev)
	}

	third := a.create("third")
	must(t, a.AddMember(t.Context(), third, b.ident.Genesis, entry.Write))
	pb, pa := newPipe()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.NewSession(a.peer(), pb).Run(ctx) }()
	talk := newRaw(t, pa)
	talk.hello()
	talk.send(groupsync.Bulk, logFrame(third, 7, a.logOf(third)))
	talk.expect(0x04)
	talk.send(groupsync.Control, frameOf(0x08, peercrypto.NewID(time.Now()), 0))
	talk.expect(0x09) // REFUSED: what came before was handled
	cancel()
	<-done
	if _, err := b.Group(t.Context(), third); !errors.Is(err, groupsync.ErrNotFound) || offered(t, b) != 2 {
		t.Errorf("one offer too many is kept: %v", err)
	}
	must(t, b.Decline(t.Context(), second))
	meet(t, a, b, "there is room again", func() bool { return offered(t, b) == 2 })
	if ev := nextEvent[groupsync.GroupOffered](t, events); ev.Group != third {
		t.Errorf("%+v", ev)
	}
}
