package entry

import (
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// Op is what an operation does: one of the structs of this file. The members of
// each are those of the table in docs/formats.md, section 5.
type Op interface {
	// Kind returns the text of the member "kind".
	Kind() string
	// check returns why the members are unsound, or "".
	check(e *Entry) string
}

// The kinds of operation.
const (
	KindCreate     = "create"
	KindAdd        = "add"
	KindAccept     = "accept"
	KindRemove     = "remove"
	KindLeave      = "leave"
	KindRole       = "role"
	KindBlock      = "block"
	KindPolicy     = "policy"
	KindInvite     = "invite"
	KindUninvite   = "uninvite"
	KindRVKey      = "rvkey"
	KindMerge      = "merge"
	KindCheckpoint = "checkpoint"
	KindAdopt      = "adopt"
	KindRekey      = "rekey"
	KindDelete     = "delete"
)

// Rules is the policy of a new group. This release knows one: admit "admin",
// stock false.
type Rules struct {
	Admit string `json:"admit"` // who may add members
	Stock bool   `json:"stock"` // whether entries without auth count
}

// DefaultRules is the only policy of this release.
var DefaultRules = Rules{Admit: "admin"}

// Create makes a group. See [SignCreate].
type Create struct {
	Group  peercrypto.GroupGenesis `json:"group"`
	User   peercrypto.UserGenesis  `json:"user"`          // the owner
	Keys   []keys.Event            `json:"keys,omitzero"` // of an owner whose key is not that of User any more
	Name   string                  `json:"name"`
	Policy Rules                   `json:"policy"`
}

// Add makes a member. Invite and Claim are both set or both nil.
type Add struct {
	UserID peercrypto.ID          `json:"userId"`
	User   peercrypto.UserGenesis `json:"user"`
	Role   Role                   `json:"role"`
	Keys   []keys.Event           `json:"keys,omitzero"` // of a user whose key is not that of User any more
	Invite *peercrypto.Hash       `json:"invite,omitzero"`
	Claim  *Claim                 `json:"claim,omitzero"`
}

// Line returns the state of the user's keys in the grant; signatures are not checked.
func (o Add) Line() (keys.State, error) { return lineOf(o.UserID, o.User, o.Keys) }

// Line returns the state of the owner's keys in the grant; signatures are not checked.
func (o Create) Line() (keys.State, error) { return lineOf(o.Group.Owner, o.User, o.Keys) }

func lineOf(user peercrypto.ID, body peercrypto.UserGenesis, events []keys.Event) (keys.State, error) {
	s := keys.GenesisOf(user, body)
	for _, e := range events {
		var err error
		if s, err = s.Follow(e); err != nil {
			return s, err
		}
	}
	return s, nil
}

// Accept is the member's consent to the grant under which it is signed. It is
// the first of its chain and its deps are that grant alone.
type Accept struct{}

// Remove revokes a grant.
type Remove struct {
	Grant    peercrypto.Hash   `json:"grant"`
	Frontier []peercrypto.Hash `json:"frontier"`
	Reason   string            `json:"reason,omitzero"`
}

// Leave revokes the author's own grant.
type Leave struct {
	Frontier []peercrypto.Hash `json:"frontier"`
}

// RoleChange replaces a grant by a new one of the same user with another role.
type RoleChange struct {
	Grant    peercrypto.Hash      `json:"grant"` // or the rekey whose key the new grant has
	Role     Role                 `json:"role"`
	Key      peercrypto.PublicKey `json:"key"` // that of Grant
	Frontier []peercrypto.Hash    `json:"frontier"`
}

// Block revokes every grant of a user, also those still to come.
type Block struct {
	UserID   peercrypto.ID     `json:"userId"`
	Frontier []peercrypto.Hash `json:"frontier"`
}

// Policy changes the name or the policy. At least one member is set.
type Policy struct {
	Name  *string `json:"name,omitzero"`
	Admit *string `json:"admit,omitzero"`
	Stock *bool   `json:"stock,omitzero"`
}

// Invite publishes the public half of an invitation.
type Invite struct {
	IPK     peercrypto.PublicKey `json:"ipk"`
	Role    Role                 `json:"role"`
	Uses    int                  `json:"uses"`
	Expires int64                `json:"expires"` // unix ms
}

// Uninvite closes an invitation.
type Uninvite struct {
	Invite   peercrypto.Hash   `json:"invite"`
	Frontier []peercrypto.Hash `json:"frontier"`
}

// RVKey sets the group's rendezvous key.
type RVKey struct {
	Epoch int64    `json:"epoch"`
	Key   TopicKey `json:"key"`
}

// Merge joins more heads than one operation can name.
type Merge struct{}

// Checkpoint keeps entries whatever juniors' revocations say.
type Checkpoint struct {
	Frontier []peercrypto.Hash `json:"frontier"`
}

// Adopt takes up single entries that a revocation left void.
type Adopt struct {
	Entries []peercrypto.Hash `json:"entries"`
}

// Delete ends the group.
type Delete struct{}

// Rekey replaces the key of the grant, or of the rekey, under which it is signed:
// Events lead from that key to a new one, by which the operation is signed.
type Rekey struct {
	Events   []keys.Event      `json:"events"`
	Frontier []peercrypto.Hash `json:"frontier"`
}

// Key returns the new key.
func (o Rekey) Key() peercrypto.PublicKey { return *o.Events[len(o.Events)-1].Key }

// Kind returns "create".
func (Create) Kind() string { return KindCreate }

// Kind returns "add".
func (Add) Kind() string { return KindAdd }

// Kind returns "accept".
func (Accept) Kind() string { return KindAccept }

// Kind returns "remove".
func (Remove) Kind() string { return KindRemove }

// Kind returns "leave".
func (Leave) Kind() string { return KindLeave }

// Kind returns "role".
func (RoleChange) Kind() string { return KindRole }

// Kind returns "block".
func (Block) Kind() string { return KindBlock }

// Kind returns "policy".
func (Policy) Kind() string { return KindPolicy }

// Kind returns "invite".
func (Invite) Kind() string { return KindInvite }

// Kind returns "uninvite".
func (Uninvite) Kind() string { return KindUninvite }

// Kind returns "rvkey".
func (RVKey) Kind() string { return KindRVKey }

// Kind returns "merge".
func (Merge) Kind() string { return KindMerge }

// Kind returns "checkpoint".
func (Checkpoint) Kind() string { return KindCheckpoint }

// Kind returns "adopt".
func (Adopt) Kind() string { return KindAdopt }

// Kind returns "delete".
func (Delete) Kind() string { return KindDelete }

// Kind returns "rekey".
func (Rekey) Kind() string { return KindRekey }

// TopicKey is a group's rendezvous key. Its text in JSON is base64url; it
// prints as "[redacted]".
type TopicKey [32]byte

// String returns "[redacted]".
func (TopicKey) String() string { return redacted }

// GoString returns "[redacted]".
func (TopicKey) GoString() string { return redacted }

// MarshalText returns the key, for the log that all members hold.
func (k TopicKey) MarshalText() ([]byte, error) { return peercrypto.Hash(k).MarshalText() }

// UnmarshalText reads the text of a key.
func (k *TopicKey) UnmarshalText(text []byte) error {
	return (*peercrypto.Hash)(k).UnmarshalText(text)
}

const redacted = "[redacted]"

// Frontier returns what an operation of any kind names to be covered: the
// frontier of a revocation, checkpoint or uninvite, the entries of an adoption.
// The slice is the operation's own.
func Frontier(op Op) []peercrypto.Hash {
	switch o := op.(type) {
	case Remove:
		return o.Frontier
	case Leave:
		return o.Frontier
	case RoleChange:
		return o.Frontier
	case Rekey:
		return o.Frontier
	case Block:
		return o.Frontier
	case Uninvite:
		return o.Frontier
	case Checkpoint:
		return o.Frontier
	case Adopt:
		return o.Entries
	}
	return nil
}

// Needs returns the lowest role that may write an operation of op's kind. A
// create needs none; a delete needs the owner, which a role can't tell.
func Needs(op Op) Role {
	switch op.(type) {
	case Accept, Leave, Merge, Rekey:
		return Read
	}
	return Admin
}
