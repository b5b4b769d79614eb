package signaling

import (
	"slices"
	"strings"
	"time"

	"github.com/peersignal/peersignal/pkg/wire"
)

// Auditor keeps a record of who was let in, who was not, and what operators
// did. Audit is called from several goroutines, also under locks of the server:
// it must not block and must not call the server.
type Auditor interface {
	Audit(AuditEvent)
}

// AuditKind says what happened.
type AuditKind string

// The kinds of an AuditEvent.
const (
	AuditRegistered  AuditKind = "registered"  // a session began
	AuditResumed     AuditKind = "resumed"     // a session went on over a new connection
	AuditRefused     AuditKind = "refused"     // an authentication was refused; Code says why
	AuditEnded       AuditKind = "ended"       // a session is over; Code is the reason as in closed_total
	AuditCredentials AuditKind = "credentials" // ICE servers were given; Detail has the user names
	AuditKicked      AuditKind = "kicked"      // an operator ended the session
	AuditBlocked     AuditKind = "blocked"     // an operator blocked; Detail says whom
	AuditUnblocked   AuditKind = "unblocked"   // an operator lifted a block; Detail says of whom
	AuditDrain       AuditKind = "drain"       // the server began to drain
)

// AuditEvent is one line of that record. What does not apply is "".
type AuditEvent struct {
	Time    time.Time
	Kind    AuditKind
	Session string // session id
	Device  string // device id; of a refusal as claimed, not proven
	User    string // user key, base64; of a refusal as claimed, not proven
	Address string // ip:port of the client
	Code    string
	Detail  string // for people
}

// audit hands an event to the auditor, if there is one.
func (s *Server) audit(e AuditEvent) {
	if s.cfg.Audit == nil {
		return
	}
	e.Time = s.cfg.Now()
	s.cfg.Audit.Audit(e)
}

// auditCredentials notes under which names a session may use ICE servers.
func (s *Server) auditCredentials(m *member, servers []wire.ICEServer) {
	if s.cfg.Audit == nil {
		return
	}
	var names []string
	for _, server := range servers {
		if server.Username != "" && !slices.Contains(names, server.Username) {
			names = append(names, server.Username)
		}
	}
	s.auditMember(AuditCredentials, m, "", strings.Join(names, " "))
}

// auditMember is audit for something that happened to a session.
func (s *Server) auditMember(kind AuditKind, m *member, code, detail string) {
	if s.cfg.Audit == nil {
		return
	}
	s.audit(AuditEvent{
		Kind: kind, Session: m.session.String(), Device: string(m.device), User: m.userKey.String(),
		Address: m.conn.Load().addr, Code: code, Detail: detail,
	})
}
