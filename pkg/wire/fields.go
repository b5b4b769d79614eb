package wire

import (
	"encoding/base64"
	"errors"
	"fmt"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// Nonce is 32 random bytes; its text is b64u.
type Nonce [32]byte

// String gives the text form.
func (n Nonce) String() string { return peercrypto.EncodeB64u(n[:]) }

// MarshalText gives the text form.
func (n Nonce) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText reads the text form strictly.
func (n *Nonce) UnmarshalText(text []byte) error {
	b, err := peercrypto.DecodeB64u(string(text))
	if err != nil {
		return fmt.Errorf("nonce: %w", err)
	}
	if len(b) != len(n) {
		return errors.New("nonce: not 32 bytes")
	}
	copy(n[:], b)
	return nil
}

const idLen = 25

// checkID checks the grammar of ids on the wire: 25 characters, no suffix.
func checkID(what string, id peercrypto.ID) error {
	if !isID(id) {
		return errors.New(what + " is not an id of 25 characters")
	}
	return nil
}

// text is what the grammars are checked on.
type text interface{ ~string | ~[]byte }

func isID[T text](s T) bool { return len(s) == idLen && inAlphabet(s, inID) }

func checkRequestID(id uint64) error {
	if id == 0 || id > MaxID {
		return errors.New("id is not a request id")
	}
	return nil
}

// isCap tells the grammar of capabilities, codes and types.
func isCap(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

func checkCaps(caps []string) error {
	if caps == nil {
		return errors.New("caps is missing")
	}
	if len(caps) > maxCaps {
		return errors.New("too many caps")
	}
	for _, c := range caps {
		if len(c) > maxCapLen || !isCap(c) {
			return errors.New("a capability is malformed")
		}
	}
	return nil
}

func checkText(what, s string) error {
	if len(s) > maxText {
		return errors.New(what + " is too long")
	}
	return nil
}

// isSealed tells whether s is strict b64u of at least one byte.
func isSealed(s string) bool {
	return s != "" && len(s)%4 != 1 && inAlphabet(s, inB64u) && endsClean(s)
}

// endsClean tells whether the bits of a base64 text behind its last byte are
// zero.
func endsClean[T text](s T) bool {
	switch v := b64value(s[len(s)-1]); len(s) % 4 {
	case 2:
		return v&15 == 0
	case 3:
		return v&3 == 0
	default:
		return true
	}
}

// isKeyText tells whether s is strict b64 of 32 bytes: 43 characters, of which
// the last has two zero bits, and the padding.
func isKeyText[T text](s T) bool {
	return len(s) == 44 && s[43] == '=' && inAlphabet(s[:43], inB64) && b64value(s[42])&3 == 0
}

// The alphabets, as bits of a table: sealed envelopes are most of what is
// relayed, and each of their bytes is looked at.
const (
	inB64  = 1
	inB64u = 2
	inID   = 4
)

var alphabets = func() (t [256]uint8) {
	for i := range 256 {
		switch c := byte(i); {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
			t[i] = inB64 | inB64u
		case c == '+', c == '/':
			t[i] = inB64
		case c == '-', c == '_':
			t[i] = inB64u
		}
		if c := byte(i); c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			t[i] |= inID
		}
	}
	return t
}()

func inAlphabet[T text](s T, alphabet uint8) bool {
	all := alphabet
	for i := range len(s) {
		all &= alphabets[s[i]]
	}
	return all != 0
}

func b64value(c byte) byte {
	switch {
	case c >= 'A' && c <= 'Z':
		return c - 'A'
	case c >= 'a' && c <= 'z':
		return c - 'a' + 26
	case c >= '0' && c <= '9':
		return c - '0' + 52
	case c == '+' || c == '-':
		return 62
	default:
		return 63
	}
}

const tagTextLen = 22

var strictB64u = base64.RawURLEncoding.Strict()

// isTagText tells whether parseTag would take s: 22 characters, of which the
// last has four zero bits, and not all of them zero.
func isTagText(s []byte) bool {
	return len(s) == tagTextLen && allB64u(s) && b64value(s[tagTextLen-1])&15 == 0 && string(s) != zeroTagText
}

const zeroTagText = "AAAAAAAAAAAAAAAAAAAAAA"

// parseTag reads a tag from its text without allocating.
func parseTag[T text](s T) (tag peercrypto.Tag, ok bool) {
	if len(s) != tagTextLen || !inAlphabet(s, inB64u) {
		return tag, false
	}
	var src [tagTextLen]byte
	copy(src[:], s)
	if _, err := strictB64u.Decode(tag[:], src[:]); err != nil {
		return peercrypto.Tag{}, false
	}
	return tag, tag != peercrypto.Tag{}
}

func appendTag(dst []byte, tag peercrypto.Tag) []byte {
	return base64.RawURLEncoding.AppendEncode(dst, tag[:])
}
