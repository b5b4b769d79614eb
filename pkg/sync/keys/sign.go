package keys

import (
	"fmt"
	"slices"
	"strings"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// DeviceSigner is a device of the user that signs for a quorum.
type DeviceSigner struct {
	ID  peercrypto.ID
	Key peercrypto.SigningKey
}

// Signers are the secrets at hand. Which of them sign follows from the event:
// By is [ByRecovery] with a recovery key, else [ByQuorum] with devices, else [ByKey].
type Signers struct {
	Key      peercrypto.SigningKey // the current one
	Recovery peercrypto.SigningKey
	Devices  []DeviceSigner
	New      peercrypto.SigningKey // what rotate, addDevice and setRecovery set
}

func (s Signers) class() Class {
	switch {
	case !s.Recovery.IsZero():
		return ByRecovery
	case len(s.Devices) > 0:
		return ByQuorum
	}
	return ByKey
}

// NewRotate makes the event that sets the key New. modified is raised to that of the last event.
func NewRotate(s State, by Signers, reason Reason, modified int64) (Event, error) {
	if by.New.IsZero() {
		return Event{}, fmt.Errorf("signing a key event: %w", peercrypto.ErrKey)
	}
	key := by.New.Public()
	return s.sign(by, Event{Op: Rotate, By: by.class(), Key: &key, Reason: reason, Modified: modified})
}

// Recover makes the event that sets a new key with the recovery words alone.
// The current key is not needed.
func Recover(words peercrypto.Recovery, s State, next peercrypto.SigningKey, reason Reason, modified int64) (Event, error) {
	if pin, ok := s.Recovery(); !ok || pin != words.Pin() {
		return Event{}, fmt.Errorf("recovering user %s: %w", s.user.Short(), ErrNoRecovery)
	}
	return NewRotate(s, Signers{Recovery: words.Key(), New: next}, reason, modified)
}

// NewRevoke makes the event that ends the current key without setting another.
func NewRevoke(s State, by Signers, reason Reason, modified int64) (Event, error) {
	return s.sign(by, Event{Op: Revoke, By: by.class(), Reason: reason, Modified: modified})
}

// NewAddDevice makes the event that lets a device count for a quorum: New is its key.
func NewAddDevice(s State, by Signers, device peercrypto.ID, modified int64) (Event, error) {
	if by.New.IsZero() {
		return Event{}, fmt.Errorf("signing a key event: %w", peercrypto.ErrKey)
	}
	d := Device{ID: device, Key: by.New.Public()}
	return s.sign(by, Event{Op: AddDevice, By: ByKey, Device: &d, Modified: modified})
}

// NewRevokeDevice makes the event after which a device counts for no quorum.
func NewRevokeDevice(s State, by Signers, device peercrypto.ID, modified int64) (Event, error) {
	at, ok := s.device(device)
	if !ok {
		return Event{}, fmt.Errorf("signing a key event: %w", invalid("the device is not one of the user's"))
	}
	d := s.devices[at]
	return s.sign(by, Event{Op: RevokeDevice, By: by.class(), Device: &d, Modified: modified})
}

// NewSetRecovery makes the event that sets New as the recovery key. If there
// was one, it signs too.
func NewSetRecovery(s State, by Signers, modified int64) (Event, error) {
	if by.New.IsZero() {
		return Event{}, fmt.Errorf("signing a key event: %w", peercrypto.ErrKey)
	}
	public := by.New.Public()
	pin := peercrypto.Sum(public[:])
	return s.sign(by, Event{Op: SetRecovery, By: by.class(), Recovery: &pin, Modified: modified})
}

// sign completes an event that follows s and checks what came out.
func (s State) sign(by Signers, e Event) (Event, error) {
	e.Type, e.Group, e.UserID = "KeyEvent", "users", s.user
	e.Seq, e.Prev = s.seq+1, s.head
	e.ID = eventID(s.user, e.Seq)
	e.Modified = max(e.Modified, s.modified)
	if s.ended && e.By == ByKey {
		return Event{}, fmt.Errorf("signing a key event: %w", ErrEnded)
	}
	if e.By == ByQuorum && (s.Quorum() == 0 || len(by.Devices) < s.Quorum()) {
		return Event{}, fmt.Errorf("signing a key event: %w: %d of %d", ErrNoQuorum, len(by.Devices), max(2, s.Quorum()))
	}
	unsigned := e.unsigned()
	add := func(name string, key peercrypto.SigningKey) error {
		if key.IsZero() {
			return fmt.Errorf("signing a key event: %w", peercrypto.ErrKey)
		}
		e.Sigs = append(e.Sigs, Sig{name, key.Public(), key.SignPurpose(peercrypto.PurposeKeyEvent, unsigned)})
		return nil
	}
	secrets := map[string]peercrypto.SigningKey{signerKey: by.Key, signerNew: by.New, signerRecovery: by.Recovery}
	for _, name := range e.signers() {
		if err := add(name, secrets[name]); err != nil {
			return Event{}, err
		}
	}
	if e.By == ByQuorum {
		for _, d := range by.Devices {
			if err := add(devicePrefix+string(d.ID), d.Key); err != nil {
				return Event{}, err
			}
		}
	}
	slices.SortFunc(e.Sigs, func(a, b Sig) int { return strings.Compare(a.By, b.By) })
	if _, err := s.Apply(e); err != nil {
		return Event{}, fmt.Errorf("signing a key event: %w", err)
	}
	return e, nil
}
