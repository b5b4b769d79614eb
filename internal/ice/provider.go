package ice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// DefaultProviderTimeout is how long one request to a provider may take.
const DefaultProviderTimeout = 10 * time.Second

const (
	// defaultTTL is long because some relays end a session with its credential,
	// and short enough that a leaked credential is soon worthless.
	defaultTTL = 12 * time.Hour
	minTTL     = 10 * time.Minute
	maxTTL     = 48 * time.Hour

	maxReplyBytes  = 8 << 10
	maxHeaderBytes = 16 << 10
	maxRetryAfter  = time.Hour
	maxMessage     = 200 // bytes of a provider's explanation in an error
)

// ErrRejected is wrapped by the errors of a provider that refuses the settings
// it was given: asking again changes nothing until an operator acts.
var ErrRejected = errors.New("the provider refuses these settings")

// providerError is a provider's answer that is no credential.
type providerError struct {
	text       string
	rejected   bool
	throttled  bool
	retryAfter time.Duration // 0: the provider named none
}

func (e *providerError) Error() string { return e.text }

// Is implements errors.Is for ErrRejected.
func (e *providerError) Is(target error) bool { return e.rejected && target == ErrRejected }

// provider makes one HTTP request at a time to one API.
type provider struct {
	name    string // for errors
	client  *http.Client
	timeout time.Duration
	secrets []Secret // what must not appear in errors
	// hint says which settings a refusal is about.
	hint func(status int) string
}

// newProvider copies the client, so that redirects and cookies can be switched
// off. A nil client means one of its own that keeps no connection: the next
// request is hours away.
func newProvider(name string, client *http.Client, timeout time.Duration, hint func(int) string, secrets ...Secret) *provider {
	own := http.Client{Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, ForceAttemptHTTP2: true,
		MaxResponseHeaderBytes: maxHeaderBytes,
	}}
	if client != nil {
		own = *client
	}
	own.Jar = nil
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if timeout <= 0 {
		timeout = DefaultProviderTimeout
	}
	return &provider{name: name, client: &own, timeout: timeout, secrets: secrets, hint: hint}
}

// ask sends the request and returns the body of a 200 or 201.
func (p *provider) ask(ctx context.Context, req *http.Request) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "peersignal")
	resp, err := p.client.Do(req.WithContext(ctx))
	if err != nil {
		return nil, p.transportError(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReplyBytes+1))
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated {
		return nil, p.refusal(resp, body)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the answer of %s: %w", p.name, err)
	}
	if len(body) > maxReplyBytes {
		return nil, fmt.Errorf("%s answered with more than %d bytes", p.name, maxReplyBytes)
	}
	return body, nil
}

// transportError leaves out the URL that net/http puts into its errors, since
// it can carry a key.
func (p *provider) transportError(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return fmt.Errorf("asking %s: %w", p.name, err)
}

func (p *provider) refusal(resp *http.Response, body []byte) error {
	status := resp.StatusCode
	var text strings.Builder
	fmt.Fprintf(&text, "%s answered %d", p.name, status)
	code, message := explanation(body)
	if code != 0 {
		fmt.Fprintf(&text, " (error %d)", code)
	}
	if message != "" {
		fmt.Fprintf(&text, " %q", p.clean(message))
	}
	e := &providerError{}
	switch {
	case status >= 300 && status < 400:
		text.WriteString(": a redirect, which is not followed; is the base URL right?")
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		e.throttled = status == http.StatusTooManyRequests
		e.retryAfter = parseRetryAfter(resp.Header.Get("Retry-After"), time.Now())
	case status == http.StatusRequestTimeout || status >= 500 || status < 300:
	default:
		e.rejected = true
		if hint := p.hint(status); hint != "" {
			text.WriteString(": " + hint)
		}
	}
	e.text = text.String()
	return e
}

// clean shortens what a provider wrote, and hides a secret that it echoes.
func (p *provider) clean(s string) string {
	for _, secret := range p.secrets {
		if !secret.IsZero() {
			s = strings.ReplaceAll(s, secret.Reveal(), redacted)
		}
	}
	if len(s) > maxMessage {
		s = s[:maxMessage]
	}
	return s
}

// explanation reads {"code":n,"message":s} (Twilio) and
// {"errors":[{"code":n,"message":s}]} (Cloudflare). Anything else, such as the
// HTML page of a proxy, explains nothing.
func explanation(body []byte) (code int64, message string) {
	type cause struct {
		Code    int64  `json:"code"`
		Message string `json:"message"`
	}
	var r struct {
		cause
		Errors []cause `json:"errors"`
	}
	if len(body) > maxReplyBytes || json.Unmarshal(body, &r) != nil {
		return 0, ""
	}
	if len(r.Errors) > 0 {
		return r.Errors[0].Code, r.Errors[0].Message
	}
	return r.Code, r.Message
}

// parseRetryAfter reads seconds or an HTTP date (RFC 9110, 10.2.3); it returns
// at most an hour, and 0 for what is neither.
func parseRetryAfter(s string, now time.Time) time.Duration {
	if s == "" {
		return 0
	}
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return min(time.Duration(n)*time.Second, maxRetryAfter)
	}
	if t, err := http.ParseTime(s); err == nil {
		return min(max(t.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// parseBase reads a provider's URL. Only a provider on this machine may be
// spoken to without TLS.
func parseBase(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.New("the base URL is malformed")
	case u.User != nil || u.Fragment != "" || u.Opaque != "" || u.Hostname() == "":
		return nil, errors.New("the base URL must be https://host/path without user and fragment")
	case u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()):
		return u, nil
	}
	return nil, errors.New("the base URL must begin with https:// (http:// is for this machine only): it carries secrets")
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}

// checkTTL applies the default and the bounds.
func checkTTL(ttl, most time.Duration) (time.Duration, error) {
	if ttl == 0 {
		return defaultTTL, nil
	}
	if ttl < minTTL || ttl > most {
		return 0, fmt.Errorf("the TTL is %v, must be from %v to %v", ttl, minTTL, most)
	}
	return ttl.Truncate(time.Second), nil
}
