package crypto

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
)

// Tag is the pseudonym under which the members of a group, or the two sides of
// an invitation, find each other at one server. Whoever knows it may listen, so
// it is as secret as the key it derives from, for that server. Its text is 22
// characters of base64url without padding.
type Tag [16]byte

// ParseTag reads the text of a tag.
func ParseTag(s string) (Tag, error) {
	var t Tag
	err := t.UnmarshalText([]byte(s))
	return t, err
}

// String returns the text of t. Do not log it: see Short.
func (t Tag) String() string { return EncodeB64u(t[:]) }

// Short returns the first 6 characters of the text, for logs.
func (t Tag) Short() string { return t.String()[:6] }

// MarshalText returns the text of t.
func (t Tag) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads the text of a tag; it changes t only on success.
func (t *Tag) UnmarshalText(text []byte) error {
	return decodeFixed(t[:], text, base64.RawURLEncoding, "a tag")
}

// RendezvousTag returns the first 16 bytes of
// HMAC-SHA256(key, "peers/rv/1\n" + server). The server is the name that the
// client dialled, lower-case A-label host and explicit port, never one that the
// server claims.
func RendezvousTag(key [32]byte, server string) Tag {
	mac := hmac.New(sha256.New, key[:])
	_, _ = fmt.Fprintf(mac, "peers/rv/1\n%s", server) // a hash never fails
	return Tag(mac.Sum(nil)[:len(Tag{})])
}

// PersonalRendezvousKey returns the key of the tags by which the devices of one
// user find each other: DeriveKey(seed, nil, "peers/self-rv/1"). It is all
// zeros for the zero key, which must not be used.
func PersonalRendezvousKey(k SigningKey) [32]byte {
	if k.IsZero() {
		return [32]byte{}
	}
	return DeriveKey(k.ExportSeed(), nil, "peers/self-rv/1")
}

// InviteRendezvousKey returns the key of the tags of an invitation:
// DeriveKey(ipk, nil, "peers/invite/topic/1"), where ipk is the invitation's
// public key: members know it from the group's log, the joiner from the secret.
func InviteRendezvousKey(ipk PublicKey) [32]byte {
	return DeriveKey(ipk[:], nil, "peers/invite/topic/1")
}

// InviteEnvelopeKey returns the key under which the two sides of an invitation
// seal: DeriveKey(ipk, nil, "peers/invite/env/1").
func InviteEnvelopeKey(ipk PublicKey) [32]byte {
	return DeriveKey(ipk[:], nil, "peers/invite/env/1")
}

// InviteSigningKey returns the key of an invitation's secret: its seed is
// DeriveKey(secret, nil, "peers/invite/sign/1").
func InviteSigningKey(secret [32]byte) SigningKey {
	seed := DeriveKey(secret[:], nil, "peers/invite/sign/1")
	return signingKeyOf(seed[:])
}
