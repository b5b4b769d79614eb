package group

import (
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// ProveSignatures checks the signatures of an operation that need not be in the log but whose "as" is: its own, those of its claim and of its key
// events. It returns nil, a [*MissingError], or what matches [entry.ErrUnsound], and says nothing of other references. It only reads the log.
func (l *Log) ProveSignatures(e *entry.Entry) error {
	_, err := l.proveSigned(e, nil)
	return err
}

// Signed are operations that are on their way into a log, with good signatures. They are not for several goroutines.
type Signed struct {
	log   *Log
	terms map[peercrypto.Hash]*term
}

// NewSigned returns an empty set.
func (l *Log) NewSigned() *Signed { return &Signed{l, map[peercrypto.Hash]*term{}} }

// Prove is [Log.ProveSignatures] for an operation whose "as" may be in the set, too. If it returns nil the operation is in the set.
func (s *Signed) Prove(e *entry.Entry) error {
	n, err := s.log.proveSigned(e, s.terms)
	if err == nil {
		s.note(n)
	}
	return err
}

// Note adds an operation for which [Log.ProveSignatures] returned nil.
func (s *Signed) Note(e *entry.Entry) {
	if u := s.log.byHash[e.As]; u != nil && u.term != nil {
		s.note(&node{entry: e, hash: e.Hash, under: u, author: u.term.principal})
	}
}

// note keeps the key of a grant or rekey.
func (s *Signed) note(n *node) {
	switch op := n.entry.Op.(type) {
	case entry.Add:
		if line, err := op.Line(); err == nil {
			s.terms[n.hash] = &term{&principal{user: op.UserID, role: op.Role}, line}
		}
	case entry.RoleChange:
		if t := s.log.termOf(op.Grant, s.terms); t != nil && t.keys.Key() == op.Key {
			s.terms[n.hash] = &term{&principal{user: t.principal.user, role: op.Role}, t.keys}
		}
	case entry.Rekey:
		if n.term != nil || n.checkRekey(op) == "" {
			s.terms[n.hash] = n.term
		}
	}
}

// termOf finds the key of a grant or rekey in the log or among others; nil if it is not there or neither of both.
func (l *Log) termOf(h peercrypto.Hash, others map[peercrypto.Hash]*term) *term {
	if n := l.byHash[h]; n != nil {
		return n.term
	}
	return others[h]
}

func (l *Log) proveSigned(e *entry.Entry, others map[peercrypto.Hash]*term) (*node, error) {
	n := &node{entry: e, hash: e.Hash}
	if e.Kind != entry.Operation || e.Group != l.id {
		return n, entry.Unsound("it is not an operation of this group")
	}
	if op, ok := e.Op.(entry.Create); ok {
		line, err := op.Line()
		if err != nil {
			return n, entry.Unsound(err.Error())
		}
		n.under, n.term = n, &term{keys: line}
		return n, unsound(n.proveSignatures())
	}
	t := l.termOf(e.As, others)
	switch {
	case t == nil && l.byHash[e.As] != nil:
		return n, entry.Unsound("its grant is no grant")
	case t == nil:
		return n, &MissingError{[]peercrypto.Hash{e.As}}
	}
	n.under, n.author = &node{hash: e.As, term: t}, t.principal
	switch {
	case e.Signer != n.author.user:
		return n, entry.Unsound("its author does not hold the grant")
	case !n.author.role.AtLeast(entry.Needs(e.Op)):
		return n, entry.Unsound("the role of its author does not permit it")
	}
	if op, ok := e.Op.(entry.Rekey); ok {
		if reason := n.checkRekey(op); reason != "" {
			return n, entry.Unsound(reason)
		}
	}
	return n, unsound(n.proveSignatures())
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
