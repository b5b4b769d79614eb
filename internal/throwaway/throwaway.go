// Package throwaway makes devices that live for one examination or one load.
package throwaway

import (
	"fmt"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// Device is a device of a user that nobody else is.
type Device struct {
	// Key signs for the device.
	Key peercrypto.SigningKey
	// Cert is signed by the user, whose key is kept nowhere.
	Cert peercrypto.DeviceCert
}

// NewDevice makes a device of a new user.
func NewDevice(lives time.Duration) (Device, error) {
	user, err := peercrypto.GenerateSigningKey()
	if err != nil {
		return Device{}, fmt.Errorf("making a user: %w", err)
	}
	return NewDeviceOf(user, lives)
}

// NewDeviceOf makes a device of a user. Its user id is not derived of the key,
// which is costly on purpose: a server knows users by their keys, but a peer
// would refuse it. The certificate is issued a minute ago, for clocks that are
// behind.
func NewDeviceOf(user peercrypto.SigningKey, lives time.Duration) (Device, error) {
	key, err := peercrypto.GenerateSigningKey()
	if err != nil {
		return Device{}, fmt.Errorf("making a device: %w", err)
	}
	box, err := peercrypto.GenerateBoxKey()
	if err != nil {
		return Device{}, fmt.Errorf("making a device: %w", err)
	}
	now := time.Now()
	body := peercrypto.DeviceBody{Created: now.UnixMilli(), Key: key.Public()}
	cert, err := peercrypto.SignDeviceCert(user, peercrypto.DeviceCert{
		V: 1, DeviceID: body.ID(), DeviceKey: key.Public(), BoxKey: box.Public(), UserID: peercrypto.NewID(now),
		UserKey: user.Public(), Issued: now.Add(-time.Minute).UnixMilli(), Expires: now.Add(lives).UnixMilli(),
	})
	if err != nil {
		return Device{}, fmt.Errorf("certifying a device: %w", err)
	}
	return Device{Key: key, Cert: cert}, nil
}
