package link

import (
	"errors"
	"fmt"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// The two directions of a negotiation, as they stand in the additional data.
const (
	dirOfferer  = "o"
	dirAnswerer = "a"
)

// maxPlain bounds what is sealed; with nonce, tag and base64 it fits
// wire.MaxCiphertext.
const maxPlain = 40 << 10

// sealKeys are the two keys of one negotiation. Only the offerer's and the
// target's secrets give them, so a ciphertext proves that one of the two made
// it; which one, the signature inside says.
type sealKeys struct{ offerer, answerer [32]byte }

// newSealKeys derives the keys from X25519(eph, box key) and the topic's salt.
func newSealKeys(shared, salt [32]byte) sealKeys {
	var s []byte
	if salt != [32]byte{} {
		s = salt[:]
	}
	k := peercrypto.DeriveKey(shared[:], s, "peers/env/1")
	return sealKeys{
		offerer:  peercrypto.DeriveKey(k[:], nil, "peers/env/1 offerer"),
		answerer: peercrypto.DeriveKey(k[:], nil, "peers/env/1 answerer"),
	}
}

func (k sealKeys) of(dir string) [32]byte {
	if dir == dirOfferer {
		return k.offerer
	}
	return k.answerer
}

// context is the additional data of a sealed envelope: what the server could
// otherwise exchange between two envelopes.
type envelopeContext struct {
	Conn peercrypto.ID `json:"conn"`
	Dir  string        `json:"dir"`
	From peercrypto.ID `json:"from"`
	Kind wire.Kind     `json:"kind"`
	To   peercrypto.ID `json:"to"`
	Via  string        `json:"via"`
}

func (c envelopeContext) aad() []byte {
	// Ids and tags are plain text of known grammar: this cannot fail.
	b, err := peercrypto.MarshalCanonical(c)
	if err != nil {
		return nil
	}
	return b
}

func viaText(tag peercrypto.Tag) string {
	if tag == (peercrypto.Tag{}) {
		return ""
	}
	return tag.String()
}

func (k sealKeys) seal(c envelopeContext, plain []byte) ([]byte, error) {
	if len(plain) > maxPlain {
		return nil, fmt.Errorf("sealing %s: %d bytes, limit is %d", c.Kind, len(plain), maxPlain)
	}
	return peercrypto.Seal(k.of(c.Dir), c.aad(), plain), nil
}

func (k sealKeys) open(c envelopeContext, env wire.Envelope) ([]byte, error) {
	sealed, err := env.Sealed()
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w: %w", c.Kind, ErrEnvelope, err)
	}
	plain, err := peercrypto.Open(k.of(c.Dir), c.aad(), sealed)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w: %w", c.Kind, ErrEnvelope, err)
	}
	if len(plain) > maxPlain {
		return nil, fmt.Errorf("opening %s: %w: too long", c.Kind, ErrOffer)
	}
	return plain, nil
}

// candidate is the content of a sealed candidate, the members of a browser's
// RTCIceCandidateInit.
type candidate struct {
	Candidate string `json:"candidate"`
	Mid       string `json:"sdpMid"`
	Line      uint16 `json:"sdpMLineIndex"`
	Ufrag     string `json:"usernameFragment"`
}

const maxCandidateText = 512

func parseCandidate(plain []byte) (candidate, error) {
	var c candidate
	if err := decodeCanonical(plain, &c); err != nil {
		return c, fmt.Errorf("reading candidate: %w: %w", ErrOffer, err)
	}
	if len(c.Candidate) > maxCandidateText || len(c.Mid) > 64 || len(c.Ufrag) > 256 || c.Line != 0 {
		return c, fmt.Errorf("reading candidate: %w: a member is out of range", ErrOffer)
	}
	return c, nil
}

// decodeCanonical decodes what must be in canonical form, without unknown
// members.
func decodeCanonical(raw []byte, v any) error {
	if err := peercrypto.CheckCanonical(raw); err != nil {
		return err
	}
	if err := peercrypto.UnmarshalStrict(raw, v); err != nil {
		return err
	}
	// A member that is missing or of another case would not come back.
	again, err := peercrypto.MarshalCanonical(v)
	if err != nil {
		return err
	}
	if string(again) != string(raw) {
		return errors.New("a member is missing or not in its only form")
	}
	return nil
}
