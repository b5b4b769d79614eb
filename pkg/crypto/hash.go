package crypto

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
)

// ErrText is matched by every refusal of a text form: a hash, key, signature,
// tag or nonce of the wrong length or alphabet. Such errors never contain the
// text.
var ErrText = errors.New("malformed text")

// Hash is a SHA-256. Its text is 43 characters of base64url without padding.
type Hash [32]byte

// Sum returns the SHA-256 of b.
func Sum(b []byte) Hash { return sha256.Sum256(b) }

// SumObject returns the hash of a canonical object without its member
// "signature", which is what a stock signature covers and what names a change.
// It refuses what [RemoveMember] refuses.
func SumObject(canonical []byte) (Hash, error) {
	unsigned, err := RemoveMember(canonical, "signature")
	if err != nil {
		return Hash{}, fmt.Errorf("hashing an object: %w", err)
	}
	return Sum(unsigned), nil
}

// ParseHash reads the text of a hash.
func ParseHash(s string) (Hash, error) {
	var h Hash
	err := h.UnmarshalText([]byte(s))
	return h, err
}

// String returns the text of h.
func (h Hash) String() string { return EncodeB64u(h[:]) }

// Hex returns 64 lower-case hex characters, the form of stock documents.
func (h Hash) Hex() string { return hex.EncodeToString(h[:]) }

// Short returns the first 8 characters of the text, for logs.
func (h Hash) Short() string { return h.String()[:8] }

// IsZero reports whether h is the zero value, which no known input has.
func (h Hash) IsZero() bool { return h == Hash{} }

// Compare orders hashes by their bytes: -1, 0 or 1.
func (h Hash) Compare(o Hash) int { return bytes.Compare(h[:], o[:]) }

// MarshalText returns the text of h.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads the text of a hash; it changes h only on success.
func (h *Hash) UnmarshalText(text []byte) error {
	return decodeFixed(h[:], text, base64.RawURLEncoding, "a hash")
}

// EncodeB64u returns base64url without padding (RFC 4648, section 5).
func EncodeB64u(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// DecodeB64u reverses [EncodeB64u] and refuses every other spelling.
func DecodeB64u(s string) ([]byte, error) { return decodeExact(base64.RawURLEncoding, s) }

// EncodeB64 returns standard base64 with padding (RFC 4648, section 4).
func EncodeB64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// DecodeB64 reverses [EncodeB64] and refuses every other spelling.
func DecodeB64(s string) ([]byte, error) { return decodeExact(base64.StdEncoding, s) }

// decodeExact compares the encoding of the result with the text because strict
// decoders still skip CR and LF.
func decodeExact(e *base64.Encoding, s string) ([]byte, error) {
	b, err := e.DecodeString(s)
	if err != nil || e.EncodeToString(b) != s {
		return nil, fmt.Errorf("decoding base64: %w", ErrText)
	}
	return b, nil
}

// decodeFixed fills dst with the bytes of text, or leaves it alone.
func decodeFixed(dst, text []byte, e *base64.Encoding, what string) error {
	var in, again [96]byte
	if n := e.EncodedLen(len(dst)); len(text) != n || n > len(in) {
		return fmt.Errorf("decoding %s: want %d characters: %w", what, n, ErrText)
	}
	n, err := e.Decode(in[:], text)
	if err != nil || n != len(dst) {
		return fmt.Errorf("decoding %s: not base64: %w", what, ErrText)
	}
	e.Encode(again[:], in[:n])
	if !bytes.Equal(again[:len(text)], text) {
		return fmt.Errorf("decoding %s: not in its only spelling: %w", what, ErrText)
	}
	copy(dst, in[:n])
	return nil
}
