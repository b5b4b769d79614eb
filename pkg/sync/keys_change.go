package sync

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// maxByKey is how long the own history may grow by the key alone, of the entry.MaxKeyEvents that it can have: the rest is for the words
// and for a majority of devices.
const maxByKey = 48

// inForce returns the own history if this device's key is the one that it leads to, and may make it longer.
func (e *Engine) inForce(ctx context.Context) (UserKeys, error) {
	k, err := e.observe(ctx, e.userID, nil, nil)
	if err != nil {
		return k, err
	}
	if k.Pin.Frozen {
		return k, ErrKeyFrozen
	}
	if !k.Pin.Usable() || k.Pin.Key != e.cfg.Identity.User.Public() {
		return k, fmt.Errorf("this device's key is not the one in force: %w", ErrKeyPending)
	}
	if n := len(k.History.Path); n >= maxByKey {
		return k, fmt.Errorf("the history of your keys has %d events, and what room is left is for the 24 words and a majority of your devices: %w", n, ErrLimit)
	}
	return k, nil
}

// RotateKey sets a new key by the old one, durably, and takes devices off the list before. The key travels to the devices that are
// left on it. IdentityChanged follows: the engine works with the old key until it is opened again.
func (e *Engine) RotateKey(ctx context.Context, reason keys.Reason, without []peercrypto.ID) error {
	if err := e.enter(); err != nil {
		return err
	}
	defer e.active.Done()
	k, err := e.inForce(ctx)
	if err != nil {
		return fmt.Errorf("rotating the key: %w", err)
	}
	s, line := k.History.State, k.History.Line
	by := keys.Signers{Key: e.cfg.Identity.User}
	if line, s, err = WithoutDevices(s, line, by, e.deviceID, without, e.now()); err != nil {
		return fmt.Errorf("rotating the key: %w", err)
	}
	next, err := peercrypto.GenerateSigningKey()
	if err != nil {
		return fmt.Errorf("rotating the key: %w", err)
	}
	by.New = next
	event, err := keys.NewRotate(s, by, reason, e.now())
	if err != nil {
		return fmt.Errorf("rotating the key: %w", err)
	}
	if err := e.keepLine(ctx, next, append(line, event), nil); err != nil {
		return fmt.Errorf("rotating the key: %w", err)
	}
	return nil
}

// WithoutDevices takes devices off a list with the signers at hand and returns the longer history. self, this device, stays.
func WithoutDevices(s keys.State, line []keys.Event, by keys.Signers, self peercrypto.ID, without []peercrypto.ID, now int64) ([]keys.Event, keys.State, error) {
	line = slices.Clone(line)
	for _, id := range without {
		if id == self {
			return nil, s, fmt.Errorf("device %s: %w", id.Short(), ErrThisDevice)
		}
		if !slices.ContainsFunc(s.Devices(), func(d keys.Device) bool { return d.ID == id }) {
			return nil, s, fmt.Errorf("device %s: %w", id.Short(), ErrNoDevice)
		}
		ev, err := keys.NewRevokeDevice(s, by, id, now)
		if err != nil {
			return nil, s, err
		}
		if s, err = s.Apply(ev); err != nil {
			return nil, s, err
		}
		line = append(line, ev)
	}
	return line, s, nil
}

// SetRecovery replaces the 24 words: the old ones and the key in use sign it.
func (e *Engine) SetRecovery(ctx context.Context, old, next peercrypto.Recovery) error {
	if err := e.enter(); err != nil {
		return err
	}
	defer e.active.Done()
	k, err := e.inForce(ctx)
	if err != nil {
		return fmt.Errorf("setting new recovery words: %w", err)
	}
	by := keys.Signers{Key: e.cfg.Identity.User, New: next.Key()}
	if pin, ok := k.History.State.Recovery(); ok {
		if old.Pin() != pin {
			return fmt.Errorf("setting new recovery words: %w", keys.ErrNoRecovery)
		}
		by.Recovery = old.Key()
	}
	event, err := keys.NewSetRecovery(k.History.State, by, e.now())
	if err == nil {
		err = e.keepLine(ctx, e.cfg.Identity.User, append(k.History.Line, event), nil)
	}
	if err != nil {
		return fmt.Errorf("setting new recovery words: %w", err)
	}
	e.ownChanged()
	return nil
}

// A DeviceInfo is a device of the own user.
type DeviceInfo struct {
	ID     peercrypto.ID
	Key    peercrypto.PublicKey
	Self   bool
	Listed bool // counts for a quorum and gets new keys; else it was taken off the list, or never put there
	// Met is set when the device was met under the key in use: it has it.
	Met bool
}

// Devices lists this device and those that are or were on the user's list, by id.
func (e *Engine) Devices(ctx context.Context) ([]DeviceInfo, error) {
	if err := e.enter(); err != nil {
		return nil, err
	}
	defer e.active.Done()
	k, err := e.observe(ctx, e.userID, nil, nil)
	if err != nil {
		return nil, err
	}
	s, line := e.base(k)
	found := map[peercrypto.ID]DeviceInfo{e.deviceID: {ID: e.deviceID, Key: e.cfg.Identity.Device.Public()}}
	for _, ev := range line {
		if ev.Device != nil {
			found[ev.Device.ID] = DeviceInfo{ID: ev.Device.ID, Key: ev.Device.Key}
		}
	}
	e.selfMu.Lock()
	defer e.selfMu.Unlock()
	out := make([]DeviceInfo, 0, len(found))
	for id, d := range found {
		d.Self, d.Listed = id == e.deviceID, s.Listed(keys.Device{ID: d.ID, Key: d.Key})
		d.Met = d.Self || e.self.Met[id] == e.cfg.Identity.User.Public()
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b DeviceInfo) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}
