package crypto_test

import (
	"bytes"
	"encoding/gob"
	"encoding/hex"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// seedKey returns the key of the seed first, first+1, … first+31.
func seedKey(t testing.TB, first byte) peercrypto.SigningKey {
	t.Helper()
	k, err := peercrypto.SigningKeyFromSeed(countedFrom(first))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func countedFrom(first byte) []byte {
	b := make([]byte, 32)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

func TestPurposeSeparation(t *testing.T) {
	k := seedKey(t, 0)
	body := []byte(`{"a":1}`)
	sig := k.SignPurpose(peercrypto.PurposeOffer, body)
	if !k.Public().VerifyPurpose(peercrypto.PurposeOffer, body, sig) {
		t.Fatal("own signature refused")
	}
	if k.Public().VerifyPurpose(peercrypto.PurposeAnswer, body, sig) {
		t.Error("accepted for another purpose")
	}
	if k.Public().VerifyPurpose(peercrypto.PurposeOffer, []byte(`{"a":2}`), sig) {
		t.Error("accepted for another object")
	}
	if seedKey(t, 1).Public().VerifyPurpose(peercrypto.PurposeOffer, body, sig) {
		t.Error("accepted for another key")
	}
	for _, bad := range []peercrypto.Purpose{"", "offer\n", "Offer", "a b"} {
		if s := k.SignPurpose(bad, body); !s.IsZero() || k.Public().VerifyPurpose(bad, body, s) {
			t.Errorf("purpose %q was signed", bad)
		}
	}
	h := peercrypto.Sum(body)
	if !k.Public().VerifyHash(h, k.SignHash(h)) || k.Public().VerifyHash(peercrypto.Hash{}, k.SignHash(h)) {
		t.Error("VerifyHash")
	}
}

func TestSignatureText(t *testing.T) {
	sig := seedKey(t, 0).SignHash(peercrypto.Hash{})
	back, err := peercrypto.ParseSignature(sig.String())
	if err != nil || back != sig || back.Compare(sig) != 0 || len(sig.String()) != 88 {
		t.Errorf("ParseSignature = %v, %v", back, err)
	}
	for _, bad := range []string{"", sig.String()[1:], sig.String()[:86] + "\n\n", "\n" + sig.String()[1:]} {
		if _, err := peercrypto.ParseSignature(bad); !errors.Is(err, peercrypto.ErrText) {
			t.Errorf("ParseSignature(%q): %v", bad, err)
		}
	}
	// s + L is the other encoding of the same signature.
	order, _ := hex.DecodeString("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
	twin, carry := sig, 0
	for i := range 32 {
		sum := int(sig[32+i]) + int(order[i]) + carry
		twin[32+i], carry = byte(sum), sum>>8
	}
	if seedKey(t, 0).Public().VerifyHash(peercrypto.Hash{}, twin) {
		t.Error("a signature with s >= L verifies")
	}
}

func TestZeroKeys(t *testing.T) {
	var k peercrypto.SigningKey
	var b peercrypto.BoxSecretKey
	var r peercrypto.Recovery
	if !k.IsZero() || !k.Public().IsZero() || k.ExportSeed() != nil || !k.SignHash(peercrypto.Hash{}).IsZero() ||
		!k.StockBoxKey().IsZero() || peercrypto.PersonalRendezvousKey(k) != [32]byte{} {
		t.Error("the zero signing key does something")
	}
	if !b.IsZero() || !b.Public().IsZero() || b.ExportBytes() != nil || r.Words() != nil || !r.Key().IsZero() {
		t.Error("the zero box key does something")
	}
	if k.Public().VerifyHash(peercrypto.Hash{}, peercrypto.Signature{}) {
		t.Error("the zero key verifies the zero signature")
	}
	if _, err := peercrypto.SigningKeyFromSeed(make([]byte, 31)); !errors.Is(err, peercrypto.ErrKey) {
		t.Errorf("short seed: %v", err)
	}
	if _, err := peercrypto.SignMessage(k, "a"); err == nil {
		t.Error("the zero key signs messages")
	}
	if _, err := b.SharedSecret(seedKey(t, 0).StockBoxKey().Public()); !errors.Is(err, peercrypto.ErrKey) {
		t.Errorf("the zero key agrees: %v", err)
	}
}

func TestExportIsACopy(t *testing.T) {
	k := seedKey(t, 0)
	seed := k.ExportSeed()
	clear(seed)
	if !bytes.Equal(k.ExportSeed(), countedFrom(0)) {
		t.Error("the exported seed shares memory with the key")
	}
	box := k.StockBoxKey()
	clear(box.ExportBytes())
	if !bytes.Equal(box.ExportBytes(), countedFrom(0)) {
		t.Error("the exported box key shares memory with the key")
	}
}

// leaks reports whether s holds 8 bytes of the secret 0, 1, 2, … in a usual
// form, or two of the words.
func leaks(s string, words []string) bool {
	b := countedFrom(0)
	forms := []string{
		string(b[:8]), hex.EncodeToString(b[:8]), peercrypto.EncodeB64(b[:9]),
		"0 1 2 3 4 5 6 7", "0x0, 0x1, 0x2", "00 01 02 03", "0,1,2,3,4,5",
	}
	for _, form := range forms {
		if strings.Contains(strings.ToLower(s), strings.ToLower(form)) {
			return true
		}
	}
	return len(words) > 1 && strings.Contains(s, words[0]+" "+words[1])
}

func TestSecretsDoNotPrint(t *testing.T) {
	user := seedKey(t, 0)
	recovery := peercrypto.RecoveryOf([32]byte(countedFrom(0)))
	id := peercrypto.Identity{User: user, Device: user, DeviceBox: user.StockBoxKey()}
	secrets := map[string]any{
		"signing key": user, "box key": user.StockBoxKey(), "recovery": recovery, "identity": id,
		"pointer": &user, "slice": []peercrypto.SigningKey{user}, "map": map[string]peercrypto.BoxSecretKey{"a": user.StockBoxKey()},
		"exported field":   struct{ K peercrypto.SigningKey }{user},
		"unexported field": struct{ k peercrypto.SigningKey }{user},
		"unexported box":   struct{ k peercrypto.BoxSecretKey }{user.StockBoxKey()},
		"unexported words": struct{ r peercrypto.Recovery }{recovery},
		"nested identity":  struct{ id peercrypto.Identity }{id},
	}
	for name, secret := range secrets {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%c"} {
			if out := fmt.Sprintf(verb, secret); leaks(out, recovery.Words()) {
				t.Errorf("%s under %s: %s", name, verb, out)
			}
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", secret)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", secret)
		if leaks(log.String(), recovery.Words()) {
			t.Errorf("%s in a log: %s", name, log.String())
		}
	}
	for _, name := range []string{"signing key", "box key", "recovery", "identity", "pointer", "exported field"} {
		if out, err := json.Marshal(secrets[name]); err == nil {
			t.Errorf("%s encodes as %s", name, out)
		}
		if out, err := stdjson.Marshal(secrets[name]); err == nil {
			t.Errorf("%s encodes as %s", name, out)
		}
		if out, err := peercrypto.MarshalCanonical(secrets[name]); err == nil {
			t.Errorf("%s encodes as %s", name, out)
		}
		if err := gob.NewEncoder(&bytes.Buffer{}).Encode(secrets[name]); err == nil {
			t.Errorf("%s encodes as gob", name)
		}
	}
	if got := fmt.Sprint(user, user.StockBoxKey(), recovery, id); strings.Count(got, "[redacted]") != 4 {
		t.Errorf("printed %s", got)
	}
}

func TestGenerated(t *testing.T) {
	a, errA := peercrypto.GenerateSigningKey()
	b, errB := peercrypto.GenerateSigningKey()
	if errA != nil || errB != nil || a.Public() == b.Public() || a.Public().Check() != nil {
		t.Fatalf("%v, %v", errA, errB)
	}
	again, err := peercrypto.SigningKeyFromSeed(a.ExportSeed())
	if err != nil || !again.Public().Equal(a.Public()) || a.Public().Equal(b.Public()) {
		t.Errorf("from its own seed: %v", err)
	}
	parsed, err := peercrypto.ParsePublicKey(a.Public().String())
	if err != nil || parsed != a.Public() || parsed.Short() != parsed.String()[:8] {
		t.Errorf("ParsePublicKey: %v, %v", parsed, err)
	}
}

func TestRecovery(t *testing.T) {
	now := time.UnixMilli(1_795_333_188_383)
	id, recovery, err := peercrypto.NewIdentity(now)
	if err != nil {
		t.Fatal(err)
	}
	words := recovery.Words()
	if len(words) != 24 || *id.Genesis.Recovery != recovery.Pin() || id.Genesis.Key != id.User.Public() {
		t.Fatalf("%d words, genesis %+v", len(words), id.Genesis)
	}
	words[0] = strings.ToUpper(words[0])
	again, err := peercrypto.ParseRecovery(words)
	if err != nil || again.Key().Public() != recovery.Key().Public() {
		t.Errorf("ParseRecovery: %v", err)
	}
	zero := peercrypto.RecoveryOf([32]byte{}).Words()
	for name, bad := range map[string][]string{
		"none": nil, "short": words[:23], "unknown word": append([]string{"secretword"}, words[1:]...),
		"checksum": append(append([]string(nil), zero[:23]...), "abandon"), "a blank": append([]string{" "}, words[1:]...),
	} {
		if _, err := peercrypto.ParseRecovery(bad); !errors.Is(err, peercrypto.ErrRecovery) || strings.Contains(err.Error(), "secretword") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
