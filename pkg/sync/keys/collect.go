package keys

import (
	"slices"
	"strings"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// Draft completes an event that is to follow s and that nobody has signed yet:
// for signatures that are collected from several devices. The caller gives Op,
// By, Modified and the members of the kind.
func (s State) Draft(e Event) Event {
	e.Type, e.Group, e.UserID = "KeyEvent", "users", s.user
	e.Seq, e.Prev = s.seq+1, s.head
	e.ID = eventID(s.user, e.Seq)
	e.Modified = max(e.Modified, s.modified)
	e.Sigs = nil
	return e
}

// Listed reports whether a device with that key counts for a quorum.
func (s State) Listed(d Device) bool {
	at, ok := s.device(d.ID)
	return ok && s.devices[at].Key == d.Key
}

// SignNew adds the signature of what the event sets: a key, a device or a recovery key.
func (e Event) SignNew(k peercrypto.SigningKey) Event { return e.signAs(signerNew, k) }

// SignKey adds the signature of the current key.
func (e Event) SignKey(k peercrypto.SigningKey) Event { return e.signAs(signerKey, k) }

// SignDevice adds the signature of a device.
func (e Event) SignDevice(d DeviceSigner) Event { return e.signAs(devicePrefix+string(d.ID), d.Key) }

func (e Event) signAs(by string, k peercrypto.SigningKey) Event {
	return e.with(Sig{by, k.Public(), k.SignPurpose(peercrypto.PurposeKeyEvent, e.unsigned())})
}

// with adds a signature in its place; a later one by the same signer is left out.
func (e Event) with(sig Sig) Event {
	at, found := slices.BinarySearchFunc(e.Sigs, sig.By, func(s Sig, by string) int { return strings.Compare(s.By, by) })
	if !found {
		e.Sigs = slices.Insert(slices.Clone(e.Sigs), at, sig)
	}
	return e
}

// Signers returns the devices that have signed, in the order of their ids.
func (e Event) Signers() []peercrypto.ID {
	var ids []peercrypto.ID
	for _, s := range e.Sigs {
		if id, ok := strings.CutPrefix(s.By, devicePrefix); ok {
			ids = append(ids, peercrypto.ID(id))
		}
	}
	return ids
}

// Merge joins the signatures of two copies of an event and reports whether e
// had not all of them. Copies of different events are not joined.
func (e Event) Merge(o Event) (Event, bool) {
	if e.Hash() != o.Hash() {
		return e, false
	}
	n := len(e.Sigs)
	for _, sig := range o.Sigs {
		e = e.with(sig)
	}
	return e, len(e.Sigs) > n
}

// Collect checks an event of class quorum whose signatures are being collected:
// everything that [State.Apply] checks but that the majority is there. It
// returns the state after the event and how many devices still have to sign.
func (s State) Collect(e Event) (next State, missing int, err error) {
	if err := e.Check(); err != nil {
		return s, 0, err
	}
	if e.By != ByQuorum || s.Quorum() == 0 {
		return s, 0, invalid("devices can't decide on it")
	}
	if next, err = s.Follow(e); err != nil {
		return s, 0, err
	}
	if err := s.verifySigs(e); err != nil {
		return s, 0, err
	}
	return next, max(0, s.Quorum()-len(e.Signers())), nil
}
