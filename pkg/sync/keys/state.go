package keys

import (
	"cmp"
	"slices"
	"strings"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// State is what a line of events says of a user's keys. It is immutable.
type State struct {
	user     peercrypto.ID
	head     peercrypto.Hash
	seq      int64
	modified int64
	key      peercrypto.PublicKey
	ended    bool
	recovery *peercrypto.Hash
	devices  []Device // by id; never changed in place
}

// Genesis returns the state with which a user begins. Deriving the id may take
// tens of milliseconds: with a known id use [GenesisOf].
func Genesis(body peercrypto.UserGenesis) State { return GenesisOf(body.ID(), body) }

// GenesisOf is [Genesis] for a user whose id was checked.
func GenesisOf(user peercrypto.ID, body peercrypto.UserGenesis) State {
	return State{user: user, head: body.Hash(), modified: body.Created, key: body.Key, recovery: body.Recovery}
}

// User returns the user's id.
func (s State) User() peercrypto.ID { return s.user }

// Head returns the hash of the last event, or of the genesis.
func (s State) Head() peercrypto.Hash { return s.head }

// Seq returns that of the last event, 0 for the genesis.
func (s State) Seq() int64 { return s.seq }

// Modified returns the time of the last event, in unix ms.
func (s State) Modified() int64 { return s.modified }

// Key returns the key that was set last.
func (s State) Key() peercrypto.PublicKey { return s.key }

// Ended reports whether that key was revoked and no other was set.
func (s State) Ended() bool { return s.ended }

// Recovery returns the hash of the recovery key, false if there is none.
func (s State) Recovery() (peercrypto.Hash, bool) {
	if s.recovery == nil {
		return peercrypto.Hash{}, false
	}
	return *s.recovery, true
}

// Devices returns the devices that count for a quorum, by id.
func (s State) Devices() []Device { return slices.Clone(s.devices) }

// Quorum returns how many devices are a majority, at least 2; 0 if there are
// too few devices for one.
func (s State) Quorum() int {
	if len(s.devices) < 2 {
		return 0
	}
	return max(2, len(s.devices)/2+1)
}

func (s State) device(id peercrypto.ID) (int, bool) {
	return slices.BinarySearchFunc(s.devices, id, func(d Device, id peercrypto.ID) int { return cmp.Compare(d.ID, id) })
}

// Apply checks an event against the state that it follows, all signatures
// included, and returns the state after it. Errors match [ErrEvent].
func (s State) Apply(e Event) (State, error) {
	if err := e.Check(); err != nil {
		return s, err
	}
	next, err := s.Follow(e)
	if err != nil {
		return s, err
	}
	if err := s.verify(e); err != nil {
		return s, err
	}
	return next, nil
}

// Follow is [State.Apply] without shape and signatures: for events that were
// applied before.
func (s State) Follow(e Event) (State, error) {
	switch {
	case e.UserID != s.user || e.Prev != s.head || e.Seq != s.seq+1:
		return s, invalid("it does not follow the last event")
	case e.Modified < s.modified:
		return s, invalid("it is older than what it follows")
	case s.ended && (e.By == ByKey || e.Op == SetRecovery || e.Op == Revoke):
		return s, invalid("the key was revoked before")
	}
	next := s
	switch e.Op {
	case Rotate:
		if *e.Key == s.key {
			return s, invalid("the new key is the old one")
		}
		next.key, next.ended = *e.Key, false
	case Revoke:
		next.ended = true
	case SetRecovery:
		if (s.recovery != nil) != (e.By == ByRecovery) {
			return s, invalid("its class does not fit the recovery key that was set before")
		}
		recovery := *e.Recovery
		next.recovery = &recovery
	default:
		devices, err := s.changedDevices(e)
		if err != nil {
			return s, err
		}
		next.devices = devices
	}
	next.head, next.seq, next.modified = e.Hash(), e.Seq, e.Modified
	return next, nil
}

func (s State) changedDevices(e Event) ([]Device, error) {
	at, known := s.device(e.Device.ID)
	if e.Op == RevokeDevice {
		if !known || s.devices[at] != *e.Device {
			return nil, invalid("the device is not one of the user's")
		}
		return slices.Delete(slices.Clone(s.devices), at, at+1), nil
	}
	switch {
	case known:
		return nil, invalid("the device was added before")
	case len(s.devices) == MaxDevices:
		return nil, invalid("there are too many devices")
	}
	return slices.Insert(slices.Clone(s.devices), at, *e.Device), nil
}

// verify checks who signed an event of the right shape.
func (s State) verify(e Event) error {
	if err := s.verifySigs(e); err != nil {
		return err
	}
	if e.By == ByQuorum && (s.Quorum() == 0 || len(e.Signers()) < s.Quorum()) {
		return invalid("too few devices signed")
	}
	return nil
}

// verifySigs checks the signatures that are there.
func (s State) verifySigs(e Event) error {
	unsigned := e.unsigned()
	for _, sig := range e.Sigs {
		if !s.maySign(e, sig) {
			return invalid("a signer is not who it should be")
		}
		if !sig.Pub.VerifyPurpose(peercrypto.PurposeKeyEvent, unsigned, sig.Sig) {
			return invalid("a signature is wrong")
		}
	}
	return nil
}

// maySign tells whether a signature names the key that its role has.
func (s State) maySign(e Event, sig Sig) bool {
	switch sig.By {
	case signerKey:
		return sig.Pub == s.key
	case signerRecovery:
		return s.recovery != nil && peercrypto.Sum(sig.Pub[:]) == *s.recovery
	case signerNew:
		switch e.Op {
		case Rotate:
			return sig.Pub == *e.Key
		case AddDevice:
			return sig.Pub == e.Device.Key
		}
		return peercrypto.Sum(sig.Pub[:]) == *e.Recovery
	}
	at, ok := s.device(peercrypto.ID(strings.TrimPrefix(sig.By, devicePrefix)))
	return ok && s.devices[at].Key == sig.Pub
}
