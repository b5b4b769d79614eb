package group

import (
	"fmt"
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// NextOp returns a draft of a user's next operation on a device, under the
// strongest active grant that is at least of a role: As, Deps, chain and the
// least possible Modified are set. The caller sets ID and Op and raises Modified
// to its clock. If Op is an [entry.Merge] already, there are more heads than one
// operation can name: sign and add the draft as it is, then ask again.
func NextOp(l *Log, s *State, user, dev peercrypto.ID, needs entry.Role) (entry.OpDraft, error) {
	as, ok := s.ActiveGrant(user, needs)
	if !ok {
		return entry.OpDraft{}, fmt.Errorf("writing an operation: %w (%s)", ErrNoGrant, needs)
	}
	return NextOpAs(l, s, as, dev)
}

// NextOpAs is NextOp under a given grant, active or not.
func NextOpAs(l *Log, s *State, as peercrypto.Hash, dev peercrypto.ID) (entry.OpDraft, error) {
	p, ok := s.principals[as]
	if !ok {
		return entry.OpDraft{}, fmt.Errorf("writing an operation: %w", ErrNoGrant)
	}
	d := entry.OpDraft{Group: s.id, Signer: p.UserID, As: as, Deps: s.Heads()}
	if d.Seq, d.Prev = l.Head(as, dev); d.Seq == 0 {
		d.Dev = dev
	}
	if len(d.Deps) > entry.MaxDeps {
		d.Deps = d.Deps[:entry.MaxDeps]
		d.Op = entry.Merge{}
	}
	for _, h := range slices.Concat(d.Deps, []peercrypto.Hash{as, d.Prev}) {
		if e, ok := l.Get(h); ok {
			d.Modified = max(d.Modified, e.Modified+1)
		}
	}
	return d, nil
}

// NextAccept returns a draft of the accept of a grant, complete but for ID and
// for Modified, which the caller raises to its clock.
func NextAccept(s *State, grant peercrypto.Hash, dev peercrypto.ID) (entry.OpDraft, error) {
	p, ok := s.principals[grant]
	if !ok {
		return entry.OpDraft{}, fmt.Errorf("accepting a membership: %w", ErrNoGrant)
	}
	return entry.OpDraft{
		Group: s.id, Signer: p.UserID, Modified: p.Modified + 1, As: grant,
		Deps: []peercrypto.Hash{grant}, Dev: dev, Op: entry.Accept{},
	}, nil
}

// FrontierOf returns the frontier of a revocation of a grant that keeps all that
// its author holds: the given ends of the grant's data chains, and those of its
// chains of operations as far as they count. It is sorted. If it is longer than
// an operation can hold, signing fails: name the rest in checkpoints before.
func FrontierOf(l *Log, grant peercrypto.Hash, dataHeads []peercrypto.Hash) []peercrypto.Hash {
	frontier := slices.Clone(dataHeads)
	s := l.State()
	for key, chain := range l.chains {
		if key.as != grant {
			continue
		}
		for _, n := range chain[len(chain)-1] {
			if s.Valid(n.hash) {
				frontier = append(frontier, n.hash)
			}
		}
	}
	slices.SortFunc(frontier, peercrypto.Hash.Compare)
	return slices.Compact(frontier)
}
