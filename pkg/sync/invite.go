package sync

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// maxRequests is how many claims of one group wait for Admit.
const maxRequests = 100

func newSecret() (s [32]byte) {
	_, _ = rand.Read(s[:]) // never fails, says its documentation
	return s
}

// Invite writes an invitation and returns it with its secret, which is stored nowhere: whoever has the link can join. Manual admission is
// this device's own: another admin's device does not know of it and admits.
func (e *Engine) Invite(ctx context.Context, id peercrypto.ID, o InviteOptions) (entry.Invitation, error) {
	if o.Role == "" {
		o.Role = entry.Write
	}
	if o.Uses == 0 {
		o.Uses = 1
	}
	if o.Expires == 0 {
		o.Expires = 7 * 24 * time.Hour
	}
	inv := entry.Invitation{
		Group: id, Secret: newSecret(), Servers: o.Servers, Role: o.Role,
		Expires: e.cfg.Now().Add(o.Expires).UnixMilli(),
	}
	ipk := peercrypto.InviteSigningKey(inv.Secret).Public()
	err := e.write(ctx, id, entry.Admin, func(b *batch) error {
		create, ok := b.g.log.Create()
		if !ok {
			return ErrNotFound
		}
		op := create.Op.(entry.Create)
		inv.Create, inv.OwnerGenesis, inv.Name = create.Hash, op.User.Hash(), b.state.Name()
		if inv.Link() == "" {
			return fmt.Errorf("%w: check its role, duration and servers", ErrInvitation)
		}
		ent, err := b.operation(entry.Admin, entry.Invite{IPK: ipk, Role: o.Role, Uses: o.Uses, Expires: inv.Expires})
		if err != nil || !o.Manual {
			return err
		}
		return b.setManual(ent.Hash)
	})
	if err != nil {
		return entry.Invitation{}, fmt.Errorf("inviting to group %s: %w", id.Short(), err)
	}
	return inv, nil
}

// setManual remembers that an invitation's users are admitted by hand.
func (b *batch) setManual(invite peercrypto.Hash) error {
	meta, err := b.meta()
	if err != nil {
		return err
	}
	open := map[peercrypto.Hash]bool{invite: true}
	for _, inv := range b.state.Invites(b.now) {
		open[inv.Hash] = true
	}
	meta.Manual = slices.DeleteFunc(meta.Manual, func(h peercrypto.Hash) bool { return !open[h] })
	meta.Manual = append(meta.Manual, invite)
	return b.putMeta(meta)
}

// Invitations lists the open invitations of a group.
func (e *Engine) Invitations(_ context.Context, id peercrypto.ID) ([]InvitationInfo, error) {
	g, err := e.replica(id)
	if err != nil {
		return nil, err
	}
	v := g.view.Load()
	var out []InvitationInfo
	for _, inv := range v.state.Invites(e.now()) {
		out = append(out, InvitationInfo{
			Hash: inv.Hash, Role: inv.Role, UsesLeft: inv.UsesLeft, Expires: time.UnixMilli(inv.Expires),
			Manual: slices.Contains(v.meta.Manual, inv.Hash),
		})
	}
	return out, nil
}

// Uninvite closes an invitation. Who joined by it stays.
func (e *Engine) Uninvite(ctx context.Context, id peercrypto.ID, invite peercrypto.Hash) error {
	return e.write(ctx, id, entry.Admin, func(b *batch) error {
		if !b.g.log.Has(invite) {
			return fmt.Errorf("closing invitation %s: %w", invite.Short(), ErrNotFound)
		}
		_, err := b.operation(entry.Admin, entry.Uninvite{Invite: invite})
		return err
	})
}

// A refusal answers a JOIN.
type refusal struct {
	code RefusalCode
	text string
}

func refused(code RefusalCode, text string) *refusal { return &refusal{code, text} }

// errNothing is what strangers are told, whatever the reason.
var errNothing = refused(RefusedUnspecified, "refused")

// admit answers a claim: nil after the claimant is a member. Who does not hold the invitation's secret learns nothing.
func (e *Engine) admit(ctx context.Context, p Peer, id peercrypto.ID, raw []byte) *refusal {
	g, err := e.replica(id)
	if err != nil {
		return errNothing
	}
	v := g.view.Load()
	if !e.shares(v, e.userID) || v.state.Deleted() {
		return errNothing
	}
	if _, ok := v.state.Member(p.UserID); ok {
		return nil // a join that was interrupted, or another device of a member
	}
	claim, err := entry.ParseClaim(raw)
	if err != nil || claim.Group != id || claim.UserID != p.UserID || claim.UserKey != p.UserKey ||
		claim.Genesis != p.Genesis.Hash() || p.Genesis.ID() != p.UserID {
		return errNothing
	}
	if err := e.lock(ctx); err != nil {
		return errNothing
	}
	defer e.unlock()
	var answer *refusal
	_, err = e.update(ctx, g, func(b *batch) error {
		if answer = b.admitClaim(p, claim); answer != nil && answer.code != RefusedWaiting {
			return errAborted
		}
		return nil
	})
	if answer == nil && err != nil {
		e.log.Warn("a join failed", "group", id.Short(), "user", p.UserID.Short(), "err", err)
		return refused(RefusedBusy, "the other device could not write the admission; it will be tried again")
	}
	return answer
}

// admitClaim writes the add, or tells why not.
func (b *batch) admitClaim(p Peer, claim entry.Claim) *refusal {
	invite, found := b.inviteOf(claim.IPK)
	create, ok := b.g.log.Create()
	if !found || !ok || create.Hash != claim.Create {
		return errNothing
	}
	op := invite.Op.(entry.Invite)
	if !op.Role.AtLeast(claim.Role) {
		return errNothing
	}
	if answer := b.openFor(invite, op, claim); answer != nil {
		return answer
	}
	if _, ok := b.state.ActiveGrant(b.e.userID, entry.Admin); !ok {
		return refused(RefusedNotAdmin, "this member can't admit anybody; wait until an admin's device is online")
	}
	if v := b.g.view.Load(); slices.Contains(v.meta.Manual, invite.Hash) {
		if err := b.request(p, claim, invite.Hash); err != nil {
			b.e.log.Warn("a join request could not be kept", "group", b.g.id.Short(), "err", err)
			return refused(RefusedBusy, "too many people wait to be admitted")
		}
		return refused(RefusedWaiting, "an admin was asked to admit you")
	}
	if err := b.add(p.Genesis, p.Keys, claim, invite.Hash); err != nil {
		b.e.log.Warn("an admission failed", "group", b.g.id.Short(), "user", p.UserID.Short(), "err", err)
		return refused(RefusedBusy, "the other device could not write the admission")
	}
	return nil
}

func (b *batch) add(user peercrypto.UserGenesis, events []keys.Event, claim entry.Claim, invite peercrypto.Hash) error {
	_, err := b.operation(entry.Admin, entry.Add{
		UserID: claim.UserID, User: user, Keys: events, Role: claim.Role, Invite: &invite, Claim: &claim,
	})
	return err
}

// inviteOf finds the invitation with a key.
func (b *batch) inviteOf(ipk peercrypto.PublicKey) (*entry.Entry, bool) {
	h, ok := b.state.InviteWith(ipk)
	if !ok {
		return nil, false
	}
	return b.g.log.Get(h)
}

// openFor tells a holder of the secret why the invitation can't be used.
func (b *batch) openFor(invite *entry.Entry, op entry.Invite, claim entry.Claim) *refusal {
	for _, open := range b.state.Invites(b.now) {
		if open.Hash == invite.Hash && claim.Time <= op.Expires {
			return nil
		}
	}
	if b.now > op.Expires || claim.Time > op.Expires {
		return refused(RefusedExpired, "the invitation has expired; ask for a new one")
	}
	for _, closed := range b.state.ClosedInvites(b.now) {
		if closed.Hash == invite.Hash && closed.Withdrawn {
			return refused(RefusedRevoked, "the invitation was withdrawn; ask for a new one")
		}
	}
	return refused(RefusedUsed, "the invitation was used already; ask for a new one")
}

// storedRequest is a claim that waits for Admit.
type storedRequest struct {
	User    peercrypto.UserGenesis `json:"user"`
	Keys    []keys.Event           `json:"keys,omitempty"`
	Name    string                 `json:"name"`
	Claim   entry.Claim            `json:"claim"`
	Invite  peercrypto.Hash        `json:"invite"`
	Arrived int64                  `json:"arrived"`
}

func requestKey(group, user peercrypto.ID) string { return string(group) + "/" + string(user) }

func (b *batch) request(p Peer, claim entry.Claim, invite peercrypto.Hash) error {
	key := requestKey(b.g.id, p.UserID)
	open, over, err := b.requests()
	if err != nil || slices.Contains(open, key) {
		return err
	}
	for _, k := range over {
		if err := b.tx.PutValue(bucketRequests, k, nil); err != nil {
			return err
		}
	}
	if len(open) >= maxRequests {
		return ErrLimit
	}
	r := storedRequest{User: p.Genesis, Keys: p.Keys, Claim: claim, Invite: invite, Arrived: b.now}
	if doc, err := peercrypto.ParseUserDoc(p.UserDoc); err == nil && doc.ID == p.UserID && doc.PublicKey == p.UserKey {
		r.Name = doc.Name
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	b.events = append(b.events, JoinRequested{r.public()})
	return b.tx.PutValue(bucketRequests, key, raw)
}

// requests returns the keys of the group's requests that wait, and of those whose invitation is not open any more.
func (b *batch) requests() (open, over []string, err error) {
	invites := map[peercrypto.Hash]bool{}
	for _, inv := range b.state.Invites(b.now) {
		invites[inv.Hash] = true
	}
	err = b.tx.Values(bucketRequests, func(key string, raw []byte) error {
		var r storedRequest
		switch of, _, _ := strings.Cut(key, "/"); {
		case of != string(b.g.id):
		case json.Unmarshal(raw, &r) == nil && invites[r.Invite]:
			open = append(open, key)
		default:
			over = append(over, key)
		}
		return nil
	})
	return open, over, err
}

func (r storedRequest) public() JoinRequest {
	return JoinRequest{
		Group: r.Claim.Group, UserID: r.Claim.UserID, Name: r.Name, Role: r.Claim.Role, Invite: r.Invite,
		Arrived: time.UnixMilli(r.Arrived),
	}
}

// JoinRequests lists the claims that wait for Admit.
func (e *Engine) JoinRequests(ctx context.Context) ([]JoinRequest, error) {
	var out []JoinRequest
	err := e.store.View(ctx, func(r Reader) error {
		return r.Values(bucketRequests, func(_ string, raw []byte) error {
			var s storedRequest
			if err := json.Unmarshal(raw, &s); err != nil {
				return err
			}
			out = append(out, s.public())
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("listing join requests: %w", err)
	}
	return out, nil
}

// Admit admits somebody who claimed an invitation with manual admission. Their device learns of it when it asks again. ErrInvitation: another
// device did that already, or the invitation is used up or over; the request is forgotten.
func (e *Engine) Admit(ctx context.Context, group, user peercrypto.ID) error {
	var late error
	err := e.write(ctx, group, entry.Admin, func(b *batch) error {
		raw, ok, err := b.tx.Value(bucketRequests, requestKey(group, user))
		if err != nil {
			return err
		}
		if !ok {
			return ErrNotFound
		}
		var r storedRequest
		if err := json.Unmarshal(raw, &r); err != nil {
			return err
		}
		if err := b.add(r.User, r.Keys, r.Claim, r.Invite); errors.Is(err, entry.ErrUnsound) {
			late = fmt.Errorf("%w: %w", ErrInvitation, err)
		} else if err != nil {
			return err
		}
		return b.tx.PutValue(bucketRequests, requestKey(group, user), nil)
	})
	if err == nil {
		err = late
	}
	if err != nil {
		return fmt.Errorf("admitting user %s to group %s: %w", user.Short(), group.Short(), err)
	}
	return nil
}
