package ice

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

const cloudflareBase = "https://rtc.live.cloudflare.com"

var cloudflareKey = regexp.MustCompile(`^[0-9A-Za-z_-]{1,128}$`)

// CloudflareConfig configures Cloudflare's TURN service.
type CloudflareConfig struct {
	KeyID    string // the TURN key's id ("Turn Token ID" in the dashboard)
	APIToken Secret // the TURN key's API token

	TTL     time.Duration // 10 minutes to 48 hours; default 12 hours
	BaseURL string        // default https://rtc.live.cloudflare.com
	Timeout time.Duration // of one request; default DefaultProviderTimeout
	Client  *http.Client  // nil: one of its own
}

// Cloudflare asks Cloudflare for new credentials at each call; put it behind a
// Cached.
type Cloudflare struct {
	cfg      CloudflareConfig
	endpoint string
	provider *provider
}

// NewCloudflare validates the configuration. It asks nothing.
func NewCloudflare(cfg CloudflareConfig) (*Cloudflare, error) {
	c, err := newCloudflare(cfg)
	if err != nil {
		return nil, fmt.Errorf("configuring Cloudflare: %w", err)
	}
	return c, nil
}

func newCloudflare(cfg CloudflareConfig) (*Cloudflare, error) {
	if !cloudflareKey.MatchString(cfg.KeyID) || cfg.APIToken.IsZero() {
		return nil, errors.New("it needs the id of a TURN key and that key's API token")
	}
	var err error
	if cfg.TTL, err = checkTTL(cfg.TTL, maxTTL); err != nil {
		return nil, err
	}
	if cfg.BaseURL == "" {
		cfg.BaseURL = cloudflareBase
	}
	base, err := parseBase(cfg.BaseURL)
	if err != nil {
		return nil, err
	}
	return &Cloudflare{
		cfg:      cfg,
		endpoint: base.JoinPath("v1", "turn", "keys", cfg.KeyID, "credentials", "generate-ice-servers").String(),
		provider: newProvider("Cloudflare", cfg.Client, cfg.Timeout, cloudflareHint, cfg.APIToken),
	}, nil
}

func cloudflareHint(status int) string {
	if status == http.StatusNotFound {
		return "check the id of the TURN key and the base URL"
	}
	return "check the id of the TURN key and its API token"
}

// Name implements Source.
func (*Cloudflare) Name() string { return "cloudflare" }

// String keeps the secrets out of formatted output.
func (*Cloudflare) String() string { return "cloudflare" }

// GoString keeps the secrets out of %#v.
func (*Cloudflare) GoString() string { return "cloudflare" }

// ICEServers implements Source: it creates credentials, which are good for
// every client. The error wraps ErrRejected when the settings are at fault.
func (c *Cloudflare) ICEServers(ctx context.Context, _ Request) (Result, error) {
	body := fmt.Sprintf(`{"ttl":%d}`, c.cfg.TTL/time.Second)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint, strings.NewReader(body))
	if err != nil {
		return Result{}, fmt.Errorf("asking Cloudflare: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+c.cfg.APIToken.Reveal())
	begin := time.Now()
	answer, err := c.provider.ask(ctx, req)
	if err != nil {
		return Result{}, err
	}
	var reply struct {
		ICEServers replyServers `json:"iceServers"`
	}
	if err := unmarshalReply("Cloudflare", answer, &reply); err != nil {
		return Result{}, err
	}
	// Browsers block port 53 and wait for it in vain; the other ports are
	// offered beside it.
	for i := range reply.ICEServers {
		s := &reply.ICEServers[i]
		s.URLs = slices.DeleteFunc(s.URLs, isPort53)
	}
	return reply.ICEServers.result("Cloudflare", begin, c.cfg.TTL)
}

func isPort53(s string) bool {
	s, _, _ = strings.Cut(s, "?")
	return strings.HasSuffix(s, ":53")
}
