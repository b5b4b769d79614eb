package group

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// node is an operation in a log. The first part is fixed when it is inserted,
// but for the signature in entry; the second is how it was judged last.
type node struct {
	entry     *entry.Entry
	hash      peercrypto.Hash
	index     int        // position in the log; references go to lower ones
	place     int        // position among the operations of author, -1 for the create
	under     *node      // the grant or rekey "as"; the create itself
	author    *principal // of under
	refs      []int      // as, deps and prev, without doubles
	prev      *node
	dev       peercrypto.ID // inherited from seq 0
	low       int           // the past holds every position below
	epoch     int64         // highest epoch of a rendezvous key in the past or here, -1 if none
	principal *principal    // of a grant
	term      *term         // of a grant or rekey
	steps     []keys.Step   // of a rekey, its events
	named     *principal    // the principal that a remove or role names
	invite    *node         // of an add with a claim and an uninvite
	claim     peercrypto.Hash
	forked    bool // another one is at the same place of a chain

	valid     bool
	shared    bool
	roots     int // reasons to share it beside those that build on it
	followers int // shared operations that build on it
	touched   bool
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

	byUser      map[peercrypto.ID][]*principal // by rank
	blocks      map[peercrypto.ID][]*node
	adds        map[*node][]*node // by invitation
	withdrawals map[*node][]*node // uninvites by invitation
	claims      map[peercrypto.Hash][]*node
	policies    []*node // in the order (modified, hash)
	deletes     []*node
	rvkeys      []*node // by epoch, of these in the order of the log
	revocations []*node // in the order of the log

	walker walker
	pasts  pastCache
	live   evaluation
	state  *State // nil if something was added since it was made
}

// NewLog returns the empty log of a group.
func NewLog(id peercrypto.ID) *Log {
	l := &Log{
		id:          id,
		byHash:      map[peercrypto.Hash]*node{},
		chains:      map[chainKey][][]*node{},
		byUser:      map[peercrypto.ID][]*principal{},
		blocks:      map[peercrypto.ID][]*node{},
		adds:        map[*node][]*node{},
		withdrawals: map[*node][]*node{},
		claims:      map[peercrypto.Hash][]*node{},
	}
	l.live = newEvaluation(l)
	return l
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
func (l *Log) Check(e *entry.Entry) error { return l.wouldTake(e, true) }

// CheckProven is to Restore what Check is to Add.
func (l *Log) CheckProven(e *entry.Entry) error { return l.wouldTake(e, false) }

func (l *Log) wouldTake(e *entry.Entry, proof bool) error {
	if l.Has(e.Hash) {
		return ErrKnown
	}
	_, err := l.check(e, proof)
	return err
}

func (l *Log) replace(n *node, e *entry.Entry) (Outcome, error) {
	if bytes.Compare(e.Signature[:], n.entry.Signature[:]) >= 0 {
		return Known, nil
	}
	if !e.VerifySignature(n.key()) {
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
	l.live.log = l
	return nil
}

// insert takes in a node that check made.
func (l *Log) insert(n *node) {
	l.state = nil
	l.nodes = append(l.nodes, n)
	l.byHash[n.hash] = n
	n.low = l.lowOf(n)
	n.place = -1
	if !n.entry.As.IsZero() {
		n.place = len(n.author.operations)
		n.author.operations = append(n.author.operations, n)
	}
	if n.principal != nil {
		all := l.byUser[n.principal.user]
		at, _ := slices.BinarySearchFunc(all, n.principal.rank, func(p *principal, r Rank) int { return p.rank.Compare(r) })
		l.byUser[n.principal.user] = slices.Insert(all, at, n.principal)
	}
	l.chainUp(n)
	l.list(n)
	l.live.pending = append(l.live.pending, n)
}

// chainUp finds the place of an operation in its chain. A rekey is a chain of its own.
func (l *Log) chainUp(n *node) {
	if len(n.steps) > 0 {
		return
	}
	key := chainKey{n.entry.As, n.dev}
	chain := l.chains[key]
	if n.entry.Seq >= int64(len(chain)) {
		l.chains[key] = append(chain, []*node{n})
		return
	}
	twins := append(chain[n.entry.Seq], n)
	chain[n.entry.Seq] = twins
	for _, twin := range twins {
		twin.forked = true
	}
}

// list enters an operation in the lists of its kind.
func (l *Log) list(n *node) {
	if isRevocation(n.entry.Op) {
		l.revocations = append(l.revocations, n)
	}
	switch op := n.entry.Op.(type) {
	case entry.Leave:
		n.author.leaves = append(n.author.leaves, n)
	case entry.Rekey:
		n.author.rekeys = append(n.author.rekeys, n)
	case entry.Remove, entry.RoleChange:
		n.named.naming = append(n.named.naming, n)
		if n.principal != nil {
			n.named.successors = append(n.named.successors, n.principal)
		}
	case entry.Block:
		l.blocks[op.UserID] = append(l.blocks[op.UserID], n)
	case entry.Add:
		if op.Claim != nil {
			l.adds[n.invite] = append(l.adds[n.invite], n)
			l.claims[n.claim] = append(l.claims[n.claim], n)
		}
	case entry.Uninvite:
		l.withdrawals[n.invite] = append(l.withdrawals[n.invite], n)
	case entry.Policy:
		at, _ := slices.BinarySearchFunc(l.policies, n, inTimeOrder)
		l.policies = slices.Insert(l.policies, at, n)
	case entry.Delete:
		l.deletes = append(l.deletes, n)
	case entry.RVKey:
		at, _ := slices.BinarySearchFunc(l.rvkeys, n.epoch+1, func(k *node, epoch int64) int { return cmp.Compare(k.epoch, epoch) })
		l.rvkeys = slices.Insert(l.rvkeys, at, n)
	}
}

func byHash(a, b *node) int { return a.hash.Compare(b.hash) }

// inTimeOrder is the order (modified, hash).
func inTimeOrder(a, b *node) int {
	return cmp.Or(cmp.Compare(a.entry.Modified, b.entry.Modified), byHash(a, b))
}
