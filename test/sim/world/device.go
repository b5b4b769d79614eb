package world

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// A user has devices.
type user struct {
	number  int
	id      peercrypto.ID
	genesis peercrypto.UserGenesis
	devices []*device
	words   int                    // how many recovery words were made; of wide histories
	lost    bool                   // no honest device is left
	wanted  map[peercrypto.ID]bool // groups that the user created, joined or accepted somewhere
	ended   map[peercrypto.ID]bool // groups that the user left or purged somewhere, once
}

// A device is an engine with its disk, or without one while it is down.
type device struct {
	w      *World
	number int
	user   *user
	ident  peercrypto.Identity // of its key store
	line   []keys.Event        // that lead to the key that the engine works with
	renews bool                // it is about to begin anew with another key
	evil   bool
	deeds  *deeds // of an evil one

	disk    disk
	backup  *backup
	follows []*follow
	store   *faultyStore
	engine  *groupsync.Engine
	stop    context.CancelFunc
	running chan struct{} // closed when Engine.Run returned
	offset  atomic.Int64  // of the clock, in ns
	gone    bool          // for good

	acks   []*ack
	purged map[peercrypto.ID]bool
	left   map[peercrypto.ID]bool // by an action on this device
	// members are those of each group by this device's state: now, and when it was looked at before.
	members map[peercrypto.ID]map[peercrypto.ID]bool
}

// An ack is a write that the engine said is durable.
type ack struct {
	group, subject peercrypto.ID
	hash           peercrypto.Hash
	excused        bool // the device was restored from before it, or purged the group
}

type backup struct {
	disk   disk
	acks   int // how many there were
	purged map[peercrypto.ID]bool
	left   map[peercrypto.ID]bool
	ident  peercrypto.Identity
}

// populate makes users and devices and starts them.
func (w *World) populate() error {
	counts := map[int]int{}
	for i, u := range w.plan.Devices {
		ident, err := w.identity(u, counts[u])
		if err != nil {
			return err
		}
		counts[u]++
		if u == len(w.users) {
			w.users = append(w.users, &user{number: u, id: ident.UserID(), genesis: ident.Genesis, words: 1,
				wanted: map[peercrypto.ID]bool{}, ended: map[peercrypto.ID]bool{}})
		}
		d, err := w.newDevice(w.users[u], ident)
		if err != nil {
			return err
		}
		if d.evil = i == w.plan.Evil; d.evil {
			d.deeds = newDeeds(w.plan.Seed)
		}
		w.schedule(time.Duration(i+1)*time.Millisecond, d.start)
	}
	return nil
}

// newDevice makes a device that is off, with an empty disk.
func (w *World) newDevice(u *user, ident peercrypto.Identity) (d *device, err error) {
	d = &device{
		w: w, number: len(w.devices), user: u, ident: ident,
		purged: map[peercrypto.ID]bool{}, left: map[peercrypto.ID]bool{}, members: map[peercrypto.ID]map[peercrypto.ID]bool{},
	}
	if d.disk, err = w.newDisk(); err != nil {
		return nil, err
	}
	u.devices = append(u.devices, d)
	w.devices = append(w.devices, d)
	return d, nil
}

func (w *World) newDisk() (disk, error) {
	if w.plan.SQLite {
		return newFileDisk(w.dirs)
	}
	return newMemoryDisk(), nil
}

// Now is the device's clock.
func (d *device) now() time.Time { return time.Now().Add(epoch + time.Duration(d.offset.Load())) }

// setClock sets the clock. Sessions end with it: they measure time with the clock that only a restart changes, which Config.Now can't show.
func (d *device) setClock(offset time.Duration) {
	if time.Duration(d.offset.Swap(int64(offset))) == offset {
		return
	}
	for _, c := range d.w.conns {
		if c.ends[0].dev == d || c.ends[1].dev == d {
			d.w.cut(c)
		}
	}
}

func (d *device) peer() groupsync.Peer {
	return groupsync.Peer{
		UserID: d.user.id, UserKey: d.engine.Identity().User.Public(), Genesis: d.ident.Genesis, DeviceID: d.ident.DeviceID(),
		DeviceKey: d.ident.Device.Public(), UserDoc: d.engine.UserDoc(), Keys: d.line,
	}
}

// start opens the store and the engine.
func (d *device) start() {
	if d.engine != nil || d.gone {
		return
	}
	d.w.trace("start d%d", d.number)
	s, err := d.disk.open()
	if err != nil {
		d.w.fail("device %d: the store does not open: %w", d.number, err)
		return
	}
	if err := checkStore(d.w.ctx, s); err != nil {
		d.w.fail("device %d: %w", d.number, err)
	}
	d.store = &faultyStore{Store: s, disk: d.disk}
	cfg := groupsync.Config{
		Store: d.store, Identity: d.ident, Name: fmt.Sprintf("user %d", d.user.number), Now: d.now,
		Logger: slog.New(&watcher{d: d}), Limits: d.w.limits(),
	}
	if d.engine, err = groupsync.Open(d.w.ctx, cfg); err != nil {
		d.w.fail("device %d: %w", d.number, err)
		d.engine = nil
		_ = s.Close()
		return
	}
	d.renewed()
	ctx, cancel := context.WithCancel(d.w.ctx)
	d.stop, d.running = cancel, make(chan struct{})
	go func(e *groupsync.Engine, done chan struct{}) {
		defer close(done)
		_ = e.Run(ctx)
	}(d.engine, d.running)
	d.checkAcks()
}

// shut ends the engine; with a crash, what is on disk is what was frozen then.
func (d *device) shut() {
	if d.engine == nil {
		return
	}
	d.w.trace("shut d%d", d.number)
	for _, c := range slices.Clone(d.w.conns) {
		if c.ends[0].dev == d || c.ends[1].dev == d {
			d.w.cut(c)
		}
	}
	d.stop()
	_ = d.engine.Close()
	<-d.running
	_ = d.store.Close()
	if frozen := d.store.crashed(); frozen != nil {
		d.disk = frozen
		d.w.stats.Crashes++
	}
	d.engine, d.store, d.follows = nil, nil, nil
	clear(d.members)
}

// noticeCrash takes down a device whose store has crashed, and starts it later.
func (d *device) noticeCrash() {
	if d.engine == nil || d.store.crashed() == nil {
		return
	}
	d.shut()
	d.later()
}

// later starts a device that is down.
func (d *device) later() {
	p := d.w.pair(d.number, d.number)
	d.w.schedule(d.w.now()+time.Second+time.Duration(p.rng.Int64N(int64(30*time.Second))), d.start)
}

// restore continues on the backup: what was written since is forgotten here. The key store may have been in it, too.
func (d *device) restore(keyStore bool) {
	d.shut()
	b := d.backup
	frozen, err := b.disk.freeze()
	if err != nil {
		d.w.fail("device %d: reading a backup: %w", d.number, err)
		return
	}
	d.disk, d.w.restored = frozen, true
	for _, a := range d.acks[b.acks:] {
		a.excused = true
	}
	d.purged, d.left = maps.Clone(b.purged), maps.Clone(b.left)
	if keyStore {
		d.ident = b.ident
	}
}

// checkAcks looks whether everything that was acknowledged is there.
func (d *device) checkAcks() {
	err := d.store.View(d.w.ctx, func(r groupsync.Reader) error {
		for _, a := range d.acks {
			if a.excused {
				continue
			}
			if _, ok, err := r.Record(a.hash); err != nil {
				return err
			} else if !ok {
				return fmt.Errorf("document %s: the acknowledged entry %s is lost", a.subject.Short(), a.hash.Short())
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, errCrashed) {
		d.w.fail("device %d: %w", d.number, err)
	}
}

// acked remembers the last entry of a document as durable.
func (d *device) acked(group, subject peercrypto.ID, hash peercrypto.Hash) {
	d.acks = append(d.acks, &ack{group: group, subject: subject, hash: hash})
}

// A watcher reads an engine's log: honest devices send nothing that must be refused.
type watcher struct{ d *device }

// Enabled lets warnings through.
func (l *watcher) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

// Handle looks for refused entries and for inconsistencies.
func (l *watcher) Handle(_ context.Context, r slog.Record) error {
	w, text := l.d.w, r.Message
	late := false
	r.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok {
			late = late || isLate(err) || errors.Is(err, errCrashed) || errors.Is(err, groupsync.ErrStoreFull) ||
				errors.Is(err, context.Canceled) || errors.Is(err, groupsync.ErrClosed)
			text += fmt.Sprintf(" %v", err)
		}
		return true
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("d%d warns: %s", l.d.number, text)
	if r.Level >= slog.LevelError || r.Message == "entry refused" && !w.hostile && !late {
		w.seen = append(w.seen, fmt.Errorf("device %d: %s", l.d.number, text))
		poke(w.wake)
	}
	return nil
}

// isLate tells whether an entry was refused because of its time only, which clocks that differ explain.
func isLate(err error) bool { return strings.Contains(err.Error(), "not admitted now") }

// WithAttrs ignores them.
func (l *watcher) WithAttrs([]slog.Attr) slog.Handler { return l }

// WithGroup ignores it.
func (l *watcher) WithGroup(string) slog.Handler { return l }
