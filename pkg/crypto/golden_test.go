package crypto_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

var update = flag.Bool("update", false, "rewrite testdata/golden.json")

const goldenFile = "testdata/golden.json"

// goldenTime is the time of everything in the vectors.
const goldenTime = 1_800_000_000_000

// goldenServer is the name that the rendezvous vectors dial.
const goldenServer = "signal.example.org:443"

// golden* are the seeds of the vectors: bytes that count up from the argument.
const (
	goldenUserSeed      = 0x00
	goldenDeviceSeed    = 0x20
	goldenBoxSeed       = 0x40
	goldenRecoverySeed  = 0x60
	goldenInviteSeed    = 0x80
	goldenGroupSeed     = 0xa0
	goldenEnvelopeSeed  = 0xc0
	goldenSaltAndNonces = 0xe0
)

func goldenBodies() (peercrypto.UserGenesis, peercrypto.GroupGenesis, peercrypto.DeviceBody) {
	public := func(first byte) peercrypto.PublicKey {
		k, err := peercrypto.SigningKeyFromSeed(countedFrom(first))
		if err != nil {
			panic(err)
		}
		return k.Public()
	}
	pin := peercrypto.RecoveryOf([32]byte(countedFrom(goldenRecoverySeed))).Pin()
	user := peercrypto.UserGenesis{V: 1, Created: goldenTime, Key: public(goldenUserSeed), Recovery: &pin}
	group := peercrypto.GroupGenesis{
		V: 1, Created: goldenTime + 1, Owner: user.ID(), Genesis: user.Hash(),
		Nonce: peercrypto.Nonce(countedFrom(goldenGroupSeed)[:16]),
	}
	return user, group, peercrypto.DeviceBody{Created: goldenTime + 2, Key: public(goldenDeviceSeed)}
}

func goldenIdentity(t testing.TB) peercrypto.Identity {
	t.Helper()
	user, _, device := goldenBodies()
	box, err := peercrypto.BoxSecretKeyFromBytes(countedFrom(goldenBoxSeed))
	if err != nil {
		t.Fatal(err)
	}
	return peercrypto.Identity{
		Genesis: user, User: seedKey(t, goldenUserSeed), Device: seedKey(t, goldenDeviceSeed),
		DeviceBox: box, DeviceCreated: device.Created,
	}
}

func goldenCert(t testing.TB) peercrypto.DeviceCert {
	t.Helper()
	id := goldenIdentity(t)
	cert, err := peercrypto.SignDeviceCert(id.User, peercrypto.DeviceCert{
		DeviceID: id.DeviceID(), DeviceKey: id.Device.Public(), BoxKey: id.DeviceBox.Public(),
		UserID: id.UserID(), Issued: goldenTime + 3, Expires: goldenTime + 3 + 86_400_000,
	})
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// TestGolden pins every byte string of the formats. A release never changes
// one: a difference here is a bug in the code, not in the file.
func TestGolden(t *testing.T) {
	got := map[string]string{}
	goldenIDs(got)
	goldenSignatures(t, got)
	goldenDerivations(t, got)
	goldenSealed(t, got)
	if *update {
		b, err := json.MarshalIndent(got, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(goldenFile, append(b, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]string
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s:\n got %s\nwant %s", name, got[name], value)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is not in %s", name, goldenFile)
		}
	}
}

func goldenIDs(got map[string]string) {
	user, group, device := goldenBodies()
	bare := user
	bare.Recovery = nil
	got["user.genesis"], got["user.hash"], got["user.id"] = string(user.Canonical()), user.Hash().String(), string(user.ID())
	got["user.bare.genesis"], got["user.bare.hash"], got["user.bare.id"] = string(bare.Canonical()), bare.Hash().String(), string(bare.ID())
	got["group.genesis"], got["group.hash"], got["group.id"] = string(group.Canonical()), group.Hash().String(), string(group.ID())
	got["device.body"], got["device.id"] = string(device.Canonical()), string(device.ID())
}

func goldenSignatures(t *testing.T, got map[string]string) {
	user := seedKey(t, goldenUserSeed)
	got["user.publicKey"] = user.Public().String()
	got["user.stockBoxKey"] = user.StockBoxKey().Public().String()
	got["device.publicKey"] = seedKey(t, goldenDeviceSeed).Public().String()
	got["cert"] = string(goldenCert(t).Canonical())
	body, err := peercrypto.RemoveMember(goldenCert(t).Canonical(), "sig")
	if err != nil {
		t.Fatal(err)
	}
	got["cert.signed"] = "peers/1 device-cert\n" + string(body)
	for _, purpose := range purposes {
		got["purpose."+string(purpose)] = user.SignPurpose(purpose, []byte(`{"a":1}`)).String()
	}
	h := peercrypto.Sum([]byte(`{"a":1}`))
	got["hash"], got["hash.hex"], got["hash.signature"] = h.String(), h.Hex(), user.SignHash(h).String()
	genesis, _, _ := goldenBodies()
	doc, err := peercrypto.SignUserDoc(user, genesis, "Älice 😀", goldenTime+4)
	if err != nil {
		t.Fatal(err)
	}
	got["user.doc"] = string(doc)
}

var purposes = []peercrypto.Purpose{
	peercrypto.PurposeSignalAuth, peercrypto.PurposeOffer, peercrypto.PurposeAnswer, peercrypto.PurposePeerAuth,
	peercrypto.PurposeDeviceCert, peercrypto.PurposeKeyEvent, peercrypto.PurposeInviteClaim, peercrypto.PurposeInviteKey,
	peercrypto.PurposeRegistryHead, peercrypto.PurposeRecover, peercrypto.PurposeReceipt,
}

func goldenDerivations(t *testing.T, got map[string]string) {
	hexOf := func(k [32]byte) string { return hex.EncodeToString(k[:]) }
	group := [32]byte(countedFrom(goldenGroupSeed))
	got["rendezvous.tag"] = peercrypto.RendezvousTag(group, goldenServer).String()
	personal := peercrypto.PersonalRendezvousKey(seedKey(t, goldenUserSeed))
	got["personal.key"] = hexOf(personal)
	got["personal.tag"] = peercrypto.RendezvousTag(personal, goldenServer).String()

	invite := peercrypto.InviteSigningKey([32]byte(countedFrom(goldenInviteSeed)))
	got["invite.seed"] = hexOf([32]byte(invite.ExportSeed()))
	got["invite.publicKey"] = invite.Public().String()
	topic := peercrypto.InviteRendezvousKey(invite.Public())
	got["invite.topicKey"] = hexOf(topic)
	got["invite.tag"] = peercrypto.RendezvousTag(topic, goldenServer).String()
	got["invite.envelopeKey"] = hexOf(peercrypto.InviteEnvelopeKey(invite.Public()))

	box, err := peercrypto.BoxSecretKeyFromBytes(countedFrom(goldenBoxSeed))
	if err != nil {
		t.Fatal(err)
	}
	got["box.publicKey"] = box.Public().String()
	shared, err := box.SharedSecret(seedKey(t, goldenUserSeed).StockBoxKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	got["box.shared"] = hexOf(shared)
	got["box.envelopeKey"] = hexOf(peercrypto.DeriveKey(shared[:], nil, "peers/env/1"))
	got["hkdf.salted"] = hexOf(peercrypto.DeriveKey(countedFrom(0), countedFrom(0xe0), "info"))

	recovery := peercrypto.RecoveryOf([32]byte(countedFrom(goldenRecoverySeed)))
	got["recovery.words"] = strings.Join(recovery.Words(), " ")
	got["recovery.publicKey"] = recovery.Key().Public().String()
	got["recovery.pin"] = recovery.Pin().String()
}

func goldenSealed(t *testing.T, got map[string]string) {
	nonce := [24]byte(countedFrom(goldenSaltAndNonces)[:24])
	key := [32]byte(countedFrom(goldenEnvelopeSeed))
	sealed := peercrypto.SealWith(key, nonce, []byte(`{"conn":"a"}`), []byte("hello"))
	got["seal"] = hex.EncodeToString(sealed)
	plain, err := peercrypto.Open(key, []byte(`{"conn":"a"}`), sealed)
	if err != nil || !bytes.Equal(plain, []byte("hello")) {
		t.Errorf("Open = %q, %v", plain, err)
	}
	id := goldenIdentity(t)
	salt := [16]byte(countedFrom(goldenSaltAndNonces)[:16])
	for name, o := range map[string]peercrypto.KeystoreOptions{
		"keystore":          {Passphrase: []byte("correct horse")},
		"keystore.insecure": {Insecure: true},
	} {
		raw, err := peercrypto.EncodeKeystoreWith(id, o, salt, nonce)
		if err != nil {
			t.Fatal(err)
		}
		got[name] = string(raw)
		back, err := peercrypto.DecodeKeystore(raw, o)
		if err != nil {
			t.Fatal(err)
		}
		sameIdentity(t, back, id)
	}
	goldenEntries(t, got)
}

// goldenEntries opens the key store from the definition of its layout.
func goldenEntries(t *testing.T, got map[string]string) {
	var f struct{ Nonce, CT string }
	if err := json.Unmarshal([]byte(got["keystore.insecure"]), &f); err != nil {
		t.Fatal(err)
	}
	sealed, err := peercrypto.DecodeB64u(f.Nonce + f.CT) // 24 bytes are whole characters
	if err != nil {
		t.Fatal(err)
	}
	key := peercrypto.DeriveKey(nil, nil, "peers/keystore/none/1")
	plain, err := peercrypto.Open(key, []byte(`{"kdf":{"name":"none"},"v":1}`), sealed)
	if err != nil {
		t.Fatal(err)
	}
	got["keystore.entries"] = string(plain)
}
