package crypto

import (
	"errors"
	"fmt"
	"time"
)

// ErrCert is matched by every refusal of a device certificate.
var ErrCert = errors.New("invalid device certificate")

// MaxCertAge is the longest validity of a device certificate.
const MaxCertAge = 366 * 24 * time.Hour

// DeviceCert says that a device speaks for a user. The user's key signs the
// canonical form of all members but sig, with [PurposeDeviceCert].
type DeviceCert struct {
	V         int          `json:"v"` // 1
	DeviceID  ID           `json:"deviceId"`
	DeviceKey PublicKey    `json:"deviceKey"`
	BoxKey    BoxPublicKey `json:"boxKey"` // X25519 key of the device
	UserID    ID           `json:"userId"`
	UserKey   PublicKey    `json:"userKey"`
	Issued    int64        `json:"issued"`  // unix milliseconds
	Expires   int64        `json:"expires"` // unix milliseconds
	Sig       Signature    `json:"sig"`
}

// SignDeviceCert returns c with V, UserKey and Sig set. It refuses what Verify
// would refuse at the time c.Issued.
func SignDeviceCert(user SigningKey, c DeviceCert) (DeviceCert, error) {
	c.V, c.UserKey = 1, user.Public()
	if err := c.checkShape(); err != nil {
		return DeviceCert{}, fmt.Errorf("signing a device certificate: %w", err)
	}
	body, err := c.body()
	if err != nil {
		return DeviceCert{}, fmt.Errorf("signing a device certificate: %w", err)
	}
	c.Sig = user.SignPurpose(PurposeDeviceCert, body)
	return c, nil
}

// ParseDeviceCert decodes a certificate strictly, in any order of members. It
// checks neither signature nor times.
func ParseDeviceCert(raw []byte) (DeviceCert, error) {
	var c DeviceCert
	if err := UnmarshalStrict(raw, &c); err != nil {
		return DeviceCert{}, fmt.Errorf("parsing a device certificate: %w: %w", ErrCert, err)
	}
	return c, nil
}

// Canonical returns the canonical form, with the signature; nil for a
// certificate whose times are beyond 2^53, which no check accepts.
func (c DeviceCert) Canonical() []byte {
	b, err := MarshalCanonical(c)
	if err != nil {
		return nil
	}
	return b
}

func (c DeviceCert) body() ([]byte, error) {
	b, err := MarshalCanonical(c)
	if err != nil {
		return nil, err
	}
	return RemoveMember(b, "sig")
}

// Verify checks the certificate at the time now: its form and keys, that it is
// in force (with 5 minutes of tolerance for clocks) and was issued for at most
// [MaxCertAge], that the device id is that of the device key, and the signature
// by UserKey. That UserKey is the key of UserID is for the caller to know, from
// the user's genesis or a pin.
func (c DeviceCert) Verify(now time.Time) error {
	if err := c.checkShape(); err != nil {
		return fmt.Errorf("verifying a device certificate: %w", err)
	}
	if time.UnixMilli(c.Issued).Sub(now) > clockSkew {
		return fmt.Errorf("verifying a device certificate: %w: not yet in force: compare the clocks", ErrCert)
	}
	if now.Sub(time.UnixMilli(c.Expires)) > clockSkew {
		return fmt.Errorf("verifying a device certificate: %w: expired: the device needs a new one", ErrCert)
	}
	body, err := c.body()
	if err != nil {
		return fmt.Errorf("verifying a device certificate: %w: %w", ErrCert, err)
	}
	if !c.UserKey.VerifyPurpose(PurposeDeviceCert, body, c.Sig) {
		return fmt.Errorf("verifying a device certificate: %w: %w", ErrCert, ErrSignature)
	}
	return nil
}

// checkShape checks everything that needs neither a clock nor the signature.
func (c DeviceCert) checkShape() error {
	if c.V != 1 {
		return fmt.Errorf("%w: version is not 1", ErrCert)
	}
	if err := firstError(c.DeviceID.check(), c.UserID.check()); err != nil {
		return fmt.Errorf("%w: %w", ErrCert, err)
	}
	// Both keys sign something before they are relied on.
	if err := firstError(checkEdwardsOrder(c.DeviceKey), checkEdwardsOrder(c.UserKey), c.BoxKey.Check()); err != nil {
		return fmt.Errorf("%w: %w", ErrCert, err)
	}
	if c.Issued <= 0 || c.Issued >= maxIDTime || c.Expires <= c.Issued ||
		c.Expires-c.Issued > MaxCertAge.Milliseconds() {
		return fmt.Errorf("%w: issued and expires do not fit", ErrCert)
	}
	if (DeviceBody{c.DeviceID.millis(), c.DeviceKey}).ID() != c.DeviceID {
		return fmt.Errorf("%w: the device id is not that of the device key", ErrCert)
	}
	return nil
}
