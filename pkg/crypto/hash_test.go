package crypto_test

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

func TestHashText(t *testing.T) {
	h := peercrypto.Sum(nil)
	if got := h.Hex(); got != "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" {
		t.Errorf("Sum(nil) = %s", got)
	}
	if got := h.String(); got != "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU" || h.Short() != got[:8] {
		t.Errorf("text %s, short %s", got, h.Short())
	}
	back, err := peercrypto.ParseHash(h.String())
	if err != nil || back != h || back.Compare(h) != 0 || h.IsZero() {
		t.Errorf("ParseHash: %v, %v", back, err)
	}
	text := h.String()
	for name, bad := range map[string]string{
		"empty": "", "short": text[1:], "long": text + "A", "padded": text + "=", "line end": text[:42] + "\n",
		"inner line end": text[:20] + "\n" + text[20:42], "standard alphabet": strings.ReplaceAll(text, "-", "+"),
		"spare bits": text[:42] + "V", "two line ends": text[:41] + "\r\n", "space": " " + text[1:],
	} {
		kept := h
		if err := kept.UnmarshalText([]byte(bad)); !errors.Is(err, peercrypto.ErrText) {
			t.Errorf("%s: %v, want ErrText", name, err)
		}
		if kept != h {
			t.Errorf("%s: changed the hash", name)
		}
	}
}

func TestHashOrder(t *testing.T) {
	// Text and bytes sort differently: "-" is the 62nd digit but comes before "A".
	a, b := peercrypto.Hash{0x00}, peercrypto.Hash{0xf8}
	if a.Compare(b) != -1 || b.Compare(a) != 1 || a.String() < b.String() {
		t.Errorf("order: %d, texts %s %s", a.Compare(b), a, b)
	}
}

func TestBase64(t *testing.T) {
	for size := range 100 {
		in := bytes.Repeat([]byte{0xfb}, size)
		std, err := peercrypto.DecodeB64(peercrypto.EncodeB64(in))
		url, urlErr := peercrypto.DecodeB64u(peercrypto.EncodeB64u(in))
		if err != nil || urlErr != nil || !bytes.Equal(std, in) || !bytes.Equal(url, in) {
			t.Fatalf("%d bytes: %v, %v", size, err, urlErr)
		}
	}
	for _, bad := range []string{"AA", "AAA", "AB==", "AA==\n", "A\nA==", "AAAA=", "-_-_", "!"} {
		if got, err := peercrypto.DecodeB64(bad); !errors.Is(err, peercrypto.ErrText) {
			t.Errorf("DecodeB64(%q) = %x, %v", bad, got, err)
		}
	}
	for _, bad := range []string{"A", "AA==", "AB", "AA\n", "A\rA", "+/+/", "!"} {
		if got, err := peercrypto.DecodeB64u(bad); !errors.Is(err, peercrypto.ErrText) {
			t.Errorf("DecodeB64u(%q) = %x, %v", bad, got, err)
		}
	}
}

func TestSumObject(t *testing.T) {
	with := []byte(`{"a":1,"b":{"signature":2},"signature":"x","signer":"y"}`)
	without := []byte(`{"a":1,"b":{"signature":2},"signer":"y"}`)
	h, err := peercrypto.SumObject(with)
	if err != nil || h != peercrypto.Sum(without) {
		t.Errorf("SumObject = %v, %v", h, err)
	}
	for _, bad := range []string{"", "[]", `"x"`} {
		if _, err := peercrypto.SumObject([]byte(bad)); !errors.Is(err, peercrypto.ErrJSON) {
			t.Errorf("SumObject(%q): %v", bad, err)
		}
	}
}

func TestTagNonceText(t *testing.T) {
	tag := peercrypto.Tag(slices.Repeat([]byte{0xff}, 16))
	back, err := peercrypto.ParseTag(tag.String())
	if err != nil || back != tag || len(tag.String()) != 22 || len(tag.Short()) != 6 {
		t.Errorf("tag %v, %v", back, err)
	}
	if _, err := peercrypto.ParseTag(tag.String()[:21] + "x"); !errors.Is(err, peercrypto.ErrText) {
		t.Errorf("spare bits: %v", err)
	}
	nonce := peercrypto.NewNonce()
	var again peercrypto.Nonce
	if err := again.UnmarshalText([]byte(nonce.String())); err != nil || again != nonce {
		t.Errorf("nonce %v, %v", again, err)
	}
	if nonce == peercrypto.NewNonce() {
		t.Error("two nonces are equal")
	}
}

func TestLogsAreShort(t *testing.T) {
	user, _, _ := goldenBodies()
	k := seedKey(t, goldenUserSeed)
	tag := peercrypto.RendezvousTag([32]byte{}, goldenServer)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "id", user.ID(), "hash", user.Hash(),
		"tag", tag, "key", k.Public(), "box", k.StockBoxKey().Public())
	for _, whole := range []string{
		string(user.ID()), user.Hash().String(), tag.String(), k.Public().String(), k.StockBoxKey().Public().String(),
	} {
		if strings.Contains(log.String(), whole) {
			t.Errorf("the log holds all of %s", whole)
		}
	}
	if !strings.Contains(log.String(), "id="+user.ID().Short()+" ") {
		t.Errorf("logged %s", log.String())
	}
}
