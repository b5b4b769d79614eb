package sync_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/keys"
	"github.com/peersignal/peersignal/pkg/sync/storetest"
)

func historyOf(id peercrypto.Identity) []keys.Event {
	events, err := groupsync.ParseHistory(id.Genesis, id.History, id.User.Public())
	if err != nil {
		return nil
	}
	return events
}

// withKey returns an identity that an event gave another key.
func withKey(t testing.TB, id peercrypto.Identity, next peercrypto.SigningKey, e keys.Event) peercrypto.Identity {
	t.Helper()
	raw, err := e.Canonical()
	must(t, err)
	id.User, id.History = next, append(slices.Clone(id.History), raw)
	return id
}

func newKey(t testing.TB) peercrypto.SigningKey {
	t.Helper()
	k, err := peercrypto.GenerateSigningKey()
	must(t, err)
	return k
}

// rotate gives a node's user another key by the old one and starts the engine anew.
func (n *node) rotate() {
	n.t.Helper()
	next := newKey(n.t)
	s := keys.Evaluate(keys.Genesis(n.ident.Genesis), historyOf(n.ident)).State
	e, err := keys.NewRotate(s, keys.Signers{Key: n.ident.User, New: next}, keys.Rotated, n.clock.Now().UnixMilli())
	must(n.t, err)
	n.ident = withKey(n.t, n.ident, next, e)
	n.cfg.Identity = n.ident
	n.reopen()
}

// recovering is a node whose user has 24 words.
func recovering(t testing.TB) (*node, peercrypto.Recovery) {
	t.Helper()
	id, words, err := peercrypto.NewIdentity((&clock{}).Now())
	must(t, err)
	return openNode(t, id, storetest.NewMemory(), "recovering"), words
}

// recover makes the identity of a new device out of words and a card.
func recoverWith(t testing.TB, words peercrypto.Recovery, card groupsync.Card, now int64) peercrypto.Identity {
	t.Helper()
	fresh, _, err := peercrypto.NewIdentity((&clock{}).Now())
	must(t, err)
	h := keys.Evaluate(keys.Genesis(card.Genesis), card.Keys)
	e, err := keys.Recover(words, h.State, fresh.User, keys.Lost, now)
	must(t, err)
	for _, hash := range h.Path {
		i := slices.IndexFunc(card.Keys, func(e keys.Event) bool { return e.Hash() == hash })
		raw, err := card.Keys[i].Canonical()
		must(t, err)
		fresh.History = append(fresh.History, raw)
	}
	next := fresh.User
	fresh.Genesis = card.Genesis
	return withKey(t, fresh, next, e)
}

// TestRotate: what was written before and after a rotation counts for everybody, also for who joins later; twice.
func TestRotate(t *testing.T) {
	a, b, g := pair(t)
	docs := []groupsync.Document{b.put(g, `{"n":0,"type":"Note"}`)}
	syncPair(t, a, b, g).end()
	for i := range 2 {
		old := b.ident
		b.rotate()
		docs = append(docs, b.put(g, `{"n":%d,"type":"Note"}`, i+1))
		syncPair(t, a, b, g).end()
		k, err := a.UserKeys(t.Context(), b.UserID())
		must(t, err)
		if k.Pin.Key != b.ident.User.Public() || k.Pin.Seq != int64(i+1) || k.Pin.Trust != keys.Introduced {
			t.Errorf("rotation %d: %+v", i, k.Pin)
		}
		// The old key is refused from now on.
		thief := *b
		thief.ident = old
		end, _ := newPipe()
		wantErr(t, a.NewSession(thief.peer(), end).Run(t.Context()), groupsync.ErrKeyRefused)
	}
	c := newNode(t, 2)
	join(t, a, g, entry.Write, c)
	syncPair(t, a, c, g).end()
	for i, d := range docs {
		if _, err := c.Get(t.Context(), g, d.Subject); err != nil {
			t.Errorf("document %d: %v", i, err)
		}
	}
	if a.export(g) != c.export(g) || a.export(g) != b.export(g) {
		t.Error("replicas differ")
	}
	// Who rotated makes groups and is admitted to others.
	h := b.create("later")
	join(t, b, h, entry.Write, c)
	c.put(h, `{"type":"Note"}`)
	join(t, a, a.create("other"), entry.Write, b)
}

// TestRecover: the device and its key are lost; 24 words and a card from a member bring back everything that members hold.
func TestRecover(t *testing.T) {
	lost, words := recovering(t)
	b := newNode(t, 1)
	g := lost.create("garden")
	join(t, lost, g, entry.Write, b)
	early := lost.put(g, `{"n":1,"type":"Note"}`)
	syncPair(t, lost, b, g).end()
	log := lost.logOf(g)
	create, err := entry.Decode(log[first(t, log, entry.KindCreate)])
	must(t, err)
	unseen := (&pen{t: t, n: lost, group: g, grant: create}).write(func(d *entry.DataDraft) { d.Dev += ":thief" })
	number, err := b.SafetyNumber(t.Context(), lost.UserID())
	must(t, err)
	_, err = b.VerifyUser(t.Context(), lost.UserID(), strings.Repeat("12345 ", 12))
	wantErr(t, err, groupsync.ErrNumber)
	if pin, err := b.VerifyUser(t.Context(), lost.UserID(), strings.ReplaceAll(number, " ", "")); err != nil || pin.Trust != keys.Verified {
		t.Errorf("%+v %v", pin, err)
	}
	card, err := b.Card(t.Context(), lost.UserID(), true)
	must(t, err)
	card, err = groupsync.ParseCard(card.Text())
	must(t, err)
	if len(card.Groups) != 1 {
		t.Fatalf("%+v", card)
	}
	ident := recoverWith(t, words, card, b.clock.Now().UnixMilli())
	back := openNode(t, ident, storetest.NewMemory(), "again")
	if back.UserID() != lost.UserID() || back.DeviceID() == lost.DeviceID() {
		t.Error("another user, or the same device")
	}
	must(t, back.Return(t.Context(), card.Groups[0]))
	back.reopen() // it lasts
	alarms := b.Subscribe(t.Context())
	c := syncPair(t, back, b, g)
	eventually(t, "the new key", func() bool {
		_, err := back.Put(t.Context(), g, json.RawMessage(`{"n":2,"type":"Note"}`))
		return err == nil
	})
	c.end()
	syncPair(t, back, b, g).end()
	must(t, back.Rename(t.Context(), g, "owned again"))
	syncPair(t, back, b, g).end()
	if b.info(g).Name != "owned again" {
		t.Error("the owner can't rename")
	}
	if res := b.ingest(b, g, unseen); res.Accepted != 0 {
		t.Errorf("the old key's later write: %+v", res)
	}
	for _, n := range []*node{b, back} {
		if _, err := n.Get(t.Context(), g, early.Subject); err != nil {
			t.Errorf("what was written before: %v", err)
		}
		_, err := n.Get(t.Context(), g, unseen.Subject)
		wantErr(t, err, groupsync.ErrNotFound)
	}
	pin, err := b.UserKeys(t.Context(), lost.UserID())
	must(t, err)
	if pin.Pin.Trust != keys.Introduced || pin.Pin.Key != ident.User.Public() {
		t.Errorf("after a recovery: %+v", pin.Pin)
	}
	for ev := range alarms {
		if al, ok := ev.(groupsync.Alarm); ok && strings.Contains(al.Text, string(keys.KeyReplaced)) {
			break
		}
	}
	if again, _ := b.SafetyNumber(t.Context(), lost.UserID()); again == number {
		t.Error("the safety number is the old one")
	}
}

// TestRecoverFromThief: whoever stole the key rotated it. The words win, whatever came first.
func TestRecoverFromThief(t *testing.T) {
	victim, words := recovering(t)
	a := newNode(t, 1)
	g := a.create("garden")
	join(t, a, g, entry.Write, victim)
	early := victim.put(g, `{"type":"Note"}`)
	syncPair(t, a, victim, g).end()
	card := groupsync.Card{Genesis: victim.ident.Genesis}
	ident := recoverWith(t, words, card, a.clock.Now().UnixMilli())
	thief := openNode(t, victim.ident, storetest.NewMemory(), "thief")
	thief.Engine, thief.store, thief.cfg = victim.Engine, victim.store, victim.cfg
	stolen := rekeyOf(t, victim, g, newKey(t))
	a.ingest(victim, g, stolen)
	_, err := a.Get(t.Context(), g, early.Subject)
	wantErr(t, err, groupsync.ErrNotFound) // the thief's rekey covers nothing
	victim.ident, victim.cfg.Identity = ident, ident
	victim.reopen()
	victim.put(g, `{"type":"Note","after":true}`)
	syncPair(t, a, victim, g).end()
	if _, err := a.Get(t.Context(), g, early.Subject); err != nil {
		t.Errorf("what was written before: %v", err)
	}
	if a.export(g) != victim.export(g) {
		t.Error("replicas differ")
	}
	k, err := a.UserKeys(t.Context(), victim.UserID())
	must(t, err)
	if k.Pin.Key != ident.User.Public() || k.Pin.Frozen {
		t.Errorf("%+v", k.Pin)
	}
}

// TestStaleSessionEnds: a session under a key that is replaced meanwhile ends.
func TestStaleSessionEnds(t *testing.T) {
	a, b, g := pair(t)
	a.put(g, `{"type":"Note"}`)
	c := syncPair(t, a, b, g)
	ident := b.ident
	r := rekeyOf(t, b, g, newKey(t))
	a.ingest(b, g, r)
	eventually(t, "the end of the session", func() bool { return len(a.Sessions()) == 0 })
	ea, _ := c.end()
	wantErr(t, ea, groupsync.ErrKeyRefused)
	b.ident = ident
	end, _ := newPipe()
	wantErr(t, a.NewSession(b.peer(), end).Run(t.Context()), groupsync.ErrKeyRefused)
}

func FuzzParseCard(f *testing.F) {
	id, _, err := peercrypto.NewIdentity((&clock{}).Now())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(groupsync.Card{Genesis: id.Genesis}.Text())
	f.Add("peers:card#e30")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := groupsync.ParseCard(text)
		if err != nil {
			if !errors.Is(err, groupsync.ErrCard) {
				t.Errorf("%v", err)
			}
			return
		}
		if again, err := groupsync.ParseCard(c.Text()); err != nil || again.Text() != c.Text() {
			t.Errorf("%v", err)
		}
	})
}

// TestCardRefusals: a card that was changed is no card.
func TestCardRefusals(t *testing.T) {
	a, b, _ := pair(t)
	b.rotate()
	card, err := b.Card(t.Context(), a.UserID(), true)
	must(t, err)
	text := card.Text()
	for _, bad := range []string{"", "peers:card#", text[:len(text)-3], text + "AAAA", strings.Replace(text, "A", "B", 1), strings.Repeat("x", 1<<20)} {
		if _, err := groupsync.ParseCard(bad); !errors.Is(err, groupsync.ErrCard) {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
	own, err := b.Card(t.Context(), b.UserID(), false)
	must(t, err)
	if again, err := groupsync.ParseCard(own.Text()); err != nil || len(again.Keys) != 1 || len(again.Groups) != 0 {
		t.Errorf("%+v %v", again, err)
	}
}
