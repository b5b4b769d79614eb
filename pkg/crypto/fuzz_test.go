package crypto_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

func FuzzCanonicalize(f *testing.F) {
	for _, c := range loadStock(f).HashObject {
		f.Add([]byte(c.StableJSON))
	}
	for _, seed := range []string{
		` {"b":[1e2,-0,9007199254740993],"a":"\ud83d\ude00\u0061"} `, `{"\u005f_proto__":1}`, `{"signature":1,"a":{}}`,
		`{"a":1,"\u0061":2}`, `"\ud800"`, `1e400`, "\"\xff\"", strings.Repeat("[", 66), `{"a":[{"b":"},{"}]}x`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		canonical, err := peercrypto.Canonicalize(raw)
		without, removeErr := peercrypto.RemoveMember(raw, "signature", "a") // must not panic
		if err != nil {
			if strictErr := peercrypto.UnmarshalStrict(raw, new(any)); strictErr == nil {
				t.Fatalf("%q decodes but has no canonical form: %v", raw, err)
			}
			return
		}
		if err := peercrypto.CheckCanonical(canonical); err != nil {
			t.Fatalf("canonical form %q of %q refused: %v", canonical, raw, err)
		}
		var v any
		if err := peercrypto.UnmarshalStrict(raw, &v); err != nil {
			t.Fatalf("%q has a canonical form but does not decode: %v", raw, err)
		}
		again, err := peercrypto.MarshalCanonical(v)
		if err != nil || !bytes.Equal(again, canonical) {
			t.Fatalf("%q decoded and encoded: %q, %v; want %q", raw, again, err, canonical)
		}
		if !bytes.Equal(raw, canonical) || removeErr != nil {
			return
		}
		if err := peercrypto.CheckCanonical(without); err != nil {
			t.Fatalf("%q without a member: %q: %v", raw, without, err)
		}
		object := v.(map[string]any)
		delete(object, "signature")
		delete(object, "a")
		if again, err := peercrypto.MarshalCanonical(object); err != nil || !bytes.Equal(again, without) {
			t.Fatalf("%q without a member: %q, want %q, %v", raw, without, again, err)
		}
	})
}

func FuzzParseID(f *testing.F) {
	for _, c := range loadStock(f).IDs.IsID {
		f.Add(c.ID)
	}
	now := time.UnixMilli(goldenTime)
	f.Fuzz(func(t *testing.T, s string) {
		id, err := peercrypto.ParseID(s)
		_, stockErr := peercrypto.ParseStockID(s)
		at, ok := peercrypto.ID(s).Time()
		if (err == nil) != ok || err == nil && stockErr != nil {
			t.Fatalf("%q: ParseID %v, ParseStockID %v, Time %v", s, err, stockErr, ok)
		}
		if short := peercrypto.ID(s).Short(); len(short) > 6 {
			t.Fatalf("%q: short form %q", s, short)
		}
		_ = peercrypto.ID(s).CheckTime(now)
		if err != nil {
			return
		}
		if len(s) > 128 || string(id) != s || strings.ToLower(s) != s || at.UnixMilli() < 0 {
			t.Fatalf("%q was accepted, time %v", s, at)
		}
		if again := peercrypto.NewID(at); string(again[:10]) != s[:10] {
			t.Fatalf("%q: the time %v prints as %s", s, at, again[:10])
		}
	})
}

func FuzzHashText(f *testing.F) {
	f.Add(peercrypto.Sum(nil).String())
	f.Add(peercrypto.Sum(nil).String()[:42] + "V")
	f.Add(peercrypto.EncodeB64(make([]byte, 32)))
	f.Add("AAA\r\nA==")
	f.Add(strings.Repeat("f", 88))
	f.Fuzz(func(t *testing.T, s string) {
		if h, err := peercrypto.ParseHash(s); err == nil && h.String() != s {
			t.Fatalf("hash %q prints as %q", s, h)
		}
		if v, err := peercrypto.ParseTag(s); err == nil && v.String() != s {
			t.Fatalf("tag %q prints as %q", s, v)
		}
		if v, err := peercrypto.ParseSignature(s); err == nil && v.String() != s {
			t.Fatalf("signature %q prints as %q", s, v)
		}
		if v, err := peercrypto.ParsePublicKey(s); err == nil && (v.String() != s || v.Check() != nil) {
			t.Fatalf("key %q prints as %q", s, v)
		}
		if v, err := peercrypto.ParseBoxPublicKey(s); err == nil && (v.String() != s || v.Check() != nil) {
			t.Fatalf("box key %q prints as %q", s, v)
		}
		if b, err := peercrypto.DecodeB64(s); err == nil && peercrypto.EncodeB64(b) != s {
			t.Fatalf("base64 %q prints as %q", s, peercrypto.EncodeB64(b))
		}
		if b, err := peercrypto.DecodeB64u(s); err == nil && peercrypto.EncodeB64u(b) != s {
			t.Fatalf("base64url %q prints as %q", s, peercrypto.EncodeB64u(b))
		}
		if k, err := peercrypto.ParseStockSecretKey(s); err == nil && k.IsZero() {
			t.Fatalf("secret key %q is zero", s)
		}
	})
}

func FuzzDeviceCert(f *testing.F) {
	good := goldenCert(f)
	now := time.UnixMilli(good.Issued)
	f.Add(good.Canonical())
	f.Add([]byte(`{"v":1}`))
	f.Add([]byte(`{"v":1,"deviceId":null,"sig":null,"issued":-9223372036854775808,"expires":9223372036854775807}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		cert, err := peercrypto.ParseDeviceCert(raw)
		if err != nil {
			return
		}
		if canonical := cert.Canonical(); canonical != nil {
			if err := peercrypto.CheckCanonical(canonical); err != nil {
				t.Fatalf("%q: %v", canonical, err)
			}
		}
		if err := cert.Verify(now); err == nil && cert != good {
			t.Fatalf("forged: %s", raw)
		}
	})
}

func FuzzUserDoc(f *testing.F) {
	for _, user := range loadStock(f).DataBlocks.Users {
		f.Add([]byte(user))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		doc, err := peercrypto.ParseUserDoc(raw)
		if err != nil {
			return
		}
		if err := peercrypto.VerifyStockObject(doc.Canonical, doc.PublicKey); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
	})
}

func FuzzKeystoreFile(f *testing.F) {
	id := goldenIdentity(f)
	raw, err := peercrypto.EncodeKeystoreWith(id, insecure, [16]byte{}, [24]byte{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"ct":"AAAA","kdf":{"m":65536,"name":"argon2id","p":1,"salt":"AAAAAAAAAAAAAAAAAAAAAA","t":3},"nonce":"AAAA","v":1}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		// Without a passphrase, so that no input runs Argon2.
		got, err := peercrypto.DecodeKeystore(raw, insecure)
		if err == nil {
			sameIdentity(t, got, id)
		}
	})
}
