package group

import (
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// ProveSignatures checks the signatures of an operation that need not be in the log but whose "as" is: its own, those of its claim and of its key
// events. It returns nil, a [*MissingError], or what matches [entry.ErrUnsound], and says nothing of other references. It only reads the log.
func (l *Log) ProveSignatures(e *entry.Entry) error {
	n := &node{entry: e, hash: e.Hash}
	if e.Kind != entry.Operation || e.Group != l.id {
		return entry.Unsound("it is not an operation of this group")
	}
	if op, ok := e.Op.(entry.Create); ok {
		line, err := op.Line()
		if err != nil {
			return entry.Unsound(err.Error())
		}
		n.under, n.term = n, &term{keys: line}
		return unsound(n.proveSignatures())
	}
	n.under = l.byHash[e.As]
	switch {
	case n.under == nil:
		return &MissingError{[]peercrypto.Hash{e.As}}
	case n.under.term == nil:
		return entry.Unsound("its grant is no grant")
	}
	n.author = n.under.term.principal
	switch {
	case e.Signer != n.author.user:
		return entry.Unsound("its author does not hold the grant")
	case !n.author.role.AtLeast(entry.Needs(e.Op)):
		return entry.Unsound("the role of its author does not permit it")
	}
	if op, ok := e.Op.(entry.Rekey); ok {
		if reason := n.checkRekey(op); reason != "" {
			return entry.Unsound(reason)
		}
	}
	return unsound(n.proveSignatures())
}

// ProveIDs derives the ids that an operation claims, each of which takes tens of milliseconds unless it is at hand. It returns nil or what
// matches [entry.ErrUnsound]. With [Log.ProveSignatures] it is all that [Log.Restore] takes for granted.
func ProveIDs(e *entry.Entry) error { return unsound(proveIDs(e)) }

func unsound(reason string) error {
	if reason == "" {
		return nil
	}
	return entry.Unsound(reason)
}

// prove checks signatures, then ids, which cost a thousand times as much.
func (n *node) prove() string {
	if reason := n.proveSignatures(); reason != "" {
		return reason
	}
	return proveIDs(n.entry)
}

func (n *node) proveSignatures() string {
	if !n.entry.VerifySignature(n.key()) {
		return "the signature is wrong"
	}
	switch op := n.entry.Op.(type) {
	case entry.Rekey:
		return proveEvents(n.under.term.keys, op.Events)
	case entry.Create:
		return proveEvents(keys.GenesisOf(n.entry.Signer, op.User), op.Keys)
	case entry.Add:
		if op.Claim != nil && op.Claim.Verify() != nil {
			return "the claim's signatures are wrong"
		}
		return proveEvents(keys.GenesisOf(op.UserID, op.User), op.Keys)
	}
	return ""
}

func proveIDs(e *entry.Entry) string {
	fits := true
	switch op := e.Op.(type) {
	case entry.Create:
		fits = op.User.ID() == e.Signer && op.Group.ID() == e.Group
	case entry.Add:
		fits = op.User.ID() == op.UserID
	}
	if !fits {
		return "an id does not fit its body"
	}
	return ""
}

func proveEvents(line keys.State, events []keys.Event) string {
	for _, e := range events {
		var err error
		if line, err = line.Apply(e); err != nil {
			return err.Error()
		}
	}
	return ""
}
