package entry

import (
	"unicode"
	"unicode/utf8"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/fold"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// check returns why the decoded entry is unsound, or "". Its bytes are known to
// be those that its values encode to.
func (e *Entry) check() string {
	switch {
	case !isID(e.ID) || !isID(e.Group) || !isID(e.Subject) || !isID(e.Signer):
		return "an id is malformed"
	case e.Modified < MinModified || e.Modified > MaxModified:
		return `"modified" is out of range`
	case e.Seq < 0 || e.Seq > MaxModified:
		return `"seq" is out of range`
	case e.Seq == 0 && (!isID(e.Dev) || !e.Prev.IsZero()):
		return `seq 0 does not carry "dev" alone`
	case e.Seq > 0 && (e.Dev != "" || e.Prev.IsZero()):
		return `a later seq does not carry "prev" alone`
	case e.Kind == Data:
		return e.checkData()
	}
	return e.checkOperation()
}

func (e *Entry) checkData() string {
	switch {
	case e.Subject == e.Group:
		return "a data change names the group itself"
	case e.As.IsZero():
		return "a data change has no grant"
	}
	if err := fold.CheckChanges(e.Group, e.Subject, e.Changes); err != nil {
		return err.Error()
	}
	return ""
}

func (e *Entry) checkOperation() string {
	_, create := e.Op.(Create)
	switch {
	case e.Subject != e.Group:
		return "an operation's subject is not its group"
	case e.Seq >= MaxChain:
		return "the chain is too long"
	case !sortedSet(e.Deps, MaxDeps):
		return `"deps" is not a sorted set of at most 64 hashes`
	case create != e.As.IsZero():
		return "the grant is missing, or a create has one"
	}
	return e.Op.check(e)
}

func (o Create) check(e *Entry) string {
	switch {
	case e.Seq != 0 || len(e.Deps) != 0:
		return "a create has a past"
	case o.Group.Validate() != nil || o.User.Validate() != nil:
		return "a genesis body is malformed"
	case o.Group.Created != e.Modified:
		return "the group is not as old as its create"
	case o.Group.Owner != e.Signer || o.Group.Genesis != o.User.Hash():
		return "the owner is not the author"
	case o.Policy != DefaultRules:
		return "the policy is unknown"
	case o.Group.Nonce != createNonce(e.ID, e.Dev, o.Keys, o.Name, o.Policy):
		return "the group's nonce does not fit the create"
	case len(o.Keys) > MaxKeyEvents:
		return "there are more than 64 key events"
	}
	if reason := eventsFault(o.Keys, e.Signer); reason != "" {
		return reason
	}
	if line, err := o.Line(); err != nil {
		return err.Error()
	} else if line.Ended() {
		return "the user has no key"
	}
	return nameFault(o.Name)
}

func (o Add) check(e *Entry) string {
	switch {
	case !isID(o.UserID):
		return "an id is malformed"
	case o.User.Validate() != nil:
		return "a genesis body is malformed"
	case !o.Role.Valid():
		return "the role is unknown"
	case (o.Invite == nil) != (o.Claim == nil):
		return "an invitation without a claim, or a claim without"
	case len(o.Keys) > MaxKeyEvents:
		return "there are more than 64 key events"
	}
	if reason := eventsFault(o.Keys, o.UserID); reason != "" {
		return reason
	}
	line, err := o.Line()
	switch {
	case err != nil:
		return err.Error()
	case line.Ended():
		return "the user has no key"
	case o.Claim == nil:
		return ""
	}
	c := o.Claim
	switch {
	case c.Group != e.Group || c.UserID != o.UserID || c.Role != o.Role,
		c.UserKey != line.Key() || c.Genesis != o.User.Hash():
		return "the claim is for something else"
	}
	return c.fault()
}

func (Accept) check(e *Entry) string {
	if e.Seq != 0 || len(e.Deps) != 1 || e.Deps[0] != e.As {
		return "an accept has a past beside its grant"
	}
	return ""
}

func (o Remove) check(*Entry) string {
	if len(o.Reason) > MaxReason || !printable(o.Reason) {
		return "the reason is not at most 256 bytes of printable text"
	}
	return frontierFault(o.Frontier)
}

func (o Leave) check(*Entry) string { return frontierFault(o.Frontier) }

func (o RoleChange) check(*Entry) string {
	if !o.Role.Valid() {
		return "the role is unknown"
	}
	return frontierFault(o.Frontier)
}

func (o Block) check(*Entry) string {
	if !isID(o.UserID) {
		return "an id is malformed"
	}
	return frontierFault(o.Frontier)
}

func (o Policy) check(*Entry) string {
	switch {
	case o.Name == nil && o.Admit == nil && o.Stock == nil:
		return "a policy without a member"
	case o.Admit != nil && *o.Admit != DefaultRules.Admit, o.Stock != nil && *o.Stock != DefaultRules.Stock:
		return "the policy is unknown"
	case o.Name != nil:
		return nameFault(*o.Name)
	}
	return ""
}

func (o Invite) check(e *Entry) string {
	switch {
	case !o.Role.Valid():
		return "the role is unknown"
	case o.Uses < 1 || o.Uses > MaxUses:
		return `"uses" is not 1 to 1000`
	case o.Expires <= e.Modified || o.Expires > e.Modified+MaxInvite:
		return `"expires" is not within 30 days`
	}
	return ""
}

func (o Uninvite) check(*Entry) string { return frontierFault(o.Frontier) }

func (o RVKey) check(*Entry) string {
	if o.Epoch < 0 || o.Epoch > MaxModified {
		return "the epoch is out of range"
	}
	return ""
}

func (Merge) check(*Entry) string { return "" }

func (o Checkpoint) check(*Entry) string { return frontierFault(o.Frontier) }

func (o Adopt) check(*Entry) string { return frontierFault(o.Entries) }

func (Delete) check(*Entry) string { return "" }

func (o Rekey) check(e *Entry) string {
	switch {
	case e.Seq != 0:
		return "a rekey is not the first of its chain"
	case len(o.Events) == 0 || len(o.Events) > MaxKeyEvents:
		return "the key events are not 1 to 64"
	case o.Events[len(o.Events)-1].Op != keys.Rotate:
		return "the last key event sets no key"
	}
	if reason := eventsFault(o.Events, e.Signer); reason != "" {
		return reason
	}
	return frontierFault(o.Frontier)
}

// eventsFault checks the shape of key events, not what they follow.
func eventsFault(events []keys.Event, user peercrypto.ID) string {
	for _, e := range events {
		if err := e.Check(); err != nil {
			return err.Error()
		}
		if e.UserID != user {
			return "a key event is another user's"
		}
	}
	return ""
}

// CheckName tells whether a group may have that name: 1 to [MaxName] bytes of
// UTF-8 without control characters.
func CheckName(name string) error {
	if reason := nameFault(name); reason != "" {
		return Unsound(reason)
	}
	return nil
}

func nameFault(name string) string {
	if name == "" || len(name) > MaxName || !printable(name) {
		return "the name is not 1 to 128 bytes of printable text"
	}
	return ""
}

func printable(s string) bool {
	for _, r := range s {
		if unicode.IsControl(r) {
			return false
		}
	}
	return utf8.ValidString(s)
}

func frontierFault(f []peercrypto.Hash) string {
	if !sortedSet(f, MaxFrontier) {
		return "a frontier is not a sorted set of at most 4096 hashes"
	}
	return ""
}

func sortedSet(s []peercrypto.Hash, limit int) bool {
	for i := range s {
		if s[i].IsZero() || i > 0 && s[i-1].Compare(s[i]) >= 0 {
			return false
		}
	}
	return len(s) <= limit
}

func isID(id peercrypto.ID) bool {
	_, err := peercrypto.ParseID(string(id))
	return err == nil
}
