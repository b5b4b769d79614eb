package sync

import "errors"

// Errors of an Engine. They are wrapped with what was being done and to what.
var (
	// ErrNotFound is returned for a document, group, offer or invitation that is not there.
	ErrNotFound = errors.New("not found")
	// ErrNotMember is returned when this user is not (or no longer) an active member of the group.
	ErrNotMember = errors.New("you are not a member of this group")
	// ErrReadOnly is returned when this user's role does not allow to write.
	ErrReadOnly = errors.New("your role in this group can only read")
	// ErrNotAdmin is returned when only an admin, or only a more senior one, may do this.
	ErrNotAdmin = errors.New("only an admin, and about a member only one who is senior to that member, can do this")
	// ErrNotOwner is returned when only the owner of the group may do this.
	ErrNotOwner = errors.New("only the owner of the group can do this")
	// ErrOwner is returned when the owner would be removed or would leave.
	ErrOwner = errors.New("the owner can't be removed from the group; delete the group instead")
	// ErrKeyFrozen is returned while two keys contend for a membership: somebody else has the old key.
	ErrKeyFrozen = errors.New("two keys claim this membership: it needs a new key by the recovery words, or to be removed and added again")
	// ErrDeleted is returned for writes to a group that was deleted.
	ErrDeleted = errors.New("the group was deleted by its owner")
	// ErrOtherUser is returned for a store that is another user's.
	ErrOtherUser = errors.New("the store is of another user")
	// ErrClock is returned when what must be newer lies more than a minute ahead of this device's clock.
	ErrClock = errors.New("this device's clock is behind the group's; set the clock and try again")
	// ErrInvalidDocument is returned for a document that can't be stored; the text says why.
	ErrInvalidDocument = errors.New("invalid document")
	// ErrInvitation is returned for an invitation that can't be used: expired, or of a group this user already is in.
	ErrInvitation = errors.New("the invitation can't be used")
	// ErrLimit is returned when a documented limit is reached.
	ErrLimit = errors.New("limit reached")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("the engine is closed")
)

// Reasons why a Session ended. Run wraps them with what was received or done.
var (
	// ErrNotAdmitted ends a session with a device whose user shares no group with this one and who has no business to join.
	ErrNotAdmitted = errors.New("the other device's user shares no group with this one")
	// ErrProtocol ends a session in which the other side broke the protocol.
	ErrProtocol = errors.New("the other device broke the sync protocol")
	// ErrBadEntries ends a session in which too many refused entries came one after another.
	ErrBadEntries = errors.New("the other device sent too many entries that had to be refused")
	// ErrSlow ends a session whose other side does not read its control lane.
	ErrSlow = errors.New("the other device does not read what is sent to it")
)
