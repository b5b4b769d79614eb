package peer

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer/link"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

const (
	// bucketDevices holds the certificates of devices that were connected, by
	// device id: where notifications go.
	bucketDevices = "devices"
	// maxKnownDevices bounds them; of the user with the most of them the one
	// that expires first makes room.
	maxKnownDevices = 2_000

	// bucketInbox holds the notifications that came, by time and id, maxInbox of
	// them; the oldest one of who sent the most makes room.
	bucketInbox = "inbox"
	maxInbox    = 256
)

// ErrNoDevice means that no device of the user was met yet, so that there is
// nobody to notify.
var ErrNoDevice = errors.New("no device of that user was ever connected with this one")

// Notification says that a device of a member of a group of ours, or another of
// this user's own, sent a message that needs no connection. It is kept, see
// Peer.Notifications, and told once.
type Notification struct {
	Device, User peercrypto.ID
	ID           peercrypto.ID
	Time         time.Time // by the sender's clock
	Body         []byte
}

func (Notification) event() {}

// NotifyResult is what became of a notification to one device.
type NotifyResult struct {
	Device   peercrypto.ID
	Delivery link.Delivery // "" with Err
	Err      error
}

// Notify sends a sealed message of at most link.MaxNotification bytes to all
// devices of a member of a group (or of this user) that were ever connected with
// this one, whether they are there now or not: the server keeps it for those
// that were there minutes ago. It waits for the server's answers, up to a minute.
//
// The error is ErrOffline, groupsync.ErrNotMember, groupsync.ErrNotFound for a
// user who is no member, or ErrNoDevice.
func (p *Peer) Notify(ctx context.Context, group, user peercrypto.ID, body []byte) ([]NotifyResult, error) {
	if p.link == nil {
		return nil, ErrOffline
	}
	via, err := p.notifyTag(ctx, group, user)
	if err != nil {
		return nil, fmt.Errorf("notifying %s: %w", user.Short(), err)
	}
	certs, err := p.devicesOf(ctx, user)
	if err != nil {
		return nil, fmt.Errorf("notifying %s: %w", user.Short(), err)
	}
	results := make(chan NotifyResult, len(certs))
	for _, cert := range certs {
		if !p.goRun(func() {
			d, err := p.link.Notify(ctx, cert, via, body, link.NotifyOptions{})
			results <- NotifyResult{Device: cert.DeviceID, Delivery: d, Err: err}
		}) {
			results <- NotifyResult{Device: cert.DeviceID, Err: ErrClosed}
		}
	}
	out := make([]NotifyResult, len(certs))
	for i := range out {
		out[i] = <-results
	}
	slices.SortFunc(out, func(a, b NotifyResult) int { return bytes.Compare([]byte(a.Device), []byte(b.Device)) })
	return out, nil
}

// notifyTag is the topic over which a member's devices can be reached, the zero
// tag for this user's own.
func (p *Peer) notifyTag(ctx context.Context, group, user peercrypto.ID) (peercrypto.Tag, error) {
	g, err := p.engine.Group(ctx, group)
	if err != nil {
		return peercrypto.Tag{}, err
	}
	if !g.Joined || g.Left {
		return peercrypto.Tag{}, groupsync.ErrNotMember
	}
	if user == p.User() {
		return peercrypto.Tag{}, nil
	}
	if !slices.ContainsFunc(g.Members, func(m groupsync.MemberInfo) bool { return m.UserID == user }) {
		return peercrypto.Tag{}, fmt.Errorf("%w: that user is no member of the group", groupsync.ErrNotFound)
	}
	name := p.link.ServerName()
	for _, r := range p.engine.Rendezvous() {
		if r.Group == group && r.Announce && r.Invite == nil && name != "" {
			return peercrypto.RendezvousTag(r.Key, name), nil
		}
	}
	return peercrypto.Tag{}, link.ErrServerDown
}

// devicesOf gives the valid certificates of a user's devices but this one.
func (p *Peer) devicesOf(ctx context.Context, user peercrypto.ID) ([]peercrypto.DeviceCert, error) {
	var out []peercrypto.DeviceCert
	now := p.cfg.Now()
	err := p.cfg.Store.View(ctx, func(r groupsync.Reader) error {
		return r.Values(bucketDevices, func(_ string, raw []byte) error {
			cert, err := peercrypto.ParseDeviceCert(raw)
			if err == nil && cert.UserID == user && cert.DeviceID != p.self && cert.Verify(now) == nil {
				out = append(out, cert)
			}
			return nil
		})
	})
	if err == nil && len(out) == 0 {
		err = ErrNoDevice
	}
	return out, err
}

// remember keeps the certificate of a device that is connected.
func (p *Peer) remember(cert peercrypto.DeviceCert) {
	raw := cert.Canonical()
	var same bool
	err := p.cfg.Store.View(p.ctx, func(r groupsync.Reader) error {
		old, _, err := r.Value(bucketDevices, string(cert.DeviceID))
		same = bytes.Equal(old, raw)
		return err
	})
	if err == nil && !same {
		err = p.cfg.Store.Update(p.ctx, func(tx groupsync.Tx) error {
			if err := p.forgetDevices(tx, cert.UserID); err != nil {
				return err
			}
			return tx.PutValue(bucketDevices, string(cert.DeviceID), raw)
		})
	}
	if err != nil && p.ctx.Err() == nil {
		p.log.Warn("a device's certificate was not kept: it can't be notified later", "device", cert.DeviceID.Short(), "error", err)
	}
}

// forgetDevices drops what has expired, and makes room for a device of a user.
func (p *Peer) forgetDevices(tx groupsync.Tx, user peercrypto.ID) error {
	now := p.cfg.Now().UnixMilli()
	var drop []string
	var known []peercrypto.DeviceCert
	err := tx.Values(bucketDevices, func(key string, raw []byte) error {
		cert, err := peercrypto.ParseDeviceCert(raw)
		if err != nil || cert.Expires <= now {
			drop = append(drop, key)
			return nil
		}
		known = append(known, cert)
		return nil
	})
	if err != nil {
		return err
	}
	if len(known) >= maxKnownDevices {
		slices.SortFunc(known, func(a, b peercrypto.DeviceCert) int { return cmp.Compare(a.Expires, b.Expires) })
		users := []peercrypto.ID{}
		for _, c := range known {
			users = append(users, c.UserID)
		}
		drop = append(drop, string(known[crowded(append(users, user))].DeviceID))
	}
	for _, key := range drop {
		if err := tx.PutValue(bucketDevices, key, nil); err != nil {
			return err
		}
	}
	return nil
}

// crowded returns the first place of whoever has the most of them, so that
// nobody takes the others' room.
func crowded(users []peercrypto.ID) int {
	places, most := map[peercrypto.ID]int{}, 0
	for _, u := range users {
		places[u]++
		most = max(most, places[u])
	}
	return slices.IndexFunc(users, func(u peercrypto.ID) bool { return places[u] == most })
}

// notified keeps a notification and passes it on, unless its sender is no member
// of anything that is shared: those who only want to join have nothing to tell
// yet.
func (p *Peer) notified(n link.Notification) {
	if p.engine.Admits(n.Remote.UserID) != groupsync.AdmitMember {
		return
	}
	note := Notification{Device: n.Remote.DeviceID, User: n.Remote.UserID, ID: n.ID, Time: n.Time, Body: n.Body}
	fresh, err := p.keepNotification(note)
	if err != nil {
		p.log.Warn("a notification was not kept", "device", note.Device.Short(), "error", err)
	}
	if fresh {
		p.hub.publish(note)
	}
}

// keepNotification puts a notification into the inbox; false when it is there.
func (p *Peer) keepNotification(n Notification) (fresh bool, err error) {
	raw, err := json.Marshal(n)
	if err != nil {
		return true, fmt.Errorf("encoding a notification: %w", err)
	}
	key := fmt.Sprintf("%013d %s %s", n.Time.UnixMilli(), n.ID, n.Device)
	fresh = true
	err = p.cfg.Store.Update(p.ctx, func(tx groupsync.Tx) error {
		var keys []string
		var users []peercrypto.ID
		if err := tx.Values(bucketInbox, func(k string, raw []byte) error {
			var old Notification
			_ = json.Unmarshal(raw, &old) // what can't be read is nobody's
			fresh = fresh && k != key
			keys, users = append(keys, k), append(users, old.User)
			return nil
		}); err != nil || !fresh {
			return err
		}
		if len(keys) >= maxInbox {
			if err := tx.PutValue(bucketInbox, keys[crowded(append(users, n.User))], nil); err != nil {
				return err
			}
		}
		return tx.PutValue(bucketInbox, key, raw)
	})
	return fresh, err
}

// Notifications lists what came, oldest first: 256 at most.
func (p *Peer) Notifications(ctx context.Context) ([]Notification, error) {
	var out []Notification
	err := p.cfg.Store.View(ctx, func(r groupsync.Reader) error {
		return r.Values(bucketInbox, func(_ string, raw []byte) error {
			var n Notification
			if err := json.Unmarshal(raw, &n); err != nil {
				return fmt.Errorf("decoding a kept notification: %w", err)
			}
			out = append(out, n)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("listing notifications: %w", err)
	}
	return out, nil
}

// ClearNotifications empties the inbox. What comes a second time is then told
// again.
func (p *Peer) ClearNotifications(ctx context.Context) error {
	err := p.cfg.Store.Update(ctx, func(tx groupsync.Tx) error {
		var keys []string
		if err := tx.Values(bucketInbox, func(k string, _ []byte) error {
			keys = append(keys, k)
			return nil
		}); err != nil {
			return err
		}
		for _, k := range keys {
			if err := tx.PutValue(bucketInbox, k, nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("clearing notifications: %w", err)
	}
	return nil
}
