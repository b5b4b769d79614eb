package wire

import (
	"errors"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// PushSubscription is what a browser's PushManager gives for its device.
type PushSubscription struct {
	Endpoint string `json:"endpoint"` // URL
	P256dh   string `json:"p256dh"`   // base64url
	Auth     string `json:"auth"`     // base64url
}

// PushRequest asks for the server's application key and, with a subscription,
// for the token by which others can have this device woken.
type PushRequest struct {
	ID           uint64            `json:"id"`
	Subscription *PushSubscription `json:"subscription,omitempty"`
}

type pushRequestFrame struct {
	T string `json:"type"`
	PushRequest
}

// Type is "push".
func (*PushRequest) Type() string { return typePush }

func (m *PushRequest) frame() any { return pushRequestFrame{typePush, *m} }

func (m *PushRequest) validate() error {
	if s := m.Subscription; s != nil {
		if len(s.Endpoint) > maxText || len(s.P256dh) > 128 || len(s.Auth) > 64 {
			return errors.New("the subscription is too long")
		}
	}
	return checkRequestID(m.ID)
}

// PushGrant answers a PushRequest.
type PushGrant struct {
	ID      uint64 `json:"id"`
	Key     string `json:"key"`     // application server key (RFC 8292), base64url
	Token   string `json:"token"`   // "" without a subscription
	Expires int64  `json:"expires"` // ms, of the token; 0 without
}

type pushGrantFrame struct {
	T string `json:"type"`
	PushGrant
}

// Type is "push".
func (*PushGrant) Type() string { return typePush }

func (m *PushGrant) frame() any { return pushGrantFrame{typePush, *m} }

func (m *PushGrant) validate() error {
	if len(m.Key) > 256 || len(m.Token) > MaxPushToken || m.Expires < 0 || m.Expires > MaxID {
		return errors.New("push is malformed")
	}
	return checkRequestID(m.ID)
}

// Wake has the server push a notification to a device that is not connected.
type Wake struct {
	ID    uint64        `json:"id"`
	To    peercrypto.ID `json:"to"`
	Token string        `json:"token"` // that the device gave to the sender
	TTL   int64         `json:"ttl"`   // s, how long it is worth delivering
	Conn  peercrypto.ID `json:"conn"`  // names the notification
	Eph   string        `json:"eph"`   // as in an envelope
	CT    string        `json:"ct"`
}

type wakeFrame struct {
	T string `json:"type"`
	Wake
}

// Type is "wake".
func (*Wake) Type() string { return typeWake }

func (m *Wake) frame() any { return wakeFrame{typeWake, *m} }

func (m *Wake) validate() error {
	if len(m.Token) == 0 || len(m.Token) > MaxPushToken || !allB64u([]byte(m.Token)) {
		return errors.New("token is malformed")
	}
	if m.TTL < 0 || m.TTL > MaxWake {
		return errors.New("ttl is out of range")
	}
	if err := checkID("to", m.To); err != nil {
		return err
	}
	if err := checkID("conn", m.Conn); err != nil {
		return err
	}
	if err := (Envelope{Eph: m.Eph, CT: m.CT}).validate(KindNotify); err != nil {
		return err
	}
	return checkRequestID(m.ID)
}
