package peer

import (
	"context"
	"fmt"
	"slices"
	"strings"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/wire"
)

// CreateGroup makes a group that this user owns. Its name has 1 to 128 bytes.
func (p *Peer) CreateGroup(ctx context.Context, name string) (groupsync.GroupInfo, error) {
	return p.engine.CreateGroup(ctx, name)
}

// Groups lists all groups, offered and left ones too, sorted by id.
func (p *Peer) Groups(ctx context.Context) ([]groupsync.GroupInfo, error) {
	return p.engine.Groups(ctx)
}

// Group returns one group, or groupsync.ErrNotFound.
func (p *Peer) Group(ctx context.Context, id peercrypto.ID) (groupsync.GroupInfo, error) {
	return p.engine.Group(ctx, id)
}

// Invite writes an invitation and returns it with its secret, which is stored
// nowhere: whoever has the link can join. Without o.Servers the link names the
// signaling server of this peer.
func (p *Peer) Invite(ctx context.Context, id peercrypto.ID, o groupsync.InviteOptions) (entry.Invitation, error) {
	if len(o.Servers) == 0 {
		server, err := p.serverURL()
		if err != nil {
			return entry.Invitation{}, fmt.Errorf("inviting to group %s: %w", id.Short(), err)
		}
		o.Servers = []string{server}
	}
	return p.engine.Invite(ctx, id, o)
}

// serverURL is the server's URL with its canonical name, which all members have
// to dial, because the topics derive from it.
func (p *Peer) serverURL() (string, error) {
	if p.link == nil {
		return "", ErrOffline
	}
	name, _, err := wire.CanonicalServer(p.cfg.Server)
	if err != nil {
		return "", err
	}
	if known := p.link.ServerName(); known != "" && strings.Contains(known, ":") {
		name = known
	}
	scheme, _, _ := strings.Cut(p.cfg.Server, "://")
	return strings.ToLower(scheme) + "://" + name, nil
}

// Invitations lists the open invitations of a group.
func (p *Peer) Invitations(ctx context.Context, id peercrypto.ID) ([]groupsync.InvitationInfo, error) {
	return p.engine.Invitations(ctx, id)
}

// Uninvite closes an invitation.
func (p *Peer) Uninvite(ctx context.Context, id peercrypto.ID, invite peercrypto.Hash) error {
	return p.engine.Uninvite(ctx, id, invite)
}

// Join accepts an invitation: it is kept until a device of the group answers,
// also over restarts; GroupJoined or JoinFailed tell the outcome. An invitation
// for another signaling server is refused with ErrOtherServer.
func (p *Peer) Join(ctx context.Context, inv entry.Invitation) error {
	if err := p.checkServers(inv.Servers); err != nil {
		return fmt.Errorf("joining group %s: %w", inv.Group.Short(), err)
	}
	return p.engine.Join(ctx, inv)
}

func (p *Peer) checkServers(servers []string) error {
	if len(servers) == 0 {
		return nil
	}
	own, err := p.serverURL()
	if err != nil {
		return fmt.Errorf("%w; start with server %s", err, servers[0])
	}
	ownName, configured := serverName(own), serverName(p.cfg.Server)
	for _, s := range servers {
		if name := serverName(s); name != "" && (name == ownName || name == configured) {
			return nil
		}
	}
	return fmt.Errorf("%w: it is for %s, this device uses %s", ErrOtherServer, strings.Join(servers, ", "), own)
}

// serverName is the name in a server's URL, or "". A URL in an invitation does
// not say that a connection without TLS is acceptable: that was decided when
// this device was given its own server, so here only the names count.
func serverName(url string) string {
	name, _, err := wire.CanonicalServer(url)
	if err != nil {
		name, _, _ = wire.CanonicalServer(url + "?insecure=1")
	}
	return name
}

// CancelJoin forgets a pending join.
func (p *Peer) CancelJoin(ctx context.Context, id peercrypto.ID) error {
	return p.engine.CancelJoin(ctx, id)
}

// PendingJoins lists the joins that nobody answered yet.
func (p *Peer) PendingJoins(ctx context.Context) ([]groupsync.PendingJoin, error) {
	return p.engine.PendingJoins(ctx)
}

// JoinRequests lists those who used an invitation with manual admission and
// wait for Admit.
func (p *Peer) JoinRequests(ctx context.Context) ([]groupsync.JoinRequest, error) {
	return p.engine.JoinRequests(ctx)
}

// Admit admits somebody of JoinRequests.
func (p *Peer) Admit(ctx context.Context, group, user peercrypto.ID) error {
	return p.engine.Admit(ctx, group, user)
}

// AddMember adds a user directly. It counts when that user has accepted.
func (p *Peer) AddMember(ctx context.Context, id peercrypto.ID, user peercrypto.UserGenesis, role entry.Role) error {
	return p.engine.AddMember(ctx, id, user, role)
}

// Accept consents to a group that somebody added this user to.
func (p *Peer) Accept(ctx context.Context, id peercrypto.ID) error { return p.engine.Accept(ctx, id) }

// Decline forgets a group that somebody added this user to.
func (p *Peer) Decline(ctx context.Context, id peercrypto.ID) error {
	return p.engine.Decline(ctx, id)
}

// Leave ends the own membership. The data stays until Purge. Until another
// member's device knows, at most 30 days, this device stays on the group's topics.
func (p *Peer) Leave(ctx context.Context, id peercrypto.ID) error { return p.engine.Leave(ctx, id) }

// Remove removes a user from a group. What that device has read stays there.
func (p *Peer) Remove(ctx context.Context, id, user peercrypto.ID, reason string) error {
	return p.engine.Remove(ctx, id, user, reason)
}

// SetRole changes the role of a member.
func (p *Peer) SetRole(ctx context.Context, id, user peercrypto.ID, role entry.Role) error {
	return p.engine.SetRole(ctx, id, user, role)
}

// Rename changes the name of a group.
func (p *Peer) Rename(ctx context.Context, id peercrypto.ID, name string) error {
	return p.engine.Rename(ctx, id, name)
}

// DeleteGroup marks a group as deleted for everybody; only its owner may.
func (p *Peer) DeleteGroup(ctx context.Context, id peercrypto.ID) error {
	return p.engine.DeleteGroup(ctx, id)
}

// Purge forgets everything of a group that was left, deleted or never joined.
func (p *Peer) Purge(ctx context.Context, id peercrypto.ID) error { return p.engine.Purge(ctx, id) }

// FindGroup returns the group that text names: its id, the begin of its id or of
// the id's random part, as logs show it (at least 4 characters), or its name, if that fits exactly one group. Groups that
// are not left come first.
func (p *Peer) FindGroup(ctx context.Context, text string) (groupsync.GroupInfo, error) {
	groups, err := p.engine.Groups(ctx)
	if err != nil {
		return groupsync.GroupInfo{}, err
	}
	for _, g := range groups {
		if string(g.ID) == text {
			return g, nil
		}
	}
	found := matching(groups, func(g groupsync.GroupInfo) bool { return g.Name == text })
	if len(found) == 0 && len(text) >= 4 {
		found = matching(groups, func(g groupsync.GroupInfo) bool {
			return strings.HasPrefix(string(g.ID), text) || strings.HasPrefix(g.ID.Short(), text)
		})
	}
	if alive := matching(found, func(g groupsync.GroupInfo) bool { return !g.Left }); len(alive) > 0 {
		found = alive
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return groupsync.GroupInfo{}, fmt.Errorf("group %q: %w", text, groupsync.ErrNotFound)
	}
	ids := make([]string, len(found))
	for i, g := range found {
		ids[i] = string(g.ID)
	}
	return groupsync.GroupInfo{}, fmt.Errorf("group %q: %w: %s", text, ErrAmbiguous, strings.Join(ids, ", "))
}

func matching(groups []groupsync.GroupInfo, keep func(groupsync.GroupInfo) bool) []groupsync.GroupInfo {
	return slices.DeleteFunc(slices.Clone(groups), func(g groupsync.GroupInfo) bool { return !keep(g) })
}
