package ice

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Config says which sources there are and in which order they are asked. A
// source that is nil or empty is not there.
type Config struct {
	// Order lists the steps. A step is the name of a source, or several joined
	// by "+": those are asked at once and their servers joined. A step is asked
	// only when those before it gave no server: "embedded+static", "twilio"
	// keeps Twilio for the case that the first two fail. Each source that is
	// there must be named once. Empty: all sources in one step, in the order of
	// the fields below.
	Order []string

	Embedded   *Embedded         // "embedded"
	Static     []Server          // "static"
	REST       *RESTConfig       // "rest"
	Endpoint   *EndpointConfig   // "endpoint"
	Twilio     *TwilioConfig     // "twilio"
	Cloudflare *CloudflareConfig // "cloudflare"

	Timeout time.Duration // for one source and client; default DefaultSourceTimeout
	Logger  *slog.Logger  // nil: no logs
}

// sourceNames are the names that Order knows, in the default order.
var sourceNames = []string{"embedded", "static", "rest", "endpoint", "twilio", "cloudflare"}

// Build makes the sources, each provider behind a Cached, and chains them.
// The caller must Run the chain, and can register it for its metrics. An error
// is one of the configuration; nothing is asked.
func Build(cfg Config) (*Chain, error) {
	sources, err := cfg.sources()
	if err != nil {
		return nil, err
	}
	steps, err := cfg.order(sources)
	if err != nil {
		return nil, fmt.Errorf("configuring the order of ICE server sources: %w", err)
	}
	return NewSteps(ChainConfig{Logger: cfg.Logger, Timeout: cfg.Timeout}, steps...), nil
}

func (cfg *Config) sources() (map[string]Source, error) {
	sources := make(map[string]Source)
	var errs []error
	add := func(s Source, err error) {
		if err != nil {
			errs = append(errs, err)
			return
		}
		sources[s.Name()] = s
	}
	cached := func(s Source, err error) (Source, error) {
		if err != nil {
			return nil, err
		}
		return NewCached(s, CacheConfig{Logger: cfg.Logger}), nil
	}
	if cfg.Embedded != nil {
		add(cfg.Embedded, nil)
	}
	if len(cfg.Static) > 0 {
		add(NewStatic(cfg.Static))
	}
	if cfg.REST != nil {
		add(NewREST(*cfg.REST))
	}
	if cfg.Endpoint != nil {
		add(cached(NewEndpoint(*cfg.Endpoint)))
	}
	if cfg.Twilio != nil {
		add(cached(NewTwilio(*cfg.Twilio)))
	}
	if cfg.Cloudflare != nil {
		add(cached(NewCloudflare(*cfg.Cloudflare)))
	}
	return sources, errors.Join(errs...)
}

// order sorts the sources into steps.
func (cfg *Config) order(sources map[string]Source) ([][]Source, error) {
	order := cfg.Order
	if len(order) == 0 {
		there := slices.DeleteFunc(slices.Clone(sourceNames), func(n string) bool { return sources[n] == nil })
		if len(there) == 0 {
			return nil, nil
		}
		order = []string{strings.Join(there, "+")}
	}
	var steps [][]Source
	named := make(map[string]bool)
	for _, text := range order {
		var step []Source
		for name := range strings.SplitSeq(text, "+") {
			name = strings.TrimSpace(name)
			switch {
			case !slices.Contains(sourceNames, name):
				return nil, fmt.Errorf("%.32q is none of %s", name, strings.Join(sourceNames, ", "))
			case sources[name] == nil:
				return nil, fmt.Errorf("%s is named, and not configured", name)
			case named[name]:
				return nil, fmt.Errorf("%s is named twice", name)
			}
			named[name] = true
			step = append(step, sources[name])
		}
		steps = append(steps, step)
	}
	for _, name := range sourceNames {
		if sources[name] != nil && !named[name] {
			return nil, fmt.Errorf("%s is configured, and not named: name it or turn it off", name)
		}
	}
	return steps, nil
}
