package wire

import (
	"errors"
	"fmt"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// AuthBody is what a device signs to connect.
type AuthBody struct {
	V         int                  `json:"v"`
	Server    string               `json:"server"` // the dialled name, see CanonicalServer
	Nonce     Nonce                `json:"nonce"`  // of this connection's Hello
	CNonce    peercrypto.Nonce     `json:"cnonce"`
	DeviceID  peercrypto.ID        `json:"deviceId"`
	DeviceKey peercrypto.PublicKey `json:"deviceKey"`
	UserID    peercrypto.ID        `json:"userId"`
	UserKey   peercrypto.PublicKey `json:"userKey"`
	Time      int64                `json:"time"` // ms
	CB        string               `json:"cb"`   // reserved, ""
	Caps      []string             `json:"caps"`
}

// Auth is the client's first message.
type Auth struct {
	A      AuthBody              `json:"a"`
	Sig    peercrypto.Signature  `json:"sig"`
	Cert   peercrypto.DeviceCert `json:"cert"`
	Resume string                `json:"resume,omitempty"` // token of the session to go on with
	Got    uint64                `json:"got,omitempty"`    // counted frames of it that this client has received
}

type authFrame struct {
	T string `json:"type"`
	Auth
}

// Type is "auth".
func (*Auth) Type() string { return typeAuth }

func (m *Auth) frame() any { return authFrame{typeAuth, *m} }

func (m *Auth) validate() error {
	a := &m.A
	switch {
	case a.V != Version:
		return errors.New("v is not 1")
	case a.Server == "" || len(a.Server) > maxServerName:
		return errors.New("server is missing or too long")
	case a.DeviceKey.IsZero() || a.UserKey.IsZero() || m.Cert.DeviceKey.IsZero() ||
		m.Cert.UserKey.IsZero() || m.Cert.BoxKey.IsZero():
		return errors.New("a key is missing")
	case a.Time <= 0 || a.Time > MaxID:
		return errors.New("time is missing or out of range")
	case a.CB != "":
		return errors.New("cb is not empty")
	case len(m.Resume) > 64:
		return errors.New("resume is too long")
	case m.Got > MaxID || m.Got > 0 && m.Resume == "":
		return errors.New("got is out of range or without resume")
	}
	if err := checkID("deviceId", a.DeviceID); err != nil {
		return err
	}
	if err := checkID("userId", a.UserID); err != nil {
		return err
	}
	return checkCaps(a.Caps)
}

// SignAuth makes the auth message for body with the device's key. Body's V,
// DeviceID, DeviceKey, UserID and UserKey are taken from cert; the caller sets
// Server, Nonce (of hello), CNonce (fresh random), Time and Caps.
func SignAuth(body AuthBody, device peercrypto.SigningKey, cert peercrypto.DeviceCert) (*Auth, error) {
	body.V = Version
	body.DeviceID, body.DeviceKey = cert.DeviceID, cert.DeviceKey
	body.UserID, body.UserKey = cert.UserID, cert.UserKey
	if body.Caps == nil {
		body.Caps = []string{}
	}
	if device.IsZero() || device.Public() != cert.DeviceKey {
		return nil, errors.New("signing auth: the certificate is for another device key")
	}
	raw, err := peercrypto.MarshalCanonical(body)
	if err != nil {
		return nil, fmt.Errorf("signing auth: %w", err)
	}
	m := &Auth{A: body, Sig: device.SignPurpose(peercrypto.PurposeSignalAuth, raw), Cert: cert}
	if err := m.validate(); err != nil {
		return nil, fmt.Errorf("signing auth: %w", err)
	}
	return m, nil
}

// AuthCheck is what a server knows when an auth arrives.
type AuthCheck struct {
	Nonce  Nonce     // sent in this connection's hello and not used since
	Issued time.Time // when it was sent
	Now    time.Time
	// CheckName returns nil if name is this server's, else the refusal
	// (CodeUseName with Name, or CodeUnknownName).
	CheckName func(name string) *Refused
}

// Verify makes the checks of the package documentation in their order, except
// quotas, and returns nil or the refusal to send. m must come from
// DecodeFromClient, which has checked its shape.
func (m *Auth) Verify(c AuthCheck) *Refused {
	a := &m.A
	if a.Nonce != c.Nonce {
		return refuse(CodeBadNonce, "the nonce is not the one of this connection")
	}
	if c.Now.Sub(c.Issued) > NonceLife {
		return refuse(CodeNonceExpired, "the nonce is too old: connect again")
	}
	if r := c.CheckName(a.Server); r != nil {
		return r
	}
	if skew := c.Now.Sub(time.UnixMilli(a.Time)).Abs(); skew > ClockSkew {
		return refuse(CodeBadTime, "your clock and the server's differ by more than 5 minutes: set your clock")
	}
	created, ok := a.DeviceID.Time()
	if !ok {
		return refuse(CodeBadDeviceID, "the device id has no time")
	}
	if (peercrypto.DeviceBody{Created: created.UnixMilli(), Key: a.DeviceKey}).ID() != a.DeviceID {
		return refuse(CodeBadDeviceID, "the device id is not derived from the device key")
	}
	if err := m.Cert.Verify(c.Now); err != nil {
		return refuse(CodeBadCertificate, "the device certificate is not valid: "+reason(err))
	}
	if m.Cert.DeviceID != a.DeviceID || m.Cert.DeviceKey != a.DeviceKey ||
		m.Cert.UserID != a.UserID || m.Cert.UserKey != a.UserKey {
		return refuse(CodeCertMismatch, "the device certificate is for another device or user")
	}
	raw, err := peercrypto.MarshalCanonical(*a)
	if err != nil || !a.DeviceKey.VerifyPurpose(peercrypto.PurposeSignalAuth, raw, m.Sig) {
		return refuse(CodeBadSignature, "the signature is not the device key's")
	}
	return nil
}

func refuse(code Code, message string) *Refused {
	return &Refused{Code: code, Message: message}
}
