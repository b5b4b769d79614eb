package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"
)

// dns finds the server's addresses.
func (e *examination) dns(ctx context.Context) bool {
	if a, err := netip.ParseAddr(e.host); err == nil {
		e.addrs = []netip.Addr{a.Unmap()}
		e.skip("DNS", "%s is an address", e.host)
		return true
	}
	ctx, cancel := e.within(ctx)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", e.host)
	if err != nil {
		advice := "Create an A or AAAA record for the name, or correct the URL."
		if missing, ok := errors.AsType[*net.DNSError](err); !ok || !missing.IsNotFound {
			advice = "This machine's DNS does not answer: see its network and /etc/resolv.conf, or whether the name's servers work."
		}
		e.fail("DNS", advice, "looking up %s: %v", e.host, err)
		return false
	}
	for _, a := range addrs {
		if a = a.Unmap(); !slices.Contains(e.addrs, a) {
			e.addrs = append(e.addrs, a)
		}
	}
	e.ok("DNS", "%s is %s", e.host, joined(e.addrs))
	return true
}

func joined[T fmt.Stringer](list []T) string {
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = v.String()
	}
	return strings.Join(texts, ", ")
}

// families are IPv4 and IPv6 with the addresses that the server has of each.
func (e *examination) families() [2][]netip.Addr {
	var out [2][]netip.Addr
	for _, a := range e.addrs {
		out[family(a)] = append(out[family(a)], a)
	}
	return out
}

func family(a netip.Addr) int {
	if a.Unmap().Is4() {
		return 0
	}
	return 1
}

func familyName(f int) string { return [2]string{"IPv4", "IPv6"}[f] }

// reach connects to each address. One that works is enough to go on.
func (e *examination) reach(ctx context.Context) bool {
	works := false
	for f, addrs := range e.families() {
		name := "TCP over " + familyName(f)
		if len(addrs) == 0 {
			e.skip(name, "the server has no such address")
			continue
		}
		for _, a := range addrs {
			took, err := e.connect(ctx, net.JoinHostPort(a.String(), e.port))
			switch {
			case err == nil:
				works = true
				e.ok(name, "%s in %s", net.JoinHostPort(a.String(), e.port), took)
			case lacksFamily(err):
				e.skip(name, "this machine has no %s", familyName(f))
			default:
				e.fail(name, "Is the server running, and is TCP port "+e.port+" open in its firewall?",
					"connecting to %s: %v", net.JoinHostPort(a.String(), e.port), plain(err))
			}
		}
	}
	return works
}

func (e *examination) connect(ctx context.Context, addr string) (time.Duration, error) {
	ctx, cancel := e.within(ctx)
	defer cancel()
	began := time.Now()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return 0, err
	}
	_ = c.Close()
	return time.Since(began).Round(100 * time.Microsecond), nil
}

// lacksFamily reports whether this machine, and not the other end, is the reason.
func lacksFamily(err error) bool {
	return errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL)
}

// plain leaves out what the reader knows: the operation and both addresses.
func plain(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Err != nil {
		err = op.Err
	}
	// pion has no error for a request that nobody answered.
	if errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "all retransmissions failed") {
		return errNoAnswer
	}
	return err
}

func (e *examination) tlsConfig(host string) *tls.Config {
	return &tls.Config{ServerName: host, RootCAs: e.cfg.RootCAs, MinVersion: tls.VersionTLS12}
}

// expiresSoon is when a certificate should have been renewed.
const expiresSoon = 14 * 24 * time.Hour

// tls makes the handshake that clients make.
func (e *examination) tls(ctx context.Context) bool {
	ctx, cancel := e.within(ctx)
	defer cancel()
	d := tls.Dialer{Config: e.tlsConfig(e.host)}
	c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(e.host, e.port))
	if err != nil {
		e.fail("TLS", tlsAdvice(err), "%v", plain(err))
		return false
	}
	defer func() { _ = c.Close() }()
	state := c.(*tls.Conn).ConnectionState()
	e.certificate("TLS", state)
	return true
}

func (e *examination) certificate(name string, state tls.ConnectionState) {
	left := time.Until(state.PeerCertificates[0].NotAfter)
	detail := fmt.Sprintf("%s, certificate valid until %s", tls.VersionName(state.Version),
		state.PeerCertificates[0].NotAfter.UTC().Format(time.DateOnly))
	if left < expiresSoon {
		e.warn(name, "Renew the certificate: clients do not connect with an expired one.", "%s", detail)
		return
	}
	e.ok(name, "%s", detail)
}

func tlsAdvice(err error) string {
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "The certificate is for other names: use one of them, or get a certificate for this one."
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "Serve the whole chain, intermediate certificates too; with an authority of your own, pass --ca-file."
	}
	if inv, ok := errors.AsType[x509.CertificateInvalidError](err); ok && inv.Reason == x509.Expired {
		return "Renew the certificate, and check this machine's clock."
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "The port does not speak TLS: give the server --tls-cert and --tls-key, or put a TLS proxy in front of it."
	}
	return "Clients need a valid certificate for the name that they dial."
}

// health asks the pages for operators. A proxy may hide them, which is no fault.
func (e *examination) health(ctx context.Context) {
	ctx, cancel := e.within(ctx)
	defer cancel()
	scheme := "http"
	if e.secure {
		scheme = "https"
	}
	page := scheme + "://" + net.JoinHostPort(e.host, e.port) + "/readyz"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
	if err != nil {
		e.fail("readiness", "Correct the URL.", "%v", err)
		return
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: e.tlsConfig(e.host)}}
	resp, err := client.Do(req)
	if err != nil {
		e.fail("readiness", "Something answers the port that is not peersignal, or a proxy in between fails.", "%v", err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
	said := strings.TrimSpace(string(text))
	switch resp.StatusCode {
	case http.StatusOK:
		e.ok("readiness", "%s", said)
	case http.StatusServiceUnavailable:
		e.fail("readiness", "The server is draining, or an ICE source that it needs is down; see its /status and log.", "%s", said)
	default:
		e.skip("readiness", "/readyz answers %s: hidden by a proxy?", resp.Status)
	}
}

// push connects to the push services.
func (e *examination) push(ctx context.Context) {
	for _, host := range e.cfg.PushHosts {
		if ctx.Err() != nil {
			return
		}
		name := "push service " + host
		addr := host
		if _, _, err := net.SplitHostPort(host); err != nil {
			addr = net.JoinHostPort(host, "443")
		}
		ctx, cancel := e.within(ctx)
		serverName, _, _ := net.SplitHostPort(addr)
		d := tls.Dialer{Config: e.tlsConfig(serverName)}
		c, err := d.DialContext(ctx, "tcp", addr)
		cancel()
		if err != nil {
			e.fail(name, "Notifications to browsers of this vendor need outgoing HTTPS from the server.", "%v", plain(err))
			continue
		}
		_ = c.Close()
		e.ok(name, "reachable")
	}
}
