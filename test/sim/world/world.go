package world

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"hash"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// epoch is what the clocks show when a history begins: synctest's own time is before peersignal's.
const epoch = 26 * 365 * 24 * time.Hour

// A World is a history that is being played. Everything belongs to the scheduler, the goroutine that Run plays it in,
// except for what mu guards.
type World struct {
	plan    Plan
	ctx     context.Context
	started time.Time
	log     io.Writer // of a verbose run; may be nil
	dirs    *tempDirs

	devices []*device
	users   []*user
	groups  []peercrypto.ID
	links   []entry.Invitation
	subject map[peercrypto.ID][]peercrypto.ID // documents of a group, as they were made
	pairs   map[[2]int]*pair
	conns   []*conn // running
	opened  int

	events   events
	sequence int
	hash     hash.Hash64
	stats    Stats
	lastBusy time.Duration
	healing  bool
	due      time.Duration // when nothing that is stored lies ahead of the clocks any more
	restored bool          // some device continued an old backup
	shift    time.Duration // what all clocks were set to in the end
	ttls     []int64       // when documents end, in unix ms
	kept     []kept        // what rotations must keep
	hostile  bool          // there is a malicious device, or was
	touched  map[*device]bool
	story    []string // what the actions did
	failure  error
	kind     string // of failure

	wake chan struct{}

	mu    sync.Mutex
	dirty map[*endpoint]bool // sent or closed in this step
	seen  []error            // what goroutines of engines found wrong
}

// Stats count what happened, so that a run can be seen to have done something.
type Stats struct {
	Actions map[string]int // by kind and outcome
	Frames  int
	Conns   int
	Crashes int
	Entries int // valid at the end, in all groups
	// Stranded devices know of a removal that is void for all others.
	Stranded int
	// Strangers are devices that others do not count in, because who admitted them is gone.
	Strangers int
	Virtual   time.Duration
}

// String is "name=value …" with what the actions did in order of their names.
func (s Stats) String() string {
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "frames=%d connections=%d crashes=%d entries=%d stranded=%d strangers=%d",
		s.Frames, s.Conns, s.Crashes, s.Entries, s.Stranded, s.Strangers)
	for _, name := range slices.Sorted(maps.Keys(s.Actions)) {
		_, _ = fmt.Fprintf(&b, " %s=%d", name, s.Actions[name])
	}
	return b.String()
}

// A pair is what the network knows of two devices.
type pair struct {
	rng     *rand.Rand
	down    bool
	retryAt time.Duration
}

type event struct {
	at       time.Duration
	sequence int
	fn       func()
}

type events []*event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(e[i].at, e[j].at), cmp.Compare(e[i].sequence, e[j].sequence)) < 0
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }

// Push is for package heap.
func (e *events) Push(x any) { *e = append(*e, x.(*event)) }

// Pop is for package heap.
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

func newWorld(ctx context.Context, p Plan, log io.Writer, dirs *tempDirs) *World {
	return &World{
		plan: p, ctx: ctx, started: time.Now(), log: log, dirs: dirs,
		subject: map[peercrypto.ID][]peercrypto.ID{}, pairs: map[[2]int]*pair{},
		hash: fnv.New64a(), stats: Stats{Actions: map[string]int{}}, touched: map[*device]bool{},
		wake: make(chan struct{}, 1), dirty: map[*endpoint]bool{},
		hostile: p.Evil >= 0,
	}
}

// now is the time since the beginning.
func (w *World) now() time.Duration { return time.Since(w.started) }

func (w *World) schedule(at time.Duration, fn func()) {
	w.sequence++
	heap.Push(&w.events, &event{max(at, w.now()), w.sequence, fn})
}

// trace adds a line to what identifies this history.
func (w *World) trace(format string, args ...any) {
	line := fmt.Sprintf("%v ", w.now()) + fmt.Sprintf(format, args...)
	_, _ = w.hash.Write(append([]byte(line), '\n'))
	if w.log != nil {
		_, _ = fmt.Fprintln(w.log, line)
	}
}

// note is for a reader only.
func (w *World) note(format string, args ...any) {
	if w.log != nil {
		_, _ = fmt.Fprintf(w.log, "%v   "+format+"\n", append([]any{w.now()}, args...)...)
	}
}

// fail records the first thing that is wrong; the history ends with it.
func (w *World) fail(format string, args ...any) {
	if w.failure == nil {
		w.kind = format
		w.failure = fmt.Errorf("after %v: "+format, append([]any{w.now()}, args...)...)
		w.note("FAILED: %v", w.failure)
	}
}

// step lets everything that runs come to rest and looks at it.
func (w *World) step() {
	synctest.Wait()
	w.flush()
	w.mu.Lock()
	seen := w.seen
	w.seen = nil
	w.mu.Unlock()
	for _, err := range seen {
		w.fail("%w", err)
	}
	w.reap()
	for d := range w.touched {
		d.observe()
	}
	clear(w.touched)
	for _, d := range w.devices {
		d.noticeCrash()
		d.noticeKey()
	}
}

// play lets events happen until a time, or until something fails.
func (w *World) play(until time.Duration) {
	for w.failure == nil {
		w.step()
		next := until
		if len(w.events) > 0 {
			next = min(next, w.events[0].at)
		}
		switch wait := next - w.now(); {
		case wait > 0:
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-w.wake:
				timer.Stop()
			}
		case len(w.events) > 0 && w.events[0].at <= w.now():
			heap.Pop(&w.events).(*event).fn()
		default:
			return
		}
	}
}

// meetEvery is how often devices look for each other.
const meetEvery = time.Second

// meet connects devices that have a topic in common, as signaling would.
func (w *World) meet() {
	w.schedule(w.now()+meetEvery, w.meet)
	topics := make([][]groupsync.Rendezvous, len(w.devices))
	for i, d := range w.devices {
		if d.engine != nil {
			topics[i] = d.engine.Rendezvous()
		}
	}
	for i := range w.devices {
		for j := range i {
			p := w.pair(j, i)
			if p.down || w.now() < p.retryAt || !common(topics[i], topics[j]) {
				continue
			}
			p.retryAt = w.now() + time.Second + time.Duration(p.rng.Int64N(int64(8*time.Second)))
			if n := w.connected(j, i); n > 0 && (n > 1 || w.healing || p.rng.IntN(30) > 0) {
				continue
			}
			w.schedule(w.now()+time.Duration(p.rng.Int64N(int64(meetEvery))), func() { w.connect(j, i) })
		}
	}
}

// common tells whether two devices know one topic. Signaling would ask that one of them announces itself there. It is left out because admins
// who rotate the key of a group without knowing of each other would then never meet again: docs/simulation.md, "Left out".
func common(a, b []groupsync.Rendezvous) bool {
	for _, x := range a {
		for _, y := range b {
			if x.Key == y.Key {
				return true
			}
		}
	}
	return false
}

func (w *World) pair(i, j int) *pair {
	key := [2]int{min(i, j), max(i, j)}
	p := w.pairs[key]
	if p == nil {
		p = &pair{rng: rand.New(rand.NewPCG(w.plan.Seed, uint64(1000+100*key[0]+key[1])))}
		w.pairs[key] = p
	}
	return p
}

func (w *World) connected(i, j int) (n int) {
	for _, c := range w.conns {
		a, b := c.ends[0].dev.number, c.ends[1].dev.number
		if (a == i && b == j || a == j && b == i) && !c.ends[0].ended && !c.ends[1].ended {
			n++
		}
	}
	return n
}

// connect begins a connection, if both sides want it.
func (w *World) connect(i, j int) {
	a, b := w.devices[i], w.devices[j]
	p := w.pair(i, j)
	if a.engine == nil || b.engine == nil || p.down ||
		a.engine.Admits(b.user.id) == groupsync.AdmitNone || b.engine.Admits(a.user.id) == groupsync.AdmitNone || !a.admits(b) || !b.admits(a) {
		return
	}
	w.opened++
	w.stats.Conns++
	c := &conn{number: w.opened, rng: rand.New(rand.NewPCG(w.plan.Seed, p.rng.Uint64())), left: -1, hostile: a.evil || b.evil}
	c.latency = time.Duration(1+c.rng.IntN(100)) * time.Millisecond
	c.jitter = time.Duration(1+c.rng.IntN(200)) * time.Millisecond
	if c.rng.IntN(10) == 0 {
		c.jitter *= 20
	}
	if !w.healing && c.rng.IntN(2) == 0 {
		c.left = c.rng.IntN(1 << (1 + c.rng.IntN(7)))
	}
	c.ends = [2]*endpoint{newEndpoint(w, c, a), newEndpoint(w, c, b)}
	c.ends[0].peer, c.ends[1].peer = c.ends[1], c.ends[0]
	w.conns = append(w.conns, c)
	w.trace("conn %d d%d d%d", c.number, i, j)
	c.ends[0].start()
	w.schedule(w.now()+time.Duration(c.rng.Int64N(int64(c.jitter)))+1, c.ends[1].start)
}

// start runs the session of one end.
func (e *endpoint) start() {
	d := e.dev
	if d.engine == nil || e.end != nil {
		e.ended, e.handled = true, true
		e.w.cut(e.c)
		return
	}
	other := e.peer.dev.peer()
	e.key = other.UserKey
	e.session = d.engine.NewSession(other, e)
	ctx, cancel := context.WithCancel(e.w.ctx)
	e.cancel = cancel
	go func() {
		err := e.session.Run(ctx)
		e.w.mu.Lock()
		defer e.w.mu.Unlock()
		e.ended, e.result = true, err
		poke(e.w.wake)
	}()
}

// reap looks at sessions that ended.
func (w *World) reap() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		for _, e := range c.ends {
			if !e.ended || e.handled {
				continue
			}
			e.handled = true
			w.trace("ended %d.%d", c.number, e.side())
			w.note("d%d: %v", e.dev.number, e.result)
			e.cancel()
			if errors.Is(e.result, groupsync.ErrKeyRefused) {
				w.pair(e.dev.number, e.peer.dev.number).retryAt = w.now() + 40*time.Second
			}
			if err := e.result; !c.hostile && (errors.Is(err, groupsync.ErrProtocol) || errors.Is(err, groupsync.ErrBadEntries) ||
				errors.Is(err, groupsync.ErrSlow)) {
				w.fail("honest devices d%d and d%d: %w", e.dev.number, e.peer.dev.number, err)
			}
		}
	}
	w.conns = slices.DeleteFunc(w.conns, func(c *conn) bool { return c.ends[0].handled && c.ends[1].handled })
}
