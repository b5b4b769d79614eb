package link

import (
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// Remote says who is at the other end. What it is worth depends on where it
// comes from: see [Discovered], [Config.Admit] and [Conn.Remote].
type Remote struct {
	DeviceID, UserID   peercrypto.ID
	DeviceKey, UserKey peercrypto.PublicKey
	// Genesis is the body that UserID is derived from; zero before
	// authentication.
	Genesis peercrypto.UserGenesis
	// UserDoc is the peer's signed User document, canonical and verified;
	// nil before authentication. Treat it as read-only.
	UserDoc []byte
	// History are the key events that lead from the key in Genesis to UserKey,
	// checked by Config.CheckKeys; none before authentication, and none for a
	// user with the first key.
	History [][]byte
	// Cert is the device certificate, verified.
	Cert peercrypto.DeviceCert
	// Via are the topics: of a discovery the topic it was seen on, of an offer
	// or a connection the one that it was negotiated over.
	Via []peercrypto.Tag
}

// Topic is a rendezvous tag that this device holds at the server: it sees the
// devices that hold it too, and is seen by them.
type Topic struct {
	Tag peercrypto.Tag
	// EnvSalt salts the key of envelopes that are sent over this topic; all
	// zero means no salt. An invitation's topic uses
	// peercrypto.InviteEnvelopeKey, so that only those who know the invitation
	// can make an offer over it.
	EnvSalt [32]byte
	// ListenOnly marks a tag of an earlier epoch: devices are seen and answered
	// on it, but Dial uses another topic where there is one.
	ListenOnly bool
}

// Event is one of Discovered, Gone, Connected, Disconnected, PathChanged,
// ServerUp, ServerDown and DialFailed.
type Event interface{ event() }

// Discovered says that a device holds a topic of ours. The certificate is
// verified (so the device belongs to UserKey), but nothing proves that the
// device is there, nor that UserID belongs to UserKey: the server may lie. It
// may be repeated with a newer certificate.
type Discovered struct {
	Remote Remote
	Tag    peercrypto.Tag
}

// Gone says that a device left a topic, or that the topic was dropped.
type Gone struct {
	DeviceID peercrypto.ID
	Tag      peercrypto.Tag
}

// Connected hands over an authenticated connection. It replaces an earlier one
// of the same device, whose Disconnected follows or came before.
type Connected struct{ Conn *Conn }

// Disconnected says that a connection that was handed over has ended. Conn
// identifies it; another connection of the same device may be alive.
type Disconnected struct {
	Conn     *Conn
	DeviceID peercrypto.ID
	Reason   error
}

// PathChanged says that the network path of a connection was lost, found again,
// or is another one now. The connection and its streams go on; what is sent
// while the path is lost waits.
type PathChanged struct {
	Conn *Conn
	Path Path
	Lost bool // Path is the one that was lost, or zero
}

// Path is the network path of a connection.
type Path struct {
	Local, Remote string        // candidate types: host, srflx, prflx or relay; empty when unknown
	Protocol      string        // udp or tcp
	RTT           time.Duration // of the last STUN check; 0 when unknown
}

// ServerUp says that the session with the server stands. Name is the server's
// canonical name, which tags have to be derived from: call SetTopics with tags
// for that name. Topics that were set for the same name are published already.
type ServerUp struct {
	Name    string
	Session string
}

// ServerDown says that the session ended. Every device that was discovered
// counts as gone, without an event for each; connections stay.
type ServerDown struct {
	Err   error
	Retry time.Duration // until the next attempt; negative when there is none
}

// DialFailed says that an attempt to connect failed, in either direction.
// Failures of offers that were refused before anything was allocated are in
// Status only.
type DialFailed struct {
	DeviceID peercrypto.ID
	Outgoing bool
	Err      error
}

// Notification is a sealed message of a device that is welcome. It may be told
// again after a restart of this program: ID names it.
type Notification struct {
	Remote  Remote // Via is empty for a device of the same user
	ID      peercrypto.ID
	Time    time.Time // by the sender's clock
	Expires time.Time
	Body    []byte
}

func (Notification) event() {}
func (Discovered) event()   {}
func (Gone) event()         {}
func (Connected) event()    {}
func (Disconnected) event() {}
func (PathChanged) event()  {}
func (ServerUp) event()     {}
func (ServerDown) event()   {}
func (DialFailed) event()   {}

// Status is a snapshot for people who look after a device.
type Status struct {
	Server    string    // name of the server: the canonical one once there was a session
	Session   string    // id of the session; empty when there is none
	Since     time.Time // when the session began or ended; zero before the first
	Addr      string    // this device's address as the server sees it
	LastError string    // why the last session or attempt ended
	Topics    int       // topics that should be held
	Published int       // topics that the server has confirmed
	Peers     int       // devices seen on topics
	Attempts  int       // connections being negotiated
	Conns     []ConnStatus
	// Refused counts offers, candidates and other input that was refused, by
	// reason.
	Refused map[string]uint64
}

// ConnStatus is one connection in a Status.
type ConnStatus struct {
	DeviceID, UserID peercrypto.ID
	Since            time.Time
	Outgoing         bool
	Stats            Stats
}

// Stats are the counters and the path of a connection.
type Stats struct {
	// Candidate types: host, srflx, prflx or relay; empty when unknown.
	LocalCandidateType, RemoteCandidateType string
	Protocol                                string        // udp or tcp
	RTT                                     time.Duration // of the last STUN check; 0 when unknown
	BytesIn, BytesOut                       uint64        // message payload on streams
	MessagesIn, MessagesOut                 uint64
	Streams                                 int
	Restarts                                uint64 // how often a lost path was replaced
	Lost                                    bool   // there is no path now
}
