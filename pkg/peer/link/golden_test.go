package link

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

var update = flag.Bool("update", false, "write testdata/golden.json anew (never after a release)")

// golden are the bytes that two devices have to agree about. All keys come from
// seeds of counted bytes: a's user 00…1f, device 20…3f, box 40…5f, b's 60…, 80…,
// a0…, the ephemeral key c0…df.
type golden struct {
	EnvelopeKeys struct {
		Salt     string `json:"salt"` // hex, "" for none
		Offerer  string `json:"offerer"`
		Answerer string `json:"answerer"`
	} `json:"envelopeKeys"`
	SaltedKeys struct {
		Salt     string `json:"salt"`
		Offerer  string `json:"offerer"`
		Answerer string `json:"answerer"`
	} `json:"saltedEnvelopeKeys"`
	Offer            string `json:"offer"` // canonical, with sig
	OfferSigned      string `json:"offerSigned"`
	OfferAAD         string `json:"offerAAD"`
	OfferSealed      string `json:"offerSealed"` // b64u; nonce is random, it must open
	Answer           string `json:"answer"`
	AnswerSigned     string `json:"answerSigned"`
	AnswerAAD        string `json:"answerAAD"`
	RestartOffer     string `json:"restartOffer"`  // generation 1
	RestartSigned    string `json:"restartSigned"` // of it
	RestartAnswer    string `json:"restartAnswer"`
	RestartAsk       string `json:"restartAsk"`    // by the answerer, its generation 3
	RestartDisown    string `json:"restartDisown"` // the answer to an offer for no connection
	Candidate        string `json:"candidate"`
	CandidateAAD     string `json:"candidateAAD"`
	CandidateSameAAD string `json:"candidateSameUserAAD"` // via ""
	Notification     string `json:"notification"`         // canonical, with sig
	NotifySigned     string `json:"notificationSigned"`
	NotifyAAD        string `json:"notificationAAD"`
	Auth1A           string `json:"auth1a"`
	Auth1B           string `json:"auth1b"`
	Transcript       string `json:"transcript"`
	SessionID        string `json:"sessionId"`
	Auth2ASigned     string `json:"auth2aSigned"`
	Auth2A           string `json:"auth2a"` // frame
	Auth2BSigned     string `json:"auth2bSigned"`
	Auth2B           string `json:"auth2b"`
	Auth3            string `json:"auth3"`
}

func counted(from byte) []byte {
	b := make([]byte, 32)
	for i := range b {
		b[i] = from + byte(i)
	}
	return b
}

const goldenTime = 1700000000000

func goldenPerson(t *testing.T, from byte) person {
	t.Helper()
	user, err1 := peercrypto.SigningKeyFromSeed(counted(from))
	device, err2 := peercrypto.SigningKeyFromSeed(counted(from + 0x20))
	box, err3 := peercrypto.BoxSecretKeyFromBytes(counted(from + 0x40))
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			t.Fatal(err)
		}
	}
	id := peercrypto.Identity{
		Genesis: peercrypto.UserGenesis{V: 1, Created: goldenTime, Key: user.Public()},
		User:    user, Device: device, DeviceBox: box, DeviceCreated: goldenTime + 1,
	}
	cert, err := id.Cert(time.UnixMilli(goldenTime+2), 30*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := peercrypto.SignUserDoc(user, id.Genesis, "golden", goldenTime+3)
	if err != nil {
		t.Fatal(err)
	}
	return person{id, selfProof{cert: cert, device: device, genesis: id.Genesis, userDoc: doc}}
}

func canonical(t *testing.T, v any) string {
	t.Helper()
	b, err := peercrypto.MarshalCanonical(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

type goldenWorld struct {
	a, b       person
	offer      offer
	answer     offer
	keys       sealKeys
	via        peercrypto.Tag
	offerCtx   envelopeContext
	auth1a     auth1
	auth1b     auth1
	transcript transcript
}

func newGoldenWorld(t *testing.T) goldenWorld {
	t.Helper()
	w := goldenWorld{a: goldenPerson(t, 0), b: goldenPerson(t, 0x60)}
	copy(w.via[:], counted(1))
	eph, err := peercrypto.BoxSecretKeyFromBytes(counted(0xc0))
	if err != nil {
		t.Fatal(err)
	}
	shared, err := eph.SharedSecret(w.b.self.cert.BoxKey)
	if err != nil {
		t.Fatal(err)
	}
	w.keys = newSealKeys(shared, [32]byte{})
	make1 := func(kind wire.Kind, from, to person, fp string, at int64) offer {
		o := offer{
			V: 2, Kind: kind, Conn: "0mtz00000aaaaaaaaaaaaaaaa", FromDevice: from.self.cert.DeviceID, ToDevice: to.self.cert.DeviceID,
			FromUser: from.self.cert.UserID, ToUser: to.self.cert.UserID, FP: fp, SDP: testSDP(fp), Time: at,
			Eph: eph.Public(), Cert: from.self.cert,
		}
		copy(o.Nonce[:], counted(byte(at)))
		return o
	}
	w.offer = make1(wire.KindOffer, w.a, w.b, fpA, goldenTime+10)
	w.answer = make1(wire.KindAnswer, w.b, w.a, fpB, goldenTime+20)
	w.offerCtx = envelopeContext{
		Conn: w.offer.Conn, Dir: dirOfferer, From: w.offer.FromDevice, Kind: wire.KindOffer, To: w.offer.ToDevice, Via: viaText(w.via),
	}
	one := func(role string, p person, nonce byte) auth1 {
		f := auth1{Type: "auth1", V: 2, Role: role, Cert: p.self.cert, User: p.self.userDoc, Genesis: p.self.genesis}
		copy(f.Nonce[:], counted(nonce))
		return f
	}
	w.auth1a, w.auth1b = one(roleOfferer, w.a, 0x11), one(roleAnswerer, w.b, 0x22)
	h := handshake{role: roleOfferer, conn: w.offer.Conn, localFP: fpA, remoteFP: fpB}
	w.transcript = h.transcript(w.auth1a, w.auth1b)
	g := handshake{role: roleAnswerer, conn: w.offer.Conn, localFP: fpB, remoteFP: fpA}
	if g.transcript(w.auth1b, w.auth1a) != w.transcript {
		t.Fatal("the two sides build different transcripts")
	}
	return w
}

func (w goldenWorld) note() note {
	return note{
		V: 1, Kind: wire.KindNotify, Conn: w.offer.Conn, FromDevice: w.offer.FromDevice, ToDevice: w.offer.ToDevice,
		FromUser: w.offer.FromUser, ToUser: w.offer.ToUser, Time: goldenTime + 30, Expires: goldenTime + 3_600_030,
		Eph: w.offer.Eph, Body: peercrypto.EncodeB64u([]byte("something is new")), Cert: w.a.self.cert,
	}
}

func (w goldenWorld) values(t *testing.T) golden {
	t.Helper()
	var g golden
	must := func(b []byte, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	g.EnvelopeKeys.Offerer = hex.EncodeToString(w.keys.offerer[:])
	g.EnvelopeKeys.Answerer = hex.EncodeToString(w.keys.answerer[:])
	eph, _ := peercrypto.BoxSecretKeyFromBytes(counted(0xc0))
	shared, _ := eph.SharedSecret(w.b.self.cert.BoxKey)
	salted := newSealKeys(shared, [32]byte(counted(0x30)))
	g.SaltedKeys.Salt = hex.EncodeToString(counted(0x30))
	g.SaltedKeys.Offerer = hex.EncodeToString(salted.offerer[:])
	g.SaltedKeys.Answerer = hex.EncodeToString(salted.answerer[:])
	g.Offer = must(w.offer.sign(w.a.id.Device))
	g.OfferSigned = must(w.offer.signedBytes())
	g.OfferAAD = string(w.offerCtx.aad())
	g.Answer = must(w.answer.sign(w.b.id.Device))
	g.AnswerSigned = must(w.answer.signedBytes())
	again, yes, ask, no := w.offer, w.answer, w.answer, w.answer
	again.Gen, yes.Gen, no.Gen, ask.Gen = 1, 1, 1, 3
	ask.Kind, ask.SDP, no.SDP, no.FP = wire.KindOffer, "", "", ""
	g.RestartOffer, g.RestartSigned = must(again.sign(w.a.id.Device)), must(again.signedBytes())
	g.RestartAnswer, g.RestartAsk = must(yes.sign(w.b.id.Device)), must(ask.sign(w.b.id.Device))
	g.RestartDisown = must(no.sign(w.b.id.Device))
	back := w.offerCtx
	back.Dir, back.Kind, back.From, back.To = dirAnswerer, wire.KindAnswer, w.offerCtx.To, w.offerCtx.From
	g.AnswerAAD = string(back.aad())
	back.Kind = wire.KindCandidate
	g.CandidateAAD = string(back.aad())
	back.Via = ""
	g.CandidateSameAAD = string(back.aad())
	g.Candidate = canonical(t, candidate{Candidate: "candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host", Mid: "0", Ufrag: "abcdefgh"})
	n := w.note()
	g.Notification, g.NotifySigned = must(n.sign(w.a.id.Device)), must(n.signedBytes())
	g.NotifyAAD = string(n.context(w.via).aad())
	g.Auth1A, g.Auth1B = canonical(t, w.auth1a), canonical(t, w.auth1b)
	g.Transcript = canonical(t, w.transcript)
	id, err := w.transcript.hash()
	if err != nil {
		t.Fatal(err)
	}
	g.SessionID = id.String()
	g.Auth2ASigned = must(w.transcript.signedBytes(roleOfferer))
	g.Auth2BSigned = must(w.transcript.signedBytes(roleAnswerer))
	g.Auth2A = canonical(t, auth2{"auth2", w.a.id.Device.SignPurpose(peercrypto.PurposePeerAuth, []byte(g.Auth2ASigned))})
	g.Auth2B = canonical(t, auth2{"auth2", w.b.id.Device.SignPurpose(peercrypto.PurposePeerAuth, []byte(g.Auth2BSigned))})
	g.Auth3 = canonical(t, auth3{"auth3", true, 2})
	return g
}

func TestGolden(t *testing.T) {
	path := filepath.Join("testdata", "golden.json")
	w := newGoldenWorld(t)
	got := w.values(t)
	if *update {
		sealed, err := w.keys.seal(w.offerCtx, []byte(got.Offer))
		if err != nil {
			t.Fatal(err)
		}
		got.OfferSealed = peercrypto.EncodeB64u(sealed)
		b, err := json.MarshalIndent(got, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var want golden
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	sealed := want.OfferSealed
	want.OfferSealed = ""
	got.OfferSealed = ""
	if got != want {
		gb, _ := json.MarshalIndent(got, "", "  ")
		t.Fatalf("bytes that are signed have changed:\n%s", gb)
	}
	// The receiver's side, from its own secret.
	shared, err := w.b.id.DeviceBox.SharedSecret(w.offer.Eph)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := newSealKeys(shared, [32]byte{}).open(w.offerCtx, wire.Envelope{CT: sealed})
	if err != nil || string(plain) != want.Offer {
		t.Fatalf("the sealed offer does not open: %v", err)
	}
	_, err = parseOffer(plain, expectation{
		kind: wire.KindOffer, conn: w.offer.Conn, from: w.offer.FromDevice, toDevice: w.offer.ToDevice, toUser: w.offer.ToUser,
		eph: w.offer.Eph, now: time.UnixMilli(goldenTime + 1000),
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = parseOffer([]byte(want.Answer), expectation{
		kind: wire.KindAnswer, conn: w.offer.Conn, from: w.offer.ToDevice, toDevice: w.offer.FromDevice, toUser: w.offer.FromUser,
		eph: w.offer.Eph, now: time.UnixMilli(goldenTime + 1000), dialled: &w.b.self.cert,
	})
	if err != nil {
		t.Fatal(err)
	}
	answered := expectation{
		kind: wire.KindAnswer, conn: w.offer.Conn, from: w.offer.ToDevice, toDevice: w.offer.FromDevice, toUser: w.offer.FromUser,
		eph: w.offer.Eph, gen: 1, now: time.UnixMilli(goldenTime + 1000), dialled: &w.b.self.cert,
	}
	for _, text := range []string{want.RestartAnswer, want.RestartDisown} {
		if _, err := parseOffer([]byte(text), answered); err != nil {
			t.Fatal(err)
		}
	}
	for _, text := range []string{want.Answer, strings.Replace(want.RestartAnswer, `"gen":1`, `"gen":0`, 1)} {
		if _, err := parseOffer([]byte(text), answered); !errors.Is(err, ErrOffer) {
			t.Fatalf("answer of another generation: %v", err)
		}
	}
	var f auth2
	if err := parseFrame([]byte(want.Auth2B), "auth2", &f); err != nil {
		t.Fatal(err)
	}
	if !w.b.self.cert.DeviceKey.VerifyPurpose(peercrypto.PurposePeerAuth, []byte(want.Auth2BSigned), f.Sig) {
		t.Fatal("auth2 does not verify")
	}
}
