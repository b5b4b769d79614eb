package group

import (
	"cmp"
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// Member is a user with at least one active grant.
type Member struct {
	UserID  peercrypto.ID
	Genesis peercrypto.UserGenesis
	Role    entry.Role // the highest of the grants in Principals; Read if there are none
	// Principals are what entries are written under, highest role first, then by
	// rank: of each active grant the grant itself, or the rekey that set its key.
	Principals []peercrypto.Hash
	// Frozen is set when the key of a grant is disputed; it is not in Principals.
	Frozen bool
}

// Principal is a grant as it was judged, with one of its keys.
type Principal struct {
	Grant    peercrypto.Hash
	As       peercrypto.Hash // the grant or the rekey under which entries with this key are made
	UserID   peercrypto.ID
	Genesis  peercrypto.UserGenesis
	Key      peercrypto.PublicKey // that signs under As
	Head     peercrypto.Hash      // the key event that set Key, or the genesis
	Role     entry.Role
	Modified int64 // of As, unix ms
	Rank     Rank
	Granted  bool // the grant is a valid operation
	Accepted bool
	Valid    bool // Granted and Accepted
	Active   bool // Valid, not revoked, and Key is the one in use
	Frozen   bool // two keys contend for the grant
	Revoked  []peercrypto.Hash
}

// OpenInvite is an invitation that can be used.
type OpenInvite struct {
	Hash     peercrypto.Hash
	IPK      peercrypto.PublicKey
	Role     entry.Role
	UsesLeft int
	Expires  int64 // unix ms
	By       peercrypto.ID
	// Withdrawn is set for a closed one that an uninvite names; others were used up.
	Withdrawn bool
}

// RendezvousKey is a key under whose tag members meet.
type RendezvousKey struct {
	Op       peercrypto.Hash
	Epoch    int64
	Key      entry.TopicKey
	Announce bool // exactly one is announced, all are listened on
}

// AlarmKind says what an alarm is about.
type AlarmKind string

// The kinds of alarm.
const (
	// AlarmOverused: more joined by an invitation than it allows. The link was stolen, or admins admitted at the same time.
	AlarmOverused AlarmKind = "invitation overused"
	// AlarmForked: a device signed two operations at one place of its chain. It was restored from a backup, or its key was copied.
	AlarmForked AlarmKind = "chain forked"
	// AlarmFrozen: two keys contend for a grant. Somebody else has its old key.
	AlarmFrozen AlarmKind = "key frozen"
)

// MaxAlarms is how many alarms a State lists.
const MaxAlarms = 256

// Alarm is something that changes nothing by itself but that people should look at.
type Alarm struct {
	Kind   AlarmKind
	UserID peercrypto.ID // the author of the invitation, or of the chain
	Ops    []peercrypto.Hash
}

// State is what a log says. It is immutable.
type State struct {
	id peercrypto.ID
	facts
}

// facts are the log's findings. Those of a State are a snapshot.
type facts struct {
	ops        tree[peercrypto.Hash, opFlags] // of all operations
	heads      tree[peercrypto.Hash, struct{}]
	grants     tree[peercrypto.Hash, *grant]   // by As
	users      tree[peercrypto.ID, []*grant]   // of each grant the current one, by rank
	members    tree[peercrypto.ID, *Member]    // by user id
	invites    tree[inviteKey, invitation]     // the valid ones
	alarms     tree[alarmKey, Alarm]           // in their order
	named      tree[peercrypto.Hash, struct{}] // by frontiers of valid operations
	saved      tree[peercrypto.Hash, Rank]     // by valid checkpoints and adoptions; of the most senior one
	owner      peercrypto.ID
	created    int64
	name       string
	rules      entry.Rules
	deleted    bool
	rendezvous []RendezvousKey
	due        bool
}

type opFlags struct{ valid, shared bool }

// grant is a principal under one key, with what judges its data.
type grant struct {
	Principal
	lost      bool                // the key was set by an event that does not stand
	frontiers [][]peercrypto.Hash // each must cover
	terms     []peercrypto.Hash   // all As of the grant, in the order of the log
}

// inviteKey orders invitations so that those in time are found.
type inviteKey struct {
	expires int64
	hash    peercrypto.Hash
}

type invitation struct {
	OpenInvite
	open bool // not withdrawn or used up
}

type alarmKey struct {
	kind int
	hash peercrypto.Hash
}

func newFacts() facts {
	return facts{
		ops:     newTree[peercrypto.Hash, opFlags](peercrypto.Hash.Compare),
		heads:   newTree[peercrypto.Hash, struct{}](peercrypto.Hash.Compare),
		grants:  newTree[peercrypto.Hash, *grant](peercrypto.Hash.Compare),
		users:   newTree[peercrypto.ID, []*grant](cmp.Compare[peercrypto.ID]),
		members: newTree[peercrypto.ID, *Member](cmp.Compare[peercrypto.ID]),
		invites: newTree[inviteKey, invitation](func(a, b inviteKey) int {
			return cmp.Or(cmp.Compare(a.expires, b.expires), a.hash.Compare(b.hash))
		}),
		alarms: newTree[alarmKey, Alarm](func(a, b alarmKey) int {
			return cmp.Or(cmp.Compare(a.kind, b.kind), a.hash.Compare(b.hash))
		}),
		named: newTree[peercrypto.Hash, struct{}](peercrypto.Hash.Compare),
		saved: newTree[peercrypto.Hash, Rank](peercrypto.Hash.Compare),
		due:   true,
	}
}

func (f *facts) snapshot() facts {
	s := *f
	s.ops, s.heads, s.grants, s.users = f.ops.snapshot(), f.heads.snapshot(), f.grants.snapshot(), f.users.snapshot()
	s.members, s.invites, s.alarms = f.members.snapshot(), f.invites.snapshot(), f.alarms.snapshot()
	s.named, s.saved = f.named.snapshot(), f.saved.snapshot()
	return s
}

// State returns the evaluation of the log. After something was added it costs
// about what that touches, not what the log holds.
func (l *Log) State() *State {
	if l.state == nil {
		l.live.settle()
		l.live.bring()
		l.state = &State{l.id, l.live.facts.snapshot()}
	}
	return l.state
}

// ID returns the group's id.
func (s *State) ID() peercrypto.ID { return s.id }

// Valid reports whether an operation counts.
func (s *State) Valid(op peercrypto.Hash) bool {
	f, _ := s.ops.get(op)
	return f.valid
}

// Shared reports whether an operation is transferred and fingerprinted. Valid
// ones are.
func (s *State) Shared(op peercrypto.Hash) bool {
	f, _ := s.ops.get(op)
	return f.shared
}

// Heads returns the shared operations on which no other shared one builds,
// sorted: the deps of the next operation.
func (s *State) Heads() []peercrypto.Hash { return s.firstHeads(-1) }

// firstHeads returns at most n heads; all if n is negative.
func (s *State) firstHeads(n int) []peercrypto.Hash {
	var heads []peercrypto.Hash
	s.heads.each(func(h peercrypto.Hash, _ struct{}) bool {
		if len(heads) == n {
			return false
		}
		heads = append(heads, h)
		return true
	})
	return heads
}

// Members returns the members by user id.
func (s *State) Members() []Member {
	var members []Member
	s.members.each(func(_ peercrypto.ID, m *Member) bool {
		members = append(members, m.clone())
		return true
	})
	return members
}

func (m *Member) clone() Member {
	c := *m
	c.Principals = slices.Clone(m.Principals)
	return c
}

// Member returns the member with that user id.
func (s *State) Member(user peercrypto.ID) (Member, bool) {
	m, ok := s.members.get(user)
	if !ok {
		return Member{}, false
	}
	return m.clone(), true
}

func (p Principal) clone() Principal {
	p.Revoked = slices.Clone(p.Revoked)
	return p
}

// Principal returns how a grant was judged, under the key that it began with or,
// given a rekey, that one's.
func (s *State) Principal(as peercrypto.Hash) (Principal, bool) {
	g, ok := s.grants.get(as)
	if !ok {
		return Principal{}, false
	}
	return g.clone(), true
}

// Principals returns all grants of a user, valid or not, by rank, each with the
// key in use: "" for all users.
func (s *State) Principals(user peercrypto.ID) []Principal {
	var out []Principal
	add := func(_ peercrypto.ID, grants []*grant) bool {
		for _, g := range grants {
			out = append(out, g.clone())
		}
		return true
	}
	if user != "" {
		grants, _ := s.users.get(user)
		add(user, grants)
		return out
	}
	s.users.each(add)
	slices.SortFunc(out, func(a, b Principal) int { return a.Rank.Compare(b.Rank) })
	return out
}

// Terms returns under what the entries of a grant are made, whatever its keys
// were: the grant and its rekeys, in no particular order. as may be any of them.
func (s *State) Terms(as peercrypto.Hash) []peercrypto.Hash {
	g, ok := s.grants.get(as)
	if !ok {
		return nil
	}
	return slices.Clone(g.terms)
}

// UsesKey tells whether a key is in use for an active grant of a user: what a
// device shows a certificate of. No key of a frozen grant is.
func (s *State) UsesKey(user peercrypto.ID, key peercrypto.PublicKey) bool {
	grants, _ := s.users.get(user)
	return slices.ContainsFunc(grants, func(g *grant) bool { return g.Active && g.Key == key })
}

// Unaccepted returns the grants of a user that wait for an accept: valid
// operations that nothing revokes.
func (s *State) Unaccepted(user peercrypto.ID) []peercrypto.Hash {
	var waiting []peercrypto.Hash
	grants, _ := s.users.get(user)
	for _, g := range grants {
		if g.Granted && !g.Accepted && len(g.Revoked) == 0 {
			waiting = append(waiting, g.Grant)
		}
	}
	return waiting
}

// ActiveGrant returns what a user's next entry is made under: of the active
// grants that are at least of a role the one with the highest, of these the most senior.
func (s *State) ActiveGrant(user peercrypto.ID, needs entry.Role) (peercrypto.Hash, bool) {
	m, ok := s.members.get(user)
	if !ok || len(m.Principals) == 0 || !m.Role.AtLeast(needs) {
		return peercrypto.Hash{}, false
	}
	return m.Principals[0], true
}

// Owner returns the user who made the group, member or not; "" while its create
// is not known.
func (s *State) Owner() peercrypto.ID { return s.owner }

// Created returns when the group was made, in unix ms.
func (s *State) Created() int64 { return s.created }

// Name returns the group's name.
func (s *State) Name() string { return s.name }

// Policy returns the group's policy.
func (s *State) Policy() entry.Rules { return s.rules }

// Deleted reports whether the owner deleted the group.
func (s *State) Deleted() bool { return s.deleted }

// Invites returns the invitations that are open at a time (unix ms), by hash.
func (s *State) Invites(now int64) []OpenInvite { return s.invitesFrom(now, true) }

// ClosedInvites returns the invitations that were withdrawn or used up and would
// not have expired at a time (unix ms), by hash: whoever comes with one should be told.
func (s *State) ClosedInvites(now int64) []OpenInvite { return s.invitesFrom(now, false) }

func (s *State) invitesFrom(now int64, open bool) []OpenInvite {
	var some []OpenInvite
	s.invites.from(inviteKey{expires: now}, func(_ inviteKey, i invitation) bool {
		if i.open == open {
			some = append(some, i.OpenInvite)
		}
		return true
	})
	slices.SortFunc(some, func(a, b OpenInvite) int { return a.Hash.Compare(b.Hash) })
	return some
}

// InviteWith returns the valid invitation with a key, open or not; of several
// the one with the smallest hash.
func (s *State) InviteWith(ipk peercrypto.PublicKey) (invite peercrypto.Hash, ok bool) {
	s.invites.each(func(_ inviteKey, i invitation) bool {
		if i.IPK == ipk && (!ok || i.Hash.Compare(invite) < 0) {
			invite, ok = i.Hash, true
		}
		return true
	})
	return invite, ok
}

// InviteKeys calls fn for the key of each valid invitation, open or not, until
// fn returns false.
func (s *State) InviteKeys(fn func(ipk peercrypto.PublicKey) bool) {
	s.invites.each(func(_ inviteKey, i invitation) bool { return fn(i.IPK) })
}

// RendezvousKeys returns the keys to listen on, the announced one first.
func (s *State) RendezvousKeys() []RendezvousKey { return slices.Clone(s.rendezvous) }

// RotationDue reports whether an admin's device should write a new rendezvous
// key: somebody was revoked who may know the current one, or there is none.
func (s *State) RotationDue() bool { return s.due }

// Alarms returns at most [MaxAlarms] alarms, in the same order everywhere.
func (s *State) Alarms() []Alarm {
	var alarms []Alarm
	s.alarms.each(func(_ alarmKey, a Alarm) bool {
		a.Ops = slices.Clone(a.Ops)
		alarms = append(alarms, a)
		return len(alarms) < MaxAlarms
	})
	return alarms
}
