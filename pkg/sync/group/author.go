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
	p, ok := s.grants.get(as)
	if !ok {
		return entry.OpDraft{}, fmt.Errorf("writing an operation: %w", ErrNoGrant)
	}
	d := entry.OpDraft{Group: s.id, Signer: p.UserID, As: as, Deps: s.firstHeads(entry.MaxDeps + 1)}
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
	p, ok := s.grants.get(grant)
	if !ok {
		return entry.OpDraft{}, fmt.Errorf("accepting a membership: %w", ErrNoGrant)
	}
	return entry.OpDraft{
		Group: s.id, Signer: p.UserID, Modified: p.Modified + 1, As: grant,
		Deps: []peercrypto.Hash{grant}, Dev: dev, Op: entry.Accept{},
	}, nil
}

// NextRekey returns a draft of an operation by which a user's key under as, a
// grant or rekey, is replaced: Op lacks Events and Frontier. Sign it with the new key.
func NextRekey(l *Log, s *State, as peercrypto.Hash, dev peercrypto.ID) (entry.OpDraft, error) {
	d, err := NextOpAs(l, s, as, dev)
	if err != nil {
		return d, err
	}
	d.Seq, d.Prev, d.Dev, d.Op = 0, peercrypto.Hash{}, dev, entry.Rekey{}
	return d, nil
}

// NextEpoch returns the epoch of a rendezvous key whose author knows what is shared.
func (l *Log) NextEpoch() int64 {
	l.State() // judges what is new
	for _, n := range slices.Backward(l.rvkeys) {
		if n.shared {
			return n.epoch + 1
		}
	}
	return 0
}

// FrontierOf returns the frontier of a revocation of a grant that keeps all that
// its author holds: the given ends of the grant's data chains, and those of its
// chains of operations as far as they count, whatever the key. It is sorted. If
// it is longer than an operation can hold, signing fails: name the rest in
// checkpoints before. grant may be a rekey of it.
func FrontierOf(l *Log, grant peercrypto.Hash, dataHeads []peercrypto.Hash) []peercrypto.Hash {
	frontier := slices.Clone(dataHeads)
	n := l.byHash[grant]
	if n == nil || n.term == nil {
		return frontier
	}
	l.State() // judges what is new
	seen := map[chainKey]bool{}
	for _, o := range n.term.principal.operations {
		key := chainKey{o.entry.As, o.dev}
		if seen[key] || len(o.steps) > 0 {
			if len(o.steps) > 0 && o.valid {
				frontier = append(frontier, o.hash)
			}
			continue
		}
		seen[key] = true
		chain := l.chains[key]
		for _, last := range chain[len(chain)-1] {
			if last.valid {
				frontier = append(frontier, last.hash)
			}
		}
	}
	slices.SortFunc(frontier, peercrypto.Hash.Compare)
	return slices.Compact(frontier)
}
