package keys_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

const start = 1_750_000_000_000

// secret returns a key of a fixed seed.
func secret(first byte) peercrypto.SigningKey {
	seed := make([]byte, 32)
	for i := range seed {
		seed[i] = first + byte(i)
	}
	key, err := peercrypto.SigningKeyFromSeed(seed)
	if err != nil {
		panic(err)
	}
	return key
}

func pinOf(key peercrypto.SigningKey) *peercrypto.Hash {
	public := key.Public()
	h := peercrypto.Sum(public[:])
	return &h
}

func device(n int) peercrypto.ID { return peercrypto.ID(fmt.Sprintf("00mbx2yqo00000000000000%02d", n)) }

// The cast: a user with a recovery key, and three devices.
var (
	first, second, third = secret(0x00), secret(0x10), secret(0x20)
	rescue               = secret(0x30)
	body                 = peercrypto.UserGenesis{V: 1, Created: start - 1000, Key: first.Public(), Recovery: pinOf(rescue)}
	genesis              = keys.Genesis(body)
	phones               = []keys.DeviceSigner{{ID: device(1), Key: secret(0x41)}, {ID: device(2), Key: secret(0x42)}, {ID: device(3), Key: secret(0x43)}}
)

// then makes an event and returns it with the state after it.
func then(t testing.TB, s keys.State, e keys.Event, err error) (keys.Event, keys.State) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	next, err := s.Apply(e)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.Follow(e); err != nil || !reflect.DeepEqual(again, next) {
		t.Fatalf("following gives %+v, %v", again, err)
	}
	return e, next
}

func rotate(t testing.TB, s keys.State, by keys.Signers) (keys.Event, keys.State) {
	t.Helper()
	e, err := keys.NewRotate(s, by, keys.Rotated, start)
	return then(t, s, e, err)
}

// withPhones is a history that adds the three devices.
func withPhones(t testing.TB) ([]keys.Event, keys.State) {
	t.Helper()
	var events []keys.Event
	s := genesis
	for _, p := range phones {
		e, err := keys.NewAddDevice(s, keys.Signers{Key: first, New: p.Key}, p.ID, start)
		e, s = then(t, s, e, err)
		events = append(events, e)
	}
	return events, s
}

func TestLine(t *testing.T) {
	_, s := withPhones(t)
	if len(s.Devices()) != 3 || s.Quorum() != 2 || s.Seq() != 3 {
		t.Fatalf("%+v", s)
	}
	e, err := keys.NewRevoke(s, keys.Signers{Key: first}, keys.Compromised, start+1)
	_, s = then(t, s, e, err)
	if !s.Ended() {
		t.Error("a revoked key did not end")
	}
	if _, err := keys.NewRotate(s, keys.Signers{Key: first, New: second}, keys.Rotated, start); !errors.Is(err, keys.ErrEnded) {
		t.Errorf("got %v", err)
	}
	if _, err := keys.NewRotate(s, keys.Signers{Devices: phones[:1], New: second}, keys.Rotated, start); !errors.Is(err, keys.ErrNoQuorum) {
		t.Errorf("got %v", err)
	}
	_, s = rotate(t, s, keys.Signers{Devices: phones[1:], New: second})
	if s.Ended() || s.Key() != second.Public() || s.Modified() != start+1 {
		t.Errorf("%+v", s)
	}
	e, err = keys.NewRevokeDevice(s, keys.Signers{Key: second}, phones[0].ID, start)
	_, s = then(t, s, e, err)
	if len(s.Devices()) != 2 || s.Quorum() != 2 {
		t.Errorf("%d devices, quorum %d", len(s.Devices()), s.Quorum())
	}
	next := secret(0x50)
	if _, err := keys.NewSetRecovery(s, keys.Signers{Key: second, New: next}, start); !errors.Is(err, keys.ErrEvent) {
		t.Errorf("a recovery key was replaced without the old one: %v", err)
	}
	e, err = keys.NewSetRecovery(s, keys.Signers{Key: second, Recovery: rescue, New: next}, start)
	_, s = then(t, s, e, err)
	if pin, ok := s.Recovery(); !ok || pin != *pinOf(next) {
		t.Error("the recovery key is not set")
	}
	if s.User() != body.ID() {
		t.Error("another user")
	}
}

// TestQuorumIsMajority makes an event for two of three devices and takes one away.
func TestQuorumIsMajority(t *testing.T) {
	_, s := withPhones(t)
	e, _ := rotate(t, s, keys.Signers{Devices: phones[:2], New: second})
	e.Sigs = slices.Delete(slices.Clone(e.Sigs), 0, 1)
	if _, err := s.Apply(e); !errors.Is(err, keys.ErrEvent) {
		t.Errorf("one of three devices set a key: %v", err)
	}
}

// TestRevokedKeySignsNothing signs with a key before and applies after it ended.
func TestRevokedKeySignsNothing(t *testing.T) {
	s := genesis
	revoke, err := keys.NewRevoke(s, keys.Signers{Key: first}, keys.Compromised, start)
	_, ended := then(t, s, revoke, err)
	// An event that would follow the revocation if the key were not over.
	e, err := keys.NewRotate(ended, keys.Signers{Recovery: rescue, New: second}, keys.Lost, start)
	if err != nil {
		t.Fatal(err)
	}
	e.By = keys.ByKey
	e.Sigs = nil
	raw, err := e.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	if raw, err = peercrypto.RemoveMember(raw, "sigs"); err != nil {
		t.Fatal(err)
	}
	for by, key := range map[string]peercrypto.SigningKey{"key": first, "new": second} {
		e.Sigs = append(e.Sigs, keys.Sig{By: by, Pub: key.Public(), Sig: key.SignPurpose(peercrypto.PurposeKeyEvent, raw)})
	}
	slices.SortFunc(e.Sigs, func(a, b keys.Sig) int { return strings.Compare(a.By, b.By) })
	if _, err := ended.Apply(e); !errors.Is(err, keys.ErrEvent) {
		t.Errorf("a revoked key set another: %v", err)
	}
}

func TestRecoverWithWords(t *testing.T) {
	id, words, err := peercrypto.NewIdentity(timeOf(start))
	if err != nil {
		t.Fatal(err)
	}
	s := keys.Genesis(id.Genesis)
	again, err := peercrypto.ParseRecovery(words.Words())
	if err != nil {
		t.Fatal(err)
	}
	e, err := keys.Recover(again, s, second, keys.Lost, start)
	_, s = then(t, s, e, err)
	if s.Key() != second.Public() || e.By != keys.ByRecovery {
		t.Errorf("%+v", e)
	}
	if _, err := keys.Recover(again, genesis, second, keys.Lost, start); !errors.Is(err, keys.ErrNoRecovery) {
		t.Errorf("got %v", err)
	}
}

// TestRefused changes one thing of a good event.
func TestRefused(t *testing.T) {
	_, s := withPhones(t)
	byKey, _ := rotate(t, s, keys.Signers{Key: first, New: second})
	byQuorum, _ := rotate(t, s, keys.Signers{Devices: phones[:2], New: second})
	byRecovery, _ := rotate(t, s, keys.Signers{Recovery: rescue, New: second})
	for name, change := range map[string]func(e *keys.Event){
		"type":          func(e *keys.Event) { e.Type = "Event" },
		"group":         func(e *keys.Event) { e.Group = "user" },
		"id":            func(e *keys.Event) { e.ID = e.UserID + ":k9" },
		"user":          func(e *keys.Event) { e.UserID = device(9); e.ID = device(9) + ":k4" },
		"seq":           func(e *keys.Event) { e.Seq = 5; e.ID = e.UserID + ":k5" },
		"prev":          func(e *keys.Event) { e.Prev[0]++ },
		"class":         func(e *keys.Event) { e.By = "magic" },
		"other class":   func(e *keys.Event) { e.By = map[keys.Class]keys.Class{keys.ByKey: keys.ByQuorum}[e.By] },
		"kind":          func(e *keys.Event) { e.Op = "replace" },
		"reason":        func(e *keys.Event) { e.Reason = "bored" },
		"no reason":     func(e *keys.Event) { e.Reason = "" },
		"key":           func(e *keys.Event) { k := third.Public(); e.Key = &k },
		"no key":        func(e *keys.Event) { e.Key = nil },
		"device":        func(e *keys.Event) { e.Device = &keys.Device{ID: device(1), Key: first.Public()} },
		"time":          func(e *keys.Event) { e.Modified = 5 },
		"older":         func(e *keys.Event) { e.Modified = start - 5 },
		"no signature":  func(e *keys.Event) { e.Sigs = nil },
		"one fewer":     func(e *keys.Event) { e.Sigs = e.Sigs[1:] },
		"twice":         func(e *keys.Event) { e.Sigs = append(slices.Clone(e.Sigs), e.Sigs[len(e.Sigs)-1]) },
		"unordered":     func(e *keys.Event) { e.Sigs = slices.Clone(e.Sigs); slices.Reverse(e.Sigs) },
		"wrong":         func(e *keys.Event) { e.Sigs = slices.Clone(e.Sigs); e.Sigs[0].Sig[0]++ },
		"someone else":  func(e *keys.Event) { e.Sigs = slices.Clone(e.Sigs); e.Sigs[0].Pub = third.Public() },
		"foreign phone": func(e *keys.Event) { e.Sigs = slices.Clone(e.Sigs); e.Sigs[0].By = "dev:" + string(device(7)) },
	} {
		for _, good := range []keys.Event{byKey, byQuorum, byRecovery} {
			bad := good
			change(&bad)
			if _, err := s.Apply(bad); !errors.Is(err, keys.ErrEvent) {
				t.Errorf("%s of an event by %s: got %v", name, good.By, err)
			}
		}
	}
	if _, err := keys.NewRotate(s, keys.Signers{Key: first, New: first}, keys.Rotated, start); !errors.Is(err, keys.ErrEvent) {
		t.Errorf("the same key again: %v", err)
	}
	if _, err := keys.NewRotate(s, keys.Signers{Key: second, New: third}, keys.Rotated, start); !errors.Is(err, keys.ErrEvent) {
		t.Errorf("by another key: %v", err)
	}
	if _, err := keys.NewRotate(s, keys.Signers{New: third}, keys.Rotated, start); !errors.Is(err, peercrypto.ErrKey) {
		t.Errorf("by no key: %v", err)
	}
	if _, err := keys.NewRotate(s, keys.Signers{Recovery: third, New: second}, keys.Rotated, start); !errors.Is(err, keys.ErrEvent) {
		t.Errorf("by another recovery key: %v", err)
	}
}

// TestForks has the table of classes.
func TestForks(t *testing.T) {
	added, s := withPhones(t)
	signers := map[keys.Class]keys.Signers{
		keys.ByKey: {Key: first}, keys.ByQuorum: {Devices: phones[:2]}, keys.ByRecovery: {Recovery: rescue},
	}
	event := func(class keys.Class, next peercrypto.SigningKey) keys.Event {
		by := signers[class]
		by.New = next
		e, _ := rotate(t, s, by)
		return e
	}
	classes := []keys.Class{keys.ByKey, keys.ByQuorum, keys.ByRecovery}
	for _, a := range classes {
		for _, b := range classes {
			x, y := event(a, second), event(b, third)
			h := keys.Evaluate(genesis, append(slices.Clone(added), y, x))
			want := x
			switch {
			case a.Compare(b) < 0, a == b && y.Hash().Compare(x.Hash()) < 0:
				want = y
			}
			if a == keys.ByKey && b == keys.ByKey {
				if !h.Frozen() || h.State.Key() != first.Public() || len(h.Contending) != 2 {
					t.Errorf("two by the key: %+v", h)
				}
				settled := keys.Evaluate(genesis, append(slices.Clone(added), y, x, event(keys.ByQuorum, secret(0x60))))
				if settled.Frozen() || settled.State.Key() != secret(0x60).Public() {
					t.Errorf("not settled: %+v", settled)
				}
				continue
			}
			if h.Frozen() || h.State.Key() != *want.Key || !h.Holds(want.Hash()) {
				t.Errorf("%s against %s: %+v", a, b, h)
			}
		}
	}
}

// TestThiefAddsDevices steals the key and makes a quorum of it.
func TestThiefAddsDevices(t *testing.T) {
	_, s := withPhones(t)
	own, _ := withPhones(t)
	all := own
	thief := s
	for n := range 4 {
		e, err := keys.NewAddDevice(thief, keys.Signers{Key: first, New: secret(byte(0x80 + n))}, device(20+n), start)
		e, thief = then(t, thief, e, err)
		all = append(all, e)
	}
	var his []keys.DeviceSigner
	for n := range 4 {
		his = append(his, keys.DeviceSigner{ID: device(20 + n), Key: secret(byte(0x80 + n))})
	}
	e, _ := rotate(t, thief, keys.Signers{Devices: his, New: third})
	all = append(all, e)
	if h := keys.Evaluate(genesis, all); h.State.Key() != third.Public() {
		t.Fatalf("%+v", h)
	}
	back, _ := rotate(t, s, keys.Signers{Devices: phones[:2], New: second})
	if h := keys.Evaluate(genesis, append(all, back)); h.State.Key() != second.Public() {
		t.Error("the user's own devices did not win")
	}
}

// TestOrderDoesNotMatter evaluates a set in many orders, with strangers in it.
func TestOrderDoesNotMatter(t *testing.T) {
	events, s := withPhones(t)
	for _, class := range []keys.Signers{{Key: first}, {Recovery: rescue}} {
		for _, next := range []peercrypto.SigningKey{second, third} {
			class.New = next
			e, after := rotate(t, s, class)
			f, err := keys.NewRevoke(after, keys.Signers{Key: next}, keys.Lost, start)
			f, _ = then(t, after, f, err)
			events = append(events, e, f)
		}
	}
	broken := events[0]
	broken.Sigs = slices.Clone(broken.Sigs)
	broken.Sigs[0].Sig[3]++
	orphan := events[1]
	orphan.Prev[1]++
	events = append(events, broken, orphan)
	want := keys.Evaluate(genesis, events)
	if want.Frozen() || len(want.Line) != len(want.Path) || keys.Connected(genesis, events) || !keys.Connected(genesis, want.Decisive()) {
		t.Errorf("%+v", want)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		rng.Shuffle(len(events), func(i, k int) { events[i], events[k] = events[k], events[i] })
		got := keys.Evaluate(genesis, slices.Concat(events, events[:4])) // a broken twin may come before or after the good one
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v\nwant %+v", got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	events, s := withPhones(f)
	e, _ := rotate(f, s, keys.Signers{Recovery: rescue, New: second})
	for _, e := range append(events, e) {
		raw, err := e.Canonical()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := keys.Parse(raw)
		if err != nil {
			if !errors.Is(err, keys.ErrEvent) {
				t.Errorf("unknown error %v", err)
			}
			return
		}
		again, err := e.Canonical()
		if err != nil || string(again) != string(raw) {
			t.Error("not in its only form")
		}
		_, _ = genesis.Apply(e)
		_, _ = s.Apply(e)
	})
}

// FuzzEvaluate makes a set of events of bytes; whatever the order, it says the same.
func FuzzEvaluate(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7})
	f.Add([]byte{9, 0, 18, 0, 27, 1, 33, 2, 200, 1, 90, 3})
	f.Fuzz(func(t *testing.T, data []byte) {
		states := []keys.State{genesis}
		secrets := []peercrypto.SigningKey{first}
		var events []keys.Event
		for i := 0; i+1 < len(data) && len(events) < 24; i += 2 {
			at := int(data[i]) % len(states)
			s, by := states[at], keys.Signers{Key: secrets[at], New: secret(0x90 + data[i+1]%7)}
			var e keys.Event
			var err error
			switch data[i+1] / 8 % 5 {
			case 0:
				e, err = keys.NewAddDevice(s, by, device(int(data[i+1])%7), start)
			case 1:
				by.Recovery = rescue
				e, err = keys.NewRotate(s, by, keys.Lost, start)
			case 2:
				by.Recovery = rescue
				e, err = keys.NewRevoke(s, by, keys.Compromised, start)
			default:
				e, err = keys.NewRotate(s, by, keys.Rotated, start)
			}
			if err != nil {
				continue
			}
			next, err := s.Apply(e)
			if err != nil {
				t.Fatal(err)
			}
			events, states = append(events, e), append(states, next)
			key := secrets[at]
			if e.Op == keys.Rotate {
				key = by.New
			}
			secrets = append(secrets, key)
		}
		want := keys.Evaluate(genesis, events)
		// What lost may be forgotten at any time.
		some := events[:len(events)/2] // none before what it follows
		if got := keys.Evaluate(genesis, append(keys.Evaluate(genesis, some).Decisive(), events[len(some):]...)); !reflect.DeepEqual(got, want) {
			t.Errorf("without what lost: %+v\nwant %+v", got, want)
		}
		slices.Reverse(events)
		if got := keys.Evaluate(genesis, events); !reflect.DeepEqual(got, want) {
			t.Errorf("%+v\nwant %+v", got, want)
		}
		if !keys.Connected(genesis, events) {
			t.Error("a good event was refused")
		}
	})
}
