package ice

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// DefaultSourceTimeout is how long a Chain waits for one source.
const DefaultSourceTimeout = 5 * time.Second

// ChainConfig configures a Chain. Zero values mean defaults.
type ChainConfig struct {
	Logger  *slog.Logger  // nil: slog.Default()
	Timeout time.Duration // for one source; default DefaultSourceTimeout
}

// Chain is a Source that joins others. All are asked at once; the result holds
// the servers of those that answered, in the order of the sources, and expires
// with the first of them. A source that fails or is late is left out, counted,
// and logged once when its outage begins and once when it ends. Only when
// every source fails does the chain fail.
type Chain struct {
	cfg   ChainConfig
	links []*link
}

type link struct {
	source Source

	mu     sync.Mutex
	down   bool
	errors uint64
}

// NewChain joins the sources with the default configuration.
func NewChain(sources ...Source) *Chain { return NewChainWith(ChainConfig{}, sources...) }

// NewChainWith joins the sources.
func NewChainWith(cfg ChainConfig, sources ...Source) *Chain {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultSourceTimeout
	}
	c := &Chain{
		cfg: cfg,
	}
	for _, s := range sources {
		c.links = append(c.links, &link{source: s})
	}
	return c
}

// Name implements Source.
func (*Chain) Name() string { return "chain" }

// ICEServers implements Source.
func (c *Chain) ICEServers(ctx context.Context, r Request) (Result, error) {
	results := make([]Result, len(c.links))
	errs := make([]error, len(c.links))
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	var wg sync.WaitGroup
	for i, l := range c.links {
		wg.Go(func() { results[i], errs[i] = l.source.ICEServers(ctx, r) })
	}
	wg.Wait()

	joined, failed := Result{}, 0
	for i, l := range c.links {
		// A caller that went away says nothing about the source.
		if errs[i] == nil || !errors.Is(errs[i], context.Canceled) {
			c.note(l, errs[i])
		}
		if errs[i] != nil {
			failed++
			continue
		}
		joined.Servers = append(joined.Servers, results[i].Servers...)
		joined.Expires = earliest(joined.Expires, results[i].Expires)
	}
	if failed > 0 && failed == len(c.links) {
		return Result{}, fmt.Errorf("gathering ICE servers: every source failed: %w", errors.Join(errs...))
	}
	return joined, nil
}

func (c *Chain) note(l *link, err error) {
	l.mu.Lock()
	was := l.down
	l.down = err != nil
	if err != nil {
		l.errors++
	}
	l.mu.Unlock()
	switch {
	case err != nil && !was:
		c.cfg.Logger.Warn("ICE server source failed, leaving it out until it answers",
			"source", l.source.Name(), "error", err)
	case err == nil && was:
		c.cfg.Logger.Info("ICE server source answers again", "source", l.source.Name())
	}
}
