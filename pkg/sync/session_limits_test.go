package sync_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// by runs a session of n with somebody who is played by hand.
func by(t testing.TB, n *node, who groupsync.Peer) (talk *rawPeer, done chan error) {
	t.Helper()
	pn, pw := newPipe()
	ctx, cancel := context.WithCancel(t.Context())
	done = make(chan error, 1)
	session := n.NewSession(who, pn)
	go func() { done <- session.Run(ctx) }()
	t.Cleanup(cancel)
	return newRaw(t, pw), done
}

// handled waits until what was sent before on the control lane was handled, slow things too.
func (r *rawPeer) handled() {
	r.t.Helper()
	r.send(groupsync.Control, frameOf(0x08, peercrypto.NewID(time.Now()), 0))
	r.expect(0x09)
}

func acceptFrame(g peercrypto.ID, raw []byte) []byte {
	return append(binary.AppendUvarint(frameOf(0x0a, g), uint64(len(raw))), raw...)
}

// TestAcceptsThatAreNone: with ACCEPT a user consents to an own grant that waits for that, and nothing else comes in.
func TestAcceptsThatAreNone(t *testing.T) {
	a, b, c, d := newNode(t, 0), newNode(t, 1), newNode(t, 2), newNode(t, 3)
	known, g, other := a.create("known"), a.create("g"), a.create("other")
	join(t, a, known, entry.Write, c, d)
	join(t, a, g, entry.Admin, b)
	for _, n := range []*node{c, d} {
		must(t, a.AddMember(t.Context(), g, n.ident.Genesis, entry.Write))
	}
	must(t, a.AddMember(t.Context(), other, c.ident.Genesis, entry.Write))
	accepts := map[*node]map[peercrypto.ID][]byte{}
	for _, n := range []*node{c, d} {
		accepts[n] = map[peercrypto.ID][]byte{}
		meet(t, a, n, "the offers", func() bool { return offered(t, n) == map[*node]int{c: 2, d: 1}[n] })
		for _, id := range []peercrypto.ID{g, other} {
			if n == d && id == other {
				continue
			}
			must(t, n.Accept(t.Context(), id)) // a does not hear of it
			ops := n.logOf(id)
			accepts[n][id] = ops[first(t, ops, "accept")]
		}
	}
	must(t, b.Rename(t.Context(), g, "renamed"))
	renamed := func() json.RawMessage { ops := b.logOf(g); return ops[first(t, ops, "policy")] }()
	must(t, a.Remove(t.Context(), other, c.UserID(), ""))

	ops, others := len(a.logOf(g)), len(a.logOf(other))
	for name, tc := range map[string]struct {
		group peercrypto.ID
		raw   []byte
	}{
		"no entry":               {g, []byte(`{"op":1}`)},
		"no accept":              {g, renamed},
		"another's":              {g, accepts[d][g]},
		"of another group":       {g, accepts[c][other]},
		"of a grant that is out": {other, accepts[c][other]},
		"of no group":            {peercrypto.NewID(time.Now()), accepts[c][g]},
	} {
		talk, _ := by(t, a, c.peer())
		talk.hello()
		talk.send(groupsync.Control, acceptFrame(tc.group, tc.raw))
		talk.handled()
		if len(a.logOf(g)) != ops || len(a.logOf(other)) != others || a.info(g).Name != "g" || len(a.info(g).Members) != 2 {
			t.Fatalf("%s: it was taken: %+v", name, a.info(g))
		}
	}
	talk, _ := by(t, a, c.peer())
	talk.hello()
	talk.send(groupsync.Control, acceptFrame(g, accepts[c][g]))
	talk.handled()
	if n := len(a.info(g).Members); n != 3 {
		t.Errorf("%d members after the right one", n)
	}
}

// TestSessionLimits: who says nothing, asks without end, begins logs without end or sends frames that only the own devices may send is not kept.
func TestSessionLimits(t *testing.T) {
	a, b, g := pair(t)
	for name, tc := range map[string]struct {
		talk func(talk *rawPeer)
		want error
	}{
		"no hello": {func(*rawPeer) { a.clock.add(31 * time.Second) }, groupsync.ErrProtocol},
		"joins": {func(talk *rawPeer) {
			talk.hello()
			for range 65 {
				_ = talk.p.Send(t.Context(), groupsync.Control, frameOf(0x08, g, 0))
			}
		}, groupsync.ErrProtocol},
		"knocks": {func(talk *rawPeer) {
			talk.hello()
			for range 65 {
				_ = talk.p.Send(t.Context(), groupsync.Control, append([]byte{0x0d, 1}, make([]byte, 16)...))
			}
		}, groupsync.ErrProtocol},
		"logs": {func(talk *rawPeer) {
			talk.hello()
			for range 5 {
				_ = talk.p.Send(t.Context(), groupsync.Bulk, logFrame(peercrypto.NewID(time.Now()), 5, nil)) // an offer's first part
			}
		}, groupsync.ErrProtocol},
		"ack of nothing": {func(talk *rawPeer) {
			talk.hello()
			talk.send(groupsync.Control, []byte{0x04, 1})
		}, groupsync.ErrProtocol},
		"a second hello": {func(talk *rawPeer) {
			talk.hello()
			talk.hello()
		}, groupsync.ErrProtocol},
		"another version": {func(talk *rawPeer) {
			talk.send(groupsync.Control, append([]byte{0x01, 2, 0}, make([]byte, 16)...))
		}, groupsync.ErrProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			talk, done := by(t, a, b.peer())
			go func() { // reads whatever comes
				for {
					if _, _, err := talk.p.Recv(t.Context()); err != nil {
						return
					}
				}
			}()
			tc.talk(talk)
			select {
			case err := <-done:
				wantErr(t, err, tc.want)
			case <-time.After(time.Minute):
				t.Fatal("the session goes on")
			}
		})
	}
	own := a.peer()
	wantErr(t, func() error { _, done := by(t, a, own); return <-done }(), groupsync.ErrProtocol)
}

// TestLargeLogIsNotOffered: a log over the limit is neither sent as an offer nor taken as one.
func TestLargeLogIsNotOffered(t *testing.T) {
	warnings := make(chan string, 100)
	a := newNode(t, 0, func(c *groupsync.Config) { c.Logger = slog.New(heard{slog.DiscardHandler, warnings}) })
	b := newNode(t, 1)
	known, g := a.create("known"), a.create("g")
	join(t, a, known, entry.Write, b)
	must(t, a.AddMember(t.Context(), g, b.ident.Genesis, entry.Write))
	a.cfg.Limits.OfferBytes = 100
	a.reopen()
	c := syncPair(t, a, b, known)
	for want := "a group's log is too large to offer; send an invitation instead"; <-warnings != want; {
	}
	c.end()
	if offered(t, b) != 0 {
		t.Error("it was offered")
	}
	a.cfg.Limits.OfferBytes = 0
	a.reopen()
	b.cfg.Limits.OfferBytes = 100
	b.cfg.Logger = slog.New(heard{slog.DiscardHandler, warnings})
	b.reopen()
	c = syncPair(t, a, b, known)
	for want := "a group's log was refused: nobody asked for it, or it is too large"; <-warnings != want; {
	}
	c.end()
	if offered(t, b) != 0 {
		t.Error("it was kept")
	}
}

// TestCardLimits: a card with too much in it, or with events that do not follow each other, is none.
func TestCardLimits(t *testing.T) {
	a, b, _ := pair(t)
	card, err := b.Card(t.Context(), a.UserID(), true)
	must(t, err)
	for name, change := range map[string]func(c *groupsync.Card){
		"groups": func(c *groupsync.Card) {
			for range 64 {
				c.Groups = append(c.Groups, c.Groups[0])
			}
		},
		"a group without id": func(c *groupsync.Card) { c.Groups = []groupsync.CardGroup{{Name: "x"}} },
		"another's event": func(c *groupsync.Card) {
			c.Keys = append(c.Keys, func() keys.Event { e, err := keys.Parse(eventOf(t, b)); must(t, err); return e }())
		},
		"another's beginning": func(c *groupsync.Card) { c.Genesis.Created = -1 },
	} {
		bad := card
		bad.Groups = append([]groupsync.CardGroup(nil), card.Groups...)
		change(&bad)
		if _, err := groupsync.ParseCard(bad.Text()); !errors.Is(err, groupsync.ErrCard) {
			t.Errorf("%s: %v", name, err)
		}
	}
	j := newNode(t, 3)
	for i := range 65 {
		way := card.Groups[0]
		way.Group = peercrypto.NewID(time.Now())
		err := j.Return(t.Context(), way)
		if i < 64 {
			must(t, err)
		} else {
			wantErr(t, err, groupsync.ErrLimit)
		}
	}
	wantErr(t, j.Return(t.Context(), groupsync.CardGroup{Name: "nothing"}), groupsync.ErrCard)
}
