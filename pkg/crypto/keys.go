package crypto

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
)

// ErrKey is matched by every refusal of a key that is well encoded but unsafe
// or impossible.
var ErrKey = errors.New("unacceptable key")

// ErrSecret is returned by every encoder that is asked to encode a secret.
var ErrSecret = errors.New("refusing to encode a secret")

const redacted = "[redacted]"

// PublicKey is an Ed25519 public key (RFC 8032). Its text is 44 characters of
// standard base64.
type PublicKey [32]byte

// ParsePublicKey reads the text of a key and checks the key as
// [PublicKey.Check] does.
func ParsePublicKey(s string) (PublicKey, error) {
	var k PublicKey
	err := k.UnmarshalText([]byte(s))
	return k, err
}

// String returns the text of k.
func (k PublicKey) String() string { return EncodeB64(k[:]) }

// Short returns the first 8 characters of the text, for logs.
func (k PublicKey) Short() string { return k.String()[:8] }

// IsZero reports whether k is the zero value, which is no acceptable key.
func (k PublicKey) IsZero() bool { return k == PublicKey{} }

// Equal reports whether k and o are the same key, in constant time.
func (k PublicKey) Equal(o PublicKey) bool { return subtle.ConstantTimeCompare(k[:], o[:]) == 1 }

// MarshalText returns the text of k.
func (k PublicKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads and checks a key; it changes k only on success.
func (k *PublicKey) UnmarshalText(text []byte) error {
	var in PublicKey
	if err := decodeFixed(in[:], text, base64.StdEncoding, "a public key"); err != nil {
		return err
	}
	if err := in.Check(); err != nil {
		return err
	}
	*k = in
	return nil
}

// Check refuses a key of small order, for which one signature can fit many
// messages, an encoding that is not the only one of its point, and what is no
// point of the curve. A key that was decoded was checked, unless its member was
// null or missing, which leaves the zero key.
func (k PublicKey) Check() error { return checkEdwards(k) }

// Signature is a detached Ed25519 signature. Its text is 88 characters of
// standard base64.
type Signature [64]byte

// String returns the text of s.
func (s Signature) String() string { return EncodeB64(s[:]) }

// IsZero reports whether s is the zero value, which verifies nothing.
func (s Signature) IsZero() bool { return s == Signature{} }

// Compare orders signatures by their bytes: -1, 0 or 1.
func (s Signature) Compare(o Signature) int { return bytes.Compare(s[:], o[:]) }

// MarshalText returns the text of s.
func (s Signature) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the text of a signature; it changes s only on success.
func (s *Signature) UnmarshalText(text []byte) error {
	return decodeFixed(s[:], text, base64.StdEncoding, "a signature")
}

// ParseSignature reads the text of a signature.
func ParseSignature(s string) (Signature, error) {
	var sig Signature
	err := sig.UnmarshalText([]byte(s))
	return sig, err
}

// SigningKey is an Ed25519 secret key. The zero value is no key: it signs
// nothing and its public key is zero. Copies share the secret, which nothing
// prints or encodes.
type SigningKey struct{ s *signingSecret }

// signingSecret hides the secret behind two pointers. In an unexported field of
// some other type, package fmt prints values without asking their methods; it
// follows one pointer for a verb that does not fit, but never a second.
type signingSecret struct{ private *[ed25519.PrivateKeySize]byte }

func signingKeyOf(seed []byte) SigningKey {
	private := [ed25519.PrivateKeySize]byte(ed25519.NewKeyFromSeed(seed))
	return SigningKey{&signingSecret{&private}}
}

// GenerateSigningKey returns a new random key.
func GenerateSigningKey() (SigningKey, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return SigningKey{}, fmt.Errorf("generating a signing key: %w", err)
	}
	return signingKeyOf(private.Seed()), nil
}

// SigningKeyFromSeed returns the key of a seed of 32 bytes (RFC 8032).
func SigningKeyFromSeed(seed []byte) (SigningKey, error) {
	if len(seed) != ed25519.SeedSize {
		return SigningKey{}, fmt.Errorf("making a signing key: %w: want a seed of 32 bytes", ErrKey)
	}
	return signingKeyOf(seed), nil
}

// Public returns the public key.
func (k SigningKey) Public() PublicKey {
	var public PublicKey
	if k.s != nil {
		copy(public[:], k.s.private[ed25519.SeedSize:])
	}
	return public
}

// IsZero reports whether k is the zero value.
func (k SigningKey) IsZero() bool { return k.s == nil }

// ExportSeed returns a copy of the 32-byte seed, or nil for the zero value. It
// is the only way to get at the secret: the caller stores or erases it.
func (k SigningKey) ExportSeed() []byte {
	if k.s == nil {
		return nil
	}
	return bytes.Clone(k.s.private[:ed25519.SeedSize])
}

// sign returns the zero signature, which verifies nothing, for the zero key.
func (k SigningKey) sign(message []byte) Signature {
	var sig Signature
	if k.s != nil {
		copy(sig[:], ed25519.Sign(k.s.private[:], message))
	}
	return sig
}

// verify is the one place where a signature is checked.
func (k PublicKey) verify(message []byte, s Signature) bool {
	return ed25519.Verify(k[:], message, s[:])
}

// SignHash makes the signature of a stock document: over the 64 hex characters
// of its hash (see [SumObject]).
func (k SigningKey) SignHash(h Hash) Signature { return k.sign([]byte(h.Hex())) }

// VerifyHash checks a signature that [SigningKey.SignHash] made.
func (k PublicKey) VerifyHash(h Hash, s Signature) bool { return k.verify([]byte(h.Hex()), s) }

// Purpose says what a signature is for. It is lower-case letters and dashes.
type Purpose string

// The purposes of the protocol.
const (
	PurposeSignalAuth   Purpose = "signal-auth"
	PurposeOffer        Purpose = "offer"
	PurposeAnswer       Purpose = "answer"
	PurposePeerAuth     Purpose = "peer-auth"
	PurposeDeviceCert   Purpose = "device-cert"
	PurposeKeyEvent     Purpose = "key-event"
	PurposeInviteClaim  Purpose = "invite-claim"
	PurposeInviteKey    Purpose = "invite-key"
	PurposeRegistryHead Purpose = "registry-head"
	PurposeRecover      Purpose = "recover"
	PurposeReceipt      Purpose = "receipt"
	PurposeNotify       Purpose = "notify"
	PurposeKeyRequest   Purpose = "key-request"
)

// message returns what is signed, or nil for a purpose outside of the grammar:
// with a line end in it one message could be read as another.
func (p Purpose) message(canonical []byte) []byte {
	if p == "" {
		return nil
	}
	for i := range len(p) {
		if c := p[i]; (c < 'a' || c > 'z') && c != '-' {
			return nil
		}
	}
	const prefix = "peers/1 "
	m := make([]byte, 0, len(prefix)+len(p)+1+len(canonical))
	m = append(append(append(m, prefix...), p...), '\n')
	return append(m, canonical...)
}

// SignPurpose signs "peers/1 " + p + "\n" + canonical. The caller passes an
// object in canonical form without its signature members. A malformed purpose
// gives the zero signature.
func (k SigningKey) SignPurpose(p Purpose, canonical []byte) Signature {
	m := p.message(canonical)
	if m == nil {
		return Signature{}
	}
	return k.sign(m)
}

// VerifyPurpose checks a signature that [SigningKey.SignPurpose] made.
func (k PublicKey) VerifyPurpose(p Purpose, canonical []byte, s Signature) bool {
	m := p.message(canonical)
	return m != nil && k.verify(m, s)
}

// String returns "[redacted]".
func (k SigningKey) String() string { return redacted }

// GoString returns "[redacted]".
func (k SigningKey) GoString() string { return redacted }

// Format prints "[redacted]" under every verb.
func (k SigningKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue returns "[redacted]".
func (k SigningKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON returns [ErrSecret].
func (k SigningKey) MarshalJSON() ([]byte, error) { return nil, ErrSecret }

// MarshalText returns [ErrSecret].
func (k SigningKey) MarshalText() ([]byte, error) { return nil, ErrSecret }

// GobEncode returns [ErrSecret].
func (k SigningKey) GobEncode() ([]byte, error) { return nil, ErrSecret }

// firstError returns the first that is not nil: one line for a log.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
