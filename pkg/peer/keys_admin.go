package peer

import (
	"context"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// Block ends each membership of a user in a group, also those that junior admins
// grant later.
func (p *Peer) Block(ctx context.Context, id, user peercrypto.ID) error {
	return p.engine.Block(ctx, id, user)
}

// Checkpoint keeps what a user ("" means all) wrote so far, whatever junior admins
// revoke later, and returns how many chains it named.
func (p *Peer) Checkpoint(ctx context.Context, id, user peercrypto.ID) (int, error) {
	return p.engine.Checkpoint(ctx, id, user)
}

// Adopt takes up entries that a revocation left void; see Quarantine.
func (p *Peer) Adopt(ctx context.Context, id peercrypto.ID, entries []peercrypto.Hash) error {
	return p.engine.Adopt(ctx, id, entries)
}
