package ice

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// EndpointConfig configures an HTTP service that speaks
// draft-uberti-behave-turn-rest-00.
type EndpointConfig struct {
	URL      string // of the service; a query is kept
	Key      Secret // sent as key=; empty: not sent
	Username string // sent as username=, shared by all clients; empty: not sent

	Timeout time.Duration // of one request; default DefaultProviderTimeout
	Client  *http.Client  // nil: one of its own
}

// Endpoint asks the service for new credentials at each call; put it behind a
// Cached.
type Endpoint struct {
	cfg      EndpointConfig
	url      Secret // with the key
	provider *provider
}

// NewEndpoint validates the configuration. It asks nothing.
func NewEndpoint(cfg EndpointConfig) (*Endpoint, error) {
	u, err := parseBase(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("configuring the TURN credential service: %w", err)
	}
	query := u.Query()
	query.Set("service", "turn")
	if cfg.Username != "" {
		query.Set("username", cfg.Username)
	}
	if !cfg.Key.IsZero() {
		query.Set("key", cfg.Key.Reveal())
	}
	u.RawQuery = query.Encode()
	return &Endpoint{
		cfg: cfg, url: NewSecret(u.String()),
		provider: newProvider("the TURN credential service", cfg.Client, cfg.Timeout,
			func(int) string { return "check its URL and key" }, cfg.Key, NewSecret(url.QueryEscape(cfg.Key.Reveal()))),
	}, nil
}

// Name implements Source.
func (*Endpoint) Name() string { return "endpoint" }

// String keeps the key out of formatted output.
func (*Endpoint) String() string { return "endpoint" }

// GoString keeps the key out of %#v.
func (*Endpoint) GoString() string { return "endpoint" }

// ICEServers implements Source: it fetches credentials, which are good for
// every client. The error wraps ErrRejected when the settings are at fault.
func (e *Endpoint) ICEServers(ctx context.Context, _ Request) (Result, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url.Reveal(), nil)
	if err != nil {
		return Result{}, errors.New("asking the TURN credential service: its URL is malformed")
	}
	begin := time.Now()
	body, err := e.provider.ask(ctx, req)
	if err != nil {
		return Result{}, err
	}
	var reply struct {
		Username string  `json:"username"`
		Password string  `json:"password"`
		TTL      seconds `json:"ttl"`
		URIs     texts   `json:"uris"`
	}
	if err := unmarshalReply(e.provider.name, body, &reply); err != nil {
		return Result{}, err
	}
	if reply.TTL == 0 {
		return Result{}, errors.New("the TURN credential service's answer lacks the lifetime of the credentials")
	}
	servers := replyServers{{URLs: reply.URIs, Username: reply.Username, Credential: reply.Password}}
	return servers.result(e.provider.name, begin, time.Duration(reply.TTL))
}
