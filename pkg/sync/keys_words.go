package sync

import (
	"fmt"
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// A WordsRecovery is what the 24 words set: a new key, on the device that is recovered, and a shorter list of devices.
type WordsRecovery struct {
	Words   peercrypto.Recovery
	Genesis peercrypto.UserGenesis
	Events  []keys.Event      // all that are known
	Device  keys.DeviceSigner // this one
	Key     peercrypto.SigningKey
	Reason  keys.Reason
	Now     int64           // unix ms
	Keep    []peercrypto.ID // devices that stay on the list; Device does
}

// Room that a recovery leaves in the history for the next one.
const (
	spareEvents = 8
	spareBytes  = 4 << 10
)

// Line returns the history that leads to the new key. It goes on behind what stands. If there is no room, because whoever stole the key
// has filled the history, it leaves out as many of the last events as necessary, as far as they are by the key alone: the words overrule them.
func (r WordsRecovery) Line() ([]keys.Event, error) {
	start := keys.Genesis(r.Genesis)
	standing := keys.Evaluate(start, r.Events).Line
	for {
		s := start
		for _, e := range standing {
			var err error
			if s, err = s.Follow(e); err != nil {
				return nil, err
			}
		}
		line, err := r.behind(s, standing)
		if err != nil {
			return nil, err
		}
		n := len(standing)
		last := n == 0 || standing[n-1].By != keys.ByKey
		switch {
		case fits(line, spareEvents, spareBytes), last && fits(line, 0, 0):
			return line, nil
		case last:
			return nil, fmt.Errorf("setting a new key with the words: the history of keys has no room: %w", ErrLimit)
		}
		standing = standing[:n-1]
	}
}

func (r WordsRecovery) behind(s keys.State, standing []keys.Event) ([]keys.Event, error) {
	if pin, ok := s.Recovery(); !ok || pin != r.Words.Pin() {
		return nil, keys.ErrNoRecovery
	}
	var off []peercrypto.ID
	for _, d := range s.Devices() {
		if !bound(d) || d.ID != r.Device.ID && !slices.Contains(r.Keep, d.ID) {
			off = append(off, d.ID)
		}
	}
	line, s, err := WithoutDevices(s, standing, keys.Signers{Recovery: r.Words.Key()}, "", off, r.Now)
	if err != nil {
		return nil, err
	}
	event, err := keys.Recover(r.Words, s, r.Key, r.Reason, r.Now)
	if err != nil {
		return nil, err
	}
	line = append(line, event)
	if len(s.Devices()) == 0 || s.Listed(keys.Device{ID: r.Device.ID, Key: r.Device.Key.Public()}) {
		return line, nil
	}
	if s, err = s.Apply(event); err != nil {
		return nil, err
	}
	event, err = keys.NewAddDevice(s, keys.Signers{Key: r.Key, New: r.Device.Key}, r.Device.ID, r.Now)
	return append(line, event), err
}

// bound tells whether a device's id is that of its key. Whoever stole the user's key can list the id of another device with a key of their own.
func bound(d keys.Device) bool {
	made, ok := d.ID.Time()
	return ok && peercrypto.DeviceBody{Created: made.UnixMilli(), Key: d.Key}.ID() == d.ID
}

// fits tells whether a history can be shown, with something to spare.
func fits(line []keys.Event, events, bytes int) bool {
	size := 0
	for _, e := range line {
		raw, err := e.Canonical()
		if err != nil {
			return false
		}
		size += len(raw)
	}
	return len(line) <= entry.MaxKeyEvents-events && size <= maxLine-bytes
}
