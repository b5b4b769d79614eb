package crypto

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"unicode/utf8"

	"golang.org/x/crypto/nacl/box"
)

// ErrOpen is returned when a sealed message was made with another key, bound to
// something else, or changed. It is not said which.
var ErrOpen = errors.New("sealed message does not open")

// BoxPublicKey is an X25519 public key (RFC 7748). Its text is 44 characters of
// standard base64.
type BoxPublicKey [32]byte

// ParseBoxPublicKey reads the text of a key and checks the key as
// [BoxPublicKey.Check] does.
func ParseBoxPublicKey(s string) (BoxPublicKey, error) {
	var k BoxPublicKey
	err := k.UnmarshalText([]byte(s))
	return k, err
}

// String returns the text of k.
func (k BoxPublicKey) String() string { return EncodeB64(k[:]) }

// Short returns the first 8 characters of the text, for logs.
func (k BoxPublicKey) Short() string { return k.String()[:8] }

// IsZero reports whether k is the zero value, which is no acceptable key.
func (k BoxPublicKey) IsZero() bool { return k == BoxPublicKey{} }

// MarshalText returns the text of k.
func (k BoxPublicKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads and checks a key; it changes k only on success.
func (k *BoxPublicKey) UnmarshalText(text []byte) error {
	var in BoxPublicKey
	if err := decodeFixed(in[:], text, base64.StdEncoding, "a box key"); err != nil {
		return err
	}
	if err := in.Check(); err != nil {
		return err
	}
	*k = in
	return nil
}

// Check refuses a key of small order, with which the shared secret would be
// known to everybody, and an encoding that is not the only one of its point.
func (k BoxPublicKey) Check() error { return checkMontgomery(k) }

// BoxSecretKey is an X25519 secret key. The zero value is no key. Copies share
// the secret, which nothing prints or encodes.
type BoxSecretKey struct{ s *boxSecret }

// boxSecret hides the secret as signingSecret does.
type boxSecret struct{ private *ecdh.PrivateKey }

// GenerateBoxKey returns a new random key.
func GenerateBoxKey() (BoxSecretKey, error) {
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return BoxSecretKey{}, fmt.Errorf("generating a box key: %w", err)
	}
	return BoxSecretKey{&boxSecret{private}}, nil
}

// BoxSecretKeyFromBytes returns the key of 32 secret bytes.
func BoxSecretKeyFromBytes(b []byte) (BoxSecretKey, error) {
	private, err := ecdh.X25519().NewPrivateKey(b)
	if err != nil {
		return BoxSecretKey{}, fmt.Errorf("making a box key: %w: want 32 bytes", ErrKey)
	}
	return BoxSecretKey{&boxSecret{private}}, nil
}

// StockBoxKey returns the box key of a stock user, whose secret is the signing
// seed itself. It exists for stock boxes only: everything else has a box key of
// its own.
func (k SigningKey) StockBoxKey() BoxSecretKey {
	if k.s == nil {
		return BoxSecretKey{}
	}
	private, err := ecdh.X25519().NewPrivateKey(k.s.private[:ed25519.SeedSize])
	if err != nil {
		return BoxSecretKey{} // a seed has 32 bytes
	}
	return BoxSecretKey{&boxSecret{private}}
}

// Public returns the public key.
func (k BoxSecretKey) Public() BoxPublicKey {
	var public BoxPublicKey
	if k.s != nil {
		copy(public[:], k.s.private.PublicKey().Bytes())
	}
	return public
}

// IsZero reports whether k is the zero value.
func (k BoxSecretKey) IsZero() bool { return k.s == nil }

// ExportBytes returns a copy of the 32 secret bytes, or nil for the zero value.
// It is the only way to get at the secret: the caller stores or erases it.
func (k BoxSecretKey) ExportBytes() []byte {
	if k.s == nil {
		return nil
	}
	return k.s.private.Bytes()
}

// SharedSecret returns X25519(k, p). It refuses a p of small order. The result
// is not uniform: use it only through [DeriveKey].
func (k BoxSecretKey) SharedSecret(p BoxPublicKey) ([32]byte, error) {
	if k.s == nil {
		return [32]byte{}, fmt.Errorf("agreeing on a secret: %w: no secret key", ErrKey)
	}
	if err := p.Check(); err != nil {
		return [32]byte{}, fmt.Errorf("agreeing on a secret: %w", err)
	}
	public, err := ecdh.X25519().NewPublicKey(p[:])
	if err != nil {
		return [32]byte{}, fmt.Errorf("agreeing on a secret: %w: %w", ErrKey, err)
	}
	shared, err := k.s.private.ECDH(public)
	if err != nil {
		return [32]byte{}, fmt.Errorf("agreeing on a secret: %w: of small order", ErrKey)
	}
	return [32]byte(shared), nil
}

// String returns "[redacted]".
func (k BoxSecretKey) String() string { return redacted }

// GoString returns "[redacted]".
func (k BoxSecretKey) GoString() string { return redacted }

// Format prints "[redacted]" under every verb.
func (k BoxSecretKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue returns "[redacted]".
func (k BoxSecretKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON returns [ErrSecret].
func (k BoxSecretKey) MarshalJSON() ([]byte, error) { return nil, ErrSecret }

// MarshalText returns [ErrSecret].
func (k BoxSecretKey) MarshalText() ([]byte, error) { return nil, ErrSecret }

// GobEncode returns [ErrSecret].
func (k BoxSecretKey) GobEncode() ([]byte, error) { return nil, ErrSecret }

// Box is a stock box (NaCl crypto_box): a JSON value from one user to another.
// Nothing in it proves FromUserID; the opener's choice of sender key does.
type Box struct {
	FromUserID ID     `json:"fromUserId"`
	Contents   string `json:"contents"` // standard base64
	Nonce      string `json:"nonce"`    // standard base64 of 24 bytes
}

// SealBox seals a strict JSON text. Stock peers keep only the low 8 bits of a
// character, so characters above U+00FF are written as \u escapes, which they
// read well.
func SealBox(from BoxSecretKey, fromUser ID, to BoxPublicKey, text []byte) (Box, error) {
	var nonce [24]byte
	_, _ = rand.Read(nonce[:]) // never fails, see crypto/rand
	return sealBox(from, fromUser, to, text, nonce)
}

func sealBox(from BoxSecretKey, fromUser ID, to BoxPublicKey, text []byte, nonce [24]byte) (Box, error) {
	if _, err := Canonicalize(text); err != nil {
		return Box{}, fmt.Errorf("sealing a box: %w", err)
	}
	if from.IsZero() {
		return Box{}, fmt.Errorf("sealing a box: %w: no secret key", ErrKey)
	}
	if err := to.Check(); err != nil {
		return Box{}, fmt.Errorf("sealing a box: %w", err)
	}
	secret := [32]byte(from.s.private.Bytes())
	sealed := box.Seal(nil, latin1(text), &nonce, (*[32]byte)(&to), &secret)
	return Box{fromUser, EncodeB64(sealed), EncodeB64(nonce[:])}, nil
}

// OpenBox opens a box and returns the JSON text in it, checked strictly but not
// in canonical form. The caller looks up from by b.FromUserID.
func OpenBox(to BoxSecretKey, from BoxPublicKey, b Box) ([]byte, error) {
	if to.IsZero() {
		return nil, fmt.Errorf("opening a box: %w: no secret key", ErrKey)
	}
	if err := from.Check(); err != nil {
		return nil, fmt.Errorf("opening a box: %w", err)
	}
	nonce, err := DecodeB64(b.Nonce)
	if err != nil || len(nonce) != 24 {
		return nil, fmt.Errorf("opening a box: nonce: %w", ErrText)
	}
	sealed, err := DecodeB64(b.Contents)
	if err != nil {
		return nil, fmt.Errorf("opening a box: contents: %w", err)
	}
	secret := [32]byte(to.s.private.Bytes())
	plain, ok := box.Open(nil, sealed, (*[24]byte)(nonce), (*[32]byte)(&from), &secret)
	if !ok {
		return nil, fmt.Errorf("opening a box: %w", ErrOpen)
	}
	text := make([]byte, 0, len(plain))
	for _, c := range plain {
		text = utf8.AppendRune(text, rune(c))
	}
	if _, err := Canonicalize(text); err != nil {
		return nil, fmt.Errorf("opening a box: %w", err)
	}
	return text, nil
}

// latin1 writes a JSON text with one byte a character.
func latin1(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for _, r := range string(text) {
		switch {
		case r <= 0xff:
			out = append(out, byte(r))
		case r <= 0xffff:
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		}
	}
	return out
}
