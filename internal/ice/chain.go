package ice

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// DefaultSourceTimeout is how long a Chain waits for one source.
const DefaultSourceTimeout = 5 * time.Second

// ChainConfig configures a Chain. Zero values mean defaults.
type ChainConfig struct {
	Logger  *slog.Logger  // nil: no logs
	Timeout time.Duration // for one source; default DefaultSourceTimeout
}

// Chain is a Source that joins others. All are asked at once; the result holds
// the servers of those that answered, in the order of the sources, and expires
// with the first of them. A source that fails or is late is left out, counted,
// and logged once when its outage begins and once when it ends. Only when
// every source fails does the chain fail.
//
// Chain is a prometheus.Collector.
type Chain struct {
	cfg   ChainConfig
	links []*link

	errorsDesc, upDesc *prometheus.Desc
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
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultSourceTimeout
	}
	c := &Chain{
		cfg: cfg,
		errorsDesc: prometheus.NewDesc("peersignal_ice_source_errors_total",
			"Requests for ICE servers that a source failed to answer.", []string{"source"}, nil),
		upDesc: prometheus.NewDesc("peersignal_ice_source_up",
			"Whether the source answered the last request (1) or failed (0).", []string{"source"}, nil),
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

// Describe implements prometheus.Collector.
func (c *Chain) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.errorsDesc
	ch <- c.upDesc
}

// Collect implements prometheus.Collector. Sources of one name are summed; the
// name is up when all of them are.
func (c *Chain) Collect(ch chan<- prometheus.Metric) {
	type sum struct{ errors, up float64 }
	sums := make(map[string]sum)
	for _, l := range c.links {
		s, ok := sums[l.source.Name()]
		if !ok {
			s.up = 1
		}
		l.mu.Lock()
		s.errors += float64(l.errors)
		if l.down {
			s.up = 0
		}
		l.mu.Unlock()
		sums[l.source.Name()] = s
	}
	for name, s := range sums {
		ch <- prometheus.MustNewConstMetric(c.errorsDesc, prometheus.CounterValue, s.errors, name)
		ch <- prometheus.MustNewConstMetric(c.upDesc, prometheus.GaugeValue, s.up, name)
	}
}
