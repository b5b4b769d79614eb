package peer

import (
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer/link"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

// Event is something that happened to a [Peer]; its type says what.
type Event interface{ event() }

// ServerUp says that the signaling server lets this device in.
type ServerUp struct {
	Name string // canonical name, "host:port"
}

// ServerDown says that there is no session with the signaling server. Devices
// that were present count as gone, without an event for each; connections stay.
type ServerDown struct {
	Err   error
	Retry time.Duration // until the next attempt; negative when there is none
}

// DeviceDiscovered says that a device is present on a topic of ours. Nothing is
// proven yet but that the server says so.
type DeviceDiscovered struct {
	Device, User peercrypto.ID
}

// DeviceGone says that a device is on no topic of ours any more.
type DeviceGone struct {
	Device, User peercrypto.ID
}

// DeviceConnected says that an authenticated connection with a device stands.
// It may follow another DeviceConnected when the device replaced its connection.
type DeviceConnected struct {
	Device, User peercrypto.ID
	Outgoing     bool // this device made the offer
}

// PathChanged says that the network path to a connected device was lost, found
// again, or is another one now. The connection and its sync go on; what is said
// while the path is lost waits.
type PathChanged struct {
	Device, User peercrypto.ID
	Path         link.Path
	Lost         bool // Path is the one that was lost, or zero
}

// DeviceDisconnected says that the connection with a device ended.
type DeviceDisconnected struct {
	Device, User peercrypto.ID
	Err          error
}

// ConnectFailed says that an attempt to connect with a device failed. While the
// device is present there are more attempts.
type ConnectFailed struct {
	Device, User peercrypto.ID
	Err          error
}

// SyncStarted says that a session with a device began.
type SyncStarted struct {
	Device, User peercrypto.ID
}

// SyncProgress counts the entries of a group while a session moves some: Have
// are held here, Want by the other device as it said last, Unsent is an
// estimate of what the other device lacks.
type SyncProgress struct {
	Device, Group      peercrypto.ID
	Have, Want, Unsent int64
	Received, Sent     int64 // by this session so far
}

// Synced says that this device and another one have equal sets of a group.
type Synced struct {
	Device, Group peercrypto.ID
	Fingerprint   string
}

// SyncEnded says that a session with a device ended, and why.
type SyncEnded struct {
	Device, User peercrypto.ID
	Err          error
}

// GroupJoined says that this user became a member of a group.
type GroupJoined struct {
	Group peercrypto.ID
}

// RemovedFromGroup says that somebody else ended this user's membership. The
// group is not synced any more; its data stays until Purge.
type RemovedFromGroup struct {
	Group, By peercrypto.ID
	Reason    string // as By gave it; may be empty
}

// JoinFailed says that a device refused a pending join. Unless Final is set the
// join stays pending and other devices are asked.
type JoinFailed struct {
	Group  peercrypto.ID
	Reason string
	Final  bool
}

// JoinChecking says how far this device is with the check of the ids of all who
// were ever members of a group that is being joined. It comes twice a second
// while a check lasts.
type JoinChecking struct {
	Group          peercrypto.ID
	Checked, Users int64
}

// GroupOffered says that somebody added this user to a group, which waits for
// Accept or Decline.
type GroupOffered struct {
	Group, By peercrypto.ID
	Name      string
}

// JoinRequested says that somebody used an invitation with manual admission and
// waits for Admit.
type JoinRequested struct {
	Request groupsync.JoinRequest
}

// GroupChanged says that members, roles, name or keys of a group changed, or
// that it was left or deleted.
type GroupChanged struct {
	Group peercrypto.ID
}

// DocumentChanged says that a document was written or deleted, here or by
// another device, after the subscription began. Of changes that follow each
// other quickly only the last is shown.
type DocumentChanged struct {
	Document groupsync.Document
}

// Alarm says that something in a group deserves a person's eyes, such as an
// invitation that was used too often.
type Alarm struct {
	Group peercrypto.ID
	Text  string
}

// Lagged says that the reader of a subscription was too slow and that events
// are missing behind this one. Ask for the state with Status and Groups.
// Changes of documents are never missing: they are read from the store.
type Lagged struct{}

func (ServerUp) event()           {}
func (ServerDown) event()         {}
func (DeviceDiscovered) event()   {}
func (DeviceGone) event()         {}
func (DeviceConnected) event()    {}
func (PathChanged) event()        {}
func (DeviceDisconnected) event() {}
func (ConnectFailed) event()      {}
func (SyncStarted) event()        {}
func (SyncProgress) event()       {}
func (Synced) event()             {}
func (SyncEnded) event()          {}
func (GroupJoined) event()        {}
func (RemovedFromGroup) event()   {}
func (JoinFailed) event()         {}
func (JoinChecking) event()       {}
func (GroupOffered) event()       {}
func (JoinRequested) event()      {}
func (GroupChanged) event()       {}
func (DocumentChanged) event()    {}
func (Alarm) event()              {}
func (Lagged) event()             {}

// ICE transport policies, for Config.ICETransport.
const (
	ICEAll     = link.ICEAll
	ICERelay   = link.ICERelay
	ICENoRelay = link.ICENoRelay
)
