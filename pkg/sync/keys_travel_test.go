package sync_test

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/keys"
	"github.com/peersignal/peersignal/pkg/sync/storetest"
)

// again starts the engine anew and takes over the identity that it found in the store. The key store of the test stays the old one.
func (n *node) again() {
	n.t.Helper()
	n.reopen()
	n.ident = n.Identity()
}

func (n *node) card() groupsync.Card {
	n.t.Helper()
	c, err := n.Card(n.t.Context(), n.UserID(), false)
	must(n.t, err)
	return c
}

// newDevice makes a request of a device that is nobody's yet.
func newDevice(t testing.TB, card groupsync.Card) (peercrypto.Identity, groupsync.DeviceRequest) {
	t.Helper()
	id, _, err := peercrypto.NewIdentity((&clock{}).Now())
	must(t, err)
	r, err := groupsync.NewDeviceRequest(id, card, time.Now())
	must(t, err)
	again, err := groupsync.ParseDeviceRequest(r.Text())
	must(t, err)
	if again.Code() != r.Code() || again.Device() != id.DeviceID() || len(r.Code()) != 23 {
		t.Error("the request does not survive its text")
	}
	return id, again
}

// addDevice makes another device of the node's user.
func (n *node) addDevice() *node {
	n.t.Helper()
	id, r := newDevice(n.t, n.card())
	w, err := n.AddDevice(n.t.Context(), r)
	must(n.t, err)
	w, err = groupsync.ParseWelcome(w.WithServer("https://signal.example.org").Text())
	must(n.t, err)
	id, err = w.Accept(id)
	must(n.t, err)
	if w.Server() != "https://signal.example.org" || id.User.Public() != n.Identity().User.Public() {
		n.t.Error("the welcome is not what was given")
	}
	n.again()
	return openNode(n.t, id, storetest.NewMemory(), "another device")
}

// meet connects two nodes until ok, and ends their sessions.
func meet(t testing.TB, a, b *node, what string, ok func() bool) {
	t.Helper()
	c := connect(t, a, b)
	eventually(t, what, ok)
	c.end()
}

// devices makes a user with n devices that know of each other and hold a group with another user.
func devices(t testing.TB, n int) (own []*node, other *node, group peercrypto.ID) {
	t.Helper()
	first, _ := recovering(t)
	other = newNode(t, 1)
	group = first.create("garden")
	join(t, first, group, entry.Write, other)
	own = []*node{first}
	for len(own) < n {
		d := first.addDevice()
		meet(t, first, d, "the group reaches the new device", func() bool {
			g, err := d.Group(t.Context(), group)
			return err == nil && g.Joined && g.Fingerprint == first.info(group).Fingerprint
		})
		own = append(own, d)
	}
	return own, other, group
}

func (n *node) key() peercrypto.PublicKey { return n.Identity().User.Public() }

// TestKeyTravels: a key that one device set reaches the others, one that is there and one that was away, and nobody else.
func TestKeyTravels(t *testing.T) {
	own, other, g := devices(t, 3)
	a, b, c := own[0], own[1], own[2]
	old := a.key()
	must(t, a.RotateKey(t.Context(), keys.Rotated, nil))
	if !a.IdentityReplaced() || a.key() != old {
		t.Error("the engine changed its key while it ran, or does not tell")
	}
	a.again()
	if a.key() == old || len(a.cfg.Identity.History) != 0 {
		t.Fatal("the new key is not in force")
	}
	meet(t, a, b, "the key comes", b.IdentityReplaced)
	b.again()
	if b.key() != a.key() {
		t.Fatal("another key came")
	}
	if err := b.Rename(t.Context(), g, "early"); !errors.Is(err, groupsync.ErrKeyPending) {
		t.Errorf("before it knows what the first device wrote: %v", err)
	}
	syncPair(t, a, b, g).end()
	b.put(g, `{"type":"Note","by":"b"}`)
	syncPair(t, b, other, g).end()
	// a is gone; c gets the key from b, on a topic of the old key.
	topic := peercrypto.PersonalRendezvousKey(c.Identity().User)
	listens := func(n *node) bool {
		return slices.ContainsFunc(n.Rendezvous(), func(r groupsync.Rendezvous) bool { return r.Key == topic })
	}
	if !listens(a) || !listens(b) {
		t.Error("nobody looks for the device that has the old key")
	}
	meet(t, b, c, "the key comes", c.IdentityReplaced)
	c.again()
	if c.key() != a.key() {
		t.Fatal("another key came")
	}
	syncPair(t, b, c, g).end()
	if listens(b) || !metAll(t, b) {
		t.Error("the old topic is kept although everybody has the new key")
	}
	c.put(g, `{"type":"Note","by":"c"}`)
	syncPair(t, c, other, g).end()
	syncPair(t, a, other, g).end()
	if a.export(g) != other.export(g) {
		t.Error("replicas differ")
	}
}

func (n *node) devices() []groupsync.DeviceInfo {
	n.t.Helper()
	list, err := n.Devices(n.t.Context())
	must(n.t, err)
	return list
}

func metAll(t testing.TB, n *node) bool {
	t.Helper()
	return !slices.ContainsFunc(n.devices(), func(d groupsync.DeviceInfo) bool { return d.Listed && !d.Met })
}

// TestRevokedDeviceGetsNoKey: neither a device that was taken off the list nor one that was never on it gets the new key.
func TestRevokedDeviceGetsNoKey(t *testing.T) {
	own, _, _ := devices(t, 3)
	a, b, lost := own[0], own[1], own[2]
	must(t, a.RotateKey(t.Context(), keys.Rotated, []peercrypto.ID{lost.DeviceID()}))
	a.again()
	end, _ := newPipe()
	wantErr(t, a.NewSession(lost.peer(), end).Run(t.Context()), groupsync.ErrKeyRefused)
	stranger, _, err := peercrypto.NewIdentity(time.Now())
	must(t, err)
	thief := b.ident
	thief.Device, thief.DeviceBox, thief.DeviceCreated = stranger.Device, stranger.DeviceBox, stranger.DeviceCreated
	x := openNode(t, thief, storetest.NewMemory(), "thief")
	end, _ = newPipe()
	wantErr(t, a.NewSession(x.peer(), end).Run(t.Context()), groupsync.ErrKeyRefused)
	// One that claims the place of a listed device has not its key.
	claims := x.peer()
	claims.DeviceID = b.DeviceID()
	end, _ = newPipe()
	wantErr(t, a.NewSession(claims, end).Run(t.Context()), groupsync.ErrKeyRefused)
	for _, d := range []*node{lost, x} {
		device := keys.Device{ID: d.DeviceID(), Key: d.ident.Device.Public()}
		if a.AdmitsDevice(a.UserID(), d.key(), device) {
			t.Error("it would be connected with")
		}
	}
	if !a.AdmitsDevice(a.UserID(), b.key(), keys.Device{ID: b.DeviceID(), Key: b.ident.Device.Public()}) {
		t.Error("the device that is to get the key would not be connected with")
	}
	if !a.Superseded(a.UserID(), b.key()) || b.Superseded(a.UserID(), a.key()) || a.Superseded(a.UserID(), a.key()) {
		t.Error("the wrong one is sought")
	}
	meet(t, a, b, "the key comes", b.IdentityReplaced)
	// The list without the lost device came with it.
	b.again()
	end, _ = newPipe()
	wantErr(t, b.NewSession(lost.peer(), end).Run(t.Context()), groupsync.ErrKeyRefused)
}

// TestKeysOnlySession: a device with an old key gets the key and nothing of a group.
func TestKeysOnlySession(t *testing.T) {
	own, other, g := devices(t, 2)
	a, b := own[0], own[1]
	must(t, a.RotateKey(t.Context(), keys.Rotated, nil))
	a.again()
	secret := a.put(g, `{"type":"Note","after":true}`)
	c := connect(t, a, b)
	eventually(t, "the key comes", b.IdentityReplaced)
	c.end()
	if _, err := b.Get(t.Context(), g, secret.Subject); err == nil {
		t.Error("what is in the group came, too")
	}
	b.again()
	syncPair(t, a, b, g).end()
	_, err := b.Get(t.Context(), g, secret.Subject)
	must(t, err)
	syncPair(t, a, other, g).end()
}

// TestDeviceTexts: what is not whole is refused, and a request made from an older card, too.
func TestDeviceTexts(t *testing.T) {
	a, _ := recovering(t)
	card := a.card()
	id, r := newDevice(t, card)
	_, late := newDevice(t, card)
	w, err := a.AddDevice(t.Context(), r)
	must(t, err)
	_, err = a.AddDevice(t.Context(), late)
	wantErr(t, err, groupsync.ErrOldRequest)
	_, err = a.AddDevice(t.Context(), r)
	wantErr(t, err, groupsync.ErrOldRequest)
	other := newNode(t, 1)
	_, foreign := newDevice(t, other.card())
	_, err = a.AddDevice(t.Context(), foreign)
	wantErr(t, err, groupsync.ErrDeviceText)
	if _, err := w.Accept(identity(t, 2)); err == nil {
		t.Error("another device opened the welcome")
	}
	for _, text := range []string{"", "peers:device#", r.Text()[:40], r.Text() + "A", strings.Replace(r.Text(), "A", "B", 1), w.Text()} {
		_, err := groupsync.ParseDeviceRequest(text)
		wantErr(t, err, groupsync.ErrDeviceText)
	}
	for _, text := range []string{"", "peers:welcome#", w.Text()[:60], strings.Replace(w.Text(), "A", "B", 1), r.Text()} {
		_, err := groupsync.ParseWelcome(text)
		wantErr(t, err, groupsync.ErrDeviceText)
	}
	if _, err := w.Accept(id); err != nil {
		t.Error(err)
	}
	list := a.devices()
	if len(list) != 2 || !list[0].Listed || !list[1].Listed || list[0].Self == list[1].Self {
		t.Errorf("%+v", list)
	}
}

// FuzzDeviceTexts: what is not a request or a welcome is refused, and what is one survives its text.
func FuzzDeviceTexts(f *testing.F) {
	id, _, err := peercrypto.NewIdentity((&clock{}).Now())
	if err != nil {
		f.Fatal(err)
	}
	r, err := groupsync.NewDeviceRequest(id, groupsync.Card{Genesis: id.Genesis}, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(r.Text())
	f.Add("peers:welcome#e30")
	f.Fuzz(func(t *testing.T, text string) {
		if r, err := groupsync.ParseDeviceRequest(text); err == nil {
			if again, err := groupsync.ParseDeviceRequest(r.Text()); err != nil || again.Code() != r.Code() {
				t.Errorf("%v", err)
			}
		} else if !errors.Is(err, groupsync.ErrDeviceText) {
			t.Errorf("%v", err)
		}
		if w, err := groupsync.ParseWelcome(text); err == nil {
			if _, err := w.Accept(id); err == nil {
				t.Error("it opened")
			}
		} else if !errors.Is(err, groupsync.ErrDeviceText) {
			t.Errorf("%v", err)
		}
	})
}

// TestOwnFramesOfStrangers: frames about keys from another user, and broken ones from an own device, have no effect. The broken ones are told.
func TestOwnFramesOfStrangers(t *testing.T) {
	own, other, g := devices(t, 2)
	a, b := own[0], own[1]
	warnings := make(chan string, 100)
	a.cfg.Logger = slog.New(heard{slog.DiscardHandler, warnings})
	a.reopen()
	event := string(eventOf(t, other))
	many := func(n int, what string) string { return strings.TrimSuffix(strings.Repeat(what+",", n), ",") }
	frames := map[byte][]string{
		0x81: {"", "{}", `{"v":1}`, strings.Repeat("x", 1000)},
		0x82: {"", "{}", `{"v":1}`}, // not asked for: nothing is to be said about it
		0x83: {
			"", "{}", `{"v":2}`, `{"v":1,"events":[{}]}`, `{"events":[` + event + `],"v":1}`, strings.Repeat("x", 1000),
			`{"proposals":[` + many(9, "[]") + `],"v":1}`,
		},
	}
	bad := len(frames[0x81]) + len(frames[0x83])
	frames[0x83] = append(frames[0x83], `{"v":1}`, `{"proposals":[[]],"v":1}`, `{"proposals":[[`+many(2, event)+`]],"v":1}`) // nothing in it is for this one
	key := a.key()
	for _, from := range []*node{other, b} {
		pa, pb := newPipe()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.NewSession(from.peer(), pa).Run(ctx) }()
		talk := newRaw(t, pb)
		talk.hello()
		for typ, bodies := range frames {
			for _, body := range bodies {
				raw := binary.AppendUvarint([]byte{typ}, uint64(len(body)))
				talk.send(groupsync.Control, append(raw, body...))
			}
		}
		talk.send(groupsync.Control, frameOf(0x08, peercrypto.NewID(time.Now()), 0))
		talk.expect(0x09) // REFUSED: what came before was handled
		cancel()
		<-done
		want := 0
		if from == b {
			want = bad
		}
		if len(warnings) != want {
			t.Errorf("%d frames of %d were found to be broken", len(warnings), want)
		}
	}
	if p, ok := a.proposal(); ok || a.IdentityReplaced() || a.key() != key {
		t.Errorf("%+v", p)
	}
	syncPair(t, a, b, g).end()
}

// TestHistoryKeepsRoom: when the key alone has filled its part of the history, the words still have theirs.
func TestHistoryKeepsRoom(t *testing.T) {
	a, words := recovering(t)
	rotations := 0
	for {
		err := a.RotateKey(t.Context(), keys.Rotated, nil)
		if err != nil {
			wantErr(t, err, groupsync.ErrLimit)
			break
		}
		rotations++
		a.again()
	}
	if rotations != 48 {
		t.Errorf("%d rotations", rotations)
	}
	ident := recoverWith(t, words, a.card(), a.clock.Now().UnixMilli())
	if b := openNode(t, ident, storetest.NewMemory(), "again"); b.UserID() != a.UserID() || b.key() == a.key() {
		t.Error("the words set no key")
	}
}
