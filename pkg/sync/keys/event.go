package keys

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// Limits of the format. They decide what is sound and never change.
const (
	MaxDevices  = 32                // of a user at one time
	MaxSigs     = MaxDevices + 1    // of one event: all devices and the new key
	MaxSeq      = 1 << 20           // of an event
	MaxSize     = 16 << 10          // bytes of an event with its signatures
	MaxModified = 1<<53 - 1         // unix ms
	minModified = 1_420_070_400_000 // unix ms, 1 January 2015
)

// Errors that callers branch on.
var (
	// ErrEvent is matched by every refusal of a key event.
	ErrEvent = errors.New("invalid key event")
	// ErrEnded is returned to who wants to sign with a key that was revoked.
	ErrEnded = errors.New("the key was revoked: only the recovery key or a majority of the devices can set a new one")
	// ErrNoRecovery is returned for a recovery key that is not the user's.
	ErrNoRecovery = errors.New("this is not the recovery key of the user")
	// ErrNoQuorum is returned for too few devices.
	ErrNoQuorum = errors.New("more devices have to sign")
)

func invalid(reason string) error { return fmt.Errorf("%w: %s", ErrEvent, reason) }

// Op says what an event does.
type Op string

// The kinds of event; package documentation has what each needs.
const (
	Rotate       Op = "rotate"
	Revoke       Op = "revoke"
	AddDevice    Op = "addDevice"
	RevokeDevice Op = "revokeDevice"
	SetRecovery  Op = "setRecovery"
)

// Class is the authority by which an event is made.
type Class string

// The classes in rising order.
const (
	ByKey      Class = "key"
	ByQuorum   Class = "quorum"
	ByRecovery Class = "recovery"
)

// Compare orders classes: the lower is negative. Unknown ones are lowest.
func (c Class) Compare(o Class) int { return c.level() - o.level() }

func (c Class) level() int {
	switch c {
	case ByKey:
		return 1
	case ByQuorum:
		return 2
	case ByRecovery:
		return 3
	}
	return 0
}

// Reason says why a key ends.
type Reason string

// The reasons.
const (
	Rotated     Reason = "rotated"     // for caution
	Lost        Reason = "lost"        // nobody has it any more
	Compromised Reason = "compromised" // somebody else may have it
)

func (r Reason) valid() bool { return r == Rotated || r == Lost || r == Compromised }

// Event is one step of the history of a user's keys. It is read-only.
type Event struct {
	Type     string                `json:"type"`  // "KeyEvent"
	ID       peercrypto.ID         `json:"id"`    // "<userId>:k<seq>"
	Group    string                `json:"group"` // "users"
	UserID   peercrypto.ID         `json:"userId"`
	Seq      int64                 `json:"seq"`  // 1 for the first
	Prev     peercrypto.Hash       `json:"prev"` // the event before; of the first, the genesis hash
	Op       Op                    `json:"op"`
	By       Class                 `json:"by"`
	Key      *peercrypto.PublicKey `json:"key,omitzero"`      // rotate: the new key
	Reason   Reason                `json:"reason,omitzero"`   // rotate and revoke
	Recovery *peercrypto.Hash      `json:"recovery,omitzero"` // setRecovery: hash of the new recovery key
	Device   *Device               `json:"device,omitzero"`   // addDevice and revokeDevice
	Modified int64                 `json:"modified"`          // unix ms
	Sigs     []Sig                 `json:"sigs"`              // by "by", which is unique
}

// Device is a device whose key counts for a quorum.
type Device struct {
	ID  peercrypto.ID        `json:"id"`
	Key peercrypto.PublicKey `json:"key"`
}

// Sig is one signature of an event.
type Sig struct {
	By  string               `json:"by"` // "key", "new", "recovery" or "dev:<device id>"
	Pub peercrypto.PublicKey `json:"pub"`
	Sig peercrypto.Signature `json:"sig"`
}

// Signers of an event.
const (
	signerKey      = "key"
	signerNew      = "new"
	signerRecovery = "recovery"
	devicePrefix   = "dev:"
)

// Parse reads an event in canonical form and checks its shape. Whether it
// counts is found by [State.Apply].
func Parse(raw []byte) (Event, error) {
	if len(raw) > MaxSize {
		return Event{}, invalid("it is too large")
	}
	var e Event
	if err := peercrypto.UnmarshalStrict(raw, &e); err != nil {
		return Event{}, fmt.Errorf("%w: %w", ErrEvent, err)
	}
	again, err := e.Canonical()
	if err != nil || string(again) != string(raw) {
		return Event{}, invalid("it is not in its only form")
	}
	if err := e.Check(); err != nil {
		return Event{}, err
	}
	return e, nil
}

// Canonical returns the bytes that are stored and sent.
func (e Event) Canonical() ([]byte, error) { return peercrypto.MarshalCanonical(e) }

// Hash names the event whatever its signatures are.
func (e Event) Hash() peercrypto.Hash { return peercrypto.Sum(e.unsigned()) }

// unsigned returns what is hashed and signed; nil only for texts that are not UTF-8, which Check refuses.
func (e Event) unsigned() []byte {
	raw, err := e.Canonical()
	if err != nil {
		return nil
	}
	raw, err = peercrypto.RemoveMember(raw, "sigs")
	if err != nil {
		return nil
	}
	return raw
}

func eventID(user peercrypto.ID, seq int64) peercrypto.ID {
	return peercrypto.ID(fmt.Sprintf("%s:k%d", user, seq))
}

// Check checks the shape.
func (e Event) Check() error {
	switch {
	case e.Type != "KeyEvent" || e.Group != "users":
		return invalid("it is no key event")
	case !isID(e.UserID) || e.ID != eventID(e.UserID, e.Seq):
		return invalid("an id is malformed")
	case e.Seq < 1 || e.Seq > MaxSeq || e.Prev.IsZero():
		return invalid("it follows nothing")
	case e.Modified < minModified || e.Modified > MaxModified:
		return invalid("its time is out of range")
	case e.By.level() == 0:
		return invalid("its class is unknown")
	}
	if err := e.checkMembers(); err != nil {
		return err
	}
	return e.checkSigs()
}

// checkMembers asks for exactly the members that the kind of event has.
func (e Event) checkMembers() error {
	key, recovery, device, reason := false, false, false, false
	switch e.Op {
	case Rotate:
		key, reason = true, true
	case Revoke:
		reason = true
	case AddDevice:
		device = true
	case RevokeDevice:
		device = true
	case SetRecovery:
		recovery = true
	default:
		return invalid("its kind is unknown")
	}
	switch {
	case key != (e.Key != nil), recovery != (e.Recovery != nil), device != (e.Device != nil), reason != (e.Reason != ""):
		return invalid("it lacks a member or has one too many")
	case key && e.Key.Check() != nil, recovery && e.Recovery.IsZero(), reason && !e.Reason.valid():
		return invalid("a member has a wrong value")
	case device && (!isID(e.Device.ID) || e.Device.Key.Check() != nil):
		return invalid("the device is malformed")
	case e.Op == AddDevice && e.By != ByKey, e.Op == SetRecovery && e.By == ByQuorum:
		return invalid("its class can't do that")
	}
	return nil
}

// checkSigs asks for the signers that the kind and the class need, in order.
func (e Event) checkSigs() error {
	if len(e.Sigs) == 0 || len(e.Sigs) > MaxSigs {
		return invalid("it has no signatures or too many")
	}
	byName := func(a, b Sig) int { return strings.Compare(a.By, b.By) }
	if !slices.IsSortedFunc(e.Sigs, byName) {
		return invalid("its signatures are not in order")
	}
	devices := 0
	have := map[string]bool{}
	for _, s := range e.Sigs {
		id, isDevice := strings.CutPrefix(s.By, devicePrefix)
		switch {
		case have[s.By]:
			return invalid("somebody signed twice")
		case isDevice && !isID(peercrypto.ID(id)), s.Pub.Check() != nil:
			return invalid("a signer is malformed")
		case isDevice:
			devices++
		}
		have[s.By] = true
	}
	named := e.signers()
	for _, by := range named {
		if !have[by] {
			return invalid("a signature is missing")
		}
	}
	if len(have) != len(named)+devices || (devices > 0) != (e.By == ByQuorum) {
		return invalid("it has a signature too many")
	}
	return nil
}

// signers returns those who must sign, without the devices of a quorum.
func (e Event) signers() []string {
	var s []string
	if e.By == ByKey || e.Op == SetRecovery {
		s = append(s, signerKey)
	}
	if e.Op == Rotate || e.Op == AddDevice || e.Op == SetRecovery {
		s = append(s, signerNew)
	}
	if e.By == ByRecovery {
		s = append(s, signerRecovery)
	}
	return s
}

func isID(id peercrypto.ID) bool {
	_, err := peercrypto.ParseID(string(id))
	return err == nil
}
