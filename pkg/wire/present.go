package wire

import (
	"errors"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// Present tells who else holds a tag.
type Present struct {
	Tag peercrypto.Tag `json:"tag"`
	// Full: forget what was known about the tag; Join begins the whole list.
	Full  bool            `json:"full,omitempty"`
	Join  []PresentPeer   `json:"join,omitempty"`
	Leave []peercrypto.ID `json:"leave,omitempty"` // device ids
}

// PresentPeer is one device. Its certificate is unverified: the receiver
// verifies it.
type PresentPeer struct {
	Cert peercrypto.DeviceCert `json:"cert"`
}

type presentFrame struct {
	T string `json:"type"`
	Present
}

// Type is "present".
func (*Present) Type() string { return typePresent }

func (m *Present) frame() any { return presentFrame{typePresent, *m} }

func (m *Present) validate() error {
	if m.Tag == (peercrypto.Tag{}) {
		return errors.New("tag is missing")
	}
	for i := range m.Join {
		cert := &m.Join[i].Cert
		if err := checkID("deviceId", cert.DeviceID); err != nil {
			return err
		}
		if cert.DeviceKey.IsZero() || cert.UserKey.IsZero() || cert.BoxKey.IsZero() {
			return errors.New("a certificate lacks a key")
		}
	}
	for _, id := range m.Leave {
		if err := checkID("leave", id); err != nil {
			return err
		}
	}
	return nil
}

// AppendPresent appends the frame of a Present to dst without decoding the
// certificates: each of certs is a device certificate's JSON as the server
// checked it once. The caller keeps the frame under MaxFrame.
func AppendPresent(dst []byte, tag peercrypto.Tag, full bool, certs [][]byte, leave []peercrypto.ID) []byte {
	dst = append(dst, `{"type":"present","tag":"`...)
	dst = appendTag(dst, tag)
	dst = append(dst, '"')
	if full {
		dst = append(dst, `,"full":true`...)
	}
	for i, cert := range certs {
		if i == 0 {
			dst = append(dst, `,"join":[{"cert":`...)
		} else {
			dst = append(dst, `},{"cert":`...)
		}
		dst = append(dst, cert...)
	}
	if len(certs) > 0 {
		dst = append(dst, `}]`...)
	}
	for i, id := range leave {
		if i == 0 {
			dst = append(dst, `,"leave":["`...)
		} else {
			dst = append(dst, `","`...)
		}
		dst = append(dst, id...)
	}
	if len(leave) > 0 {
		dst = append(dst, `"]`...)
	}
	return append(dst, '}')
}
