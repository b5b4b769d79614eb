package link

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/pion/webrtc/v4"
)

// errRelayed ends a connection that found a path only over the peer's relay.
var errRelayed = fmt.Errorf("%w: there is one over a relay, which ICETransport excludes", ErrICEFailed)

// parsedCandidate is what a candidate's text says, as far as it matters here.
type parsedCandidate struct {
	typ  string
	addr netip.AddrPort
}

// parseCandidateText reads a remote candidate ("candidate:…" or without that
// prefix). Refused are names (also .local: nothing is looked up on behalf of a
// peer), TCP, and port 0.
func parseCandidateText(text string) (parsedCandidate, bool) {
	f := strings.Fields(strings.TrimPrefix(text, "candidate:"))
	if len(text) > maxCandidateText || len(f) < 8 || f[6] != "typ" || !strings.EqualFold(f[2], "udp") {
		return parsedCandidate{}, false
	}
	port, err := strconv.ParseUint(f[5], 10, 16)
	if err != nil || port == 0 {
		return parsedCandidate{}, false
	}
	ip, err := netip.ParseAddr(f[4])
	if err != nil || ip.Zone() != "" {
		return parsedCandidate{}, false
	}
	c := parsedCandidate{typ: f[7], addr: netip.AddrPortFrom(ip.Unmap(), uint16(port))}
	switch c.typ {
	case "host", "srflx", "prflx", "relay":
		return c, true
	default:
		return c, false
	}
}

// usableAddr reports whether packets may be sent to ip: not to unspecified,
// multicast, broadcast and reserved addresses, and to loopback only if that is
// wanted; and not to IPv6 addresses that lead to such an IPv4 one.
func usableAddr(ip netip.Addr, loopback bool) bool {
	ip = ip.Unmap()
	if v4, ok := embedded4(ip); ok && !usableAddr(v4, false) {
		return false
	}
	if ip.IsLoopback() {
		return loopback
	}
	return !ip.IsUnspecified() && !ip.IsMulticast() && (ip.Is6() || ip.As4()[0] != 0 && ip.As4()[0] < 224)
}

var (
	nat64   = netip.MustParsePrefix("64:ff9b::/96")
	sixTo4  = netip.MustParsePrefix("2002::/16")
	compat4 = netip.MustParsePrefix("::/96")
)

// embedded4 returns the IPv4 address that a translator or tunnel makes of an
// IPv6 one: NAT64 (RFC 6052), 6to4 (RFC 3056), or compatible (RFC 4291).
func embedded4(ip netip.Addr) (netip.Addr, bool) {
	if !ip.Is6() || ip == netip.IPv6Loopback() || ip.IsUnspecified() {
		return netip.Addr{}, false
	}
	b := ip.As16()
	switch {
	case nat64.Contains(ip), compat4.Contains(ip):
		return netip.AddrFrom4([4]byte(b[12:])), true
	case sixTo4.Contains(ip):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	default:
		return netip.Addr{}, false
	}
}

// usableCandidate reports whether a remote candidate may be handed to the
// WebRTC stack, whatever the configuration says.
func usableCandidate(text string, loopback bool) bool {
	c, ok := parseCandidateText(text)
	return ok && usableAddr(c.addr.Addr(), loopback)
}

// wants reports whether a remote candidate may be handed to the WebRTC stack.
func (a *attempt) wants(text string) bool {
	cfg := &a.link.cfg
	c, ok := parseCandidateText(text)
	if !ok || !usableAddr(c.addr.Addr(), cfg.AllowLoopback) {
		return false
	}
	if cfg.FilterAddress != nil && !cfg.FilterAddress(c.addr.Addr()) {
		return false
	}
	if c.typ == "relay" && cfg.ICETransport == ICENoRelay {
		// Packets may come from there nevertheless: see relayed.
		a.relays.Store(c.addr, struct{}{})
		return false
	}
	return true
}

// relayed reports whether a pair leads over a relay of the peer that the
// configuration excludes: the stack uses it when the peer checks it.
func (a *attempt) relayed(pair *webrtc.ICECandidatePair) bool {
	if a.link.cfg.ICETransport != ICENoRelay || pair == nil || pair.Remote == nil {
		return false
	}
	ip, err := netip.ParseAddr(pair.Remote.Address)
	if err != nil {
		return false
	}
	_, known := a.relays.Load(netip.AddrPortFrom(ip.Unmap(), pair.Remote.Port))
	return known
}

var relatedAddress = regexp.MustCompile(` raddr \S+ rport \d+`)

// hideRelated takes the local addresses out of relay candidates: the related
// address is for diagnosis only (RFC 8839, 5.1) and says which network this is.
func hideRelated(text string) string {
	return relatedAddress.ReplaceAllString(text, " raddr 0.0.0.0 rport 0")
}
