package ice

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	twilioBase   = "https://api.twilio.com"
	twilioMaxTTL = 24 * time.Hour
)

var (
	twilioAccount = regexp.MustCompile(`^AC[0-9a-fA-F]{32}$`)
	twilioKey     = regexp.MustCompile(`^SK[0-9a-fA-F]{32}$`)
)

// TwilioConfig configures Twilio's Network Traversal Service.
type TwilioConfig struct {
	AccountSID string // "AC…"
	// AuthToken is the account's; or, better, since it can be revoked alone, an
	// API key.
	AuthToken    Secret
	APIKeySID    string // "SK…"
	APIKeySecret Secret

	TTL     time.Duration // 10 minutes to 24 hours; default 12 hours
	BaseURL string        // default https://api.twilio.com
	Timeout time.Duration // of one request; default DefaultProviderTimeout
	Client  *http.Client  // nil: one of its own
}

// Twilio asks Twilio for a new token at each call; put it behind a Cached.
type Twilio struct {
	cfg      TwilioConfig
	endpoint string
	provider *provider
}

// NewTwilio validates the configuration. It asks nothing.
func NewTwilio(cfg TwilioConfig) (*Twilio, error) {
	t, err := newTwilio(cfg)
	if err != nil {
		return nil, fmt.Errorf("configuring Twilio: %w", err)
	}
	return t, nil
}

func newTwilio(cfg TwilioConfig) (*Twilio, error) {
	token, key := !cfg.AuthToken.IsZero(), cfg.APIKeySID != "" || !cfg.APIKeySecret.IsZero()
	switch {
	case !twilioAccount.MatchString(cfg.AccountSID):
		return nil, errors.New("the account SID must be AC and 32 hexadecimal digits")
	case token == key:
		return nil, errors.New("give either an auth token or an API key (SID and secret)")
	case key && (!twilioKey.MatchString(cfg.APIKeySID) || cfg.APIKeySecret.IsZero()):
		return nil, errors.New("an API key is a SID, SK and 32 hexadecimal digits, and its secret")
	}
	var err error
	if cfg.TTL, err = checkTTL(cfg.TTL, twilioMaxTTL); err != nil {
		return nil, err
	}
	if cfg.BaseURL == "" {
		cfg.BaseURL = twilioBase
	}
	base, err := parseBase(cfg.BaseURL)
	if err != nil {
		return nil, err
	}
	return &Twilio{
		cfg:      cfg,
		endpoint: base.JoinPath("2010-04-01", "Accounts", cfg.AccountSID, "Tokens.json").String(),
		provider: newProvider("Twilio", cfg.Client, cfg.Timeout, twilioHint, cfg.AuthToken, cfg.APIKeySecret),
	}, nil
}

func twilioHint(status int) string {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return "check the account SID and the auth token or API key, and that the account is active"
	case http.StatusNotFound:
		return "check the account SID and the base URL"
	}
	return "check the TTL and the base URL"
}

// Name implements Source.
func (*Twilio) Name() string { return "twilio" }

// String keeps the secrets out of formatted output.
func (*Twilio) String() string { return "twilio" }

// GoString keeps the secrets out of %#v.
func (*Twilio) GoString() string { return "twilio" }

// ICEServers implements Source: it creates a token, which is good for every
// client. The error wraps ErrRejected when the settings are at fault.
func (t *Twilio) ICEServers(ctx context.Context, _ Request) (Result, error) {
	form := url.Values{"Ttl": {strconv.Itoa(int(t.cfg.TTL / time.Second))}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return Result{}, fmt.Errorf("asking Twilio: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if t.cfg.APIKeySID != "" {
		req.SetBasicAuth(t.cfg.APIKeySID, t.cfg.APIKeySecret.Reveal())
	} else {
		req.SetBasicAuth(t.cfg.AccountSID, t.cfg.AuthToken.Reveal())
	}
	begin := time.Now()
	body, err := t.provider.ask(ctx, req)
	if err != nil {
		return Result{}, err
	}
	var reply struct {
		Username   string       `json:"username"`
		Password   string       `json:"password"`
		TTL        seconds      `json:"ttl"`
		ICEServers replyServers `json:"ice_servers"`
	}
	if err := unmarshalReply("Twilio", body, &reply); err != nil {
		return Result{}, err
	}
	if reply.TTL == 0 {
		return Result{}, errors.New("Twilio's answer lacks the lifetime of the credentials") //nolint:staticcheck // a name begins with a capital
	}
	return reply.ICEServers.result("Twilio", begin, time.Duration(reply.TTL))
}
