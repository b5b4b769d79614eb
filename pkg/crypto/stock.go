package crypto

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// ErrSignature is matched by every refusal of a signature, whether it is
// malformed, missing or wrong.
var ErrSignature = errors.New("signature does not verify")

// SignMessage makes the attached signature with which a stock peer answers a
// challenge: base64 of signature and message. A stock peer signs whatever it is
// asked to; this refuses a message that is at the same time a document hash or
// a message of [SigningKey.SignPurpose], because its answer could be used as
// such a signature.
func SignMessage(k SigningKey, message string) (string, error) {
	if k.IsZero() {
		return "", fmt.Errorf("signing a message: %w: no key", ErrKey)
	}
	if _, err := hex.DecodeString(message); err == nil && len(message) == 2*len(Hash{}) {
		return "", fmt.Errorf("signing a message: %w: it is the hash of a document", ErrSignature)
	}
	if strings.HasPrefix(message, "peers/") {
		return "", fmt.Errorf("signing a message: %w: it has the prefix of protocol signatures", ErrSignature)
	}
	sig := k.sign([]byte(message))
	return EncodeB64(append(sig[:], message...)), nil
}

// OpenMessage verifies what [SignMessage] made and returns the message.
func OpenMessage(k PublicKey, signed string) (string, error) {
	b, err := DecodeB64(signed)
	if err != nil || len(b) < len(Signature{}) {
		return "", fmt.Errorf("opening a signed message: %w: malformed", ErrSignature)
	}
	message := b[len(Signature{}):]
	if !k.verify(message, Signature(b)) {
		return "", fmt.Errorf("opening a signed message: %w", ErrSignature)
	}
	return string(message), nil
}

// SignStockObject returns the canonical form of the object raw with its members
// "signer" and "signature" set, replacing those that are there.
func SignStockObject(k SigningKey, signer ID, raw []byte) ([]byte, error) {
	if k.IsZero() {
		return nil, fmt.Errorf("signing an object: %w: no key", ErrKey)
	}
	canonical, err := Canonicalize(raw)
	if err != nil {
		return nil, fmt.Errorf("signing an object: %w", err)
	}
	unsigned, err := RemoveMember(canonical, "signature", "signer")
	if err != nil {
		return nil, fmt.Errorf("signing an object: %w", err)
	}
	unsigned, err = addMember(unsigned, "signer", string(signer))
	if err != nil {
		return nil, fmt.Errorf("signing an object: %w", err)
	}
	return addMember(unsigned, "signature", k.SignHash(Sum(unsigned)).String())
}

// addMember adds a string member to a canonical object that does not have it.
func addMember(canonical []byte, name, value string) ([]byte, error) {
	b := append([]byte(nil), canonical[:len(canonical)-1]...)
	if len(b) > 1 {
		b = append(b, ',')
	}
	b, err := jsontext.AppendQuote(b, name)
	if err == nil {
		b, err = jsontext.AppendQuote(append(b, ':'), value)
	}
	if err != nil {
		return nil, jsonError(err)
	}
	return Canonicalize(append(b, '}'))
}

// VerifyStockObject checks the member "signature" of a stock object, which need
// not be in canonical form. Besides the present form, a detached signature, it
// accepts the two old ones: signature and hash together, in base64 or in base36.
// Who may sign is for the caller to decide.
func VerifyStockObject(raw []byte, key PublicKey) error {
	canonical, err := Canonicalize(raw)
	if err != nil {
		return fmt.Errorf("verifying an object: %w", err)
	}
	return verifyStock(canonical, key)
}

func verifyStock(canonical []byte, key PublicKey) error {
	var o struct {
		Signature string `json:"signature"`
	}
	if err := UnmarshalLenientFields(canonical, &o); err != nil {
		return fmt.Errorf("verifying an object: %w", err)
	}
	hash, err := SumObject(canonical)
	if err != nil {
		return fmt.Errorf("verifying an object: %w", err)
	}
	sig, err := ParseStockSignature(o.Signature, hash)
	if err != nil {
		return fmt.Errorf("verifying an object: %w", err)
	}
	if !key.VerifyHash(hash, sig) {
		return fmt.Errorf("verifying an object: %w", ErrSignature)
	}
	return nil
}

// ParseStockSignature reads a signature in any of the forms that
// [VerifyStockObject] accepts. An attached hash must be the given one. It does
// not verify the signature.
func ParseStockSignature(text string, hash Hash) (Signature, error) {
	const attached = len(Signature{}) + 2*len(Hash{})
	var b []byte
	var err error
	switch len(text) {
	case 88:
		return ParseSignature(text)
	case 172:
		b, err = DecodeB64(text)
	case 2 * attached:
		b, err = decodeOldBase36(text)
	case 0:
		return Signature{}, fmt.Errorf("%w: there is none", ErrSignature)
	default:
		return Signature{}, fmt.Errorf("%w: unknown form", ErrSignature)
	}
	if err != nil {
		return Signature{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if len(b) != attached || string(b[len(Signature{}):]) != hash.Hex() {
		return Signature{}, fmt.Errorf("%w: it belongs to another object", ErrSignature)
	}
	return Signature(b[:len(Signature{})]), nil
}

// ParseStockSecretKey reads a stock secret key, 64 bytes of seed and public key
// in base64 or in the old base36 form. The two halves must belong together.
func ParseStockSecretKey(s string) (SigningKey, error) {
	b, err := decodeStockKey(s, ed25519.PrivateKeySize)
	if err != nil {
		return SigningKey{}, fmt.Errorf("parsing a stock secret key: %w", err)
	}
	k, err := SigningKeyFromSeed(b[:ed25519.SeedSize])
	if err != nil {
		return SigningKey{}, fmt.Errorf("parsing a stock secret key: %w", err)
	}
	if !k.Public().Equal(PublicKey(b[ed25519.SeedSize:])) {
		return SigningKey{}, fmt.Errorf("parsing a stock secret key: %w: its halves do not match", ErrKey)
	}
	return k, nil
}

// ParseStockPublicKey reads a stock public key in base64 or in the old base36
// form and checks it as [PublicKey.Check] does.
func ParseStockPublicKey(s string) (PublicKey, error) {
	b, err := decodeStockKey(s, len(PublicKey{}))
	if err != nil {
		return PublicKey{}, fmt.Errorf("parsing a stock public key: %w", err)
	}
	k := PublicKey(b)
	return k, k.Check()
}

func decodeStockKey(s string, size int) ([]byte, error) {
	if len(s) == 2*size {
		return decodeOldBase36(s)
	}
	b, err := DecodeB64(s)
	if err == nil && len(b) != size {
		err = fmt.Errorf("want %d bytes: %w", size, ErrText)
	}
	return b, err
}

// decodeOldBase36 reads two base36 digits a byte, of the byte plus 36.
func decodeOldBase36(s string) ([]byte, error) {
	if len(s)%2 != 0 || !isBase36(s) {
		return nil, fmt.Errorf("decoding base36: %w", ErrText)
	}
	b := make([]byte, 0, len(s)/2)
	for i := 0; i < len(s); i += 2 {
		v, err := strconv.ParseUint(s[i:i+2], 36, 16)
		if err != nil || v < 36 || v > 36+math.MaxUint8 {
			return nil, fmt.Errorf("decoding base36: %w", ErrText)
		}
		b = append(b, byte(v-36))
	}
	return b, nil
}
