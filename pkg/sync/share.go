package sync

import (
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// Shares tells whether this user and another one, or the same, are active members of a group to which this user consented.
func (e *Engine) Shares(group, user peercrypto.ID) bool {
	g, err := e.replica(group)
	return err == nil && e.shares(g.view.Load(), user)
}

// Joined lists the groups that this user is an active member of, in the order of their ids.
func (e *Engine) Joined() []peercrypto.ID {
	var out []peercrypto.ID
	for _, g := range e.replicas() {
		if e.shares(g.view.Load(), e.userID) {
			out = append(out, g.id)
		}
	}
	slices.Sort(out)
	return out
}
