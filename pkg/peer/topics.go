package peer

import (
	"context"
	"errors"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer/link"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

var errNoReason = errors.New("no group is shared any more")

// setTopics publishes what the engine wants to be found by, derived for the
// server that the link dialled.
func (p *Peer) setTopics() {
	if p.link == nil {
		return
	}
	name := p.link.ServerName()
	if name == "" {
		return // the first session will tell
	}
	rendezvous := p.engine.Rendezvous()
	topics := make([]link.Topic, 0, len(rendezvous))
	invites := map[peercrypto.Tag]bool{}
	for _, r := range rendezvous {
		t := link.Topic{Tag: peercrypto.RendezvousTag(r.Key, name), ListenOnly: !r.Announce}
		if r.Invite != nil {
			t.EnvSalt = r.Invite.EnvSalt
			invites[t.Tag] = !r.Invite.Closed
		}
		topics = append(topics, t)
	}
	p.mu.Lock()
	p.invites = invites
	p.mu.Unlock()
	p.link.SetTopics(topics)
}

// admit is asked by the link about the maker of an offer and, again, about the
// authenticated peer.
func (p *Peer) admit(_ context.Context, r link.Remote) error {
	via := make(map[peercrypto.Tag]struct{}, len(r.Via))
	for _, tag := range r.Via {
		via[tag] = struct{}{}
	}
	if !p.engine.AdmitsDevice(r.UserID, r.UserKey, keys.Device{ID: r.DeviceID, Key: r.DeviceKey}) {
		return ErrNotAdmitted
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.admitsLocked(r.UserID, via) || p.lateLocked(r.UserID, via) {
		return nil
	}
	return ErrNotAdmitted
}

// lateLocked tells whether a device may come only to hear that its invitation is
// closed. Such a device is let in and never sought.
func (p *Peer) lateLocked(user peercrypto.ID, via map[peercrypto.Tag]struct{}) bool {
	if p.engine.Admits(user) != groupsync.AdmitJoinOnly {
		return false
	}
	for tag := range via {
		if _, invited := p.invites[tag]; invited {
			return true
		}
	}
	return false
}

// admitsLocked tells whether there is a reason to be connected with a device of
// user that was seen on the topics via. Strangers need an invitation's topic,
// whose envelopes can be made only by those who know the invitation.
func (p *Peer) admitsLocked(user peercrypto.ID, via map[peercrypto.Tag]struct{}) bool {
	switch p.engine.Admits(user) {
	case groupsync.AdmitMember:
		return true
	case groupsync.AdmitJoinOnly:
		for tag := range via {
			if p.invites[tag] {
				return true
			}
		}
	}
	return false
}

// reconsider looks at every device again after groups have changed: it closes
// connections without a reason and starts pursuits that have one now. A session
// ends by itself, after it has told the other device why.
func (p *Peer) reconsider() {
	var closing []*connection
	p.mu.Lock()
	for _, d := range p.devices {
		reason := p.admitsLocked(d.user, d.viaLocked())
		switch {
		case !reason && d.conn != nil:
			if !d.conn.running {
				closing = append(closing, d.conn)
			}
			d.wanted = false
		case !reason:
			d.wanted = false
			p.stopPursuitLocked(d)
			d.settleLocked(ErrNotAdmitted)
		default:
			p.wantLocked(d)
		}
	}
	p.mu.Unlock()
	for _, c := range closing {
		_ = c.close(errNoReason)
	}
}

// viaLocked joins the topics that a device is present on with the one that its
// connection was made over.
func (d *device) viaLocked() map[peercrypto.Tag]struct{} {
	if d.conn == nil {
		return d.tags
	}
	via := make(map[peercrypto.Tag]struct{}, len(d.tags)+1)
	for tag := range d.tags {
		via[tag] = struct{}{}
	}
	for _, tag := range d.conn.conn.Remote().Via {
		via[tag] = struct{}{}
	}
	return via
}

func (p *Peer) serverUp(ev link.ServerUp) {
	p.mu.Lock()
	p.server = ev.Name
	p.mu.Unlock()
	p.setTopics()
	p.hub.publish(ServerUp{Name: ev.Name})
}

func (p *Peer) serverDown(ev link.ServerDown) {
	p.mu.Lock()
	p.server = ""
	for _, d := range p.devices {
		clear(d.tags)
		p.stopPursuitLocked(d)
		p.dropLocked(d)
	}
	p.mu.Unlock()
	p.hub.publish(ServerDown{Err: ev.Err, Retry: ev.Retry})
}

// followEngine turns the engine's events into topics and events of the peer.
func (p *Peer) followEngine(events <-chan groupsync.Event) {
	for ev := range events {
		switch ev := ev.(type) {
		case groupsync.IdentityChanged:
			p.cancel(ErrNewKey)
		case groupsync.RendezvousChanged:
			p.setTopics()
			p.reconsider()
		case groupsync.GroupChanged:
			p.reconsider()
			p.hub.publish(GroupChanged{Group: ev.Group})
		case groupsync.GroupJoined:
			p.setTopics()
			p.reconsider()
			p.hub.publish(GroupJoined{Group: ev.Group})
		case groupsync.RemovedFromGroup:
			p.hub.publish(RemovedFromGroup{Group: ev.Group, By: ev.By, Reason: ev.Reason})
		case groupsync.JoinFailed:
			p.hub.publish(JoinFailed{Group: ev.Group, Reason: ev.Reason, Final: ev.Final})
		case groupsync.JoinChecking:
			p.hub.publish(JoinChecking{Group: ev.Group, Checked: ev.Checked, Users: ev.Users})
		case groupsync.GroupOffered:
			p.hub.publish(GroupOffered{Group: ev.Group, By: ev.By, Name: ev.Name})
		case groupsync.JoinRequested:
			p.hub.publish(JoinRequested{Request: ev.Request})
		case groupsync.Progress:
			p.hub.publish(SyncProgress{Device: ev.Peer, Group: ev.Group, Have: ev.Have, Want: ev.Want, Unsent: ev.Unsent, Received: ev.Received, Sent: ev.Sent})
		case groupsync.Synced:
			p.hub.publish(Synced{Device: ev.Peer, Group: ev.Group, Fingerprint: ev.Fingerprint})
		case groupsync.Alarm:
			p.hub.publish(Alarm{Group: ev.Group, Text: ev.Text})
		case groupsync.Lagged:
			p.setTopics()
			p.reconsider()
			p.hub.publish(Lagged{})
			if p.engine.IdentityReplaced() {
				p.cancel(ErrNewKey)
			}
		}
	}
}
