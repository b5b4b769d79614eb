package admin

import (
	"errors"
	"fmt"
	"time"
)

// Status is the answer of GET /v1/status.
type Status struct {
	Version    string          `json:"version"`
	Go         string          `json:"go"`
	PID        int             `json:"pid"`
	Started    time.Time       `json:"started"`
	Ready      bool            `json:"ready"`
	Draining   bool            `json:"draining"`
	Reason     string          `json:"reason,omitempty"` // why it is not ready
	LogLevel   string          `json:"logLevel"`
	Figures    []Figure        `json:"figures"`
	ICESources []ICESource     `json:"iceSources"`
	Audit      *AuditHead      `json:"audit,omitempty"` // without an audit log: absent
	Listeners  []ListenAddress `json:"listeners"`
}

// Figure is one figure, with its limit where it has one.
type Figure struct {
	Name  string `json:"name"`
	Value int    `json:"value"`
	Limit int    `json:"limit,omitempty"`
}

// ICESource is the health of a source of ICE servers.
type ICESource struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"`
}

// AuditHead is the newest line of the audit log: who keeps it elsewhere can
// later tell whether the log was written anew.
type AuditHead struct {
	Seq  uint64 `json:"seq"`
	Hash string `json:"hash"`
}

// ListenAddress is where the process listens.
type ListenAddress struct {
	Use     string `json:"use"`
	Address string `json:"address"`
}

// Session is one of those of GET /v1/sessions.
type Session struct {
	Session string    `json:"session"`
	Device  string    `json:"device"`
	User    string    `json:"user"` // user key
	Address string    `json:"address"`
	Since   time.Time `json:"since"`
	Topics  int       `json:"topics"`
	Queued  int       `json:"queuedBytes"` // bytes that wait for the client
	State   string    `json:"state"`       // connected or parked
}

// Sessions is the answer of GET /v1/sessions.
type Sessions struct {
	Sessions []Session `json:"sessions"`
	More     bool      `json:"more"` // there are more than were asked for
}

// Selector chooses sessions; all that is set has to match. It is the query of
// GET /v1/sessions, and part of Kick.
type Selector struct {
	Session string `json:"session,omitempty"`
	Device  string `json:"device,omitempty"`
	User    string `json:"user,omitempty"`
	Network string `json:"network,omitempty"` // an address or a network (CIDR)
	State   string `json:"state,omitempty"`
}

// IsZero reports whether it chooses everybody.
func (s Selector) IsZero() bool { return s == Selector{} }

// Kick is the request of POST /v1/kick.
type Kick struct {
	Selector
	Message string `json:"message,omitempty"` // told to the client
}

// Ended is the answer of POST /v1/kick and /v1/block: how many sessions ended.
type Ended struct {
	Ended int `json:"ended"`
}

// Block is who is kept out: exactly one of Device, User and Network. It is the
// request of POST /v1/block and /v1/unblock, and an entry of the block file.
type Block struct {
	Device  string    `json:"device,omitempty"`
	User    string    `json:"user,omitempty"`
	Network string    `json:"network,omitempty"` // an address or a network (CIDR)
	Reason  string    `json:"reason,omitempty"`  // for operators; clients are not told
	Expires time.Time `json:"expires,omitzero"`  // zero: never
	Created time.Time `json:"created,omitzero"`
}

// Target names who is blocked.
func (b Block) Target() string {
	switch {
	case b.Device != "":
		return "device " + b.Device
	case b.User != "":
		return "user " + b.User
	default:
		return "network " + b.Network
	}
}

// Blocks is the answer of GET /v1/blocked.
type Blocks struct {
	Blocks []Block `json:"blocks"`
	Kept   bool    `json:"kept"` // in a file, so that they outlive the process
}

// Unblocked is the answer of POST /v1/unblock.
type Unblocked struct {
	Found bool `json:"found"`
}

// Drain is the request of POST /v1/drain. The answer comes at once; the process
// ends when the sessions have, as after SIGTERM.
type Drain struct {
	Window string `json:"window,omitempty"` // a time like "30s"; empty: as configured
}

// Reload is the answer of POST /v1/reload.
type Reload struct {
	Changes []Change `json:"changes"`
}

// Change is a setting that is another than before.
type Change struct {
	Setting string `json:"setting"`
	Applied bool   `json:"applied"` // false: it needs a restart
}

// LogLevel is the answer of GET and the request of PUT /v1/log-level: debug,
// info, warn or error.
type LogLevel struct {
	Level string `json:"level"`
}

// Failure is the answer of a request that failed.
type Failure struct {
	Error string `json:"error"`
}

// Error is what a server answered instead of what was asked for.
type Error struct {
	Status int // of HTTP
	Text   string
}

// Error implements error.
func (e *Error) Error() string { return e.Text }

// ErrNotServing is wrapped by what Client.Do gives when nobody listens.
var ErrNotServing = errors.New("no server listens there")

// mistake makes the error of a request that is wrong.
func mistake(format string, args ...any) error {
	return &Error{Status: 400, Text: fmt.Sprintf(format, args...)}
}
