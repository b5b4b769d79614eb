package sync

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/recon"
)

const (
	// outQueue is how many control frames wait for the transport; a session whose queue overflows is closed.
	outQueue = 1_024
	// window is how many bytes of ENTRIES and LOG frames may be on the way without ACK.
	window = 2 << 20
	// helloWithin is how long the other side has for its HELLO.
	helloWithin = 30 * time.Second
	// strangerWithin is how long a session without a shared group lasts.
	strangerWithin = time.Minute
	// maxSlowTasks is how many joins, offers and documents of users wait for the worker.
	maxSlowTasks = 64
)

// A Session is the conversation with one other device.
//
// Goroutines of Run: the reader alone calls Recv; the control and the bulk writer alone call Send for their lane; the ingester
// verifies what comes on the bulk lane while the committer stores what came before; the worker does what is slow; and loop owns all state that is not said to be shared. The reader and
// loop never wait for the transport, so two devices can't block each other.
type Session struct {
	e      *Engine
	peer   Peer
	t      Transport
	number int64 // marks entries that this session brought
	lower  bool  // this device has the lower id and reconciles
	salt   [16]byte
	// keysOnly: the other one is a device of this user, and one of both lacks the key that stands. Set before the goroutines start.
	keysOnly bool
	since    time.Time

	ctl   chan any    // decoded control frames, reader to loop
	out   chan []byte // control frames, loop and ingester to the control writer
	inbox chan bulkFrame
	// verified holds one piece of work between the ingester and the committer.
	verified chan bulkWork
	notes    chan any // reader, committer and worker to loop
	slow     chan func(context.Context)
	wake     chan struct{}
	jobs     jobQueue
	fail     context.CancelCauseFunc

	proving       atomic.Int32 // logs that the worker checks
	packs         atomic.Bool  // the other side understands PACKED frames; set by loop
	plain, packed []byte       // owned by the bulk writer

	counters struct{ framesIn, framesOut, bytesIn, bytesOut, entriesIn, entriesOut atomic.Int64 }

	mu     sync.Mutex
	status []SessionGroup         // published by loop
	asking map[peercrypto.ID]bool // groups that were left, whose LOG is expected

	loop loopState
}

type bulkFrame struct {
	t    frameType
	body any
	size int64
}

// loopState is owned by loop.
type loopState struct {
	rec     recon.Reconciler
	greeted bool // the other's HELLO came
	// generation of the engine when groups were looked at last; -1 before that.
	generation int64
	listed     bool // the other's first GROUPS came
	listedOwn  bool // the own first GROUPS was sent
	groups     map[peercrypto.ID]*groupSession
	order      []*groupSession             // groups by id
	knocked    map[peercrypto.ID]bool      // joins that were announced here
	joining    map[peercrypto.ID]bool      // groups for which the other device asked to join and was told to wait
	fetching   map[peercrypto.ID]bool      // logs that were asked for
	looked     map[peercrypto.ID]*view     // groups that are not shared, as they were when farewell looked at them
	farewells  map[peercrypto.ID]*farewell // groups of which the other side was told that somebody's membership ended
	common     bool                        // a group was shared at some time
	ending     time.Time                   // when there was nothing in common any more
	accepts    map[peercrypto.ID]bool      // groups whose accept was told
	offered    map[peercrypto.Hash]bool
	asked      map[peercrypto.Hash]bool // entries that were asked for because others refer to them
	later      map[peercrypto.Hash]laterWant
	named      map[peercrypto.ID]bool // users whose document was asked for
	userDoc    string                 // the own document that the other side knows
	joins      int                    // JOIN frames received

	need       keyNeed // the last own NEED that was not answered yet
	needSecret peercrypto.BoxSecretKey
	needs      int // NEED frames received
	// ownGeneration of the engine when another own device was told of keys last; -1 before that.
	ownGeneration int64
}

// NewSession prepares a session; Run has it. The session takes the transport over.
func (e *Engine) NewSession(p Peer, t Transport) *Session {
	s := &Session{
		e: e, peer: p, t: t, lower: e.deviceID < p.DeviceID, since: e.cfg.Now(),
		ctl: make(chan any, 64), out: make(chan []byte, outQueue), inbox: make(chan bulkFrame, 4_096),
		verified: make(chan bulkWork, 1), asking: map[peercrypto.ID]bool{},
		notes: make(chan any, 256), slow: make(chan func(context.Context), maxSlowTasks), wake: make(chan struct{}, 1),
		loop: loopState{
			generation: -1, ownGeneration: -1,
			groups:  map[peercrypto.ID]*groupSession{},
			knocked: map[peercrypto.ID]bool{}, joining: map[peercrypto.ID]bool{}, fetching: map[peercrypto.ID]bool{},
			looked: map[peercrypto.ID]*view{}, farewells: map[peercrypto.ID]*farewell{},
			accepts: map[peercrypto.ID]bool{}, offered: map[peercrypto.Hash]bool{},
			asked: map[peercrypto.Hash]bool{}, later: map[peercrypto.Hash]laterWant{}, named: map[peercrypto.ID]bool{},
		},
	}
	_, _ = rand.Read(s.salt[:]) // never fails
	s.jobs.init()
	return s
}

// Run has the conversation until ctx ends, the transport fails, the engine closes or a side breaks the protocol. It closes the transport and
// returns the reason after all its goroutines ended; nil when the other side closed in order.
func (s *Session) Run(ctx context.Context) error {
	err := s.run(ctx)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sync with device %s: %w", s.peer.DeviceID.Short(), err)
	}
	return nil
}

func (s *Session) run(ctx context.Context) error {
	defer func() { _ = s.t.Close() }()
	if err := s.e.enter(); err != nil {
		return err
	}
	defer s.e.active.Done()
	if s.e.deviceID == s.peer.DeviceID {
		return fmt.Errorf("%w: it has this device's own id", ErrProtocol)
	}
	if s.e.Admits(s.peer.UserID) == AdmitNone {
		return ErrNotAdmitted
	}
	var err error
	if s.keysOnly, err = s.e.meet(ctx, s.peer); err != nil {
		return err
	}
	s.enroll()
	defer s.retire()
	ctx, s.fail = context.WithCancelCause(ctx)
	defer s.fail(nil)
	var wg sync.WaitGroup
	for _, part := range []func(context.Context) error{
		s.read, s.writeControl, s.writeBulk, s.ingestAll, s.commitAll, s.work, s.runLoop,
	} {
		wg.Go(func() {
			if err := part(ctx); err != nil {
				s.fail(err)
			}
		})
	}
	stop := context.AfterFunc(ctx, func() { _ = s.t.Close(); s.jobs.close() })
	defer stop()
	select {
	case <-ctx.Done():
	case <-s.e.done:
		s.fail(ErrClosed)
	}
	wg.Wait()
	return context.Cause(ctx)
}

func (s *Session) enroll() {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	s.e.next++
	s.number = s.e.next
	s.e.sessions[s] = struct{}{}
}

func (s *Session) retire() {
	s.e.wanted.release(s)
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	delete(s.e.sessions, s)
}

// read decodes frames and hands them on. The inbox has room for everything that the window allows in frames of honest size.
func (s *Session) read(ctx context.Context) error {
	var unacked int64
	for {
		lane, raw, err := s.t.Recv(ctx)
		if err != nil {
			return err
		}
		s.counters.framesIn.Add(1)
		s.counters.bytesIn.Add(int64(len(raw)))
		if lane == Bulk && s.keysOnly {
			continue
		}
		if lane == Bulk {
			raw, err = unpack(raw)
		}
		var t frameType
		var body any
		if err == nil {
			t, body, err = decodeFrame(lane, raw)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		if body == nil {
			continue
		}
		if ack, ok := body.(int64); ok {
			told, ok := s.jobs.acked(ack)
			if !ok {
				return fmt.Errorf("%w: it acknowledges what was not sent", ErrProtocol)
			}
			for _, group := range told {
				s.note(ctx, noteTold{group})
			}
			continue
		}
		if lane == Control {
			select {
			case s.ctl <- controlFrame{t, body}:
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		f := bulkFrame{t, body, 0}
		if t == frameEntries || t == frameLog {
			f.size = cost(len(raw))
			unacked = s.jobs.received(f.size)
		}
		if unacked > window+MaxFrame {
			return fmt.Errorf("%w: it sends more than the window", ErrProtocol)
		}
		select {
		case s.inbox <- f:
		default:
			return fmt.Errorf("%w: too many frames on the bulk lane", ErrProtocol)
		}
	}
}

type controlFrame struct {
	t    frameType
	body any
}

func (s *Session) writeControl(ctx context.Context) error {
	for {
		select {
		case f := <-s.out:
			if err := s.send(ctx, Control, f); err != nil {
				return err
			}
			if len(s.out) == busyOut/2 {
				poke(s.wake)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Session) send(ctx context.Context, lane Lane, frame []byte) error {
	if err := s.t.Send(ctx, lane, frame); err != nil {
		return err
	}
	s.counters.framesOut.Add(1)
	s.counters.bytesOut.Add(int64(len(frame)))
	return nil
}

// tell queues a control frame. It never waits.
func (s *Session) tell(frame []byte) {
	select {
	case s.out <- frame:
	default:
		s.fail(ErrSlow)
	}
}

// work does one slow thing after the other.
func (s *Session) work(ctx context.Context) error {
	for {
		select {
		case fn := <-s.slow:
			fn(ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// slowly queues something slow; it tells whether there was room.
func (s *Session) slowly(fn func(context.Context)) bool {
	select {
	case s.slow <- fn:
		return true
	default:
		return false
	}
}

// note tells loop something.
func (s *Session) note(ctx context.Context, n any) {
	select {
	case s.notes <- n:
	case <-ctx.Done():
	}
}

// Status returns a snapshot.
func (s *Session) Status() SessionStatus {
	s.mu.Lock()
	groups := slices.Clone(s.status)
	s.mu.Unlock()
	for i := range groups {
		groups[i].Have = s.have(context.Background(), groups[i].Group)
	}
	c := &s.counters
	return SessionStatus{
		Peer: s.peer, Since: s.since, Groups: groups,
		EntriesIn: c.entriesIn.Load(), EntriesOut: c.entriesOut.Load(),
		FramesIn: c.framesIn.Load(), FramesOut: c.framesOut.Load(),
		BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(),
	}
}

// Sessions returns the status of each running session.
func (e *Engine) Sessions() []SessionStatus {
	e.mu.RLock()
	defer e.mu.RUnlock()
	out := make([]SessionStatus, 0, len(e.sessions))
	for s := range e.sessions {
		out = append(out, s.Status())
	}
	return out
}

// SessionStatus is a snapshot of a session, for display.
type SessionStatus struct {
	Peer       Peer
	Since      time.Time
	Groups     []SessionGroup // by group id
	EntriesIn  int64          // received, known ones too
	EntriesOut int64
	FramesIn   int64
	FramesOut  int64
	BytesIn    int64
	BytesOut   int64
}

// SessionGroup is the state of one group in a session.
type SessionGroup struct {
	Group  peercrypto.ID
	Synced bool  // both held the same when they compared last
	Have   int64 // entries held here
	Want   int64 // entries that the other device said it holds
	Unsent int64 // entries that it lacks and that were not sent yet, estimated

	Received, Sent int64 // entries that the session brought and that were new, and that it sent
}
