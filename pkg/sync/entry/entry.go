package entry

import (
	"errors"
	"fmt"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/fold"
)

// Limits of the format. They decide what is sound and never change.
const (
	MaxSize     = 1 << 20           // bytes of an entry with its signature
	MaxDeps     = 64                // heads that an operation names
	MaxFrontier = 4096              // hashes in a frontier
	MaxChain    = 100_000           // operations of one chain; seq is below it
	MinModified = 1_420_070_400_000 // unix ms, 1 January 2015
	MaxModified = 1<<53 - 1         // unix ms, what JavaScript counts exactly; also the highest seq and epoch
	MaxName     = 128               // bytes of a group's name
	MaxReason   = 256               // bytes of the reason of a removal
	MaxUses     = 1000              // of an invitation
	MaxInvite   = 30 * 24 * 3600_000

	MaxKeyEvents = 64 // of a rekey or an add
)

// Errors that callers branch on.
var (
	// ErrUnsound is matched by every refusal that is for good. The concrete
	// error is an [*UnsoundError].
	ErrUnsound = errors.New("unsound entry")
	// ErrUnknownVersion is returned for an entry that a newer release wrote: it
	// is refused now and must not be remembered.
	ErrUnknownVersion = errors.New("the entry needs a newer release")
	// ErrTooLarge is returned for more than [MaxSize] bytes.
	ErrTooLarge = fmt.Errorf("the entry has more than %d bytes", MaxSize)
)

// UnsoundError says why an entry is refused for good.
type UnsoundError struct {
	Reason string // a phrase without any part of the entry
}

// Error describes the refusal.
func (e *UnsoundError) Error() string { return "unsound entry: " + e.Reason }

// Is reports whether target is [ErrUnsound].
func (e *UnsoundError) Is(target error) bool { return target == ErrUnsound }

// Unsound returns an [*UnsoundError].
func Unsound(reason string) error { return &UnsoundError{reason} }

// Kind tells the two kinds of entry apart.
type Kind uint8

// The kinds of entry.
const (
	Operation Kind = 1
	Data      Kind = 2
)

// String returns "operation" or "data".
func (k Kind) String() string {
	switch k {
	case Operation:
		return "operation"
	case Data:
		return "data"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Role is what a grant permits.
type Role string

// The roles in rising order.
const (
	Read  Role = "read"
	Write Role = "write"
	Admin Role = "admin"
)

// Valid reports whether r is one of the roles.
func (r Role) Valid() bool { return r.level() > 0 }

// AtLeast reports whether r permits what o does. No role is at least an
// invalid one, and an invalid one is at least none.
func (r Role) AtLeast(o Role) bool { return o.Valid() && r.level() >= o.level() }

func (r Role) level() int {
	switch r {
	case Read:
		return 1
	case Write:
		return 2
	case Admin:
		return 3
	}
	return 0
}

// Entry is a decoded operation or data change. It is read-only and shares
// memory with Raw.
type Entry struct {
	Raw  []byte // canonical, with the signature
	Hash peercrypto.Hash
	Kind Kind

	ID        peercrypto.ID
	Group     peercrypto.ID
	Subject   peercrypto.ID // the group for operations
	Signer    peercrypto.ID // user
	Modified  int64         // unix ms
	Signature peercrypto.Signature

	As   peercrypto.Hash   // the grant; zero in create
	Deps []peercrypto.Hash // operations only
	Seq  int64
	Prev peercrypto.Hash // zero at seq 0
	Dev  peercrypto.ID   // set at seq 0 only

	Op Op // operations only

	Changes        []fold.Change // data only
	SubjectDeleted bool          // data only
}

// VerifySignature checks the document signature under the key of the entry's
// grant, which the caller takes from the group's log.
func (e *Entry) VerifySignature(key peercrypto.PublicKey) bool {
	return key.VerifyHash(e.Hash, e.Signature)
}
