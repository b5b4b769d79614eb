package ice

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultSourceTimeout is how long a Chain waits for one source.
const DefaultSourceTimeout = 2 * time.Second

// ChainConfig configures a Chain. Zero values mean defaults.
type ChainConfig struct {
	Logger *slog.Logger // nil: no logs
	// Timeout bounds one source; default DefaultSourceTimeout. When the caller's
	// deadline leaves less than this to each step, the time is shared out, so
	// that the last step is always asked.
	Timeout time.Duration
}

// Chain is a Source that asks others, in steps. The sources of a step are
// asked at once; the result holds the servers of those that answered, in the
// order of the sources, and expires with the first of them. When a step gives
// no server the next one is asked. Servers beyond 32 are left out, which
// clients would refuse.
//
// A source that fails or is late is left out, counted, and logged once when
// its outage begins and once when it ends. The chain fails when it has no
// server to give and a source failed.
//
// Chain is a prometheus.Collector.
type Chain struct {
	cfg   ChainConfig
	steps [][]*link

	leftOut atomic.Uint64 // servers beyond maxServers
	descs   chainDescs
}

// link is a source and what is known of it.
type link struct {
	source Source

	mu       sync.Mutex
	down     bool
	lastErr  error // of the outage; nil when up
	outcomes [len(requestOutcomes)]uint64
	wentDown uint64
	cameUp   uint64
}

// requestOutcomes are metric labels.
var requestOutcomes = [...]string{"ok", "empty", "error", "timeout", "canceled"}

const (
	askedOK = iota
	askedEmpty
	askedError
	askedTimeout
	askedCanceled // the caller went away, which says nothing about the source
)

// NewChain joins the sources with the default configuration.
func NewChain(sources ...Source) *Chain { return NewChainWith(ChainConfig{}, sources...) }

// NewChainWith joins the sources: a Chain of one step.
func NewChainWith(cfg ChainConfig, sources ...Source) *Chain { return NewSteps(cfg, sources) }

// NewFailover asks each source only when those before it gave nothing: a Chain
// of steps of one source.
func NewFailover(cfg ChainConfig, sources ...Source) *Chain {
	return NewSteps(cfg, slices.Collect(slices.Chunk(sources, 1))...)
}

// NewSteps makes a Chain of steps. No source may be in it twice.
func NewSteps(cfg ChainConfig, steps ...[]Source) *Chain {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultSourceTimeout
	}
	c := &Chain{cfg: cfg, descs: newChainDescs()}
	for _, step := range steps {
		links := make([]*link, len(step))
		for i, s := range step {
			links[i] = &link{source: s}
		}
		c.steps = append(c.steps, links)
	}
	return c
}

// Name implements Source.
func (*Chain) Name() string { return "chain" }

// ICEServers implements Source.
func (c *Chain) ICEServers(ctx context.Context, r Request) (Result, error) {
	var errs []error
	for i, step := range c.steps {
		res, err := c.askStep(ctx, step, c.patience(ctx, len(c.steps)-i), r)
		if len(res.Servers) > 0 {
			return res, nil
		}
		if err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	if len(errs) > 0 {
		return Result{}, fmt.Errorf("gathering ICE servers: no source gave any: %w", errors.Join(errs...))
	}
	return Result{}, nil
}

// patience is how long the next of so many steps may take. A tenth is held
// back, so that a late source is told from an impatient caller.
func (c *Chain) patience(ctx context.Context, steps int) time.Duration {
	end, ok := ctx.Deadline()
	if !ok {
		return c.cfg.Timeout
	}
	return min(c.cfg.Timeout, time.Until(end)*9/10/time.Duration(steps))
}

// askStep joins the answers of a step's sources. Its error joins those of the
// sources, and does not mean that there is no result.
func (c *Chain) askStep(ctx context.Context, step []*link, timeout time.Duration, r Request) (Result, error) {
	results := make([]Result, len(step))
	errs := make([]error, len(step))
	outcomes := make([]int, len(step))
	stepCtx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var wg sync.WaitGroup
	for i, l := range step {
		wg.Go(func() {
			results[i], errs[i] = l.source.ICEServers(stepCtx, r)
			outcomes[i] = outcome(ctx, stepCtx, results[i], errs[i])
		})
	}
	wg.Wait()

	joined := Result{}
	for i, l := range step {
		c.note(l, outcomes[i], errs[i])
		if errs[i] != nil {
			errs[i] = fmt.Errorf("%s: %w", l.source.Name(), errs[i])
			continue
		}
		joined.Servers = append(joined.Servers, results[i].Servers...)
		joined.Ignored += results[i].Ignored
		if len(results[i].Servers) > 0 {
			joined.Expires = earliest(joined.Expires, results[i].Expires)
		}
	}
	c.limit(&joined)
	return joined, errors.Join(errs...)
}

func outcome(caller, step context.Context, r Result, err error) int {
	switch {
	case err == nil && len(r.Servers) == 0:
		return askedEmpty
	case err == nil:
		return askedOK
	case caller.Err() != nil:
		return askedCanceled
	case step.Err() != nil:
		return askedTimeout
	}
	return askedError
}

// limit leaves out what clients would refuse.
func (c *Chain) limit(r *Result) {
	over := len(r.Servers) - maxServers
	if over <= 0 {
		return
	}
	r.Servers = r.Servers[:maxServers]
	if c.leftOut.Add(uint64(over)) == uint64(over) {
		c.cfg.Logger.Warn("more ICE servers than clients take; the last are left out", "most", maxServers, "left_out", over)
	}
}

func (c *Chain) note(l *link, outcome int, err error) {
	l.mu.Lock()
	l.outcomes[outcome]++
	was := l.down
	if outcome != askedCanceled {
		l.down, l.lastErr = err != nil, err
	}
	down, up := l.down && !was, was && !l.down
	if down {
		l.wentDown++
	}
	if up {
		l.cameUp++
	}
	l.mu.Unlock()
	switch {
	case down:
		c.cfg.Logger.Warn("ICE server source failed, leaving it out until it answers",
			"source", l.source.Name(), "error", err)
	case up:
		c.cfg.Logger.Info("ICE server source answers again", "source", l.source.Name())
	}
}

// Run runs the sources that have something to run, such as Cached, until ctx
// ends. It returns when all have returned, with their errors; without such
// sources, when ctx ends.
func (c *Chain) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for l := range c.links {
		s, ok := l.source.(interface{ Run(context.Context) error })
		if !ok {
			continue
		}
		wg.Go(func() {
			if err := s.Run(ctx); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	<-ctx.Done()
	return nil
}

// links yields all links in order.
func (c *Chain) links(yield func(*link) bool) {
	for _, step := range c.steps {
		for _, l := range step {
			if !yield(l) {
				return
			}
		}
	}
}

// SourceHealth is what is known of a source.
type SourceHealth struct {
	Source string // its name
	OK     bool   // it can answer
	Reason string // why it cannot, or will soon not be able to; else empty
}

// Health tells of each source, in order. A source that says nothing of its
// health has that of its last answer.
func (c *Chain) Health() []SourceHealth {
	var out []SourceHealth
	for l := range c.links {
		out = append(out, l.health())
	}
	return out
}

func (l *link) health() SourceHealth {
	h := SourceHealth{Source: l.source.Name()}
	if s, ok := l.source.(interface{ Healthy() (bool, string) }); ok {
		h.OK, h.Reason = s.Healthy()
		return h
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if h.OK = !l.down; l.down {
		h.Reason = l.lastErr.Error()
	}
	return h
}
