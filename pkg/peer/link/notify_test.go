package link

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// A noteCase is a notification with one thing wrong, or none.
type noteCase struct {
	name   string
	ok     bool
	change func(*note)
	wire   func(from, conn *peercrypto.ID, via *Topic, env *wire.Envelope, now *time.Time)
	signer *peercrypto.SigningKey
}

func noteCases(stranger person, now time.Time) []noteCase {
	return []noteCase{
		{name: "genuine", ok: true},
		{name: "late", ok: true, wire: func(_, _ *peercrypto.ID, _ *Topic, _ *wire.Envelope, now *time.Time) {
			*now = now.Add(59 * time.Minute)
		}},
		{name: "too late", wire: func(_, _ *peercrypto.ID, _ *Topic, _ *wire.Envelope, now *time.Time) { *now = now.Add(time.Hour) }},
		{name: "ahead", change: func(n *note) { n.Time += 600_000; n.Expires += 600_000 }},
		{name: "for ever", change: func(n *note) { n.Expires = n.Time + MaxNotificationLife.Milliseconds() + 1 }},
		{name: "other sender in the frame", wire: func(from, _ *peercrypto.ID, _ *Topic, _ *wire.Envelope, _ *time.Time) {
			*from = stranger.self.cert.DeviceID
		}},
		{name: "other id", wire: func(_, conn *peercrypto.ID, _ *Topic, _ *wire.Envelope, _ *time.Time) { *conn = peercrypto.NewID(now) }},
		{name: "other topic", wire: func(_, _ *peercrypto.ID, via *Topic, _ *wire.Envelope, _ *time.Time) { via.Tag[0]++ }},
		{name: "other salt", wire: func(_, _ *peercrypto.ID, via *Topic, _ *wire.Envelope, _ *time.Time) { via.EnvSalt[0]++ }},
		{name: "ciphertext", wire: func(_, _ *peercrypto.ID, _ *Topic, env *wire.Envelope, _ *time.Time) {
			env.CT = env.CT[:50] + strings.Repeat("A", 8) + env.CT[58:]
		}},
		{name: "ephemeral key", wire: func(_, _ *peercrypto.ID, _ *Topic, env *wire.Envelope, _ *time.Time) {
			env.Eph = stranger.self.cert.BoxKey.String()
		}},
		{name: "version", change: func(n *note) { n.V = 2 }},
		{name: "kind", change: func(n *note) { n.Kind = wire.KindOffer }},
		{name: "to another device", change: func(n *note) { n.ToDevice = stranger.self.cert.DeviceID }},
		{name: "to another user", change: func(n *note) { n.ToUser = stranger.self.cert.UserID }},
		{name: "another's certificate", change: func(n *note) { n.Cert = stranger.self.cert }},
		{name: "another's user", change: func(n *note) { n.FromUser = stranger.self.cert.UserID }},
		{name: "another's signature", signer: &stranger.id.Device},
		{name: "another id inside", change: func(n *note) { n.Conn = peercrypto.NewID(now) }},
		{name: "another ephemeral key inside", change: func(n *note) { n.Eph = stranger.self.cert.BoxKey }},
		{name: "another's, in the sender's frame", signer: &stranger.id.Device, change: func(n *note) {
			n.FromDevice, n.FromUser, n.Cert = stranger.self.cert.DeviceID, stranger.self.cert.UserID, stranger.self.cert
		}},
		{name: "as another device", signer: &stranger.id.Device, change: func(n *note) {
			n.FromUser, n.Cert = stranger.self.cert.UserID, stranger.self.cert
		}},
		{name: "long body", change: func(n *note) { n.Body = peercrypto.EncodeB64u(make([]byte, MaxNotification+1)) }},
		{name: "body is no base64url", change: func(n *note) { n.Body = "====" }},
	}
}

func TestForgedNotifications(t *testing.T) {
	w := newGoldenWorld(t)
	stranger := goldenPerson(t, 0x10)
	now := time.UnixMilli(goldenTime + 1000)
	via := Topic{Tag: w.via}
	for _, c := range noteCases(stranger, now) {
		t.Run(c.name, func(t *testing.T) {
			n := w.note()
			sender := w.a.id
			if c.change != nil {
				c.change(&n)
			}
			if c.signer != nil {
				sender.Device = *c.signer
			}
			// What is changed inside is sealed as the frame says, so that only the change is wrong.
			real := w.note()
			env := sealNote(t, n, real, sender, w.b.self.cert, via)
			from, conn, topic, at := real.FromDevice, real.Conn, via, now
			if c.wire != nil {
				c.wire(&from, &conn, &topic, &env, &at)
			}
			got, err := openNote(w.b.id, from, conn, topic, env, at)
			if (err == nil) != c.ok {
				t.Fatalf("%+v, %v", got, err)
			}
			if c.ok && (string(got.Body) != "something is new" || got.Remote.DeviceID != real.FromDevice) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// sealNote seals n in the context of another one.
func sealNote(t *testing.T, n, frame note, from peercrypto.Identity, to peercrypto.DeviceCert, via Topic) wire.Envelope {
	t.Helper()
	eph, err := peercrypto.BoxSecretKeyFromBytes(counted(0xc0))
	if err != nil {
		t.Fatal(err)
	}
	shared, err := eph.SharedSecret(to.BoxKey)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := n.sign(from.Device)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := newSealKeys(shared, via.EnvSalt).seal(frame.context(via.Tag), plain)
	if err != nil {
		t.Fatal(err)
	}
	public := eph.Public()
	return wire.NewEnvelope(&public, sealed)
}

func TestOpenPush(t *testing.T) {
	w := newGoldenWorld(t)
	n := w.note()
	n.Body = peercrypto.EncodeB64u([]byte(strings.Repeat("x", MaxNotification)))
	env, err := n.seal(w.a.id, w.b.self.cert, Topic{})
	if err != nil {
		t.Fatal(err)
	}
	if len(env.CT) > wire.MaxNotify {
		t.Errorf("the longest notification has %d characters", len(env.CT))
	}
	var parts [][]byte
	total := (len(env.CT) + 2999) / 3000
	for i := range total {
		b, err := json.Marshal(pushPart{
			V: 1, ID: n.Conn, From: n.FromDevice, Part: i, Parts: total, Eph: env.Eph, CT: env.CT[i*3000 : min(len(env.CT), (i+1)*3000)],
		})
		if err != nil {
			t.Fatal(err)
		}
		parts = append([][]byte{b}, parts...) // the last one first
	}
	now := time.UnixMilli(goldenTime + 1000)
	if got, err := OpenPush(w.b.id, parts, now); err != nil || len(got.Body) != MaxNotification {
		t.Errorf("%d bytes, %v", len(got.Body), err)
	}
	for name, bad := range map[string][][]byte{
		"none": nil, "one is missing": parts[1:], "one twice": append([][]byte{parts[0]}, parts...), "malformed": {[]byte("{")},
		"too many": make([][]byte, 9),
	} {
		if _, err := OpenPush(w.b.id, bad, now); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestSeenNotes(t *testing.T) {
	var s seenNotes
	now := time.UnixMilli(goldenTime)
	user := func(i int) peercrypto.ID { return peercrypto.ID(rune(i / maxNotesOfUser)) }
	for i := range maxNotesSeen - 1 {
		if !s.add(replayKey{"a", peercrypto.ID(rune(i))}, user(i), now.Add(time.Minute), now) {
			t.Fatal("refused")
		}
	}
	if s.add(replayKey{"a", peercrypto.ID(rune(1))}, user(1), now.Add(time.Minute), now) {
		t.Error("told twice")
	}
	if s.add(replayKey{"a", "y"}, user(1), now.Add(time.Minute), now) {
		t.Error("one user may fill the memory")
	}
	if !s.add(replayKey{"b", "y"}, "somebody else", now.Add(time.Minute), now) {
		t.Error("one user keeps others out")
	}
	if s.add(replayKey{"b", "x"}, "b", now.Add(time.Minute), now) {
		t.Error("more than the memory holds")
	}
	if !s.add(replayKey{"b", "x"}, user(1), now.Add(time.Hour), now.Add(2*time.Minute)) {
		t.Error("refused, although the others have expired")
	}
	if len(s.users) != 1 || len(s.notes) != 1 {
		t.Errorf("%d users, %d notes are still remembered", len(s.users), len(s.notes))
	}
}
