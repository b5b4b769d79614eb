package exchange

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/peersignal/peersignal/pkg/sync/files"
)

const (
	// MaxWindow is how many chunks are asked of one source and not there yet.
	MaxWindow = 12
	// firstWindow is where a source begins.
	firstWindow = 3
	// quickAnswer and slowAnswer are the delays of a chunk below which the
	// window of a source grows and above which it shrinks.
	quickAnswer = time.Second
	slowAnswer  = 4 * time.Second
	// stallTimeout is how long a source may be silent that was asked something.
	stallTimeout = time.Minute
	// pollEvery is how often a source with nothing to give is asked again.
	pollEvery = 2 * time.Second
	// idlePolls is how often that is done in a row.
	idlePolls = 10
	// pickFrom is among how many chunks the rarest is chosen.
	pickFrom = 64
	// maxTwice is how many sources are asked for one chunk at the end.
	maxTwice = 2
)

// Why a source was given up.
var (
	// ErrNone means that the source does not have the file, or not for us.
	ErrNone = errors.New("the device does not have the file, or not for you")
	// ErrNothing means that the source has had nothing for a while that is
	// missing here.
	ErrNothing = errors.New("the device has no part that is missing here")
	// ErrBusy means that the source gives enough files already.
	ErrBusy = errors.New("the device gives as many files as it can; try again later")
	// ErrBadData means that the source sent what does not fit the file. It is
	// broken or hostile.
	ErrBadData = errors.New("the device sent data that is not of the file")
	// ErrStalled means that the source did not answer in time.
	ErrStalled = errors.New("the device did not answer in time")
)

// Fetch gets one partial file from any number of sources. It is safe for
// concurrent use.
type Fetch struct {
	p     *files.Partial
	ref   files.Ref
	limit *rate.Limiter // shared with other fetches; nil: no bound
	done  chan struct{} // closed when all chunks are here, or with err

	mu      sync.Mutex
	missing files.Bitmap     // chunks that are not here
	asked   files.Bitmap     // of these, those that a source was asked for
	times   map[int]int      // how many sources were asked for a chunk, where above 1
	sources []*source        // that gave a bitmap
	changed chan struct{}    // closed when there may be more to ask for
	err     error            // why the fetch can't go on
	over    bool             // done is closed
	bytes   map[string]int64 // by source: chunks that it gave
}

// Limit returns a token bucket for fetches, in bytes a second; nil for no bound.
func Limit(bytesPerSecond int64) *rate.Limiter { return limiter(bytesPerSecond) }

// NewFetch returns the fetch of what p lacks. limit, which may be nil, bounds
// all fetches that share it.
func NewFetch(p *files.Partial, limit *rate.Limiter) *Fetch {
	f := &Fetch{
		p: p, ref: p.Ref(), limit: limit, done: make(chan struct{}), changed: make(chan struct{}),
		times: map[int]int{}, bytes: map[string]int64{},
	}
	f.Again()
	return f
}

// Again looks at what is missing anew: for a file in which damage was found. It
// must not be called while sources run.
func (f *Fetch) Again() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.missing, f.asked = files.NewBitmap(f.ref), files.NewBitmap(f.ref)
	f.missing.Fill(f.ref)
	for i, b := range f.p.Bitmap() {
		f.missing[i] &^= b
	}
	clear(f.times)
	f.err = nil
	if f.over {
		f.done, f.over = make(chan struct{}), false
	}
	f.checkLocked()
}

// Done is closed when all chunks are here, or the fetch failed: see Err.
func (f *Fetch) Done() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.done
}

// Err returns why no source can help, such as a full disk, else nil.
func (f *Fetch) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// Sources returns how many sources there are that have told what they have.
func (f *Fetch) Sources() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.sources)
}

// Given returns how many bytes of chunks each source gave, by name.
func (f *Fetch) Given() map[string]int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make(map[string]int64, len(f.bytes))
	for name, n := range f.bytes {
		out[name] = n
	}
	return out
}

// checkLocked ends the fetch when there is nothing more to get.
func (f *Fetch) checkLocked() {
	if f.over || f.err == nil && (any1(f.missing) || f.p.Top() == nil) {
		return
	}
	f.over = true
	close(f.done)
}

func any1(b files.Bitmap) bool {
	return slices.ContainsFunc(b, func(x byte) bool { return x != 0 })
}

// fail ends the fetch for a reason of this side.
func (f *Fetch) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil && !f.over {
		f.err = err
	}
	f.checkLocked()
}

// wakeLocked lets idle sources look for work.
func (f *Fetch) wakeLocked() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// Source gets chunks over one stream until the fetch is done, the stream ends or
// ctx does, and closes the stream. It returns nil when the fetch is done, else
// why this source is given up. name is for Given.
func (f *Fetch) Source(ctx context.Context, name string, st Stream) error {
	defer func() { _ = st.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := f.Done()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-done:
			cancel()
		case <-ctx.Done():
		}
	}()
	s := &source{f: f, name: name, stream: st, window: firstWindow}
	err := s.run(ctx)
	f.leave(s)
	finished := isClosed(done)
	cancel()
	<-ended
	if finished {
		return nil
	}
	return fmt.Errorf("fetching file %s: %w", f.ref.ID.Short(), err)
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// join counts a source, or takes its new bitmap.
func (f *Fetch) join(s *source, have files.Bitmap) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.have = have
	if !slices.Contains(f.sources, s) {
		f.sources = append(f.sources, s)
	}
}

// leave takes back what a source was asked for.
func (f *Fetch) leave(s *source) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sources = slices.DeleteFunc(f.sources, func(o *source) bool { return o == s })
	for _, q := range s.expect {
		if q.kind == askChunk {
			f.returnLocked(q.number)
		}
	}
	f.wakeLocked()
}

// returnLocked notes that one source less was asked for a chunk.
func (f *Fetch) returnLocked(chunk int) {
	if f.times[chunk] > 1 {
		f.times[chunk]--
		return
	}
	delete(f.times, chunk)
	f.asked.Clear(chunk)
}

// pick chooses a chunk for a source and notes that it is asked: of the first
// ones that nobody was asked for the rarest, and at the end, for a source that
// would be idle, one that another source is slow with.
func (f *Fetch) pick(s *source) (int, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	best, rarity, seen := -1, 0, 0
	for i := range f.missing {
		for x := f.missing[i] &^ f.asked[i] & s.have[i]; x != 0 && seen < pickFrom; x &= x - 1 {
			chunk := i*8 + bits.TrailingZeros8(x)
			if n := f.rarityLocked(chunk); best < 0 || n < rarity {
				best, rarity = chunk, n
			}
			seen++
		}
		if seen >= pickFrom {
			break
		}
	}
	if best < 0 && len(s.expect) == 0 {
		best = f.slowLocked(s)
	}
	if best < 0 {
		return 0, false
	}
	if f.asked.Has(best) {
		f.times[best] = max(f.times[best], 1) + 1
	}
	f.asked.Set(best)
	return best, true
}

func (f *Fetch) rarityLocked(chunk int) int {
	n := 0
	for _, s := range f.sources {
		if s.have.Has(chunk) {
			n++
		}
	}
	return n
}

// slowLocked returns a chunk that only others were asked for, or -1.
func (f *Fetch) slowLocked(s *source) int {
	for i := range f.missing {
		for x := f.missing[i] & s.have[i]; x != 0; x &= x - 1 {
			if chunk := i*8 + bits.TrailingZeros8(x); f.times[chunk] < maxTwice {
				return chunk
			}
		}
	}
	return -1
}

// arrived notes that a chunk is here.
func (f *Fetch) arrived(s *source, chunk, size int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.returnLocked(chunk)
	f.bytes[s.name] += int64(size)
	f.missing.Clear(chunk)
	f.checkLocked()
}

// lacks notes that a source does not have a chunk after all.
func (f *Fetch) lacks(s *source, chunk int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.returnLocked(chunk)
	s.have.Clear(chunk)
	f.wakeLocked()
}

// change returns a channel that is closed when there may be more to ask for.
func (f *Fetch) change() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}
