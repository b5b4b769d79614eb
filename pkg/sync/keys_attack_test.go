package sync_test

import (
	"errors"
	"slices"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/keys"
	"github.com/peersignal/peersignal/pkg/sync/storetest"
)

// lineByKey is a history of n rotations by whoever has a key.
func lineByKey(t testing.TB, s keys.State, key peercrypto.SigningKey, n int, now int64) ([]keys.Event, peercrypto.SigningKey) {
	t.Helper()
	var line []keys.Event
	for range n {
		next := newKey(t)
		e, err := keys.NewRotate(s, keys.Signers{Key: key, New: next}, keys.Rotated, now)
		must(t, err)
		s, err = s.Apply(e)
		must(t, err)
		line, key = append(line, e), next
	}
	return line, key
}

// shows opens a session of another user's device with a history of keys and returns how it ended.
func (n *node) shows(p groupsync.Peer, key peercrypto.PublicKey, line []keys.Event) error {
	n.t.Helper()
	p.UserKey, p.Keys = key, line
	end, _ := newPipe()
	must(n.t, end.Close())
	return n.NewSession(p, end).Run(n.t.Context())
}

// TestWordsAgainstFloodOfEvents: whoever stole the key shows members more contending events than they remember. The words settle it.
func TestWordsAgainstFloodOfEvents(t *testing.T) {
	victim, words := recovering(t)
	a := newNode(t, 1)
	g := a.create("garden")
	join(t, a, g, entry.Write, victim)
	now := a.clock.Now().UnixMilli()
	start := keys.Genesis(victim.ident.Genesis)
	for range 6 {
		line, key := lineByKey(t, start, victim.ident.User, entry.MaxKeyEvents, now)
		_ = a.shows(victim.peer(), key.Public(), line)
	}
	ident := recoverWith(t, words, groupsync.Card{Genesis: victim.ident.Genesis}, now)
	_ = a.shows(victim.peer(), ident.User.Public(), historyOf(ident))
	k, err := a.UserKeys(t.Context(), victim.UserID())
	must(t, err)
	if k.Pin.Key != ident.User.Public() || k.Pin.Frozen || len(k.Events) > entry.MaxKeyEvents+2 {
		t.Errorf("%+v with %d events", k.Pin, len(k.Events))
	}
	card, err := a.Card(t.Context(), victim.UserID(), true)
	must(t, err)
	_, err = groupsync.ParseCard(card.Text())
	must(t, err)
	back := openNode(t, ident, storetest.NewMemory(), "again")
	if err := a.shows(back.peer(), ident.User.Public(), historyOf(ident)); errors.Is(err, groupsync.ErrKeyRefused) {
		t.Error(err)
	}
}

// devicesByKey is a history of 50 devices that whoever has a key lists and takes off.
func devicesByKey(t testing.TB, s keys.State, key peercrypto.SigningKey, now int64) (line []keys.Event) {
	t.Helper()
	by := keys.Signers{Key: key}
	for len(line) < 50 {
		by.New = newKey(t)
		id := peercrypto.DeviceBody{Created: now, Key: by.New.Public()}.ID()
		e, err := keys.NewAddDevice(s, by, id, now)
		for range 2 {
			must(t, err)
			s, err = s.Apply(e)
			must(t, err)
			if line = append(line, e); e.Op == keys.RevokeDevice || len(line) < 20 {
				break
			}
			e, err = keys.NewRevokeDevice(s, keys.Signers{Key: key}, id, now)
		}
	}
	return line
}

// TestWordsAgainstFullHistory: whoever stole the key fills the history as far as it can be shown, with keys or with devices. The words still
// set a key, leave room for more, and everybody takes it.
func TestWordsAgainstFullHistory(t *testing.T) {
	victim, words := recovering(t)
	a := newNode(t, 1)
	g := a.create("garden")
	join(t, a, g, entry.Write, victim)
	now := a.clock.Now().UnixMilli()
	start := keys.Genesis(victim.ident.Genesis)
	rotations, key := lineByKey(t, start, victim.ident.User, entry.MaxKeyEvents, now)
	if err := a.shows(victim.peer(), key.Public(), rotations); errors.Is(err, groupsync.ErrKeyRefused) {
		t.Fatal(err)
	}
	listed := devicesByKey(t, start, victim.ident.User, now)
	known, err := a.UserKeys(t.Context(), victim.UserID())
	must(t, err)
	for _, events := range [][]keys.Event{nil, listed, rotations[:48], known.Events} {
		fresh := identity(t, 4)
		line, err := groupsync.WordsRecovery{
			Words: words, Genesis: victim.ident.Genesis, Events: events, Reason: keys.Compromised, Now: now, Key: fresh.User,
			Device: keys.DeviceSigner{ID: fresh.DeviceID(), Key: fresh.Device},
		}.Line()
		must(t, err)
		if len(line) > entry.MaxKeyEvents-8 || len(line) < min(len(events), 30) {
			t.Errorf("%d events behind %d", len(line), len(events))
		}
		var raw [][]byte
		for _, e := range line {
			b, err := e.Canonical()
			must(t, err)
			raw = append(raw, b)
		}
		_, err = groupsync.ParseHistory(victim.ident.Genesis, raw, fresh.User.Public())
		must(t, err)
		if len(events) < entry.MaxKeyEvents {
			continue
		}
		if err := a.shows(victim.peer(), fresh.User.Public(), line); errors.Is(err, groupsync.ErrKeyRefused) {
			t.Error(err)
		}
		k, err := a.UserKeys(t.Context(), victim.UserID())
		must(t, err)
		if k.Pin.Key != fresh.User.Public() {
			t.Errorf("%+v", k.Pin)
		}
	}
}

// TestBrokenTwinOfRecovery: a copy of the recovery with another signature comes first, and hides the good one from nobody.
func TestBrokenTwinOfRecovery(t *testing.T) {
	victim, words := recovering(t)
	a := newNode(t, 1)
	g := a.create("garden")
	join(t, a, g, entry.Write, victim)
	ident := recoverWith(t, words, groupsync.Card{Genesis: victim.ident.Genesis}, a.clock.Now().UnixMilli())
	good := historyOf(ident)[0]
	twin := good
	twin.Sigs = slices.Clone(good.Sigs)
	twin.Sigs[0].Sig[5]++
	_ = a.shows(victim.peer(), victim.ident.User.Public(), []keys.Event{twin})
	_ = a.shows(victim.peer(), ident.User.Public(), []keys.Event{good})
	k, err := a.UserKeys(t.Context(), victim.UserID())
	must(t, err)
	if k.Pin.Key != ident.User.Public() || len(k.Events) != 1 || k.Events[0].Sigs[0] != good.Sigs[0] {
		t.Errorf("%+v", k)
	}
}

// TestWordsAgainstReboundDevices: whoever stole the key lists the user's devices again, under keys of the thief. The words take these off, on
// one of the devices too, and also when they are to stay.
func TestWordsAgainstReboundDevices(t *testing.T) {
	victim, words := recovering(t)
	key, now := victim.ident.User, victim.clock.Now().UnixMilli()
	s := keys.Genesis(victim.ident.Genesis)
	var line []keys.Event
	then := func(e keys.Event, err error) {
		t.Helper()
		must(t, err)
		s, err = s.Apply(e)
		must(t, err)
		line = append(line, e)
	}
	other := identity(t, 5)
	own := []peercrypto.Identity{victim.ident, other}
	for _, d := range own {
		then(keys.NewAddDevice(s, keys.Signers{Key: key, New: d.Device}, d.DeviceID(), now))
	}
	for _, d := range own {
		then(keys.NewRevokeDevice(s, keys.Signers{Key: key}, d.DeviceID(), now))
		then(keys.NewAddDevice(s, keys.Signers{Key: key, New: newKey(t)}, d.DeviceID(), now))
	}
	recovered, err := groupsync.WordsRecovery{
		Words: words, Genesis: victim.ident.Genesis, Events: line, Reason: keys.Compromised, Now: now, Key: newKey(t),
		Device: keys.DeviceSigner{ID: victim.DeviceID(), Key: victim.ident.Device}, Keep: []peercrypto.ID{other.DeviceID()},
	}.Line()
	must(t, err)
	if got := keys.Evaluate(keys.Genesis(victim.ident.Genesis), recovered).State.Devices(); len(got) > 0 {
		t.Errorf("%v are listed", got)
	}
}
