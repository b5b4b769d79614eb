package sync_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"log/slog"
	"slices"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// heard is a log handler that tells of warnings.
type heard struct {
	slog.Handler
	warnings chan string
}

func (h heard) Handle(_ context.Context, r slog.Record) error {
	if r.Level == slog.LevelWarn {
		select {
		case h.warnings <- r.Message:
		default:
		}
	}
	return nil
}

func (h heard) Enabled(context.Context, slog.Level) bool { return true }

// asksForKey has a device that lacks the key in use meet one that showed it, which is played by hand. It returns what was asked.
func asksForKey(t testing.TB, lacks *node, shows groupsync.Peer) (talk *rawPeer, need []byte) {
	t.Helper()
	pl, ps := newPipe()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- lacks.NewSession(shows, pl).Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	talk = newRaw(t, ps)
	talk.hello()
	need = talk.expect(0x81)[1:]
	_, n := binary.Uvarint(need)
	return talk, need[n:]
}

// giveKey answers with a secret.
func (r *rawPeer) giveKey(need []byte, secret map[string]any) {
	r.t.Helper()
	var asked struct {
		Eph peercrypto.BoxPublicKey `json:"eph"`
	}
	must(r.t, json.Unmarshal(need, &asked))
	about, err := peercrypto.RemoveMember(need, "sig")
	must(r.t, err)
	mine, err := peercrypto.GenerateBoxKey()
	must(r.t, err)
	shared, err := mine.SharedSecret(asked.Eph)
	must(r.t, err)
	plain, err := peercrypto.MarshalCanonical(secret)
	must(r.t, err)
	sum := peercrypto.Sum(about)
	box := peercrypto.Seal(peercrypto.DeriveKey(shared[:], nil, "peers/key-gift/1"), sum[:], plain)
	gift, err := peercrypto.MarshalCanonical(map[string]any{"v": 1, "eph": mine.Public(), "box": peercrypto.EncodeB64u(box)})
	must(r.t, err)
	r.send(groupsync.Control, append(binary.AppendUvarint([]byte{0x82}, uint64(len(gift))), gift...))
}

// TestListedDeviceGivesWrongKey: a device on the list gives another key than the one in its history, or a history that does not stand. Nothing of it is
// stored, and the right key is taken afterwards.
func TestListedDeviceGivesWrongKey(t *testing.T) {
	own, _, _ := devices(t, 2)
	a, b := own[0], own[1]
	must(t, a.RotateKey(t.Context(), keys.Rotated, nil))
	a.again()
	warnings := make(chan string, 16)
	b.cfg.Logger = slog.New(heard{slog.DiscardHandler, warnings})
	b.reopen()
	var events []json.RawMessage
	for _, raw := range a.ident.History {
		events = append(events, raw)
	}
	seed := func(k peercrypto.SigningKey) string { return peercrypto.EncodeB64u(k.ExportSeed()) }
	wrong := newKey(t)
	// An event that the wrong key signs for itself.
	s := keys.Evaluate(keys.Genesis(a.ident.Genesis), historyOf(a.ident)).State
	forged, err := keys.NewRotate(s, keys.Signers{Key: a.ident.User, New: wrong}, keys.Rotated, a.clock.Now().UnixMilli())
	must(t, err)
	forged.Sigs[0].Sig = forged.Sigs[1].Sig
	raw, err := forged.Canonical()
	must(t, err)
	for name, secret := range map[string]map[string]any{
		"another key":              {"v": 1, "seed": seed(wrong), "events": events},
		"another key, no history":  {"v": 1, "seed": seed(wrong), "events": []json.RawMessage{}},
		"another key, forged":      {"v": 1, "seed": seed(wrong), "events": append(slices.Clone(events), raw)},
		"no key":                   {"v": 1, "seed": "", "events": events},
		"another version":          {"v": 2, "seed": seed(a.ident.User), "events": events},
		"more than was asked for":  {"v": 1, "seed": seed(a.ident.User), "events": events, "x": 1},
		"an event of another user": {"v": 1, "seed": seed(wrong), "events": []json.RawMessage{eventOf(t, newNode(t, 3))}},
	} {
		t.Run(name, func(t *testing.T) {
			talk, need := asksForKey(t, b, a.peer())
			talk.giveKey(need, secret)
			for <-warnings != "another of your devices and this one could not agree on keys" {
			}
			if b.IdentityReplaced() {
				t.Fatal("it was stored")
			}
			if now, err := groupsync.CurrentIdentity(t.Context(), b.store, b.ident); err != nil || now.User.Public() != b.ident.User.Public() {
				t.Fatalf("the device goes on with another key: %v", err)
			}
		})
	}
	talk, need := asksForKey(t, b, a.peer())
	talk.giveKey(need, map[string]any{"v": 1, "seed": seed(a.ident.User), "events": events})
	eventually(t, "the right key is taken", b.IdentityReplaced)
	b.again()
	if b.key() != a.key() {
		t.Error("another key was taken")
	}
}

// eventOf makes a key event of a node's user.
func eventOf(t testing.TB, n *node) json.RawMessage {
	t.Helper()
	e, err := keys.NewRotate(keys.Evaluate(keys.Genesis(n.ident.Genesis), nil).State,
		keys.Signers{Key: n.ident.User, New: newKey(t)}, keys.Rotated, n.clock.Now().UnixMilli())
	must(t, err)
	raw, err := e.Canonical()
	must(t, err)
	return raw
}

// needBy is a request for the key, as a device makes it; change alters it before it is signed.
func needBy(t testing.TB, from, to *node, change func(need map[string]any)) []byte {
	t.Helper()
	eph, err := peercrypto.GenerateBoxKey()
	must(t, err)
	need := map[string]any{"v": 1, "user": from.UserID(), "from": from.DeviceID(), "to": to.DeviceID(), "eph": eph.Public()}
	if change != nil {
		change(need)
	}
	unsigned, err := peercrypto.MarshalCanonical(need)
	must(t, err)
	need["sig"] = from.ident.Device.SignPurpose(peercrypto.PurposeKeyRequest, unsigned)
	raw, err := peercrypto.MarshalCanonical(need)
	must(t, err)
	return append(binary.AppendUvarint([]byte{0x81}, uint64(len(raw))), raw...)
}

// TestKeyIsGivenToListedDevicesOnly: whoever asks must be on the list, and ask this device for itself with its own signature. Other frames of one that is
// connected get no key out of a device.
func TestKeyIsGivenToListedDevicesOnly(t *testing.T) {
	own, other, _ := devices(t, 2)
	a, b := own[0], own[1]
	copied := a.ident // has the user's key, and is on no list
	copied.Device = newKey(t)
	copied.DeviceCreated++
	x := openNode(t, copied, newStore(), "a copy")
	warnings := make(chan string, 100)
	a.cfg.Logger = slog.New(heard{slog.DiscardHandler, warnings})
	a.reopen()
	for name, tc := range map[string]struct {
		who  *node
		need []byte
		said int // warnings
	}{
		"not on the list":      {x, needBy(t, x, a, nil), 1},
		"in a listed's name":   {x, needBy(t, x, a, func(n map[string]any) { n["from"] = b.DeviceID() }), 1},
		"another's request":    {x, needBy(t, b, a, nil), 1},
		"for another device":   {b, needBy(t, b, x, nil), 1},
		"as another device":    {b, needBy(t, b, a, func(n map[string]any) { n["from"] = x.DeviceID() }), 1},
		"as another user":      {b, needBy(t, b, a, func(n map[string]any) { n["user"] = other.UserID() }), 1},
		"of another version":   {b, needBy(t, b, a, func(n map[string]any) { n["v"] = 2 }), 1},
		"signed by another":    {b, signedBy(t, x, needBy(t, b, a, nil)), 1},
		"by another user":      {other, needBy(t, other, a, nil), 0},
		"by another, for this": {other, needBy(t, b, a, nil), 0},
	} {
		t.Run(name, func(t *testing.T) {
			kinds := controlFrames(t, a, tc.who.peer(), tc.need)
			if slices.Contains(kinds, 0x82) {
				t.Error("it got the key")
			}
			if len(warnings) != tc.said {
				t.Errorf("%d warnings", len(warnings))
			}
			for len(warnings) > 0 {
				<-warnings
			}
		})
	}
	var many [][]byte
	for range 20 {
		many = append(many, needBy(t, b, a, nil))
	}
	gifts := 0
	for _, k := range controlFrames(t, a, b.peer(), many...) {
		if k == 0x82 {
			gifts++
		}
	}
	if gifts != 16 {
		t.Errorf("20 requests of one session got %d answers", gifts)
	}
}

// signedBy puts another device's signature to a request.
func signedBy(t testing.TB, n *node, frame []byte) []byte {
	t.Helper()
	_, l := binary.Uvarint(frame[1:])
	var need map[string]any
	must(t, json.Unmarshal(frame[1+l:], &need))
	delete(need, "sig")
	unsigned, err := peercrypto.MarshalCanonical(need)
	must(t, err)
	need["sig"] = n.ident.Device.SignPurpose(peercrypto.PurposeKeyRequest, unsigned)
	raw, err := peercrypto.MarshalCanonical(need)
	must(t, err)
	return append(binary.AppendUvarint([]byte{0x81}, uint64(len(raw))), raw...)
}

// controlFrames sends frames to a device and lists the types of what it sent until all was handled.
func controlFrames(t testing.TB, to *node, from groupsync.Peer, frames ...[]byte) (kinds []byte) {
	t.Helper()
	pt, pf := newPipe()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- to.NewSession(from, pt).Run(ctx) }()
	defer func() { cancel(); <-done }()
	talk := newRaw(t, pf)
	talk.hello()
	go func() { // the answers are read below
		for _, f := range frames {
			_ = pf.Send(ctx, groupsync.Control, f)
		}
		_ = pf.Send(ctx, groupsync.Control, frameOf(0x08, peercrypto.NewID(time.Now()), 0))
	}()
	for {
		_, f, err := pf.Recv(t.Context())
		must(t, err)
		if kinds = append(kinds, f[0]); f[0] == 0x09 {
			return kinds
		}
	}
}
