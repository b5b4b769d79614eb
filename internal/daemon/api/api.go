// Package api holds what peerd's local API and its clients share: the JSON
// types, the codes of errors and the kinds of stream lines. docs/api.md
// describes the routes.
package api

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// Prefix is the path of the API's version.
const Prefix = "/v1"

// MaxBody is the largest body of a request that is no stream, in bytes.
const MaxBody = 1 << 20

// MaxSocketPath is the longest path of a Unix socket, in bytes, that all
// supported systems take.
const MaxSocketPath = 103

// Code says what kind of error it is; programs branch on it.
type Code string

// The codes and the HTTP status that each comes with.
const (
	CodeInvalid      Code = "invalid"       // 400: the request or a document in it is malformed
	CodeNotAllowed   Code = "not-allowed"   // 403: role, membership or consent is missing
	CodeOtherUser    Code = "other-user"    // 403: the caller is not the user who runs the daemon
	CodeNotFound     Code = "not-found"     // 404: group, document, invitation, route
	CodeAmbiguous    Code = "ambiguous"     // 409: a name fits several groups
	CodeConflict     Code = "conflict"      // 409: not possible in this state
	CodeTooLarge     Code = "too-large"     // 413: body or document over a limit
	CodeClock        Code = "clock"         // 409: this device's clock is wrong
	CodeLimit        Code = "limit"         // 429: a documented limit is reached
	CodeStoreFull    Code = "store-full"    // 507: no room on the disk
	CodeStoreFailed  Code = "store-failed"  // 500: the store can't be written or read
	CodeOffline      Code = "offline"       // 409: no signaling server is configured
	CodeOtherServer  Code = "other-server"  // 409: the invitation is for another signaling server
	CodeShuttingDown Code = "shutting-down" // 503: the daemon is ending
	CodeBusy         Code = "busy"          // 503: too many requests at once
	CodeInternal     Code = "internal"      // 500: a mistake in the daemon; its log says more
)

var statuses = map[Code]int{
	CodeInvalid: http.StatusBadRequest, CodeNotAllowed: http.StatusForbidden, CodeOtherUser: http.StatusForbidden,
	CodeNotFound: http.StatusNotFound, CodeAmbiguous: http.StatusConflict, CodeConflict: http.StatusConflict,
	CodeTooLarge: http.StatusRequestEntityTooLarge, CodeClock: http.StatusConflict, CodeLimit: http.StatusTooManyRequests,
	CodeStoreFull: http.StatusInsufficientStorage, CodeStoreFailed: http.StatusInternalServerError,
	CodeOffline: http.StatusConflict, CodeOtherServer: http.StatusConflict,
	CodeShuttingDown: http.StatusServiceUnavailable, CodeBusy: http.StatusServiceUnavailable,
	CodeInternal: http.StatusInternalServerError,
}

// Status is the HTTP status of a code.
func (c Code) Status() int {
	if s, ok := statuses[c]; ok {
		return s
	}
	return http.StatusInternalServerError
}

// Error is an error as the API tells it. It is an error itself.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"` // what the user can do
}

func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Message
	}
	return fmt.Sprintf("%s\n%s", e.Message, e.Hint)
}

// ErrorBody is the body of a failed request, and the last line of a stream that
// failed after its begin.
type ErrorBody struct {
	Error *Error `json:"error"`
}

// ID is the answer of GET /v1/id.
type ID struct {
	User      string `json:"user"`
	Device    string `json:"device"`
	Name      string `json:"name"`
	UserKey   string `json:"userKey"`
	DeviceKey string `json:"deviceKey"`
	Genesis   string `json:"genesis"` // hash of the user's genesis body
}

// Status is the answer of GET /v1/status.
type Status struct {
	Version string   `json:"version"`
	PID     int      `json:"pid"`
	Started int64    `json:"started"` // unix ms
	User    string   `json:"user"`
	Device  string   `json:"device"`
	Name    string   `json:"name"`
	Data    string   `json:"data"` // folder
	Server  Server   `json:"server"`
	Devices []Device `json:"devices"`
	Groups  []Group  `json:"groups"`
	Joins   []Join   `json:"joins"` // pending
}

// Server is the state of the signaling connection.
type Server struct {
	URL       string            `json:"url"`
	Name      string            `json:"name"`
	Connected bool              `json:"connected"`
	Since     int64             `json:"since,omitempty"` // unix ms
	Address   string            `json:"address,omitempty"`
	LastError string            `json:"lastError,omitempty"`
	Topics    int               `json:"topics"`
	Published int               `json:"published"`
	Peers     int               `json:"peers"`
	Refused   map[string]uint64 `json:"refused,omitempty"`
}

// Device is one other device.
type Device struct {
	Device    string `json:"device"`
	User      string `json:"user"`
	Name      string `json:"name,omitempty"` // of the user, from a shared group
	Present   bool   `json:"present"`
	Connected bool   `json:"connected"`
	Pursued   bool   `json:"pursued"`
	// Path is "direct" or "relay" when connected and known.
	Path            string        `json:"path,omitempty"`
	LocalCandidate  string        `json:"localCandidate,omitempty"`
	RemoteCandidate string        `json:"remoteCandidate,omitempty"`
	Protocol        string        `json:"protocol,omitempty"`
	RTT             float64       `json:"rtt,omitempty"` // ms
	BytesIn         uint64        `json:"bytesIn"`
	BytesOut        uint64        `json:"bytesOut"`
	Since           int64         `json:"since,omitempty"` // unix ms
	Outgoing        bool          `json:"outgoing"`
	Syncing         bool          `json:"syncing"`
	Failures        int           `json:"failures"`
	LastError       string        `json:"lastError,omitempty"`
	Groups          []DeviceGroup `json:"groups,omitempty"`
}

// DeviceGroup is how far two devices are with one group.
type DeviceGroup struct {
	Group  string `json:"group"`
	Synced bool   `json:"synced"`
	Have   int64  `json:"have"`             // entries held here
	Want   int64  `json:"want"`             // entries held there, as told last
	Unsent int64  `json:"unsent,omitempty"` // entries that it lacks and that were not sent yet, estimated
}

// Group is one group.
type Group struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Role        string   `json:"role"` // own; "" when not an active member
	Owner       string   `json:"owner"`
	Joined      bool     `json:"joined"`
	Left        bool     `json:"left"`
	Untold      bool     `json:"untold,omitempty"`  // left, and no other member's device knows yet
	Removed     *Removal `json:"removed,omitempty"` // when somebody else ended your membership
	Offered     bool     `json:"offered"`
	OfferedBy   string   `json:"offeredBy,omitempty"`
	OfferedRole string   `json:"offeredRole,omitempty"`
	Deleted     bool     `json:"deleted"` // by its owner
	Members     []Member `json:"members"`
	Documents   int64    `json:"documents"`
	Tombstones  int64    `json:"tombstones"`
	Operations  int64    `json:"operations"`
	Entries     int64    `json:"entries"`
	Fingerprint string   `json:"fingerprint"`
	RotationDue bool     `json:"rotationDue"`
	Quarantined int64    `json:"quarantined"`
	Alarms      []string `json:"alarms,omitempty"`
}

// Removal tells who ended a membership.
type Removal struct {
	By     string `json:"by"`
	Name   string `json:"name,omitempty"`
	Reason string `json:"reason,omitempty"`
	Time   int64  `json:"time"` // unix ms
}

// Member is one member of a group.
type Member struct {
	User  string `json:"user"`
	Name  string `json:"name,omitempty"`
	Role  string `json:"role"`
	Owner bool   `json:"owner"`
	Self  bool   `json:"self"`
}

// CreateGroup is the body of POST /v1/groups.
type CreateGroup struct {
	Name string `json:"name"`
}

// Invite is the body of POST /v1/groups/{g}/invite.
type Invite struct {
	Role    string `json:"role,omitempty"`    // default write
	Uses    int    `json:"uses,omitempty"`    // default 1
	Expires int64  `json:"expires,omitempty"` // seconds from now; default 7 days
	Manual  bool   `json:"manual,omitempty"`  // joiners wait for admit
}

// Invitation is the answer: the link is the secret, and is kept nowhere.
type Invitation struct {
	Link    string   `json:"link"`
	Group   string   `json:"group"`
	Name    string   `json:"name"`
	Role    string   `json:"role"`
	Expires int64    `json:"expires"` // unix ms
	Servers []string `json:"servers"`
}

// OpenInvitation is an element of GET /v1/groups/{g}/invitations.
type OpenInvitation struct {
	Invite   string `json:"invite"` // names it, for uninvite
	Role     string `json:"role"`
	UsesLeft int    `json:"usesLeft"`
	Expires  int64  `json:"expires"` // unix ms
	Manual   bool   `json:"manual"`
}

// Uninvite is the body of POST /v1/groups/{g}/uninvite.
type Uninvite struct {
	Invite string `json:"invite"`
}

// Remove is the body of POST /v1/groups/{g}/remove.
type Remove struct {
	User   string `json:"user"` // id, begin of an id, or name of a member
	Reason string `json:"reason,omitempty"`
}

// Block is the body of POST /v1/groups/{g}/block.
type Block struct {
	User string `json:"user"` // id, begin of an id, or name of a member; of others the id
}

// Checkpoint is the body of POST /v1/groups/{g}/checkpoint.
type Checkpoint struct {
	User string `json:"user,omitempty"` // as in Block; "": all
}

// Checkpointed is the answer.
type Checkpointed struct {
	Chains int `json:"chains"` // ends of chains that were named
}

// Adopt is the body of POST /v1/groups/{g}/adopt.
type Adopt struct {
	Entries []string `json:"entries"` // hashes, as `peerd quarantine` shows them
}

// Notify is the body of POST /v1/groups/{g}/notify.
type Notify struct {
	User string `json:"user"` // id, begin of an id, or name of a member
	Text string `json:"text"` // at most 4 KiB
}

// Notification is one that came.
type Notification struct {
	ID     string `json:"id"`
	Device string `json:"device"`
	User   string `json:"user"`
	Name   string `json:"name,omitempty"` // of User, if a group here knows it
	Time   int64  `json:"time"`           // unix ms, by the sender's clock
	Text   string `json:"text"`
}

// Notified is what became of a notification to one device.
type Notified struct {
	Device   string `json:"device"`
	Delivery string `json:"delivery,omitempty"` // "delivered" or "queued"
	Error    string `json:"error,omitempty"`
}

// SetRole is the body of POST /v1/groups/{g}/role.
type SetRole struct {
	User string `json:"user"`
	Role string `json:"role"`
}

// Rename is the body of POST /v1/groups/{g}/rename.
type Rename struct {
	Name string `json:"name"`
}

// Admit is the body of POST /v1/groups/{g}/admit.
type Admit struct {
	User string `json:"user"`
}

// JoinRequest is an element of GET /v1/groups/{g}/requests.
type JoinRequest struct {
	User    string `json:"user"`
	Name    string `json:"name,omitempty"`
	Role    string `json:"role"`
	Arrived int64  `json:"arrived"` // unix ms
}

// JoinLink is the body of POST /v1/join.
type JoinLink struct {
	Link string `json:"link"`
}

// Join is a join that nobody has answered yet.
type Join struct {
	Group   string   `json:"group"`
	Name    string   `json:"name,omitempty"` // from the link, not verified
	Role    string   `json:"role"`
	Servers []string `json:"servers,omitempty"`
	Expires int64    `json:"expires"` // unix ms
	Since   int64    `json:"since,omitempty"`
	Refusal string   `json:"refusal,omitempty"` // the last one
	// Checked of Users were checked of the group's log, which came.
	Checked int64 `json:"checked,omitempty"`
	Users   int64 `json:"users,omitempty"`
}

// Document is a line of docs and watch, and the answer of put and get.
type Document struct {
	Group    string          `json:"group"`
	ID       string          `json:"id"`
	Type     string          `json:"type,omitempty"`
	Modified int64           `json:"modified"` // unix ms
	Version  int64           `json:"version"`  // of this device; where a watch goes on
	Deleted  bool            `json:"deleted,omitempty"`
	Tied     bool            `json:"tied,omitempty"` // with tie=local: other devices may show something else
	Doc      json.RawMessage `json:"doc,omitempty"`  // canonical; absent when deleted
}

// Import is a line of the progress of an import: everything that is counted is
// durable. The last line has Done.
type Import struct {
	Read      int  `json:"read"`
	New       int  `json:"new"`
	Changed   int  `json:"changed"`
	Unchanged int  `json:"unchanged"`
	Done      bool `json:"done,omitempty"`
}

// Event is a line of GET /v1/events. Kind says which members are set.
type Event struct {
	Kind        string    `json:"kind"`
	Time        int64     `json:"time"` // unix ms
	Server      string    `json:"server,omitempty"`
	Device      string    `json:"device,omitempty"`
	User        string    `json:"user,omitempty"`
	Group       string    `json:"group,omitempty"`
	Name        string    `json:"name,omitempty"`
	Error       string    `json:"error,omitempty"`
	Text        string    `json:"text,omitempty"`
	Final       bool      `json:"final,omitempty"`
	Have        int64     `json:"have,omitempty"`
	Want        int64     `json:"want,omitempty"`
	Unsent      int64     `json:"unsent,omitempty"`
	Fingerprint string    `json:"fingerprint,omitempty"`
	File        string    `json:"file,omitempty"` // id
	Document    *Document `json:"document,omitempty"`
}

// Quarantined is an element of GET /v1/quarantine.
type Quarantined struct {
	Group    string   `json:"group"`
	Hash     string   `json:"hash"`
	From     string   `json:"from"`
	Received int64    `json:"received"` // unix ms
	Bytes    int      `json:"bytes"`
	Waits    []string `json:"waits"` // "entry HASH", "time MS", "void HASH"
}
