package ice

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// ErrURL is wrapped by the errors of ParseURL.
var ErrURL = errors.New("not an ICE server URL")

const maxURL = 512

// URL is a parsed ICE server URL.
type URL struct {
	Scheme    string // "stun", "stuns", "turn" or "turns"
	Host      string // a name, an IPv4 address, or an IPv6 address without brackets
	Port      uint16 // 0: the scheme's default
	Transport string // "", "udp" or "tcp"; always "" for stun and stuns
}

// ParseURL reads "stun:host:port" (RFC 7064) and
// "turn:host:port?transport=udp" (RFC 7065). It is as strict as the strictest
// browser: a query on a stun URL, an unknown transport, a path or user
// information is an error.
func ParseURL(s string) (URL, error) {
	if len(s) > maxURL {
		return URL{}, fmt.Errorf("%w: %d bytes, the most is %d", ErrURL, len(s), maxURL)
	}
	scheme, rest, ok := strings.Cut(s, ":")
	u := URL{Scheme: strings.ToLower(scheme)}
	if !ok || (u.Scheme != "stun" && u.Scheme != "stuns" && !u.IsTURN()) {
		return URL{}, fmt.Errorf("%w: %q must begin with one of stun:, stuns:, turn:, turns: and a host", ErrURL, s)
	}
	rest, query, hasQuery := strings.Cut(rest, "?")
	if hasQuery {
		if !u.IsTURN() {
			return URL{}, fmt.Errorf("%w: %q: a %s URL has no query (browsers refuse it)", ErrURL, s, u.Scheme)
		}
		u.Transport, ok = strings.CutPrefix(query, "transport=")
		if !ok || (u.Transport != "udp" && u.Transport != "tcp") {
			return URL{}, fmt.Errorf("%w: %q: the query can only be ?transport=udp or ?transport=tcp", ErrURL, s)
		}
	}
	host, port, err := splitHostPort(rest)
	if err != nil {
		return URL{}, fmt.Errorf("%w: %q: %w", ErrURL, s, err)
	}
	u.Host, u.Port = host, port
	return u, nil
}

// IsTURN says whether the URL names a relay, which needs credentials.
func (u URL) IsTURN() bool { return u.Scheme == "turn" || u.Scheme == "turns" }

// String formats the URL; ParseURL reads it back.
func (u URL) String() string {
	host := u.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	s := u.Scheme + ":" + host
	if u.Port != 0 {
		s += ":" + strconv.Itoa(int(u.Port))
	}
	if u.Transport != "" {
		s += "?transport=" + u.Transport
	}
	return s
}

// splitHostPort reads host, host:port, [v6] and [v6]:port; a bare IPv6 address
// is refused, since its end is ambiguous. Without a port it returns port 0.
func splitHostPort(s string) (string, uint16, error) {
	var host, portText string
	hasPort := false
	switch {
	case strings.HasPrefix(s, "["):
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return "", 0, errors.New("an IPv6 address lacks its closing bracket")
		}
		if rest := s[end+1:]; rest != "" {
			if portText, hasPort = strings.CutPrefix(rest, ":"); !hasPort {
				return "", 0, errors.New("only a port can follow the bracket")
			}
		}
		addr, err := netip.ParseAddr(s[1:end])
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return "", 0, errors.New("brackets hold one IPv6 address without a zone")
		}
		host = addr.String()
	case strings.Count(s, ":") > 1:
		return "", 0, errors.New("an IPv6 address needs brackets")
	default:
		host, portText, hasPort = strings.Cut(s, ":")
		if !validName(host) {
			return "", 0, errors.New("the host is neither a name nor an address")
		}
	}
	if !hasPort {
		return host, 0, nil
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 || portText[0] == '+' {
		return "", 0, errors.New("the port must be from 1 to 65535")
	}
	return host, uint16(port), nil
}

// validName accepts IPv4 addresses and DNS names, underscores included (they
// occur in container networks).
func validName(host string) bool {
	host = strings.TrimSuffix(host, ".")
	if host == "" || len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
			if !alnum && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// hostOnly takes what a client dialled ("name", "name:port", "[::1]:port",
// "::1") and returns the host without port and brackets.
func hostOnly(dialled string) (string, error) {
	if addr, err := netip.ParseAddr(dialled); err == nil && addr.Zone() == "" {
		return addr.String(), nil
	}
	if len(dialled) > maxURL {
		return "", errors.New("the dialled host is too long")
	}
	// A port of 0 or none is fine here: only the host is used.
	if h, _, err := net.SplitHostPort(dialled); err == nil && !strings.Contains(h, ":") {
		dialled = h
	}
	host, _, err := splitHostPort(dialled)
	return host, err
}
