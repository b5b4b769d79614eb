package world

import (
	"errors"
	"fmt"
	"slices"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// performWide plays an action of wide histories on a device that is on. What only few devices can do is done by the next one that can.
func (w *World) performWide(d *device, a Action) error {
	switch a.Kind {
	case Approve, Admit, Adopt:
		err := errSkip
		for i := range w.devices {
			if o := w.devices[(d.number+i)%len(w.devices)]; o.engine != nil && errors.Is(err, errSkip) {
				err = w.performOn(o, a)
			}
		}
		return err
	}
	return w.performOn(d, a)
}

func (w *World) performOn(d *device, a Action) error {
	switch a.Kind {
	case AddOwn:
		return d.addOwn()
	case Rotate:
		return d.rotate(a)
	case NewWords:
		return d.newWords()
	case Recover:
		return d.recover(a)
	case RecoverNew:
		return w.recoverNew(d, a)
	case Propose:
		return d.propose(a)
	case Approve:
		return d.approve()
	case Steal:
		return w.steal(d, a)
	case Index:
		return d.index(a)
	}
	if len(w.groups) == 0 {
		return errSkip
	}
	return w.inGroupWide(d, d.shared(w.groups[int(a.X)%len(w.groups)]), a)
}

// shared is this group or, if the device is not in it, another one that it is in.
func (d *device) shared(g peercrypto.ID) peercrypto.ID {
	if joined := d.engine.Joined(); len(joined) > 0 && !slices.Contains(joined, g) {
		return joined[0]
	}
	return g
}

func (w *World) inGroupWide(d *device, g peercrypto.ID, a Action) error {
	ctx, e := w.ctx, d.engine
	other := w.users[int(a.Y)%len(w.users)]
	switch a.Kind {
	case Block:
		if other == d.user || a.Z%2 == 0 {
			return errSkip
		}
		return e.Block(ctx, g, other.id)
	case Checkpoint:
		_, err := e.Checkpoint(ctx, g, other.id)
		return err
	case Adopt:
		return d.adopt(g, a)
	case Manual:
		inv, err := e.Invite(ctx, g, groupsync.InviteOptions{Role: w.role(a), Uses: int(1 + a.Y%6), Servers: []string{"wss://sim.example"}, Manual: true})
		if err == nil {
			w.links = append(w.links, inv)
		}
		return err
	case Admit:
		list, err := e.JoinRequests(ctx)
		if err != nil || len(list) == 0 {
			return errors.Join(err, errSkip)
		}
		r := list[int(a.Y)%len(list)]
		return e.Admit(ctx, r.Group, r.UserID)
	case PutTTL:
		ttl := d.now().Add(time.Duration(a.Y%60) * time.Second)
		if a.Y%4 == 0 {
			ttl = ttl.Add(100 * 24 * time.Hour)
		}
		doc := fmt.Sprintf(`{"type":"Note","n":%d,"ttl":%d}`, a.Z, ttl.UnixMilli())
		if known := w.subject[g]; len(known) > 0 && a.Z%2 == 0 {
			doc = fmt.Sprintf(`{"id":%q,"type":"Note","n":%d,"ttl":%d}`, known[int(a.Y)%len(known)], a.Z, ttl.UnixMilli())
		}
		w.ttls = append(w.ttls, ttl.UnixMilli())
		return d.put(g, doc)
	case Follow:
		return d.follow(g, a)
	}
	return errSkip
}

// adopt takes up some of what waits because its author was removed or has another key.
func (d *device) adopt(g peercrypto.ID, a Action) error {
	list, err := d.engine.Quarantine(d.w.ctx, g, 0)
	if err != nil {
		return err
	}
	var some []peercrypto.Hash
	for i, q := range list {
		if (int(a.Y)+i)%2 == 0 && slices.ContainsFunc(q.Waits, func(w groupsync.Wait) bool { return w.Kind == "void" || w.Kind == "judgement" }) {
			some = append(some, q.Hash)
		}
	}
	err = d.store.View(d.w.ctx, func(r groupsync.Reader) error {
		return r.Operations(g, func(rec groupsync.Record) error {
			return r.DataOf(rec.Hash, func(rec groupsync.Record) error {
				if !rec.Valid && len(some) < 5 {
					some = append(some, rec.Hash)
				}
				return nil
			})
		})
	})
	if err != nil || len(some) == 0 {
		return errors.Join(err, errSkip)
	}
	return d.engine.Adopt(d.w.ctx, g, some)
}

// roleOf is the role of a device's user, by that device.
func (d *device) roleOf(g peercrypto.ID) entry.Role {
	info, err := d.engine.Group(d.w.ctx, g)
	if err != nil || !info.Joined || info.GroupDeleted {
		return ""
	}
	return info.Role
}

// asked is this device, or the next one that has an offer.
func (w *World) asked(d *device) *device {
	for i := range w.devices {
		if o := w.devices[(d.number+i)%len(w.devices)]; o.engine != nil && o.offered("") != "" {
			return o
		}
	}
	return d
}
