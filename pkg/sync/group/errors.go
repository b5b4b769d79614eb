package group

import (
	"errors"
	"fmt"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

var (
	// ErrKnown is returned by [Log.Check] for an operation that the log holds.
	ErrKnown = errors.New("the operation is known")
	// ErrNoGrant is returned to an author who has no active grant that permits
	// what it wants to do.
	ErrNoGrant = errors.New("you are not a member of the group with the role that this needs")
	// ErrNotShared is returned by [Log.Forget] for what must be kept.
	ErrNotShared = errors.New("the operation counts or others build on it")
)

// MissingError says that an entry can't be judged before others are known.
type MissingError struct {
	Refs []peercrypto.Hash // sorted, unique
}

// Error counts the missing entries.
func (e *MissingError) Error() string {
	if len(e.Refs) == 0 {
		return "an entry that this one builds on is not known yet"
	}
	return fmt.Sprintf("%d entries that this one builds on are not known yet, among them %s", len(e.Refs), e.Refs[0].Short())
}
