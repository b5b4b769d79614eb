package sync

import (
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// An Event is one of the types below.
type Event interface{ event() }

// GroupChanged tells that members, name or state of a group changed; read it with Engine.Group.
type GroupChanged struct{ Group peercrypto.ID }

// GroupJoined tells that this user is now a member of a group: created, joined or accepted.
type GroupJoined struct{ Group peercrypto.ID }

// GroupOffered tells that somebody added this user to a group that waits for Accept or Decline.
type GroupOffered struct {
	Group peercrypto.ID
	By    peercrypto.ID
	Name  string
}

// RemovedFromGroup tells that somebody else ended this user's membership. The group is not synced any more; its data stays until Purge.
type RemovedFromGroup struct {
	Group  peercrypto.ID
	By     peercrypto.ID
	Reason string // as By gave it; may be empty
}

// JoinFailed tells that a join was refused. Unless Final, the pending join stays and other devices are asked.
type JoinFailed struct {
	Group  peercrypto.ID
	Code   RefusalCode
	Reason string
	Final  bool
}

// JoinChecking tells how far this device is with the check of the log that answers a join, or that an own device sent: the ids of all who were ever members,
// tens of milliseconds each. It is told twice a second, of a check that lasts longer than that.
type JoinChecking struct {
	Group   peercrypto.ID
	Checked int64 // users
	Users   int64 // of so many
}

// JoinRequested tells that somebody used an invitation with manual admission.
type JoinRequested struct{ Request JoinRequest }

// Committed tells that entries became durable and count. Readers follow the log or the documents from where they are.
type Committed struct {
	Group    peercrypto.ID
	Position int64 // highest position given
	Entries  int   // new shared entries
}

// Progress tells how many entries of a group this device holds and the other one lacks while a session moves some, on both sides.
type Progress struct {
	Group  peercrypto.ID
	Peer   peercrypto.ID // device
	Have   int64         // entries held here
	Want   int64         // entries held by the other device, as it said last
	Unsent int64         // entries that the other device lacks and that were not sent yet, estimated

	Received, Sent int64 // in this session: entries that came and were new, and that were sent
}

// Synced tells that this device and another hold exactly the same of a group.
type Synced struct {
	Group       peercrypto.ID
	Peer        peercrypto.ID // device
	Fingerprint string        // as in GroupInfo
}

// Alarm tells about something that a user should look at: an invitation used too often, a device that continues an old backup,
// refused entries.
type Alarm struct {
	Group peercrypto.ID
	Text  string
}

// IdentityChanged tells that this device got another key of its user, durably: the Engine has to be closed and opened again, and
// whatever else was made with its Identity.
type IdentityChanged struct{}

// RendezvousChanged tells that Engine.Rendezvous or Engine.Admits may answer differently now.
type RendezvousChanged struct{}

// Lagged tells a subscriber that it was too slow and that events were left out. Read the state anew.
type Lagged struct{ Lost int64 }

func (GroupChanged) event()      {}
func (GroupJoined) event()       {}
func (GroupOffered) event()      {}
func (RemovedFromGroup) event()  {}
func (JoinFailed) event()        {}
func (JoinChecking) event()      {}
func (JoinRequested) event()     {}
func (Committed) event()         {}
func (Progress) event()          {}
func (Synced) event()            {}
func (Alarm) event()             {}
func (RendezvousChanged) event() {}
func (Lagged) event()            {}
func (IdentityChanged) event()   {}

// A RefusalCode tells why a join was refused.
type RefusalCode uint8

// Codes of REFUSED frames.
const (
	RefusedUnspecified RefusalCode = 1 // also: everything that would tell a stranger something
	RefusedExpired     RefusalCode = 2
	RefusedUsed        RefusalCode = 3
	RefusedRevoked     RefusalCode = 4
	RefusedNotAdmin    RefusalCode = 5 // the other device can't admit anybody; wait for an admin's
	RefusedWaiting     RefusalCode = 6 // an admin was asked
	RefusedBusy        RefusalCode = 7
	// RefusedFake is given by this device itself: the other one showed a different group than the invitation names.
	RefusedFake RefusalCode = 100
	// RefusedClock is given by this device itself: by its clock, the group's log or the admission in it lies more than a minute ahead.
	RefusedClock RefusalCode = 101
)
