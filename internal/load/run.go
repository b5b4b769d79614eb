package load

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/peersignal/peersignal/pkg/wire"
)

// shares is how many sets of counters there are.
const shares = 16

// run is one run of a load.
type run struct {
	cfg      Config
	target   *target
	server   *probe
	scenario scenario
	seed     Topic
	begin    time.Time
	clients  []*client
	counters []*counters
	limiter  *rate.Limiter
	slots    chan struct{} // of those that connect
	up       atomic.Int64
	down     atomic.Bool // connections that end now end as they should
	readers  sync.WaitGroup

	mu                     sync.Mutex
	refused, failed, noted map[string]uint64
}

// scenario is what clients do when they are connected.
type scenario interface {
	// event takes what a client was sent; its reader calls it.
	event(c *client, e *Event)
	// play goes on until ctx ends or it has nothing more to do.
	play(ctx context.Context) error
	// report adds what only this scenario measures.
	report(r *Report)
}

// Run makes the load. It returns a report also when ctx ends early, and an error
// when there is nothing to report.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	r := &run{
		cfg: cfg, begin: time.Now(), limiter: rate.NewLimiter(rate.Inf, 1), slots: make(chan struct{}, cfg.Connecting),
		refused: map[string]uint64{}, failed: map[string]uint64{}, noted: map[string]uint64{},
	}
	if r.target, err = cfg.target(); err != nil {
		return nil, err
	}
	if cfg.ConnectRate > 0 {
		r.limiter = rate.NewLimiter(rate.Limit(cfg.ConnectRate), max(1, int(cfg.ConnectRate/50)))
	}
	_, _ = rand.Read(r.seed[:]) // never fails, see crypto/rand
	for range shares {
		r.counters = append(r.counters, &counters{})
	}
	r.scenario = r.newScenario()
	if err := r.makeClients(ctx); err != nil {
		return nil, err
	}
	stop := r.tell()
	defer stop()
	defer r.acknowledge()()
	return r.measure(ctx)
}

func (r *run) newScenario() scenario {
	switch r.cfg.Scenario {
	case Groups:
		return &groups{run: r, byID: make(map[string]*client)}
	case Newcomers:
		return &newcomers{run: r}
	case Auth:
		return &logins{run: r}
	case Storm:
		return &storm{run: r}
	case Idle:
		return idle{}
	default:
		return &pairs{run: r}
	}
}

// now is the time since the run began, in ns; never 0.
func (r *run) now() int64 { return int64(time.Since(r.begin)) + 1 }

// makeClients makes all identities on all processors.
func (r *run) makeClients(ctx context.Context) error {
	n := r.cfg.Devices
	if r.cfg.Scenario == Newcomers {
		n += r.cfg.Count
	}
	r.clients = make([]*client, n)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range r.clients {
		g.Go(func() (err error) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			r.clients[i], err = r.newClient(i)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, c := range r.clients {
		switch s := r.scenario.(type) {
		case *pairs:
			c.mate = r.clients[i^1]
		case *groups:
			s.byID[c.device.ID()] = c
		}
	}
	return nil
}

// measure connects, plays the scenario, and reports.
func (r *run) measure(ctx context.Context) (*Report, error) {
	var err error
	if r.server, err = newProbe(r.cfg.ServerPID); err != nil {
		return nil, err
	}
	report := r.newReport()
	living, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	connecting := time.Now()
	if r.cfg.Scenario != Auth {
		r.connectAll(ctx, living)
	}
	report.Connecting = time.Since(connecting).Seconds()
	if r.cfg.Scenario != Auth && r.up.Load() == 0 {
		r.end(stop)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("connecting: %w", context.Cause(ctx))
		}
		return nil, r.nobodyConnected()
	}
	r.server.settle(ctx)
	report.Connected, report.idle = int(r.up.Load()), r.server.sample()
	if r.cfg.Connected != nil {
		r.cfg.Connected()
	}
	err = r.play(ctx, report)
	report.Up = int(r.up.Load())
	r.end(stop)
	if err != nil {
		return nil, err
	}
	r.finish(report)
	return report, nil
}

// play lets the scenario warm up, and measures it.
func (r *run) play(ctx context.Context, report *Report) error {
	// No deadline: dialling would count its own as a failure.
	playing, cancel := context.WithCancel(ctx)
	defer cancel()
	defer time.AfterFunc(r.cfg.Warmup+r.cfg.Duration, cancel).Stop()
	r.restart()
	before, ours, began, base := r.server.sample(), ownCPU(), time.Now(), r.total()
	done := make(chan error, 1)
	go func() { done <- r.scenario.play(playing) }()
	if r.cfg.Warmup > 0 && pause(playing, r.cfg.Warmup) {
		r.restart()
		before, ours, began, base = r.server.sample(), ownCPU(), time.Now(), r.total()
	}
	err := <-done
	report.measured(time.Since(began), base, r.total(), before, r.server.sample(), ownCPU()-ours)
	report.Interrupted = ctx.Err() != nil
	return err
}

// connectAll connects everybody that the scenario begins with. Who cannot
// connect is counted, and tries again.
func (r *run) connectAll(ctx, living context.Context) {
	var tried sync.WaitGroup
	for _, c := range r.clients[:r.cfg.Devices] {
		tried.Add(1)
		r.readers.Add(1)
		go func() {
			defer r.readers.Done()
			c.live(ctx, living, sync.OnceFunc(tried.Done))
		}()
	}
	tried.Wait()
}

// live keeps a client connected until the run is over. It says when it has tried
// for the first time; the first tries end with ctx, the others with living.
func (c *client) live(ctx, living context.Context, tried func()) {
	defer tried()
	for failures := 0; ; {
		s, err := c.admitted(ctx)
		if err == nil {
			failures = 0
			c.run.up.Add(1)
			c.back.Store(0)
			tried()
			err = c.serve(s)
			s.cut()
			c.run.up.Add(-1)
		}
		tried()
		ctx = living
		if c.run.down.Load() || living.Err() != nil {
			return
		}
		if c.cut.Swap(false) {
			continue
		}
		c.run.fail(err)
		if !c.wait(living, err, failures) {
			return
		}
		failures++
	}
}

// admitted connects when it is the client's turn.
func (c *client) admitted(ctx context.Context) (*socket, error) {
	r := c.run
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting to connect: %w", context.Cause(ctx))
	}
	if err := r.limiter.Wait(ctx); err != nil {
		return nil, fmt.Errorf("waiting to connect: %w", err)
	}
	return c.connect(ctx, c.topics)
}

// wait waits before a client connects again: as long as the server asked for, or
// half a second to 10 s, more after each failure.
func (c *client) wait(ctx context.Context, err error, failures int) bool {
	var after time.Duration
	if at := c.back.Swap(0); at != 0 {
		after = max(time.Duration(at-c.run.now()), time.Millisecond)
	}
	var refused *refusal
	if errors.As(err, &refused) {
		after = max(after, refused.after)
	}
	if after == 0 {
		after = 500 * time.Millisecond << min(failures, 4)
		after += mrand.N(after)
	}
	return pause(ctx, after)
}

// pause waits, and says whether ctx lives.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

const partingTime = 2 * time.Second

// end says goodbye for everybody and waits for the readers.
func (r *run) end(stop context.CancelFunc) {
	r.down.Store(true)
	stop()
	for _, c := range r.clients {
		s := c.sock.Load()
		if s == nil {
			continue
		}
		s.ready() // it may have a deadline of the past
		if !c.bye(s) {
			s.cut()
		}
	}
	gone := make(chan struct{})
	go func() { r.readers.Wait(); close(gone) }()
	select {
	case <-gone:
		return
	case <-time.After(partingTime):
	}
	for _, c := range r.clients {
		if s := c.sock.Load(); s != nil {
			s.cut()
		}
	}
	<-gone
}

// ErrNobodyConnected is the error of a run in which no device could connect.
var ErrNobodyConnected = errors.New("no device could connect")

func (r *run) nobodyConnected() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for code, n := range r.failed {
		hint := ""
		if text, ok := advice[code]; ok {
			hint = "; " + text
		}
		return fmt.Errorf("%w to %s: %s (%d times)%s", ErrNobodyConnected, r.cfg.URL, code, n, hint)
	}
	return fmt.Errorf("%w to %s", ErrNobodyConnected, r.cfg.URL)
}

// ackEvery is how often devices that have to are asked to acknowledge.
const ackEvery = wire.AckDelay * 2 / 5

// acknowledge asks the devices, until stop.
func (r *run) acknowledge() (stop func()) {
	if _, ok := r.clients[0].device.(Acker); !ok {
		return func() {}
	}
	return repeat(ackEvery, func() {
		for _, c := range r.clients {
			c.ack()
		}
	})
}

// repeat calls do again and again, until stop returns.
func repeat(every time.Duration, do func()) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				do()
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}

// tell says how it goes, once a second, until stop.
func (r *run) tell() (stop func()) {
	if r.cfg.Progress == nil {
		return func() {}
	}
	last := r.total()
	return repeat(time.Second, func() {
		t := r.total()
		r.cfg.Progress(fmt.Sprintf("%3.0f s  %d of %d up  %d sent/s  %d arrived/s  %d errors",
			time.Since(r.begin).Seconds(), r.up.Load(), r.cfg.Devices, t.sent-last.sent, t.arrived-last.arrived, r.errors()))
		last = t
	})
}
