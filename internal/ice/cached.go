package ice

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// DefaultCacheMargin is how long before their end credentials are no longer
	// handed out.
	DefaultCacheMargin = 5 * time.Minute

	firstRetry    = time.Second
	maxRetry      = 5 * time.Minute
	rejectedRetry = 15 * time.Minute
	// foreverLife is how long credentials that never end are kept.
	foreverLife = 24 * time.Hour
)

// ErrStopped says that a Cached has no credentials and its Run has ended.
var ErrStopped = errors.New("renewal was stopped")

// CacheConfig configures a Cached. Zero values mean defaults.
type CacheConfig struct {
	Logger  *slog.Logger  // nil: no logs
	Timeout time.Duration // of one renewal; default DefaultProviderTimeout
	// Margin is how long before their end credentials are no longer handed
	// out; default DefaultCacheMargin, and never more than a tenth of a life.
	Margin time.Duration
	Now    func() time.Time // nil: time.Now
	Jitter func() float64   // in [0,1); nil: random
}

// Cached keeps one answer of a source for all clients. The source must not
// care who asks.
//
// Only Run asks the source, so that any number of clients makes one request at
// a time. It asks when it starts, at about half of the credentials' life, and,
// after a failure, after 1 second, doubling to 5 minutes; after 15 minutes when
// the error wraps ErrRejected; never before the provider's Retry-After. Half of
// that time is added at random.
//
// Clients are answered from memory. Without valid credentials they wait for
// the first attempt only, and get its error from then on.
type Cached struct {
	source Source
	cfg    CacheConfig
	wake   chan struct{} // capacity 1: somebody found the credentials due

	mu       sync.Mutex
	running  bool
	stopped  bool
	held     Result
	minted   time.Time // when held was asked for; zero: nothing is held
	deadline time.Time // when held is no longer handed out; zero: never
	next     time.Time // when the source may be asked again
	err      error     // of the last attempt
	failures int       // in a row
	attempt  chan struct{}
	counts   [len(renewalOutcomes)]uint64
}

// renewalOutcomes are metric labels.
var renewalOutcomes = [...]string{renewalOK, renewalFailed, renewalThrottled, renewalRejected}

const (
	renewalOK        = "ok"
	renewalFailed    = "failed"
	renewalThrottled = "throttled"
	renewalRejected  = "rejected"
)

// NewCached wraps the source. It holds nothing until Run runs.
func NewCached(source Source, cfg CacheConfig) *Cached {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultProviderTimeout
	}
	if cfg.Margin <= 0 {
		cfg.Margin = DefaultCacheMargin
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Jitter == nil {
		cfg.Jitter = rand.Float64
	}
	return &Cached{source: source, cfg: cfg, wake: make(chan struct{}, 1), attempt: make(chan struct{})}
}

// Name implements Source.
func (c *Cached) Name() string { return c.source.Name() }

// String names the source, and keeps what it holds out of formatted output.
func (c *Cached) String() string { return "cached " + c.source.Name() }

// GoString keeps what it holds out of %#v.
func (c *Cached) GoString() string { return c.String() }

// ICEServers implements Source. Expires is up to a tenth of the remaining life
// early, so that clients who were told together do not ask again together.
func (c *Cached) ICEServers(ctx context.Context, _ Request) (Result, error) {
	for {
		c.mu.Lock()
		now := c.now()
		due := !now.Before(c.next)
		valid, err, stopped, attempt := c.validLocked(now), c.err, c.stopped, c.attempt
		var out Result
		if valid {
			out = c.spreadLocked(now)
		}
		c.mu.Unlock()
		if due {
			select {
			case c.wake <- struct{}{}:
			default: // already told
			}
		}
		switch {
		case valid:
			return out, nil
		case err != nil:
			return Result{}, err
		case stopped:
			return Result{}, fmt.Errorf("no %s credentials: %w", c.Name(), ErrStopped)
		}
		select {
		case <-attempt:
		case <-ctx.Done():
			return Result{}, fmt.Errorf("waiting for the first %s credentials: %w", c.Name(), context.Cause(ctx))
		}
	}
}

// now is wall time: after a machine slept, credentials must be found expired.
func (c *Cached) now() time.Time { return c.cfg.Now().Round(0) }

func (c *Cached) validLocked(now time.Time) bool {
	return !c.minted.IsZero() && (c.deadline.IsZero() || now.Before(c.deadline))
}

func (c *Cached) spreadLocked(now time.Time) Result {
	out := c.held.clone()
	if !out.Expires.IsZero() {
		left := out.Expires.Sub(now)
		out.Expires = out.Expires.Add(-time.Duration(c.cfg.Jitter() * float64(left) / 10))
	}
	return out
}

// Run keeps the credentials fresh until ctx ends; it returns nil. It can be
// run once.
func (c *Cached) Run(ctx context.Context) error {
	c.mu.Lock()
	again := c.running
	c.running = true
	c.mu.Unlock()
	if again {
		return fmt.Errorf("renewing %s credentials: Run was called before", c.Name())
	}
	defer c.stop()
	for ctx.Err() == nil {
		timer := time.NewTimer(c.renew(ctx))
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				waiting = false
			case <-timer.C:
				waiting = false
			case <-c.wake:
				c.mu.Lock()
				waiting = c.now().Before(c.next)
				c.mu.Unlock()
			}
		}
		timer.Stop()
	}
	return nil
}

func (c *Cached) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	close(c.attempt)
}

// renew asks the source once and returns how long to wait then.
func (c *Cached) renew(ctx context.Context) time.Duration {
	begin := c.now()
	got, err := c.ask(ctx, begin)
	if ctx.Err() != nil {
		return 0 // Run ends; a cancelled request says nothing about the source
	}
	c.mu.Lock()
	wasFailing, wasRejected := c.failures > 0, errors.Is(c.err, ErrRejected)
	var wait time.Duration
	if err != nil {
		c.failures++
		wait = c.backoff(err)
		c.counts[renewalOutcome(err)]++
	} else {
		wait = c.keepLocked(got, begin)
		c.counts[0]++
	}
	c.err = err
	c.next = c.now().Add(wait)
	close(c.attempt)
	c.attempt = make(chan struct{})
	deadline, valid := c.deadline, c.validLocked(c.now())
	c.mu.Unlock()

	log := c.cfg.Logger.With("source", c.Name())
	switch rejected := errors.Is(err, ErrRejected); {
	case err != nil && (!wasFailing || rejected && !wasRejected):
		log.Warn("ICE credentials cannot be renewed", "error", err, "held", valid, "until", deadline,
			"retry", wait.Round(time.Second))
	case err == nil && wasFailing:
		log.Info("ICE credentials are renewed again", "until", deadline)
	}
	if got.Ignored > 0 {
		log.Warn("ICE server URLs of a provider were left out: not understood, or without credential", "urls", got.Ignored)
	}
	return wait
}

// keepLocked stores the answer and returns half of its life, give or take a
// twentieth.
func (c *Cached) keepLocked(got Result, begin time.Time) time.Duration {
	life := foreverLife
	c.held, c.minted, c.deadline, c.failures = got.clone(), begin, time.Time{}, 0
	if !got.Expires.IsZero() {
		life = got.Expires.Sub(begin)
		c.deadline = got.Expires.Add(-min(c.cfg.Margin, life/10))
	}
	return time.Duration((0.45 + 0.1*c.cfg.Jitter()) * float64(life))
}

func (c *Cached) ask(ctx context.Context, begin time.Time) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	got, err := c.source.ICEServers(ctx, Request{})
	switch {
	case err != nil:
		return Result{}, err
	case len(got.Servers) == 0:
		return Result{}, fmt.Errorf("%s gave no ICE servers", c.Name())
	case !got.Expires.IsZero() && got.Expires.Sub(begin) < minLife:
		return Result{}, fmt.Errorf("%s gave credentials that end within %v, which is too short to use", c.Name(), minLife)
	}
	return got, nil
}

// backoff is how long to wait after failures; jitter only lengthens it.
func (c *Cached) backoff(err error) time.Duration {
	wait := maxRetry
	if n := c.failures - 1; n < 16 {
		wait = min(firstRetry<<n, maxRetry)
	}
	if errors.Is(err, ErrRejected) {
		wait = rejectedRetry
	}
	if p, ok := errors.AsType[*providerError](err); ok {
		wait = max(wait, p.retryAfter)
	}
	return wait + time.Duration(c.cfg.Jitter()*float64(wait)/2)
}

// renewalOutcome is an index of renewalOutcomes.
func renewalOutcome(err error) int {
	p, ok := errors.AsType[*providerError](err)
	switch {
	case errors.Is(err, ErrRejected):
		return 3
	case ok && p.throttled:
		return 2
	}
	return 1
}

// Healthy says whether credentials are held that can be handed out. The
// reason, when there is one, is why they cannot be renewed or had.
func (c *Cached) Healthy() (ok bool, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch ok = c.validLocked(c.now()); {
	case c.err != nil:
		return ok, c.err.Error()
	case ok:
		return true, ""
	case c.stopped:
		return false, ErrStopped.Error()
	}
	return false, "no answer yet"
}

// renewals is what metrics show; the zero time means no or endless
// credentials.
func (c *Cached) renewals() (counts [len(renewalOutcomes)]uint64, expires time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts, c.held.Expires
}
