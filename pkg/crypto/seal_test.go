package crypto_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

func TestSeal(t *testing.T) {
	key := [32]byte(countedFrom(0))
	for _, size := range []int{0, 1, 100, 70_000} {
		plain := bytes.Repeat([]byte{7}, size)
		sealed := peercrypto.Seal(key, []byte("aad"), plain)
		got, err := peercrypto.Open(key, []byte("aad"), sealed)
		if err != nil || !bytes.Equal(got, plain) || len(sealed) != size+40 {
			t.Fatalf("%d bytes: %v, sealed %d", size, err, len(sealed))
		}
		if bytes.Equal(sealed, peercrypto.Seal(key, []byte("aad"), plain)) {
			t.Error("two seals are equal")
		}
	}
	sealed := peercrypto.Seal(key, []byte("aad"), []byte("text"))
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := peercrypto.Open(key, []byte("aad"), bad); !errors.Is(err, peercrypto.ErrOpen) {
			t.Errorf("byte %d flipped: %v", i, err)
		}
		if _, err := peercrypto.Open(key, []byte("aad"), sealed[:i]); !errors.Is(err, peercrypto.ErrOpen) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
	if _, err := peercrypto.Open(key, []byte("other"), sealed); !errors.Is(err, peercrypto.ErrOpen) {
		t.Errorf("other aad: %v", err)
	}
	if _, err := peercrypto.Open([32]byte{}, []byte("aad"), sealed); !errors.Is(err, peercrypto.ErrOpen) {
		t.Errorf("other key: %v", err)
	}
}

// TestDeriveKeyRFC5869 takes the first 32 bytes of test cases 1 and 3.
func TestDeriveKeyRFC5869(t *testing.T) {
	ikm := bytes.Repeat([]byte{0x0b}, 22)
	salt, _ := hex.DecodeString("000102030405060708090a0b0c")
	info, _ := hex.DecodeString("f0f1f2f3f4f5f6f7f8f9")
	got := peercrypto.DeriveKey(ikm, salt, string(info))
	if hex.EncodeToString(got[:]) != "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf" {
		t.Errorf("case 1: %x", got)
	}
	got = peercrypto.DeriveKey(ikm, nil, "")
	if hex.EncodeToString(got[:]) != "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d" {
		t.Errorf("case 3: %x", got)
	}
}

func TestSharedSecret(t *testing.T) {
	// RFC 7748, section 6.1.
	secret := func(text string) peercrypto.BoxSecretKey {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		k, err := peercrypto.BoxSecretKeyFromBytes(b)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	alice := secret("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
	bob := secret("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
	ab, errA := alice.SharedSecret(bob.Public())
	ba, errB := bob.SharedSecret(alice.Public())
	want := "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
	if errA != nil || errB != nil || ab != ba || hex.EncodeToString(ab[:]) != want {
		t.Errorf("shared %x, %x, %v, %v", ab, ba, errA, errB)
	}
	if _, err := peercrypto.BoxSecretKeyFromBytes(make([]byte, 31)); !errors.Is(err, peercrypto.ErrKey) {
		t.Errorf("short key: %v", err)
	}
	fresh, err := peercrypto.GenerateBoxKey()
	if err != nil || fresh.IsZero() || fresh.Public().Check() != nil || fresh.Public().IsZero() || len(fresh.Public().Short()) != 8 {
		t.Errorf("GenerateBoxKey: %v", err)
	}
}

func TestBoxRoundTrip(t *testing.T) {
	alice, bob := seedKey(t, 1).StockBoxKey(), seedKey(t, 2).StockBoxKey()
	text := "{\"b\":\"é日本語😀\u0080\u00ff\u0100\",\"a\":1}"
	box, err := peercrypto.SealBox(alice, "from", bob.Public(), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	got, err := peercrypto.OpenBox(bob, alice.Public(), box)
	if err != nil || string(got) != "{\"b\":\"é\\u65e5\\u672c\\u8a9e\\ud83d\\ude00\u0080\u00ff\\u0100\",\"a\":1}" {
		t.Errorf("OpenBox = %s, %v", got, err)
	}
	a, _ := peercrypto.Canonicalize([]byte(text))
	b, _ := peercrypto.Canonicalize(got)
	if !bytes.Equal(a, b) {
		t.Errorf("another value: %s, want %s", b, a)
	}
	for name, change := range map[string]func(*peercrypto.Box){
		"nonce":          func(b *peercrypto.Box) { b.Nonce = peercrypto.EncodeB64(make([]byte, 24)) },
		"short nonce":    func(b *peercrypto.Box) { b.Nonce = "AAAA" },
		"empty nonce":    func(b *peercrypto.Box) { b.Nonce = "" },
		"contents":       func(b *peercrypto.Box) { b.Contents = "AAAA" + b.Contents[4:] },
		"empty contents": func(b *peercrypto.Box) { b.Contents = "" },
		"not base64":     func(b *peercrypto.Box) { b.Contents = "!" },
	} {
		bad := box
		change(&bad)
		if got, err := peercrypto.OpenBox(bob, alice.Public(), bad); err == nil {
			t.Errorf("%s changed: %s", name, got)
		}
	}
	if _, err := peercrypto.OpenBox(alice, alice.Public(), box); !errors.Is(err, peercrypto.ErrOpen) {
		t.Errorf("another recipient: %v", err)
	}
	if _, err := peercrypto.OpenBox(bob, bob.Public(), box); !errors.Is(err, peercrypto.ErrOpen) {
		t.Errorf("another sender: %v", err)
	}
	if _, err := peercrypto.OpenBox(peercrypto.BoxSecretKey{}, bob.Public(), box); !errors.Is(err, peercrypto.ErrKey) {
		t.Errorf("no key: %v", err)
	}
	if _, err := peercrypto.SealBox(alice, "from", bob.Public(), []byte("not JSON")); !errors.Is(err, peercrypto.ErrJSON) {
		t.Errorf("sealing no JSON: %v", err)
	}
}

func TestRendezvous(t *testing.T) {
	key := [32]byte(countedFrom(0))
	tag := peercrypto.RendezvousTag(key, "a:1")
	if tag != peercrypto.RendezvousTag(key, "a:1") || tag == peercrypto.RendezvousTag(key, "a:2") ||
		tag == peercrypto.RendezvousTag([32]byte{}, "a:1") {
		t.Error("a tag depends on key and server only")
	}
	invite := peercrypto.InviteSigningKey(key)
	if peercrypto.InviteRendezvousKey(invite.Public()) == peercrypto.InviteEnvelopeKey(invite.Public()) {
		t.Error("two keys of an invitation are equal")
	}
}
