package group

import (
	"bytes"
	"fmt"
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// node is an operation in a log. All but entry, of which only the signature can
// become another, is fixed when it is inserted.
type node struct {
	entry     *entry.Entry
	hash      peercrypto.Hash
	index     int        // position in the log; references go to lower ones
	author    *principal // of the grant "as"; the own one for create
	refs      []int      // as, deps and prev, without doubles
	prev      *node
	dev       peercrypto.ID // inherited from seq 0
	low       int           // the past holds every position below
	epoch     int64         // highest epoch of a rendezvous key in the past or here, -1 if none
	principal *principal    // of a grant
	named     *principal    // the grant that a remove or role names
}

// chainKey names a chain of operations.
type chainKey struct {
	as  peercrypto.Hash
	dev peercrypto.ID
}

// Log holds the sound operations of one group in memory. It is not safe for
// concurrent use, except as package documentation says.
type Log struct {
	id     peercrypto.ID
	nodes  []*node
	byHash map[peercrypto.Hash]*node
	// chains has for each seq the operations, of which there should be one.
	chains map[chainKey][][]*node

	principals []*principal
	accepts    map[*principal]*node   // with the smallest hash
	operations map[*principal][]*node // what each wrote, without the create
	naming     map[*principal][]*node // removes and roles that name it
	leaves     map[*principal][]*node
	blocks     map[peercrypto.ID][]*node
	adds       map[*node][]*node // by invitation
	claims     map[peercrypto.Hash][]*node
	claimOf    map[*node]peercrypto.Hash
	forks      [][2]*node // two operations with the same chain and seq

	walker walker
	pasts  pastCache
	state  *State // nil if something was added since it was made
}

// NewLog returns the empty log of a group.
func NewLog(id peercrypto.ID) *Log {
	return &Log{
		id:         id,
		byHash:     map[peercrypto.Hash]*node{},
		chains:     map[chainKey][][]*node{},
		accepts:    map[*principal]*node{},
		operations: map[*principal][]*node{},
		naming:     map[*principal][]*node{},
		leaves:     map[*principal][]*node{},
		blocks:     map[peercrypto.ID][]*node{},
		adds:       map[*node][]*node{},
		claims:     map[peercrypto.Hash][]*node{},
		claimOf:    map[*node]peercrypto.Hash{},
	}
}

// ID returns the group's id.
func (l *Log) ID() peercrypto.ID { return l.id }

// Len returns the number of operations. It only reads.
func (l *Log) Len() int { return len(l.nodes) }

// Get returns an operation. It only reads.
func (l *Log) Get(h peercrypto.Hash) (*entry.Entry, bool) {
	n, ok := l.byHash[h]
	if !ok {
		return nil, false
	}
	return n.entry, true
}

// Has reports whether the log holds an operation. It only reads.
func (l *Log) Has(h peercrypto.Hash) bool { return l.byHash[h] != nil }

// Create returns the operation that made the group.
func (l *Log) Create() (*entry.Entry, bool) {
	if len(l.nodes) == 0 {
		return nil, false
	}
	return l.nodes[0].entry, true
}

// Head returns what the next operation of a chain needs: its seq and the hash
// before it, which is zero at seq 0. It only reads.
func (l *Log) Head(as peercrypto.Hash, dev peercrypto.ID) (next int64, prev peercrypto.Hash) {
	chain := l.chains[chainKey{as, dev}]
	if len(chain) == 0 {
		return 0, peercrypto.Hash{}
	}
	last := slices.MinFunc(chain[len(chain)-1], byHash)
	return int64(len(chain)), last.hash
}

// InPast reports whether operation x lies in the past of operation of. Unknown
// ones are in nothing and have nothing.
func (l *Log) InPast(x, of peercrypto.Hash) bool {
	a, b := l.byHash[x], l.byHash[of]
	return a != nil && b != nil && l.past(b).has(a.index)
}

// Outcome is what [Log.Add] did.
type Outcome int

// The outcomes.
const (
	Known    Outcome = iota // it was there already
	Inserted                // it is new
	Replaced                // it was there with a greater signature: store these bytes instead
)

// Add checks an operation and inserts it. It is idempotent. Of several
// signatures the smallest stays.
func (l *Log) Add(e *entry.Entry) (Outcome, error) {
	if n := l.byHash[e.Hash]; n != nil {
		return l.replace(n, e)
	}
	n, err := l.check(e, true)
	if err != nil {
		return Known, err
	}
	l.insert(n)
	return Inserted, nil
}

// Restore is Add without the signature and the derivation of ids: for what this
// device checked before it stored it, and for nothing else.
func (l *Log) Restore(e *entry.Entry) error {
	if l.Has(e.Hash) {
		return nil
	}
	n, err := l.check(e, false)
	if err != nil {
		return fmt.Errorf("restoring operation %s: %w", e.Hash.Short(), err)
	}
	l.insert(n)
	return nil
}

// Check tells whether Add would insert an operation: nil, [ErrKnown], a
// [*MissingError], or what matches [entry.ErrUnsound].
func (l *Log) Check(e *entry.Entry) error {
	if l.Has(e.Hash) {
		return ErrKnown
	}
	_, err := l.check(e, true)
	return err
}

func (l *Log) replace(n *node, e *entry.Entry) (Outcome, error) {
	if bytes.Compare(e.Signature[:], n.entry.Signature[:]) >= 0 {
		return Known, nil
	}
	if !e.VerifySignature(n.author.genesis.Key) {
		return Known, entry.Unsound("the signature is wrong")
	}
	n.entry = e
	return Replaced, nil
}

// Forget takes back operations that were added and turned out void, so that
// what never counted does not stay in memory. They must not be shared and
// nothing outside of the list may build on them; otherwise the log is left as it
// is and [ErrNotShared] returned. Unknown hashes are ignored.
func (l *Log) Forget(hashes []peercrypto.Hash) error {
	state := l.State()
	gone := make(map[int]bool, len(hashes))
	for _, h := range hashes {
		if n := l.byHash[h]; n != nil {
			gone[n.index] = true
			if state.Shared(h) {
				return ErrNotShared
			}
		}
	}
	if len(gone) == 0 {
		return nil
	}
	for _, n := range l.nodes {
		if !gone[n.index] && slices.ContainsFunc(n.refs, func(r int) bool { return gone[r] }) {
			return ErrNotShared
		}
	}
	kept := NewLog(l.id)
	for _, n := range l.nodes {
		if gone[n.index] {
			continue
		}
		if err := kept.Restore(n.entry); err != nil {
			return err // not reached: what it builds on was kept
		}
	}
	*l = *kept
	return nil
}

// insert takes in a node that check made.
func (l *Log) insert(n *node) {
	l.state = nil
	l.nodes = append(l.nodes, n)
	l.byHash[n.hash] = n
	n.low = l.lowOf(n)

	key := chainKey{n.entry.As, n.dev}
	chain := l.chains[key]
	if n.entry.Seq < int64(len(chain)) {
		l.forks = append(l.forks, [2]*node{chain[n.entry.Seq][0], n})
		chain[n.entry.Seq] = append(chain[n.entry.Seq], n)
	} else {
		chain = append(chain, []*node{n})
	}
	l.chains[key] = chain

	if n.principal != nil {
		l.principals = append(l.principals, n.principal)
	}
	if !n.entry.As.IsZero() {
		l.operations[n.author] = append(l.operations[n.author], n)
	}
	switch op := n.entry.Op.(type) {
	case entry.Accept:
		if a := l.accepts[n.author]; a == nil || byHash(n, a) < 0 {
			l.accepts[n.author] = n
		}
	case entry.Leave:
		l.leaves[n.author] = append(l.leaves[n.author], n)
	case entry.Remove, entry.RoleChange:
		l.naming[n.named] = append(l.naming[n.named], n)
	case entry.Block:
		l.blocks[op.UserID] = append(l.blocks[op.UserID], n)
	case entry.Add:
		if op.Claim != nil {
			invite, claim := l.byHash[*op.Invite], op.Claim.Hash()
			l.adds[invite] = append(l.adds[invite], n)
			l.claims[claim] = append(l.claims[claim], n)
			l.claimOf[n] = claim
		}
	}
}

func byHash(a, b *node) int { return a.hash.Compare(b.hash) }
