package group

import (
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// check returns a node for a sound operation, not yet in the log. Without proof
// it takes the signatures and ids for granted.
func (l *Log) check(e *entry.Entry, proof bool) (*node, error) {
	n, reason, missing := l.place(e)
	if len(missing) > 0 {
		return nil, &MissingError{missing}
	}
	if reason == "" {
		reason = l.checkOp(n)
	}
	if reason == "" && proof {
		reason = n.prove()
	}
	if reason != "" {
		return nil, entry.Unsound(reason)
	}
	return n, nil
}

// place resolves the references of an operation and checks chain, times and
// author. It returns why the operation is unsound, or what is not known.
func (l *Log) place(e *entry.Entry) (n *node, reason string, missing []peercrypto.Hash) {
	if e.Kind != entry.Operation || e.Group != l.id {
		return nil, "it is not an operation of this group", nil
	}
	n = &node{entry: e, hash: e.Hash, index: len(l.nodes), dev: e.Dev, epoch: -1}
	if op, ok := e.Op.(entry.Create); ok {
		if len(l.nodes) > 0 {
			return nil, "the group has another create", nil
		}
		n.principal = newPrincipal(n, nil, nil)
		n.author, n.under = n.principal, n
		line, err := op.Line()
		if err != nil {
			return nil, err.Error(), nil
		}
		n.term = &term{n.principal, line}
		return n, "", nil
	}
	missing = l.resolve(n)
	if len(missing) > 0 {
		return nil, "", missing
	}
	n.under = l.byHash[e.As]
	if n.under.term == nil {
		return nil, "its grant is no grant", nil
	}
	n.author = n.under.term.principal
	for _, r := range n.refs {
		if l.nodes[r].entry.Modified >= e.Modified {
			return nil, "it is not later than what it builds on", nil
		}
		n.epoch = max(n.epoch, l.nodes[r].epoch)
	}
	if n.prev != nil {
		if n.prev.entry.As != e.As || n.prev.entry.Seq != e.Seq-1 {
			return nil, "its chain is broken", nil
		}
		n.dev = n.prev.dev
	}
	if e.Signer != n.author.user {
		return nil, "its author does not hold the grant", nil
	}
	return n, "", nil
}

// resolve fills refs and prev and returns the sorted references that are unknown.
func (l *Log) resolve(n *node) (missing []peercrypto.Hash) {
	e := n.entry
	add := func(h peercrypto.Hash) *node {
		ref := l.byHash[h]
		if ref == nil {
			missing = append(missing, h)
		} else if !slices.Contains(n.refs, ref.index) {
			n.refs = append(n.refs, ref.index)
		}
		return ref
	}
	n.refs = make([]int, 0, len(e.Deps)+2)
	add(e.As)
	for _, d := range e.Deps {
		add(d)
	}
	if e.Seq > 0 {
		n.prev = add(e.Prev)
	}
	slices.SortFunc(missing, peercrypto.Hash.Compare)
	return slices.Compact(missing)
}

// checkOp checks the capability and what the operation names.
func (l *Log) checkOp(n *node) string {
	if !n.author.role.AtLeast(entry.Needs(n.entry.Op)) {
		return "the role of its author does not permit it"
	}
	switch op := n.entry.Op.(type) {
	case entry.Accept:
		if n.under.principal == nil {
			return "an accept names no grant"
		}
	case entry.Rekey:
		return n.checkRekey(op)
	case entry.Add:
		n.principal = newPrincipal(n, n.author, nil)
		line, err := op.Line()
		if err != nil {
			return err.Error()
		}
		n.term = &term{n.principal, line}
		if op.Claim != nil {
			return l.checkClaim(n, op)
		}
	case entry.Remove:
		return l.checkNamed(n, op.Grant)
	case entry.RoleChange:
		if reason := l.checkNamed(n, op.Grant); reason != "" {
			return reason
		}
		line := l.byHash[op.Grant].term.keys
		if op.Key != line.Key() {
			return "the key is not that of the grant"
		}
		n.principal = newPrincipal(n, n.author, n.named)
		n.term = &term{n.principal, line}
	case entry.Uninvite:
		return l.findInvite(n, op.Invite)
	case entry.RVKey:
		if op.Epoch != n.epoch+1 {
			return "the epoch does not follow those in its past"
		}
		n.epoch = op.Epoch
	case entry.Delete:
		if n.author.node.index != 0 {
			return "only the owner deletes a group"
		}
	}
	return ""
}

// checkNamed resolves the grant that a remove or role names.
func (l *Log) checkNamed(n *node, grant peercrypto.Hash) string {
	named := l.byHash[grant]
	switch {
	case named == nil || !l.reaches(n.refs, named.index):
		return "the grant that it names is not in its past"
	case named.term == nil:
		return "what it names is no grant"
	case !n.author.rank.Senior(named.term.principal.rank):
		return "its author is not senior to the grant that it names"
	}
	n.named = named.term.principal
	return ""
}

// checkRekey follows the key events of a rekey from the key that it replaces.
func (n *node) checkRekey(op entry.Rekey) string {
	line := n.under.term.keys
	for _, e := range op.Events {
		var err error
		if line, err = line.Follow(e); err != nil {
			return err.Error()
		}
		n.steps = append(n.steps, keys.Step{Hash: line.Head(), Class: e.By})
	}
	n.term = &term{n.author, line}
	return ""
}

// key returns the key that signs an operation: that of its term, of a rekey the new one.
func (n *node) key() peercrypto.PublicKey {
	if len(n.steps) > 0 {
		return n.term.keys.Key()
	}
	return n.under.term.keys.Key()
}

// findInvite resolves the invitation that an add or uninvite names.
func (l *Log) findInvite(n *node, hash peercrypto.Hash) string {
	invite := l.byHash[hash]
	if invite == nil || !l.reaches(n.refs, invite.index) {
		return "the invitation that it names is not in its past"
	}
	if _, ok := invite.entry.Op.(entry.Invite); !ok {
		return "what it names is no invitation"
	}
	n.invite = invite
	return ""
}

// checkClaim compares the claim of an add with its invitation and with the
// claims in its past. That it agrees with the add is part of the add's shape.
func (l *Log) checkClaim(n *node, op entry.Add) string {
	if reason := l.findInvite(n, *op.Invite); reason != "" {
		return reason
	}
	invite := n.invite.entry.Op.(entry.Invite)
	switch {
	case op.Claim.Create != l.nodes[0].hash:
		return "the claim is for another create"
	case op.Claim.IPK != invite.IPK:
		return "the claim is for another invitation"
	case !invite.Role.AtLeast(op.Role):
		return "the claim wants more than the invitation's role"
	case op.Claim.Time > invite.Expires || n.entry.Modified > invite.Expires:
		return "the invitation is expired"
	}
	n.claim = op.Claim.Hash()
	if len(l.claims[n.claim]) == 0 && len(l.adds[n.invite]) < invite.Uses {
		return ""
	}
	past := l.closure(n.refs)
	for _, a := range l.claims[n.claim] {
		if past.has(a.index) {
			return "the claim was used before"
		}
	}
	others := map[peercrypto.Hash]bool{}
	for _, a := range l.adds[n.invite] {
		if past.has(a.index) {
			others[a.claim] = true
		}
	}
	if len(others) >= invite.Uses {
		return "the invitation was used up before"
	}
	return ""
}

// DataRef is what a chain of data needs to know of one of its changes.
type DataRef struct {
	Hash peercrypto.Hash
	Prev peercrypto.Hash // zero at seq 0
	As   peercrypto.Hash
	Seq  int64
}

// RefOf returns the DataRef of a data change.
func RefOf(e *entry.Entry) DataRef { return DataRef{e.Hash, e.Prev, e.As, e.Seq} }

// CheckData tells whether a data change is sound: nil, a [*MissingError], or
// what matches [entry.ErrUnsound]. prev is the change before it, nil if it is
// seq 0 or the change before it is not known. CheckData only reads the log.
func CheckData(l *Log, e *entry.Entry, prev *DataRef) error {
	if e.Kind != entry.Data || e.Group != l.id {
		return entry.Unsound("it is not a data change of this group")
	}
	n := l.byHash[e.As]
	if n == nil {
		return &MissingError{[]peercrypto.Hash{e.As}}
	}
	if n.term == nil {
		return entry.Unsound("its grant is no grant")
	}
	p := n.term.principal
	switch {
	case !p.role.AtLeast(entry.Write):
		return entry.Unsound("the role of its author does not permit it")
	case e.Signer != p.user:
		return entry.Unsound("its author does not hold the grant")
	case e.Modified < n.entry.Modified:
		return entry.Unsound("it is older than its grant")
	case e.Seq > 0 && prev == nil:
		return &MissingError{[]peercrypto.Hash{e.Prev}}
	case e.Seq > 0 && (prev.Hash != e.Prev || prev.As != e.As || prev.Seq != e.Seq-1):
		return entry.Unsound("its chain is broken")
	case !e.VerifySignature(n.term.keys.Key()):
		return entry.Unsound("the signature is wrong")
	}
	return nil
}
