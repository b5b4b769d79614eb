package sync_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"log/slog"
	"slices"
	"testing"

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
