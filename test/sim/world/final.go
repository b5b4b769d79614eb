package world

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

const (
	// quietFor is how long nothing may be synced before it counts as the end. A session that can't agree tries again within a minute.
	quietFor = 75 * time.Second
	// quietWithin is how long that may take when nothing is broken any more.
	quietWithin = 20 * time.Minute
	// framesWithin bounds the frames of that time.
	framesWithin = 100_000
)

// heal takes malicious members away and makes everything whole.
func (w *World) heal() {
	w.trace("heal")
	w.healing = true
	for _, p := range w.pairs {
		p.down = false
	}
	for _, c := range w.conns {
		c.left = -1
	}
	for _, d := range w.devices {
		if d.evil {
			d.shut()
			d.gone = true
			continue
		}
		if d.store != nil {
			d.store.arm(0, false)
			d.store.fill(0)
		}
		d.start()
	}
	// What is dated a day ahead is refused until then: that day passes while everything is off.
	offset := w.ahead()
	if w.plan.Wide { // so is what waits for its time: with many devices those hours are long to play
		for _, d := range w.devices {
			d.setClock(0)
		}
		offset = max(offset, w.deferred()-w.now())
	}
	if offset < 20*time.Minute {
		w.due = w.now() + offset + 10*time.Second
		offset = 0
	}
	w.shift = offset
	for _, d := range w.devices {
		d.setClock(offset)
	}
}

// ahead is how far the latest entry that anybody honest stores lies ahead.
func (w *World) ahead() (most time.Duration) {
	look := func(rec groupsync.Record) (bool, error) {
		most = max(most, time.UnixMilli(rec.Modified).Sub(time.Now().Add(epoch)))
		return true, nil
	}
	for _, d := range w.devices {
		if d.engine == nil || d.evil {
			continue
		}
		err := d.store.View(w.ctx, func(r groupsync.Reader) error {
			for _, g := range w.groups {
				for _, kind := range []entry.Kind{entry.Operation, entry.Data} {
					if err := r.Shared(groupsync.Scope{Group: g, Kind: kind}, groupsync.Ref{}, endRef, look); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, errCrashed) {
			w.fail("device %d: %w", d.number, err)
		}
	}
	return most
}

// settle lets devices sync until nothing moves any more.
func (w *World) settle() {
	began, frames := w.now(), w.stats.Frames
	w.lastBusy = w.now()
	for w.failure == nil && w.now()-w.lastBusy < quietFor {
		w.play(min(w.lastBusy+quietFor, w.now()+10*time.Second))
		if due := max(w.due, w.deferred()); due > w.now() { // nothing is wrong until then
			w.play(due)
			began, frames, w.lastBusy = w.now(), w.stats.Frames, w.now()
		}
		if w.now()-began > quietWithin || w.stats.Frames-frames > framesWithin {
			w.fail("sync does not end: %d frames in %v after everything was made whole\n%s",
				w.stats.Frames-frames, w.now()-began, w.disagreement())
		}
	}
}

// deferred is when the last entry that waits for its time anywhere is taken up.
func (w *World) deferred() (last time.Duration) {
	for _, d := range w.devices {
		if d.engine == nil {
			continue
		}
		err := d.store.View(w.ctx, func(r groupsync.Reader) error {
			return r.Due(1<<62, 1<<30, func(q groupsync.Quarantined) error {
				for _, wait := range q.Waits {
					if ms, err := strconv.ParseInt(wait.Ref, 10, 64); wait.Kind == "time" && err == nil {
						last = max(last, time.UnixMilli(ms).Sub(d.now())+w.now()+10*time.Second)
					}
				}
				return nil
			})
		})
		if err != nil {
			w.fail("device %d: %w", d.number, err)
		}
	}
	return last
}

// disagreement describes the groups where devices differ.
func (w *World) disagreement() string {
	var b strings.Builder
	for i, g := range w.groups {
		for _, d := range w.devices {
			if d.engine == nil {
				continue
			}
			if info, err := d.engine.Group(w.ctx, g); err == nil {
				_, _ = fmt.Fprintf(&b, "group %d on device %d: joined %v, left %v, role %q, %d members, %d operations, %d entries, %d waiting, fingerprint %s\n",
					i, d.number, info.Joined, info.Left, info.Role, len(info.Members), info.Operations, info.Entries, info.Quarantined, info.Fingerprint)
			}
		}
	}
	return b.String()
}

// noteLogs writes the operations that each device holds, for a reader of a verbose run.
func (w *World) noteLogs() {
	for i, g := range w.groups {
		for _, d := range w.devices {
			if d.engine == nil {
				continue
			}
			_ = d.store.View(w.ctx, func(r groupsync.Reader) error {
				return r.Operations(g, func(rec groupsync.Record) error {
					if ent, err := entry.Decode(bytes.Clone(rec.Raw)); err == nil {
						by := slices.IndexFunc(w.users, func(u *user) bool { return u.id == ent.Signer })
						w.note("group %d device %d: %s %s by user %d as %s at %d: valid %v shared %v %+v", i, d.number, ent.Hash.Short(), ent.Op.Kind(), by,
							ent.As.Short(), ent.Modified%1e8, rec.Valid, rec.Shared, entry.Frontier(ent.Op))
					}
					return nil
				})
			})
		}
	}
}

// A holding is what one device shows of a group.
type holding struct {
	dev       *device
	info      groupsync.GroupInfo
	documents []byte
	log       []byte
}

// holdings reads what the joined devices show.
func (w *World) holdings(g peercrypto.ID) (out []holding, err error) {
	for _, d := range w.devices {
		if d.engine == nil {
			continue
		}
		info, err := d.engine.Group(w.ctx, g)
		if err != nil || !info.Joined {
			continue
		}
		var docs, log bytes.Buffer
		if err := d.engine.Export(w.ctx, g, &docs); err != nil {
			return nil, err
		}
		if err := d.engine.ExportLog(w.ctx, g, &log); err != nil {
			return nil, err
		}
		out = append(out, holding{d, info, docs.Bytes(), log.Bytes()})
	}
	return out, nil
}

// judge checks what must hold in the end.
func (w *World) judge() {
	for _, d := range w.devices {
		if d.engine != nil && w.failure == nil {
			d.checkAcks()
			if err := checkStore(w.ctx, d.store.Store); err != nil {
				w.fail("device %d: %w", d.number, err)
			}
		}
	}
	for i, g := range w.groups {
		if w.failure == nil {
			w.judgeGroup(i, g)
		}
	}
}

func (w *World) judgeGroup(i int, g peercrypto.ID) {
	list, err := w.holdings(g)
	if err != nil {
		w.fail("group %d: %w", i, err)
		return
	}
	w.checkConsent(i, g)
	circles := circlesOf(list)
	left := slices.ContainsFunc(w.devices, func(d *device) bool { return len(d.left) > 0 })
	if len(circles) > 1 && !w.restored && !left && !w.hostile {
		w.fail("group %d: devices that are in it do not count each other as members\n%s", i, w.disagreement())
		return
	}
	for n, circle := range circles {
		if n > 0 {
			w.stats.Strangers += len(circle)
		}
		w.judgeCircle(i, g, circle)
		if !circle[0].info.GroupDeleted { // nobody is let in any more
			w.checkDevices(i, g, circle[0].info.Members, list)
		}
	}
}

// circlesOf parts devices that are in a group into circles that count each other in. It is one, unless somebody was admitted by a device that
// never told the others.
func circlesOf(list []holding) (out [][]holding) {
	counts := func(a, b holding) bool {
		return slices.ContainsFunc(a.info.Members, func(m groupsync.MemberInfo) bool { return m.UserID == b.dev.user.id })
	}
next:
	for _, h := range list {
		for i, circle := range out {
			if counts(h, circle[0]) && counts(circle[0], h) {
				out[i] = append(circle, h)
				continue next
			}
		}
		out = append(out, []holding{h})
	}
	return out
}

func (w *World) judgeCircle(i int, g peercrypto.ID, list []holding) {
	for _, h := range list[1:] {
		if what := differ(list[0], h); what != "" {
			w.fail("group %d: devices %d and %d have different %s\n%s", i, list[0].dev.number, h.dev.number, what, w.disagreement())
			return
		}
	}
	w.hash.Write(list[0].documents)
	w.hash.Write(list[0].log)
	if bytes.Contains(list[0].documents, []byte(never)) || strings.Contains(list[0].info.Name, never) {
		w.fail("group %d: what nobody was allowed to write is shown", i)
	}
	w.compare(i, g, list)
}

// differ names what two holdings do not have in common.
func differ(a, b holding) string {
	roles := func(h holding) string {
		var out strings.Builder
		for _, m := range h.info.Members {
			_, _ = fmt.Fprint(&out, m.UserID, m.Role, m.Owner, " ")
		}
		return out.String()
	}
	switch {
	case roles(a) != roles(b):
		return "members"
	case !bytes.Equal(a.log, b.log):
		return "entries"
	case a.info.Fingerprint != b.info.Fingerprint:
		return "fingerprints"
	case !bytes.Equal(a.documents, b.documents):
		return "documents"
	case a.info.Name != b.info.Name || a.info.GroupDeleted != b.info.GroupDeleted || a.info.Documents != b.info.Documents || a.info.Deleted != b.info.Deleted:
		return "names or counts"
	}
	return ""
}

// checkConsent: nothing of a group is joined or synced on devices of who did not consent, and nothing of it is stored where nobody was asked.
func (w *World) checkConsent(i int, g peercrypto.ID) {
	for _, d := range w.devices {
		if d.engine == nil || d.user.wanted[g] {
			continue
		}
		err := d.store.View(w.ctx, func(r groupsync.Reader) error {
			rec, ok, err := r.Group(g)
			if err == nil && ok && rec.Joined {
				return fmt.Errorf("it is joined, and nobody consented")
			}
			if err != nil {
				return err
			}
			for _, kind := range []entry.Kind{entry.Operation, entry.Data} {
				sum, err := r.Summary(groupsync.Scope{Group: g, Kind: kind}, groupsync.Ref{}, endRef)
				if err == nil && sum.Count > 0 {
					err = fmt.Errorf("%d entries are stored, and nobody consented", sum.Count)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			w.fail("group %d on device %d: %w", i, d.number, err)
		}
	}
}

// checkDevices: who is a member sees the group on each of their devices, except where it was purged or left. A device that knows of a removal
// which the others hold for void, because who removed was removed, is counted, and so is one that knows of a leave which never got further, because it was
// purged where it was written: nobody meets them any more (docs/simulation.md, "Left out").
func (w *World) checkDevices(i int, g peercrypto.ID, members []groupsync.MemberInfo, list []holding) {
	if w.restored {
		return // a leave or removal may be forgotten by those who still count somebody
	}
	for _, m := range members {
		for _, d := range w.devices {
			has := slices.ContainsFunc(list, func(h holding) bool { return h.dev == d })
			if d.user.id != m.UserID || d.engine == nil || d.purged[g] || d.left[g] || has {
				continue
			}
			if info, err := d.engine.Group(w.ctx, g); err == nil && info.Left && (info.Removed != nil || d.user.ended[g]) || w.plan.Wide && !d.user.anyIn(list) {
				w.stats.Stranded++
			} else {
				w.fail("group %d: device %d is a member's and does not sync it\n%s", i, d.number, w.disagreement())
			}
		}
	}
}

// again opens every store once more: what it shows must be what it showed.
func (w *World) again() {
	var before []holding
	for _, g := range w.groups {
		list, err := w.holdings(g)
		if err != nil {
			w.fail("%w", err)
			return
		}
		before = append(before, list...)
	}
	for _, d := range w.devices {
		d.shut()
	}
	for _, d := range w.devices {
		d.start()
	}
	for _, h := range before {
		if h.dev.engine == nil || w.failure != nil {
			return
		}
		info, err := h.dev.engine.Group(w.ctx, h.info.ID)
		var docs bytes.Buffer
		if err == nil {
			err = h.dev.engine.Export(w.ctx, h.info.ID, &docs)
		}
		if err != nil {
			w.fail("device %d: %w", h.dev.number, err)
		} else if info.Fingerprint != h.info.Fingerprint || !bytes.Equal(docs.Bytes(), h.documents) {
			w.fail("device %d shows something else after a restart", h.dev.number)
		}
	}
}
