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

// private are the frames that tell something of a group to its members only.
var private = map[byte]bool{
	frameGroups: true, frameRecon: true, frameHave: true, frameEntries: true, frameLog: true, frameMark: true, frameMarked: true,
}

// audit checks what an honest device sent in this step: of a group, only to users who are members by its own state. What was
// decided just before the state changed is fine, and so is telling somebody that a membership ended.
func (w *World) audit(e *endpoint, frames []frame) {
	d, to := e.dev, e.peer.dev.user.id
	if d.engine == nil {
		return
	}
	for _, f := range frames {
		if !private[f.plain[0]] {
			continue
		}
		if w.plan.Wide && !e.current() {
			w.fail("device %d tells device %d about a group long after it learned that the key of user %d is another one", d.number, e.peer.dev.number, e.peer.dev.user.number)
		}
		for _, g := range groupsOf(f.plain) {
			was := d.members[g][to]
			is, err := d.isMember(g, to)
			switch {
			case err != nil && !errors.Is(err, errCrashed) && !errors.Is(err, groupsync.ErrNotFound):
				w.fail("device %d: %w", d.number, err)
			case err == nil && !was && !is:
				if err := w.excused(d, f, to); err != nil {
					w.fail("device %d tells user %d about group %s: %w", d.number, e.peer.dev.user.number, g.Short(), err)
				}
			}
		}
	}
}

// staleFor is how long a session may go on under a key that was found to be replaced.
const staleFor = 7 * time.Second

// current tells whether the other side's key is the one that this side knows as its user's, or was a moment ago.
func (e *endpoint) current() bool {
	d, now := e.dev, e.w.now()
	if now-e.lookedAt < time.Second && e.lookedAt > 0 {
		return true
	}
	e.lookedAt = now
	k, err := d.engine.UserKeys(e.w.ctx, e.peer.dev.user.id)
	switch {
	case err != nil || e.key.Check() != nil || k.Pin.Key == e.key:
		e.staleAt = 0
	case e.staleAt == 0:
		e.staleAt = now
	}
	return e.staleAt == 0 || now-e.staleAt < staleFor
}

// isMember reads the device's state.
func (d *device) isMember(g, who peercrypto.ID) (bool, error) {
	list, err := d.engine.Members(d.w.ctx, g)
	return slices.ContainsFunc(list, func(m groupsync.MemberInfo) bool { return m.UserID == who }), err
}

// excused checks what goes to somebody who is no member: an offer, or the operations that ended a membership and
// nothing newer.
func (w *World) excused(d *device, f frame, to peercrypto.ID) error {
	if f.plain[0] != frameEntries && f.plain[0] != frameLog {
		return fmt.Errorf("frame %#02x, and they are no member", f.plain[0])
	}
	list, flags, ok := entriesOf(f.plain)
	if !ok {
		return fmt.Errorf("frame %#02x that the simulator can't read", f.plain[0])
	}
	data := slices.ContainsFunc(list, func(ent *entry.Entry) bool { return ent.Kind == entry.Data })
	if f.plain[0] == frameLog && flags&flagOffer != 0 && !data {
		return nil
	}
	if data || f.plain[0] == frameLog {
		return fmt.Errorf("frame %#02x with entries, and they are no member", f.plain[0])
	}
	var end, key int64
	for _, ent := range list {
		switch ent.Op.(type) {
		case entry.Remove, entry.Leave, entry.Block, entry.RoleChange:
			end = max(end, ent.Modified)
		case entry.RVKey:
			key = max(key, ent.Modified)
		}
	}
	if key > end {
		return fmt.Errorf("a rendezvous key that is newer than the end of their membership")
	}
	return nil
}

// observe notes the members behind an event on a device.
func (d *device) observe() {
	if d.engine == nil || d.evil {
		return
	}
	for _, g := range d.w.groups {
		list, err := d.engine.Members(d.w.ctx, g)
		if err != nil && !errors.Is(err, groupsync.ErrNotFound) && !errors.Is(err, errCrashed) {
			d.w.fail("device %d: %w", d.number, err)
		}
		now := make(map[peercrypto.ID]bool, len(list))
		for _, m := range list {
			now[m.UserID] = true
		}
		d.members[g] = now
	}
}
