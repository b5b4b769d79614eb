package wire

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// CanonicalServer takes a server's URL as a person writes it and gives the name
// that is signed and from which tags are derived (lower-case host and explicit
// port, "example.org:443", "[::1]:8080") and the WebSocket URL to dial.
//
// https and wss URLs are secure; http and ws are refused unless the host is
// this machine or the URL's query is "insecure=1" (which is not sent). Only the
// host and port of a URL name a server, so it has no path (except [Path]), user
// or fragment. A host is a literal address or ASCII labels; an
// internationalised name is written in its "xn--" form.
func CanonicalServer(rawURL string) (name, wsURL string, err error) {
	name, wsURL, err = canonicalServer(rawURL)
	if err != nil {
		return "", "", fmt.Errorf("reading server URL: %w", err)
	}
	return name, wsURL, nil
}

func canonicalServer(rawURL string) (name, wsURL string, err error) {
	if len(rawURL) > 1024 {
		return "", "", errors.New("too long")
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		return "", "", errors.New("not a URL; write it like https://example.org")
	}
	secure, port, err := schemeOf(u)
	if err != nil {
		return "", "", err
	}
	if u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return "", "", errors.New("user, password and fragment do not belong in it")
	}
	if u.Path != "" && u.Path != "/" && u.Path != Path {
		return "", "", errors.New("a server is named by host and port only; remove the path")
	}
	insecure, err := insecureOf(u)
	if err != nil {
		return "", "", err
	}
	host, local, err := CanonicalHost(u.Hostname())
	if err != nil {
		return "", "", err
	}
	if !secure && !local && !insecure {
		return "", "", errors.New("http and ws show who you are to the network; use https, or add ?insecure=1 to accept that")
	}
	if p := u.Port(); p != "" || strings.HasSuffix(u.Host, ":") {
		if port, err = canonicalPort(p); err != nil {
			return "", "", err
		}
	}
	name = host + ":" + port
	scheme := "ws://"
	if secure {
		scheme = "wss://"
	}
	return name, scheme + name + Path, nil
}

func schemeOf(u *url.URL) (secure bool, port string, err error) {
	switch u.Scheme {
	case "https", "wss":
		return true, "443", nil
	case "http", "ws":
		return false, "80", nil
	default:
		return false, "", errors.New("it must begin with https://, wss://, http:// or ws://")
	}
}

func insecureOf(u *url.URL) (bool, error) {
	switch u.RawQuery {
	case "":
		return false, nil
	case "insecure=1":
		return true, nil
	default:
		return false, errors.New(`the only query it may have is "insecure=1"`)
	}
}

// CanonicalName gives the canonical form of "host:port" (or "host", with port
// 443), as CanonicalServer does for URLs.
func CanonicalName(hostport string) (string, error) {
	name, _, err := CanonicalServer("https://" + hostport)
	return name, err
}

func canonicalPort(p string) (string, error) {
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil || n == 0 {
		return "", errors.New("the port is not a number from 1 to 65535")
	}
	return strconv.FormatUint(n, 10), nil
}

// CanonicalHost gives the canonical form of a host name or literal address
// (IPv6 in brackets), and whether it is this machine's own loopback.
func CanonicalHost(host string) (canonical string, loopback bool, err error) {
	if host == "" {
		return "", false, errors.New("the host is missing")
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Zone() != "" {
			return "", false, errors.New("an address with a zone is not the same everywhere")
		}
		ip = ip.Unmap()
		if ip.Is6() {
			return "[" + ip.String() + "]", ip.IsLoopback(), nil
		}
		return ip.String(), ip.IsLoopback(), nil
	}
	host = strings.TrimSuffix(host, ".")
	if len(host) > 253 {
		return "", false, errors.New("the host name is too long")
	}
	labels := strings.Split(strings.ToLower(host), ".")
	for _, l := range labels {
		if err := checkLabel(l); err != nil {
			return "", false, err
		}
	}
	last := labels[len(labels)-1]
	if isNumeric(last) {
		return "", false, errors.New("the host is neither a name nor an address in its usual form")
	}
	return strings.Join(labels, "."), last == "localhost", nil
}

func checkLabel(l string) error {
	if l == "" || len(l) > 63 {
		return errors.New("the host name has an empty or too long label")
	}
	for i := range len(l) {
		c := l[i]
		if c >= 0x80 {
			return errors.New(`the host name is not ASCII; write its "xn--" form`)
		}
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && c != '-' && c != '_' {
			return errors.New("the host name has a character that does not belong there")
		}
	}
	return nil
}

// isNumeric tells labels that some programs read as a part of an address:
// digits, or 0x and hexadecimal digits.
func isNumeric(l string) bool {
	if hex, ok := strings.CutPrefix(l, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(l, "0123456789") == ""
}
