package group

import (
	"cmp"
	"maps"
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// Member is a user with at least one active grant.
type Member struct {
	UserID     peercrypto.ID
	Genesis    peercrypto.UserGenesis
	Role       entry.Role        // the highest of the active grants
	Principals []peercrypto.Hash // the active grants, highest role first, then by rank
}

// Principal is a grant as it was judged.
type Principal struct {
	Grant    peercrypto.Hash
	UserID   peercrypto.ID
	Genesis  peercrypto.UserGenesis
	Key      peercrypto.PublicKey // that signs under this grant
	Role     entry.Role
	Modified int64 // of the grant, unix ms
	Rank     Rank
	Granted  bool // the grant is a valid operation
	Accepted bool
	Valid    bool // Granted and Accepted
	Active   bool // Valid and not revoked
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
	id         peercrypto.ID
	valid      map[peercrypto.Hash]bool // of all operations
	shared     map[peercrypto.Hash]bool // only true ones
	heads      []peercrypto.Hash
	principals map[peercrypto.Hash]*grant
	members    []Member
	owner      peercrypto.ID
	created    int64
	name       string
	rules      entry.Rules
	deleted    bool
	invites    []OpenInvite // open, whatever the time
	closed     []OpenInvite // withdrawn or used up, whatever the time
	keys       []RendezvousKey
	due        bool
	alarms     []Alarm

	dataSaved map[peercrypto.Hash]int
	dataNamed map[peercrypto.Hash]bool
}

// grant is a principal with what judges its data.
type grant struct {
	Principal
	order     int
	frontiers [][]peercrypto.Hash // of the revocations that hit it
}

// State returns the evaluation of the log. It is computed when something was
// added since the last call.
func (l *Log) State() *State {
	if l.state == nil {
		l.state = l.newState(l.evaluate())
	}
	return l.state
}

func (l *Log) newState(v *evaluation) *State {
	s := &State{
		id:         l.id,
		valid:      make(map[peercrypto.Hash]bool, len(l.nodes)),
		shared:     make(map[peercrypto.Hash]bool, len(l.nodes)),
		principals: make(map[peercrypto.Hash]*grant, len(v.ranked)),
		dataSaved:  v.dataSaved, dataNamed: v.dataNamed,
	}
	for i, n := range l.nodes {
		s.valid[n.hash] = v.valid[i]
		if v.shared[i] {
			s.shared[n.hash] = true
			if !v.followed[i] {
				s.heads = append(s.heads, n.hash)
			}
		}
	}
	slices.SortFunc(s.heads, peercrypto.Hash.Compare)
	for _, j := range v.ranked {
		s.principals[j.p.node.hash] = newGrant(j)
	}
	s.setMembers(v)
	s.setSettings(v)
	s.invites, s.closed, s.alarms = v.invitations()
	s.alarms = append(s.alarms, v.forkAlarms()...)
	s.alarms = s.alarms[:min(len(s.alarms), MaxAlarms)]
	s.keys, s.due = v.rendezvous()
	return s
}

func newGrant(j *judgement) *grant {
	g := &grant{order: j.order, Principal: Principal{
		Grant: j.p.node.hash, UserID: j.p.user, Genesis: *j.p.genesis, Key: j.p.genesis.Key,
		Role: j.p.role, Modified: j.p.node.entry.Modified, Rank: j.p.rank,
		Granted: j.granted, Accepted: j.accepted, Valid: j.valid(), Active: j.active(),
	}}
	for _, r := range j.hits {
		g.Revoked = append(g.Revoked, r.hash)
		g.frontiers = append(g.frontiers, entry.Frontier(r.entry.Op))
	}
	slices.SortFunc(g.Revoked, peercrypto.Hash.Compare)
	return g
}

func (s *State) setMembers(v *evaluation) {
	active := map[peercrypto.ID][]*principal{}
	for _, j := range v.ranked { // by rank
		if j.active() {
			active[j.p.user] = append(active[j.p.user], j.p)
		}
	}
	for _, user := range slices.Sorted(maps.Keys(active)) {
		grants := active[user]
		slices.SortStableFunc(grants, func(a, b *principal) int {
			switch {
			case a.role == b.role:
				return 0
			case a.role.AtLeast(b.role):
				return -1
			}
			return 1
		})
		m := Member{UserID: user, Genesis: *grants[0].genesis, Role: grants[0].role}
		for _, p := range grants {
			m.Principals = append(m.Principals, p.node.hash)
		}
		s.members = append(s.members, m)
	}
}

// setSettings applies creates, policies and deletes in the order (modified, hash).
func (s *State) setSettings(v *evaluation) {
	var policies []*node
	for i, n := range v.log.nodes {
		if !v.valid[i] {
			continue
		}
		switch op := n.entry.Op.(type) {
		case entry.Create:
			s.owner, s.created = n.entry.Signer, n.entry.Modified
			s.name, s.rules = op.Name, op.Policy
		case entry.Policy:
			policies = append(policies, n)
		case entry.Delete:
			s.deleted = true
		}
	}
	slices.SortFunc(policies, func(a, b *node) int {
		return cmp.Or(cmp.Compare(a.entry.Modified, b.entry.Modified), byHash(a, b))
	})
	for _, n := range policies { // later than the create, on which all build
		op := n.entry.Op.(entry.Policy)
		if op.Name != nil {
			s.name = *op.Name
		}
		if op.Admit != nil {
			s.rules.Admit = *op.Admit
		}
		if op.Stock != nil {
			s.rules.Stock = *op.Stock
		}
	}
}

// ID returns the group's id.
func (s *State) ID() peercrypto.ID { return s.id }

// Valid reports whether an operation counts.
func (s *State) Valid(op peercrypto.Hash) bool { return s.valid[op] }

// Shared reports whether an operation is transferred and fingerprinted. Valid
// ones are.
func (s *State) Shared(op peercrypto.Hash) bool { return s.shared[op] }

// Heads returns the shared operations on which no other shared one builds,
// sorted: the deps of the next operation.
func (s *State) Heads() []peercrypto.Hash { return slices.Clone(s.heads) }

// Members returns the members by user id.
func (s *State) Members() []Member {
	members := slices.Clone(s.members)
	for i := range members {
		members[i].Principals = slices.Clone(members[i].Principals)
	}
	return members
}

// Member returns the member with that user id.
func (s *State) Member(user peercrypto.ID) (Member, bool) {
	i, ok := slices.BinarySearchFunc(s.members, user, func(m Member, u peercrypto.ID) int {
		return cmp.Compare(m.UserID, u)
	})
	if !ok {
		return Member{}, false
	}
	m := s.members[i]
	m.Principals = slices.Clone(m.Principals)
	return m, true
}

// Principal returns how a grant was judged.
func (s *State) Principal(g peercrypto.Hash) (Principal, bool) {
	p, ok := s.principals[g]
	if !ok {
		return Principal{}, false
	}
	out := p.Principal
	out.Revoked = slices.Clone(out.Revoked)
	return out, true
}

// Principals returns all grants of a user, valid or not, by rank: "" for all users.
func (s *State) Principals(user peercrypto.ID) []Principal {
	var all []*grant
	for _, p := range s.principals {
		if user == "" || p.UserID == user {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b *grant) int { return cmp.Compare(a.order, b.order) })
	out := make([]Principal, len(all))
	for i, p := range all {
		out[i] = p.Principal
		out[i].Revoked = slices.Clone(p.Revoked)
	}
	return out
}

// Unaccepted returns the grants of a user that wait for an accept: valid
// operations that nothing revokes.
func (s *State) Unaccepted(user peercrypto.ID) []peercrypto.Hash {
	var grants []peercrypto.Hash
	for _, p := range s.Principals(user) {
		if p.Granted && !p.Accepted && len(p.Revoked) == 0 {
			grants = append(grants, p.Grant)
		}
	}
	return grants
}

// ActiveGrant returns the strongest active grant of a user that is at least of
// a role: the one with the highest role, of these the most senior.
func (s *State) ActiveGrant(user peercrypto.ID, needs entry.Role) (peercrypto.Hash, bool) {
	m, ok := s.Member(user)
	if !ok || !m.Role.AtLeast(needs) {
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
func (s *State) Invites(now int64) []OpenInvite { return inTime(s.invites, now) }

// ClosedInvites returns the invitations that were withdrawn or used up and would
// not have expired at a time (unix ms): whoever comes with one should be told.
func (s *State) ClosedInvites(now int64) []OpenInvite { return inTime(s.closed, now) }

func inTime(all []OpenInvite, now int64) []OpenInvite {
	var some []OpenInvite
	for _, i := range all {
		if now <= i.Expires {
			some = append(some, i)
		}
	}
	return some
}

// RendezvousKeys returns the keys to listen on, the announced one first.
func (s *State) RendezvousKeys() []RendezvousKey { return slices.Clone(s.keys) }

// RotationDue reports whether an admin's device should write a new rendezvous
// key: somebody was revoked who may know the current one, or there is none.
func (s *State) RotationDue() bool { return s.due }

// Alarms returns at most [MaxAlarms] alarms, in the same order everywhere.
func (s *State) Alarms() []Alarm {
	alarms := slices.Clone(s.alarms)
	for i := range alarms {
		alarms[i].Ops = slices.Clone(alarms[i].Ops)
	}
	return alarms
}
