package peer

import (
	"context"
	"fmt"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// checkKeys tells the link whether events lead from a genesis to a key.
func checkKeys(genesis peercrypto.UserGenesis, events [][]byte, key peercrypto.PublicKey) error {
	_, err := groupsync.ParseHistory(genesis, events, key)
	return err
}

// UserKeys returns what this device knows of a user's keys, its own user's too.
func (p *Peer) UserKeys(ctx context.Context, user peercrypto.ID) (groupsync.UserKeys, error) {
	return p.engine.UserKeys(ctx, user)
}

// SafetyNumber returns the 60 digits that this user and another one compare, in
// 12 groups of five. Both devices show the same.
func (p *Peer) SafetyNumber(ctx context.Context, user peercrypto.ID) (string, error) {
	return p.engine.SafetyNumber(ctx, user)
}

// VerifyUser notes that people have compared the safety number.
func (p *Peer) VerifyUser(ctx context.Context, user peercrypto.ID, number string) (keys.Pin, error) {
	return p.engine.VerifyUser(ctx, user, number)
}

// Card returns what a user who lost everything but the 24 words needs from this
// device; withGroups adds the way back into shared groups, with the server.
func (p *Peer) Card(ctx context.Context, user peercrypto.ID, withGroups bool) (groupsync.Card, error) {
	card, err := p.engine.Card(ctx, user, withGroups)
	if err != nil || len(card.Groups) == 0 {
		return card, err
	}
	server, err := p.serverURL()
	if err != nil {
		return card, fmt.Errorf("making a way back for user %s: %w", user.Short(), err)
	}
	for i := range card.Groups {
		card.Groups[i].Server = server
	}
	return card, nil
}

// Devices lists this device and those on the user's list.
func (p *Peer) Devices(ctx context.Context) ([]groupsync.DeviceInfo, error) {
	return p.engine.Devices(ctx)
}

// AddDevice puts a new device on the user's list and seals the key to it. The
// caller has compared the request's code with what the new device shows.
func (p *Peer) AddDevice(ctx context.Context, r groupsync.DeviceRequest) (groupsync.Welcome, error) {
	w, err := p.engine.AddDevice(ctx, r)
	if err != nil {
		return w, err
	}
	if url, err := p.serverURL(); err == nil {
		w = w.WithServer(url)
	}
	return w, nil
}

// RotateKey sets a new key by the old one and takes devices off the list. The peer
// ends with ErrNewKey then and has to be opened again.
func (p *Peer) RotateKey(ctx context.Context, reason keys.Reason, without []peercrypto.ID) error {
	return p.engine.RotateKey(ctx, reason, without)
}

// ProposeKeys asks the user's other devices to change the key by a majority. When
// it has signed, the peer that proposed it ends with ErrNewKey.
func (p *Peer) ProposeKeys(ctx context.Context, o groupsync.ProposeOptions) (groupsync.Proposal, error) {
	return p.engine.ProposeKeys(ctx, o)
}

// Proposals lists what waits for a majority of the user's devices.
func (p *Peer) Proposals(ctx context.Context) ([]groupsync.Proposal, error) {
	return p.engine.Proposals(ctx)
}

// ApproveKeys signs a proposal for this device.
func (p *Peer) ApproveKeys(ctx context.Context, id peercrypto.Hash) (groupsync.Proposal, error) {
	return p.engine.ApproveKeys(ctx, id)
}

// Return goes back into a group of a card, with a key set by the recovery words.
// SyncProgress and Synced tell how far it came.
func (p *Peer) Return(ctx context.Context, g groupsync.CardGroup) error {
	if g.Server != "" {
		if err := p.checkServers([]string{g.Server}); err != nil {
			return fmt.Errorf("returning to group %s: %w", g.Group.Short(), err)
		}
	}
	return p.engine.Return(ctx, g)
}
