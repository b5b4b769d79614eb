package world

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// errSkip: there is nothing that this action could do.
var errSkip = errors.New("skipped")

// refusals are the answers of an engine that an action may get.
var refusals = []error{
	errSkip, errCrashed, groupsync.ErrNotFound, groupsync.ErrNotMember, groupsync.ErrReadOnly, groupsync.ErrNotAdmin, groupsync.ErrNotOwner,
	groupsync.ErrOwner, groupsync.ErrDeleted, groupsync.ErrClock, groupsync.ErrInvitation, groupsync.ErrLimit, groupsync.ErrStoreFull,
	groupsync.ErrKeyFrozen, groupsync.ErrKeyPending, groupsync.ErrNoDevice, groupsync.ErrThisDevice, groupsync.ErrOldRequest, groupsync.ErrNoIndex,
	keys.ErrNoQuorum, keys.ErrNoRecovery, keys.ErrEnded,
}

// act plays an action.
func (w *World) act(a Action) {
	d := w.devices[a.Dev%len(w.devices)]
	if w.plan.Wide && a.Kind == Attack {
		d = w.attackerOf(d)
	}
	w.touched[d] = true
	err := w.perform(d, a)
	outcome := "done"
	if err != nil && strings.Contains(err.Error(), "it is in the future") {
		err = errors.Join(err, groupsync.ErrClock) // a document's id is younger than this clock
	}
	for _, known := range refusals {
		if errors.Is(err, known) {
			outcome = known.Error()
			break
		}
	}
	if err != nil && outcome == "done" {
		outcome = "failed"
		w.fail("device %d: %v: unexpected error: %w", d.number, a.Kind, err)
	}
	w.trace("act %v: %s", a, outcome)
	w.story = append(w.story, fmt.Sprintf("%8.3fs device %d (user %d): %s: %s", w.now().Seconds(), d.number, d.user.number, w.describe(a), outcome))
	w.note("%v", err)
	if outcome == "done" {
		w.stats.Actions[a.Kind.String()]++
	}
	w.stats.Actions["actions"]++
}

// describe tells a reader what an action is about.
func (w *World) describe(a Action) string {
	text := a.Kind.String()
	if len(w.groups) == 0 || a.Kind == Create || a.Kind >= SetName && a.Kind != Attack {
		return text
	}
	if a.Kind == Join && len(w.links) > 0 {
		inv := w.links[int(a.Y)%len(w.links)]
		return fmt.Sprintf("%s group %d as %s", text, slices.Index(w.groups, inv.Group), inv.Role)
	}
	text += fmt.Sprintf(" group %d", int(a.X)%len(w.groups))
	switch a.Kind {
	case Add, SetRole:
		text += fmt.Sprintf(" user %d %s", int(a.Y)%len(w.users), w.role(a))
	case Remove:
		text += fmt.Sprintf(" user %d", int(a.Y)%len(w.users))
	}
	return text
}

// perform plays an action: first those that need no engine.
func (w *World) perform(d *device, a Action) error {
	switch a.Kind {
	case Partition, Heal:
		return w.partition(d, a)
	case Clock:
		shift := time.Duration(int64(a.X%360)-180) * time.Second
		if a.Y%8 == 0 {
			shift *= 6
		}
		if a.Y%100 == 1 {
			shift = 30 * time.Hour
		}
		d.setClock(shift)
		return nil
	}
	if d.engine == nil {
		return errSkip
	}
	if a.Kind > Tamper {
		return w.performWide(d, a)
	}
	if a.Kind >= Stop && a.Kind != Attack || a.Kind == Create || a.Kind == SetName {
		return w.onDevice(d, a)
	}
	if len(w.groups) == 0 {
		return errSkip
	}
	if a.Kind == Remove && w.users[int(a.Y)%len(w.users)] == d.user {
		a.Kind = Leave // so it is
	}
	g := w.groups[int(a.X)%len(w.groups)]
	switch {
	case a.Kind == Accept || a.Kind == Decline:
		if w.plan.Wide {
			d = w.asked(d)
		}
		g = d.offered(g)
	case w.plan.Wide:
		g = d.shared(g)
	}
	return w.inGroup(d, g, a)
}

// onDevice plays an action that is about no group.
func (w *World) onDevice(d *device, a Action) error {
	switch a.Kind {
	case Stop:
		d.shut()
		d.later()
		return nil
	case Crash:
		return d.crash(a)
	case Tamper:
		return d.tamper()
	case Full:
		d.store.fill(int(1 + a.Y%4))
		return nil
	case Backup:
		frozen, err := d.disk.freeze()
		d.backup = &backup{frozen, len(d.acks), maps.Clone(d.purged), maps.Clone(d.left), d.ident}
		return err
	case Restore:
		if d.backup == nil || d.evil {
			return errSkip
		}
		d.restore(w.plan.Wide && a.X%2 == 0)
		d.later()
		return nil
	case SetName:
		return d.engine.SetName(w.ctx, fmt.Sprintf("user %d %d", d.user.number, a.X%100))
	case Create:
		if len(w.groups) >= 3 {
			return errSkip
		}
		g, err := d.engine.CreateGroup(w.ctx, fmt.Sprintf("group %d", len(w.groups)))
		if err == nil {
			w.groups = append(w.groups, g.ID)
			d.user.wanted[g.ID] = true
		}
		return err
	}
	return errSkip
}

// outsider is a user who is no member, if there is one.
func (d *device) outsider(g peercrypto.ID, from int) *user {
	users := d.w.users
	for i := range users {
		if u := users[(from+i)%len(users)]; !d.members[g][u.id] {
			return u
		}
	}
	return users[from%len(users)]
}

// offered is a group that waits for this user's answer; else the given one.
func (d *device) offered(g peercrypto.ID) peercrypto.ID {
	list, err := d.engine.Groups(d.w.ctx)
	if err != nil {
		return g
	}
	for _, info := range list {
		if info.Offered {
			return info.ID
		}
	}
	return g
}

// happened tells whether something was done, or may have been done before the power went.
func happened(err error) bool { return err == nil || errors.Is(err, errCrashed) }

// crash lets one of the next transactions be the last one, or cuts the power at once.
func (d *device) crash(a Action) error {
	if a.X%4 == 0 {
		if err := d.store.crash(); !errors.Is(err, errCrashed) {
			return err
		}
		return nil // the next step notices
	}
	d.store.arm(int(1+a.Y%6), a.Z%2 == 0)
	return nil
}

// tamper changes a document behind the engine's back.
func (d *device) tamper() error {
	if len(d.w.groups) == 0 {
		return errSkip
	}
	return d.store.Store.Update(d.w.ctx, func(tx groupsync.Tx) error {
		var doc groupsync.Document
		err := tx.Documents(groupsync.DocumentQuery{Group: d.w.groups[0], Limit: 1}, func(found groupsync.Document) error {
			doc = found
			return nil
		})
		if err != nil || doc.Subject == "" {
			return errors.Join(err, errSkip)
		}
		doc.JSON = []byte(`{"tampered":true}`)
		_, err = tx.PutDocument(doc)
		return err
	})
}

func (w *World) partition(d *device, a Action) error {
	down := a.Kind == Partition
	for i := range w.devices {
		if i == d.number || a.X%3 > 0 && i != int(a.Y)%len(w.devices) {
			continue // from all, or from one
		}
		w.pair(d.number, i).down = down
		for _, c := range w.conns {
			x, y := c.ends[0].dev.number, c.ends[1].dev.number
			if down && (x == i && y == d.number || y == i && x == d.number) {
				w.cut(c)
			}
		}
	}
	return nil
}

var roles = []entry.Role{entry.Write, entry.Admin, entry.Write, entry.Read}

// role is the one that an action gives.
func (w *World) role(a Action) entry.Role {
	if w.plan.Quarrel && a.Z%8 > 1 {
		return entry.Admin
	}
	return roles[a.Z%4]
}

// inGroup plays an action about a group.
func (w *World) inGroup(d *device, g peercrypto.ID, a Action) error {
	ctx, e := w.ctx, d.engine
	other := w.users[int(a.Y)%len(w.users)]
	switch a.Kind {
	case Invite:
		inv, err := e.Invite(ctx, g, groupsync.InviteOptions{Role: w.role(a), Uses: int(1 + a.Y%6), Servers: []string{"wss://sim.example"}})
		if err == nil {
			w.links = append(w.links, inv)
		}
		return err
	case Join:
		return w.join(d, a)
	case Add:
		return e.AddMember(ctx, g, d.outsider(g, int(a.Y)).genesis, w.role(a))
	case Accept:
		err := e.Accept(ctx, g)
		if happened(err) {
			d.user.wanted[g] = true
			d.left[g], d.purged[g] = false, false
		}
		return err
	case Decline:
		return e.Decline(ctx, g)
	case Remove:
		return e.Remove(ctx, g, other.id, "a reason")
	case SetRole:
		return e.SetRole(ctx, g, other.id, w.role(a))
	case Leave:
		err := e.Leave(ctx, g)
		d.left[g] = d.left[g] || happened(err)
		d.user.ended[g] = d.user.ended[g] || happened(err)
		return err
	case Rename:
		return e.Rename(ctx, g, fmt.Sprintf("name %d", a.Z%1000))
	case Uninvite:
		list, err := e.Invitations(ctx, g)
		if err != nil || len(list) == 0 {
			return errors.Join(err, errSkip)
		}
		return e.Uninvite(ctx, g, list[int(a.Z)%len(list)].Hash)
	case DeleteGroup:
		if a.Z%3 > 0 {
			return errSkip
		}
		return e.DeleteGroup(ctx, g)
	case Purge:
		return d.purge(g)
	case Attack:
		if !d.evil {
			return errSkip
		}
		return d.attack(g, a)
	}
	return d.write(g, a)
}

func (w *World) join(d *device, a Action) error {
	if len(w.links) == 0 {
		return errSkip
	}
	inv := w.links[int(a.Y)%len(w.links)]
	err := d.engine.Join(w.ctx, inv)
	if happened(err) {
		d.user.wanted[inv.Group] = true
		d.left[inv.Group], d.purged[inv.Group] = false, false
	}
	return err
}

func (d *device) purge(g peercrypto.ID) error {
	err := d.engine.Purge(d.w.ctx, g)
	if happened(err) {
		d.purged[g], d.user.ended[g] = true, true
		for _, a := range d.acks {
			a.excused = a.excused || a.group == g
		}
	}
	return err
}

// write changes documents. Edits of the same few members of the same few documents conflict.
func (d *device) write(g peercrypto.ID, a Action) error {
	w := d.w
	subjects := w.subject[g]
	switch a.Kind {
	case Put:
		return d.put(g, fmt.Sprintf(`{"type":"Note","n":%d,"by":%d}`, a.Z, d.user.number))
	case PutMany:
		var docs []json.RawMessage
		for i := range 2 + a.Z%30 {
			docs = append(docs, fmt.Appendf(nil, `{"type":"Item","i":%d,"z":%d}`, i, a.Z))
		}
		res, err := d.engine.PutMany(w.ctx, g, docs)
		for _, r := range res {
			if err = errors.Join(err, r.Err); r.Err == nil {
				err = errors.Join(err, d.remember(g, r.Subject))
			}
		}
		return err
	}
	if len(subjects) == 0 {
		return errSkip
	}
	id := subjects[int(a.Y)%min(len(subjects), 4+int(a.X%8))]
	if a.Kind == DeleteDoc {
		if err := d.engine.Delete(w.ctx, g, id); err != nil {
			return err
		}
		return d.remember(g, id)
	}
	return d.put(g, fmt.Sprintf(`{"id":%q,"type":"Note","a":{"k%d":%d},"list":[%d,{"deep":%d}],"t":%q}`,
		id, a.Z%3, a.Z%5, a.Z%4, a.Z%7, string(rune('a'+a.Z%4))))
}

func (d *device) put(g peercrypto.ID, doc string) error {
	out, err := d.engine.Put(d.w.ctx, g, json.RawMessage(doc))
	if err == nil && !out.Last.Hash.IsZero() {
		d.acked(g, out.Subject, out.Last.Hash)
		d.know(g, out.Subject)
	}
	return err
}

// remember notes the newest entry of a document as acknowledged, by the version that is stored.
func (d *device) remember(g, subject peercrypto.ID) error {
	err := d.store.View(d.w.ctx, func(r groupsync.Reader) error {
		doc, ok, err := r.Document(g, subject)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("document %s was acknowledged and is not there", subject.Short())
		}
		d.acked(g, subject, doc.Last.Hash)
		return nil
	})
	if errors.Is(err, errCrashed) {
		return nil // behind the write; the hash is not known
	}
	d.know(g, subject)
	return err
}

// know lets later actions find a document.
func (d *device) know(g, subject peercrypto.ID) {
	if !slices.Contains(d.w.subject[g], subject) {
		d.w.subject[g] = append(d.w.subject[g], subject)
	}
}
