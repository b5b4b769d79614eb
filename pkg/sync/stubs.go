package sync

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

var errUnfinished = errors.New("not built yet")

// An Engine keeps the groups of one device. It is safe for concurrent use.
type Engine struct{ cfg Config }

// Open loads the groups from the store and evaluates them.
func Open(ctx context.Context, cfg Config) (*Engine, error) { return nil, errUnfinished }

// Run does what is due: quarantined entries whose time came, rotation of rendezvous keys, expiry. It returns ctx.Err() after its children.
func (e *Engine) Run(ctx context.Context) error { return errUnfinished }

// Close ends sessions and watches. It does not close the store.
func (e *Engine) Close() error { return errUnfinished }

// UserID is the id of the own user.
func (e *Engine) UserID() peercrypto.ID { return "" }

// DeviceID is the id of the own device.
func (e *Engine) DeviceID() peercrypto.ID { return "" }

// UserDoc is the signed document of the own user.
func (e *Engine) UserDoc() []byte { return nil }

// SetName changes the name that members of groups see.
func (e *Engine) SetName(ctx context.Context, name string) error { return errUnfinished }

// CreateGroup makes a group owned by this user.
func (e *Engine) CreateGroup(ctx context.Context, name string) (GroupInfo, error) {
	return GroupInfo{}, errUnfinished
}

// Groups lists all groups, offered and left ones too, sorted by id.
func (e *Engine) Groups(ctx context.Context) ([]GroupInfo, error) { return nil, errUnfinished }

// Group returns one group.
func (e *Engine) Group(ctx context.Context, id peercrypto.ID) (GroupInfo, error) {
	return GroupInfo{}, errUnfinished
}

// Members lists the members of a group, sorted by id.
func (e *Engine) Members(ctx context.Context, id peercrypto.ID) ([]MemberInfo, error) {
	return nil, errUnfinished
}

// Invite writes an invitation and returns it with its secret, which is stored nowhere.
func (e *Engine) Invite(ctx context.Context, id peercrypto.ID, o InviteOptions) (entry.Invitation, error) {
	return entry.Invitation{}, errUnfinished
}

// Invitations lists the open invitations of a group.
func (e *Engine) Invitations(ctx context.Context, id peercrypto.ID) ([]InvitationInfo, error) {
	return nil, errUnfinished
}

// Uninvite closes an invitation.
func (e *Engine) Uninvite(ctx context.Context, id peercrypto.ID, invite peercrypto.Hash) error {
	return errUnfinished
}

// AddMember adds a user directly. It counts when the user accepted.
func (e *Engine) AddMember(ctx context.Context, id peercrypto.ID, user peercrypto.UserGenesis, role entry.Role) error {
	return errUnfinished
}

// Remove removes a user from a group and makes a new rendezvous key.
func (e *Engine) Remove(ctx context.Context, id, user peercrypto.ID, reason string) error {
	return errUnfinished
}

// SetRole changes the role of a member.
func (e *Engine) SetRole(ctx context.Context, id, user peercrypto.ID, role entry.Role) error {
	return errUnfinished
}

// Rename changes the name of a group.
func (e *Engine) Rename(ctx context.Context, id peercrypto.ID, name string) error {
	return errUnfinished
}

// Leave ends the own membership. The data stays until Purge.
func (e *Engine) Leave(ctx context.Context, id peercrypto.ID) error { return errUnfinished }

// DeleteGroup marks the group as deleted for everybody.
func (e *Engine) DeleteGroup(ctx context.Context, id peercrypto.ID) error { return errUnfinished }

// Purge forgets everything of a group that was left, deleted or never joined.
func (e *Engine) Purge(ctx context.Context, id peercrypto.ID) error { return errUnfinished }

// Accept consents to an offered group.
func (e *Engine) Accept(ctx context.Context, id peercrypto.ID) error { return errUnfinished }

// Decline forgets an offered group.
func (e *Engine) Decline(ctx context.Context, id peercrypto.ID) error { return errUnfinished }

// Join stores an invitation; sessions on its topic use it.
func (e *Engine) Join(ctx context.Context, inv entry.Invitation) error { return errUnfinished }

// CancelJoin forgets a pending join.
func (e *Engine) CancelJoin(ctx context.Context, id peercrypto.ID) error { return errUnfinished }

// PendingJoins lists the joins that nobody answered yet.
func (e *Engine) PendingJoins(ctx context.Context) ([]PendingJoin, error) { return nil, errUnfinished }

// JoinRequests lists the claims that wait for Admit.
func (e *Engine) JoinRequests(ctx context.Context) ([]JoinRequest, error) { return nil, errUnfinished }

// Admit admits somebody who claimed an invitation with manual admission.
func (e *Engine) Admit(ctx context.Context, group, user peercrypto.ID) error { return errUnfinished }

// Put stores a document.
func (e *Engine) Put(ctx context.Context, group peercrypto.ID, doc json.RawMessage) (Document, error) {
	return Document{}, errUnfinished
}

// PutMany stores at most 1,000 documents in one transaction.
func (e *Engine) PutMany(ctx context.Context, group peercrypto.ID, docs []json.RawMessage) ([]PutResult, error) {
	return nil, errUnfinished
}

// Delete deletes a document. Deleting one that is not there is ErrNotFound.
func (e *Engine) Delete(ctx context.Context, group, subject peercrypto.ID) error {
	return errUnfinished
}

// Get returns a live document.
func (e *Engine) Get(ctx context.Context, group, subject peercrypto.ID) (Document, error) {
	return Document{}, errUnfinished
}

// List calls fn for the documents that q selects.
func (e *Engine) List(ctx context.Context, q DocumentQuery, fn func(Document) error) error {
	return errUnfinished
}

// Watch calls fn for each document with a version above after, tombstones too, and then for each new version, until ctx ends or fn fails.
func (e *Engine) Watch(ctx context.Context, group peercrypto.ID, after int64, fn func(Document) error) error {
	return errUnfinished
}

// Export writes the live documents as NDJSON.
func (e *Engine) Export(ctx context.Context, group peercrypto.ID, w io.Writer) error {
	return errUnfinished
}

// ExportLog writes the shared entries as NDJSON.
func (e *Engine) ExportLog(ctx context.Context, group peercrypto.ID, w io.Writer) error {
	return errUnfinished
}

// Quarantine lists what waits, oldest first; group "" means all.
func (e *Engine) Quarantine(ctx context.Context, group peercrypto.ID, limit int) ([]Quarantined, error) {
	return nil, errUnfinished
}

// Subscribe returns events until ctx ends or the Engine is closed, then the channel is closed. A slow subscriber gets Lagged.
func (e *Engine) Subscribe(ctx context.Context) <-chan Event { return nil }

// Ingest takes entries of a group from another device.
func (e *Engine) Ingest(ctx context.Context, from Peer, group peercrypto.ID, raws [][]byte) (IngestResult, error) {
	return IngestResult{}, errUnfinished
}

// Rendezvous lists the topics on which this device wants to meet others.
func (e *Engine) Rendezvous() []Rendezvous { return nil }

// Admits tells what a user may do in a session with this device.
func (e *Engine) Admits(user peercrypto.ID) Admission { return AdmitNone }

// A Session is the conversation with one other device.
type Session struct{}

// NewSession prepares a session; Run has it.
func (e *Engine) NewSession(p Peer, t Transport) *Session { return nil }

// Run has the conversation until ctx ends, the transport fails, the engine closes or a side breaks the protocol. It closes the transport and returns
// the reason after all its goroutines ended.
func (s *Session) Run(ctx context.Context) error { return errUnfinished }

// SessionStatus is a snapshot of a session, for display.
type SessionStatus struct {
	Peer                Peer
	Since               time.Time
	Groups              []SessionGroup
	EntriesIn           int64
	EntriesOut          int64
	FramesIn, FramesOut int64
	BytesIn, BytesOut   int64
}

// SessionGroup is the state of one group in a session.
type SessionGroup struct {
	Group      peercrypto.ID
	Synced     bool
	Have, Want int64
}

// Status returns a snapshot.
func (s *Session) Status() SessionStatus { return SessionStatus{} }

// Sessions returns the status of each running session.
func (e *Engine) Sessions() []SessionStatus { return nil }
