package wire

import (
	"errors"
	"fmt"
	"strconv"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// Kind is the type of a Signal.
type Kind string

// The kinds of a Signal.
const (
	KindOffer     Kind = "offer"
	KindAnswer    Kind = "answer"
	KindCandidate Kind = "candidate"
	// KindNotify carries a notification, which stands alone: it opens no
	// connection, and Conn names it.
	KindNotify Kind = "notify"
)

// begins tells the kinds that are sealed to the target's own key and bring the
// ephemeral one along.
func (k Kind) begins() bool { return k == KindOffer || k == KindNotify }

func (k Kind) maxCiphertext() int {
	if k == KindNotify {
		return MaxNotify
	}
	return MaxCiphertext
}

// Signal carries one sealed envelope from a device to another.
//
// From the client ID and To are set and From is "". From the server From is
// set, and ID is 0 and To is "".
type Signal struct {
	Kind Kind
	ID   uint64
	To   peercrypto.ID
	From peercrypto.ID
	// Via is the tag that both hold; the zero tag ("" on the wire) means that
	// both are of the same user.
	Via  peercrypto.Tag
	Conn peercrypto.ID
	Env  Envelope
	// Ack is from a client: the N of an [Ack] that goes along, or 0 for none.
	Ack uint64
}

// Envelope is a sealed payload, kept as text: a server never looks inside.
type Envelope struct {
	Eph string // b64 of an X25519 public key in an offer or notification, else ""
	CT  string // b64u of the ciphertext
}

// NewEnvelope makes the envelope of sealed, with eph for an offer and nil
// otherwise.
func NewEnvelope(eph *peercrypto.BoxPublicKey, sealed []byte) Envelope {
	e := Envelope{CT: peercrypto.EncodeB64u(sealed)}
	if eph != nil {
		e.Eph = peercrypto.EncodeB64(eph[:])
	}
	return e
}

// EphKey gives the ephemeral key of an offer's envelope and refuses unusable
// ones.
func (e Envelope) EphKey() (peercrypto.BoxPublicKey, error) {
	var k peercrypto.BoxPublicKey
	if err := k.UnmarshalText([]byte(e.Eph)); err != nil {
		return k, fmt.Errorf("reading envelope: eph: %w", err)
	}
	return k, nil
}

// Sealed gives the ciphertext in a new slice.
func (e Envelope) Sealed() ([]byte, error) {
	b, err := peercrypto.DecodeB64u(e.CT)
	if err != nil {
		return nil, fmt.Errorf("reading envelope: ct: %w", err)
	}
	return b, nil
}

// Type is the kind.
func (m *Signal) Type() string { return string(m.Kind) }

func (m *Signal) frame() any { return nil } // Encode appends by hand

// SameUser reports whether the envelope goes to a device of the same user
// instead of through a tag.
func (m *Signal) SameUser() bool { return m.Via == peercrypto.Tag{} }

func (m *Signal) validate() error {
	switch m.Kind {
	case KindOffer, KindAnswer, KindCandidate, KindNotify:
	default:
		return errors.New("not a kind of signal")
	}
	if m.From != "" {
		if m.ID != 0 || m.To != "" || m.Ack != 0 {
			return errors.New("from with id, to or ack")
		}
		if err := checkID("from", m.From); err != nil {
			return err
		}
	} else {
		if err := checkRequestID(m.ID); err != nil {
			return err
		}
		if m.Ack > MaxID {
			return errors.New("ack is too large")
		}
		if err := checkID("to", m.To); err != nil {
			return err
		}
	}
	if err := checkID("conn", m.Conn); err != nil {
		return err
	}
	return m.Env.validate(m.Kind)
}

func (e Envelope) validate(kind Kind) error {
	if kind.begins() != (e.Eph != "") {
		return errors.New("eph belongs in offers and notifications, and only there")
	}
	if e.Eph != "" && !isKeyText(e.Eph) {
		return errors.New("eph is not a key")
	}
	if len(e.CT) > kind.maxCiphertext() {
		return errors.New("ct is too long")
	}
	if !isSealed(e.CT) {
		return errors.New("ct is not base64url")
	}
	return nil
}

// Stamped gives the frame that the target of m receives: without id and to,
// with from as the server knows it. m must be valid.
func (m *Signal) Stamped(from peercrypto.ID) []byte {
	out := Signal{Kind: m.Kind, From: from, Via: m.Via, Conn: m.Conn, Env: m.Env}
	return out.appendFrame(make([]byte, 0, out.frameSize()))
}

// frameSize is at least the length of the frame.
func (m *Signal) frameSize() int { return 256 + len(m.Env.Eph) + len(m.Env.CT) }

// appendFrame writes the frame; no value needs escaping once it is valid.
func (m *Signal) appendFrame(dst []byte) []byte {
	dst = append(dst, `{"type":"`...)
	dst = append(dst, m.Kind...)
	if m.From != "" {
		dst = append(dst, `","from":"`...)
		dst = append(dst, m.From...)
	} else {
		dst = append(dst, `","id":`...)
		dst = strconv.AppendUint(dst, m.ID, 10)
		if m.Ack != 0 {
			dst = append(dst, `,"ack":`...)
			dst = strconv.AppendUint(dst, m.Ack, 10)
		}
		dst = append(dst, `,"to":"`...)
		dst = append(dst, m.To...)
	}
	dst = append(dst, `","via":"`...)
	if !m.SameUser() {
		dst = appendTag(dst, m.Via)
	}
	dst = append(dst, `","conn":"`...)
	dst = append(dst, m.Conn...)
	dst = append(dst, `","env":{`...)
	if m.Env.Eph != "" {
		dst = append(dst, `"eph":"`...)
		dst = append(dst, m.Env.Eph...)
		dst = append(dst, `",`...)
	}
	dst = append(dst, `"ct":"`...)
	dst = append(dst, m.Env.CT...)
	return append(dst, `"}}`...)
}

// signalJSON is the plain form of both directions, for what the scanner does
// not take.
type signalJSON struct {
	T    Kind          `json:"type"`
	Via  *string       `json:"via"`
	Conn peercrypto.ID `json:"conn"`
	Env  struct {
		Eph string `json:"eph"`
		CT  string `json:"ct"`
	} `json:"env"`
}

func (f *signalJSON) signal() (*Signal, error) {
	m := &Signal{Kind: f.T, Conn: f.Conn, Env: Envelope{Eph: f.Env.Eph, CT: f.Env.CT}}
	if f.Via == nil {
		return nil, errors.New("via is missing")
	}
	if *f.Via != "" {
		tag, ok := parseTag(*f.Via)
		if !ok {
			return nil, errors.New("via is not a tag")
		}
		m.Via = tag
	}
	return m, nil
}

func decodeClientSignal(frame []byte) (*Signal, error) {
	var f struct {
		signalJSON
		ID  uint64        `json:"id"`
		Ack uint64        `json:"ack"`
		To  peercrypto.ID `json:"to"`
	}
	if err := peercrypto.UnmarshalStrict(frame, &f); err != nil {
		return nil, err
	}
	m, err := f.signal()
	if err != nil {
		return nil, err
	}
	m.ID, m.Ack, m.To = f.ID, f.Ack, f.To
	return m, nil
}

func decodeServerSignal(frame []byte) (*Signal, error) {
	var f struct {
		signalJSON
		From peercrypto.ID `json:"from"`
	}
	if err := peercrypto.UnmarshalLenientFields(frame, &f); err != nil {
		return nil, err
	}
	m, err := f.signal()
	if err != nil {
		return nil, err
	}
	if f.From == "" {
		return nil, errors.New("from is missing")
	}
	m.From = f.From
	return m, nil
}
