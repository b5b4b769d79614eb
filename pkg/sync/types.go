package sync

import (
	"context"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// A GroupInfo is what a user wants to know about a group.
type GroupInfo struct {
	ID      peercrypto.ID
	Name    string
	Role    entry.Role // own role; "" when not an active member
	Owner   peercrypto.ID
	Members []MemberInfo // sorted by user id
	// Joined is set when this user consented and did not leave. Exactly then the group is synced.
	Joined bool
	// Left is set when this user left or was removed. The data stays.
	Left bool
	// Untold is set when this user left and no other member's device has stored that yet. Until then, at most 30 days, this device
	// stays on the group's topics.
	Untold bool
	// Removed is set when this user's membership was ended by somebody else.
	Removed *Removal
	// Offered is set when somebody added this user, who has not answered yet (Accept, Decline). OfferedBy is that user, OfferedRole the role.
	Offered     bool
	OfferedBy   peercrypto.ID
	OfferedRole entry.Role
	// GroupDeleted is set when the owner deleted the group.
	GroupDeleted bool

	Documents  int64 // live ones
	Deleted    int64 // tombstones
	Operations int64 // shared operations
	Entries    int64 // shared data changes
	// Fingerprint is 16 hex characters over the summaries of both scopes: equal on replicas that hold the same.
	Fingerprint string
	// RotationDue is set when somebody was removed since the rendezvous key was made; an admin's device makes a new one.
	RotationDue bool
	// Quarantined entries wait for something; see Engine.Quarantine.
	Quarantined int64
	// Alarms are things a user should look at.
	Alarms []string
}

// A Removal tells who ended this user's membership.
type Removal struct {
	By     peercrypto.ID
	Name   string // of By; "" when not known here
	Reason string // as By gave it; "" if none
	At     time.Time
}

// A MemberInfo is one member of a group.
type MemberInfo struct {
	UserID peercrypto.ID
	Name   string // as the member wrote it in a signed document; "" when not known here
	Role   entry.Role
	Owner  bool
	Self   bool
}

// InviteOptions tells what an invitation allows.
type InviteOptions struct {
	Role    entry.Role    // default write
	Uses    int           // default 1, at most 1,000
	Expires time.Duration // default 7 days, at most 30
	Servers []string      // signaling servers where the group is found, at most 3; the joiner needs at least one
	// Manual leaves the joiner's device out of the automatic admission: Pending joins are admitted with Admit.
	Manual bool
}

// An InvitationInfo is an open invitation of a group. Its secret is known only to the link.
type InvitationInfo struct {
	Hash     peercrypto.Hash // names it, for Uninvite
	Role     entry.Role
	UsesLeft int
	Expires  time.Time
	Manual   bool
}

// A PendingJoin is an invitation that this user took and that no admin's device answered yet. It survives restarts.
type PendingJoin struct {
	Group   peercrypto.ID
	Name    string // from the link; not verified
	Role    entry.Role
	Servers []string
	Expires time.Time
	Since   time.Time
	Refusal string // the last refusal, "" if none
	// Checked of Users are the ids that were checked of a log that came and is checked now; zero if there is none.
	Checked, Users int64
}

// A JoinRequest is somebody's valid claim on an invitation with manual admission.
type JoinRequest struct {
	Group   peercrypto.ID
	UserID  peercrypto.ID
	Name    string
	Role    entry.Role
	Invite  peercrypto.Hash
	Arrived time.Time
}

// A PutStatus tells what a Put did.
type PutStatus uint8

// What a Put did.
const (
	PutUnchanged PutStatus = iota // the document is already like this; nothing was written
	PutCreated
	PutChanged
	PutFailed // Err says why; the other documents of the call are not affected
)

// A PutResult is the outcome for one document of PutMany.
type PutResult struct {
	Status  PutStatus
	Subject peercrypto.ID
	Version int64 // of the document, after the call
	Err     error // with PutFailed
}

// A RefusedEntry names an entry that Ingest refused and why.
type RefusedEntry struct {
	Hash peercrypto.Hash // zero if it could not be decoded
	Err  error
}

// An IngestResult counts what became of a batch. Accepted + Known + Deferred + Rejected is its length.
type IngestResult struct {
	Accepted int // new, and stored
	Known    int // already stored
	Deferred int // in quarantine: something is missing, it lies ahead in time, or it does not count for now
	Rejected int // refused for good, or too far ahead in time
	// Errors explains the first refused ones, at most 16.
	Errors []RefusedEntry
	// Missing are entries that deferred ones refer to, at most 1,000.
	Missing []peercrypto.Hash

	bad   int // refused for good
	again int // stored entries that were read again to fold or judge them
}

// A Peer is the authenticated other end of a connection. The caller vouches that the channel was bound to DeviceID, that DeviceID's
// certificate is signed by UserKey and that UserID is the id of Genesis.
type Peer struct {
	UserID   peercrypto.ID
	UserKey  peercrypto.PublicKey
	Genesis  peercrypto.UserGenesis
	DeviceID peercrypto.ID
	// DeviceKey is the key that the device proved; without it the device counts as none of the user's list.
	DeviceKey peercrypto.PublicKey
	UserDoc   []byte // signed user document; may be nil
	// Keys are the events that lead from the key in Genesis to UserKey; none for a user with the first key.
	Keys []keys.Event
}

// A Lane is one of the two streams of a Transport.
type Lane uint8

// The lanes. Frames of one lane keep their order; lanes do not wait for each other.
const (
	Control Lane = 1
	Bulk    Lane = 2
)

// MaxFrame is the largest frame a Transport must carry, in bytes.
const MaxFrame = 1<<20 + 64<<10

// A Transport carries frames between two devices, reliably. Send may be called for different lanes at the same time, but is called by
// one goroutine for each. It blocks while the lane has no room. A frame given to Send may be reused after it returned; one
// returned by Recv belongs to the receiver. Recv returns io.EOF when the other side closed. Close makes both return; it is idempotent.
type Transport interface {
	Send(ctx context.Context, lane Lane, frame []byte) error
	Recv(ctx context.Context) (Lane, []byte, error)
	Close() error
}

// An Admission tells what a user may do in a session with this device.
type Admission uint8

// Admissions, in rising order.
const (
	AdmitNone     Admission = iota // nothing in common: do not connect
	AdmitJoinOnly                  // an invitation or a join is open: strangers are welcome for the join exchange only
	AdmitMember                    // shares a group, or is this user's other device
)

func (a Admission) String() string {
	return [...]string{"none", "join only", "member"}[min(a, AdmitMember)]
}

// A Rendezvous is a topic on which this device looks for others. Tags derive from Key and the server's name (docs/formats.md, section 3).
type Rendezvous struct {
	Key [32]byte // secret
	// Announce is false for a key that is only listened on: devices that come from an older state are seen there.
	Announce bool
	// Group is "" for the topic of this user's own devices.
	Group  peercrypto.ID
	Invite *InviteInfo // set for an invitation's topic
}

// InviteInfo is what an invitation's topic needs beside its key.
type InviteInfo struct {
	IPK     peercrypto.PublicKey
	EnvSalt [32]byte
	Joining bool // this device is the one that wants to join
	// Closed: the invitation was withdrawn or used up. Who comes with it is told so; nobody has to be looked for.
	Closed bool
}
