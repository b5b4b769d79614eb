package link

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// maxSDP bounds a session description. One for a data channel with 64
// candidates has about 8 KiB.
const maxSDP = 24 << 10

// maxGeneration is more restarts than a connection can have.
const maxGeneration = 1 << 32

// offer is the content of a sealed offer or answer: who wants to speak with
// whom, over which certificate. Layout: docs/formats.md, "Envelopes" and
// "Restarts".
type offer struct {
	V          int                     `json:"v"` // 2
	Kind       wire.Kind               `json:"kind"`
	Conn       peercrypto.ID           `json:"conn"`
	FromDevice peercrypto.ID           `json:"fromDevice"`
	ToDevice   peercrypto.ID           `json:"toDevice"`
	FromUser   peercrypto.ID           `json:"fromUser"`
	ToUser     peercrypto.ID           `json:"toUser"`
	FP         string                  `json:"fp"` // lower-case hex SHA-256 of the DTLS certificate
	SDP        string                  `json:"sdp"`
	Gen        uint64                  `json:"gen,omitzero"` // of a restart; the first offer has none
	Time       int64                   `json:"time"`         // unix milliseconds
	Nonce      peercrypto.Nonce        `json:"nonce"`
	Eph        peercrypto.BoxPublicKey `json:"eph"` // the offer's, in the answer too
	Cert       peercrypto.DeviceCert   `json:"cert"`
	Sig        peercrypto.Signature    `json:"sig"`
}

// signedBytes is what the device key signs: all but sig, with the SDP replaced
// by its hash, so that a log of signatures holds no addresses.
func (o offer) signedBytes() ([]byte, error) {
	sum := sha256.Sum256([]byte(o.SDP))
	o.SDP = hex.EncodeToString(sum[:])
	b, err := peercrypto.MarshalCanonical(o)
	if err != nil {
		return nil, err
	}
	return peercrypto.RemoveMember(b, "sig")
}

func (o offer) purpose() peercrypto.Purpose {
	if o.Kind == wire.KindOffer {
		return peercrypto.PurposeOffer
	}
	return peercrypto.PurposeAnswer
}

// sign returns the canonical form of o with its signature.
func (o offer) sign(device peercrypto.SigningKey) ([]byte, error) {
	b, err := o.signedBytes()
	if err != nil {
		return nil, fmt.Errorf("signing %s: %w", o.Kind, err)
	}
	o.Sig = device.SignPurpose(o.purpose(), b)
	b, err = peercrypto.MarshalCanonical(o)
	if err != nil {
		return nil, fmt.Errorf("signing %s: %w", o.Kind, err)
	}
	return b, nil
}

// expectation is what the receiver of an offer or answer knows before it looks
// inside: from the frame, from itself, and for an answer from its own offer.
type expectation struct {
	kind             wire.Kind
	conn             peercrypto.ID
	from             peercrypto.ID // as stamped by the server
	toDevice, toUser peercrypto.ID // this device and user
	eph              peercrypto.BoxPublicKey
	gen              uint64                 // of an answer; an offer may have any
	sameUser         *peercrypto.PublicKey  // via "": the sender's user key has to be this one
	dialled          *peercrypto.DeviceCert // for an answer: whom the offer was for
	now              time.Time
}

// parseOffer decodes and verifies. Nothing of a refused offer is returned.
func parseOffer(plain []byte, want expectation) (offer, error) {
	var o offer
	if err := decodeCanonical(plain, &o); err != nil {
		return offer{}, fmt.Errorf("reading %s: %w: %w", want.kind, ErrOffer, err)
	}
	if err := o.verify(want); err != nil {
		return offer{}, fmt.Errorf("verifying %s: %w", want.kind, err)
	}
	return o, nil
}

func (o offer) verify(want expectation) error {
	if o.V != 2 || o.Kind != want.kind || o.Conn != want.conn || o.Eph != want.eph {
		return fmt.Errorf("%w: version, kind, connection or ephemeral key differ from the envelope", ErrOffer)
	}
	if o.Gen > maxGeneration || o.Kind == wire.KindAnswer && o.Gen != want.gen {
		return fmt.Errorf("%w: generation is not the one that is answered, or too high", ErrOffer)
	}
	if o.FromDevice != want.from || o.ToDevice != want.toDevice || o.ToUser != want.toUser {
		return fmt.Errorf("%w: not from this sender to this device and user", ErrOffer)
	}
	if len(o.SDP) > maxSDP {
		return fmt.Errorf("%w: session description is too long", ErrOffer)
	}
	if err := o.Cert.Verify(want.now); err != nil {
		return fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	if o.Cert.DeviceID != o.FromDevice || o.Cert.UserID != o.FromUser {
		return fmt.Errorf("%w: the certificate is another device's or user's", ErrOffer)
	}
	if want.sameUser != nil && o.Cert.UserKey != *want.sameUser {
		return fmt.Errorf("%w: sent as a device of the same user, which it is not", ErrOffer)
	}
	if d := want.dialled; d != nil && (o.Cert.DeviceKey != d.DeviceKey || o.Cert.UserID != d.UserID || o.Cert.UserKey != d.UserKey) {
		return fmt.Errorf("%w: answered by another device or user", ErrOffer)
	}
	b, err := o.signedBytes()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrOffer, err)
	}
	if !o.Cert.DeviceKey.VerifyPurpose(o.purpose(), b, o.Sig) {
		return ErrOfferSignature
	}
	if age := want.now.Sub(time.UnixMilli(o.Time)); age > OfferSkew || age < -OfferSkew {
		return ErrOfferTime
	}
	return nil
}

func (o offer) remote(via peercrypto.Tag) Remote {
	r := remoteOf(o.Cert)
	if via != (peercrypto.Tag{}) {
		r.Via = []peercrypto.Tag{via}
	}
	return r
}

func remoteOf(c peercrypto.DeviceCert) Remote {
	return Remote{DeviceID: c.DeviceID, UserID: c.UserID, DeviceKey: c.DeviceKey, UserKey: c.UserKey, Cert: c}
}
