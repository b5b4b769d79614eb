package notify

import (
	"context"
	"crypto/ecdh"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Subscription is what a browser's PushManager gives, as it comes from PushSubscription.toJSON().
type Subscription struct {
	Endpoint string `json:"endpoint"`
	P256dh   string `json:"p256dh"` // base64url, 65 bytes: an uncompressed point of P-256
	Auth     string `json:"auth"`   // base64url, 16 bytes
}

// ErrSubscription is matched by what is wrong with a subscription; the text is for the device's developer.
var ErrSubscription = errors.New("the push subscription is refused")

// maxEndpoint bounds the URL of an endpoint, in bytes.
const maxEndpoint = 1024

// check refuses subscriptions to which nothing should be sent.
func (s Subscription) check(hosts []string) error {
	if err := checkEndpoint(s.Endpoint, hosts); err != nil {
		return fmt.Errorf("%w: %w", ErrSubscription, err)
	}
	point, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s.P256dh, "="))
	if err != nil || len(s.P256dh) > 128 {
		return fmt.Errorf("%w: p256dh is not base64url", ErrSubscription)
	}
	if _, err := ecdh.P256().NewPublicKey(point); err != nil {
		return fmt.Errorf("%w: p256dh is no point of P-256", ErrSubscription)
	}
	if auth, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s.Auth, "=")); err != nil || len(auth) != 16 {
		return fmt.Errorf("%w: auth is not 16 bytes in base64url", ErrSubscription)
	}
	return nil
}

func checkEndpoint(endpoint string, hosts []string) error {
	if len(endpoint) > maxEndpoint {
		return fmt.Errorf("the endpoint is longer than %d bytes", maxEndpoint)
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return errors.New("the endpoint is no URL")
	}
	switch host := strings.ToLower(u.Hostname()); {
	case u.Scheme != "https" || u.User != nil || u.Fragment != "" || u.Opaque != "":
		return errors.New("the endpoint is no plain https URL")
	case u.Port() != "" && u.Port() != "443":
		return errors.New("the endpoint's port is not 443")
	case !slices.ContainsFunc(hosts, func(h string) bool { return matches(host, h) }):
		return errors.New("the endpoint's host is no push service that this server sends to")
	}
	return nil
}

func matches(host, allowed string) bool {
	if below, ok := strings.CutPrefix(allowed, "*"); ok {
		return len(host) > len(below) && strings.HasSuffix(host, below)
	}
	return host == allowed
}

// errPrivate is why a connection is not made although the name is allowed.
var errPrivate = errors.New("the push service's name leads to an address that is not public")

// publicClient connects to public addresses only, whatever a name resolves to, and follows no redirect.
func publicClient() *http.Client {
	d := &net.Dialer{Timeout: 5 * time.Second, ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil || !public(ap.Addr()) {
			return errPrivate
		}
		return nil
	}}
	return &http.Client{
		Timeout: 15 * time.Second,
		Transport: &http.Transport{
			DialContext: d.DialContext, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 4, MaxConnsPerHost: 16,
			IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 5 * time.Second, MaxResponseHeaderBytes: 16 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// special are networks that are global unicast by their bits and yet lead inside or nowhere.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("168.63.129.16/32"),
	netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2002::/16"),
	netip.MustParsePrefix("3fff::/20"),
}

// unicast6 is what IANA gives out of IPv6. What else counts as global unicast by its bits is site-local (fec0::/10), an IPv4 address in
// another form (::/96, ::ffff:0:0:0/96), or not in use.
var unicast6 = netip.MustParsePrefix("2000::/3")

func public(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if a.Is6() && !unicast6.Contains(a) {
		return false
	}
	return a.IsGlobalUnicast() && !a.IsPrivate() &&
		!slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) })
}
