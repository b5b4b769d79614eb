package turn

import (
	"fmt"
	"net/netip"
)

// Reasons of Policy; the values are metric labels.
const (
	denyInvalid       = "invalid"
	denyOperator      = "operator"
	denyPort          = "port"
	denyOwnHost       = "own_host"
	denyMetadata      = "metadata"
	denyUnspecified   = "unspecified"
	denyLoopback      = "loopback"
	denyPrivate       = "private"
	denyLinkLocal     = "link_local"
	denyCGNAT         = "cgnat"
	denyMulticast     = "multicast"
	denyBroadcast     = "broadcast"
	denyDocumentation = "documentation"
	denyTransition    = "transition"
	denySpecial       = "special"
)

var policyReasons = []string{
	denyInvalid, denyOperator, denyPort, denyOwnHost, denyMetadata, denyUnspecified, denyLoopback, denyPrivate,
	denyLinkLocal, denyCGNAT, denyMulticast, denyBroadcast, denyDocumentation, denyTransition, denySpecial,
}

// deniedNet is an entry of the built-in list. The first match gives the
// reason, so that the narrow networks stand first.
type deniedNet struct {
	reason string
	net    netip.Prefix
}

func denied(reason string, nets ...string) []deniedNet {
	out := make([]deniedNet, len(nets))
	for i, n := range nets {
		out[i] = deniedNet{reason, netip.MustParsePrefix(n)}
	}
	return out
}

// metadataHosts are where clouds serve credentials to whoever can reach them.
// Some are public addresses; a wider network in AllowPeers does not open them.
var metadataHosts = denied(denyMetadata,
	"169.254.169.254/32", // most clouds
	"169.254.170.2/32",   // AWS container credentials
	"169.254.170.23/32",  // AWS pod identity
	"168.63.129.16/32",   // Azure host agent
	"100.100.100.200/32", // Alibaba
	"192.0.0.192/32",     // Oracle, older images
	"fd00:ec2::254/128",  // AWS
	"fd00:ec2::23/128",   // AWS pod identity
	"fd20:ce::254/128",   // Google
	"fe80::a9fe:a9fe/128",
)

// denied4 and denied6 follow the IANA special-purpose registries (RFC 6890).
var (
	denied4 = concat(
		denied(denyUnspecified, "0.0.0.0/8"),
		denied(denyLoopback, "127.0.0.0/8"),
		denied(denyPrivate, "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
		denied(denyLinkLocal, "169.254.0.0/16"),
		denied(denyCGNAT, "100.64.0.0/10"),
		denied(denyDocumentation, "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"),
		denied(denyTransition, "192.88.99.0/24"), // 6to4 relays
		denied(denySpecial,
			"192.0.0.0/24",                                          // protocol assignments
			"198.18.0.0/15",                                         // benchmarks
			"192.31.196.0/24", "192.52.193.0/24", "192.175.48.0/24", // AS112, AMT
		),
		denied(denyMulticast, "224.0.0.0/4"),
		denied(denyBroadcast, "255.255.255.255/32"),
		denied(denySpecial, "240.0.0.0/4"),
	)
	denied6 = concat(
		denied(denyUnspecified, "::/128"),
		denied(denyLoopback, "::1/128"),
		denied(denyPrivate, "fc00::/7", "fec0::/10"),
		denied(denyLinkLocal, "fe80::/10"),
		denied(denyMulticast, "ff00::/8"),
		denied(denyDocumentation, "2001:db8::/32", "3fff::/20"),
		denied(denyTransition,
			"::/96",          // IPv4-compatible
			"64:ff9b:1::/48", // NAT64 of a local network
			"2001::/32",      // Teredo
			"2002::/16",      // 6to4
		),
		denied(denySpecial, "2001::/23", "2620:4f:8000::/48"), // protocol assignments, AS112
	)

	nat64         = netip.MustParsePrefix("64:ff9b::/96")
	teredo        = netip.MustParsePrefix("2001::/32")
	sixToFour     = netip.MustParsePrefix("2002::/16")
	compatible    = netip.MustParsePrefix("::/96")
	globalUnicast = netip.MustParsePrefix("2000::/3")
)

func concat(lists ...[]deniedNet) []deniedNet {
	var out []deniedNet
	for _, l := range lists {
		out = append(out, l...)
	}
	return out
}

// PolicyConfig configures a Policy.
type PolicyConfig struct {
	Allow, Deny []string     // networks in CIDR form
	Relay       []netip.Addr // the addresses of this relay, as peers see them
	RelayPorts  [2]uint16    // its inclusive port range
	Own         []netip.Addr // the other addresses of this host
}

// Policy decides which peers a client may reach through the relay. It is
// immutable.
//
// Without configuration only globally routed unicast addresses are peers, and
// of their ports 443 and everything from 1024. An address that carries an IPv4
// address (IPv4-mapped, NAT64, 6to4, Teredo, ISATAP) is judged by both.
// The order of the rules: the relay's own ports are open, because two clients
// of one relay meet there; then the operator's deny list, the port rule, the
// operator's allow list, this host's addresses, the built-in list. A cloud
// metadata address opens only to an allow entry that is that one address.
type Policy struct {
	allow, deny []netip.Prefix
	relay, own  []netip.Addr
	ports       [2]uint16
}

// NewPolicy parses the networks; a malformed one is an error.
func NewPolicy(cfg PolicyConfig) (*Policy, error) {
	p := &Policy{ports: cfg.RelayPorts}
	var err error
	if p.allow, err = parseNets("allowed peers", cfg.Allow); err != nil {
		return nil, err
	}
	if p.deny, err = parseNets("denied peers", cfg.Deny); err != nil {
		return nil, err
	}
	for _, a := range cfg.Relay {
		p.relay = append(p.relay, a.Unmap())
	}
	p.own = append(p.own, p.relay...)
	for _, a := range cfg.Own {
		p.own = append(p.own, a.Unmap().WithZone(""))
	}
	return p, nil
}

func parseNets(what string, nets []string) ([]netip.Prefix, error) {
	out := make([]netip.Prefix, len(nets))
	for i, n := range nets {
		p, err := netip.ParsePrefix(n)
		if err != nil {
			return nil, fmt.Errorf("%s %q: must be a network such as 10.0.0.0/8 or fd00::/8: %w", what, n, err)
		}
		if p.Addr().Is4In6() {
			if p.Bits() < 96 {
				return nil, fmt.Errorf("%s %q: write it as an IPv4 network", what, n)
			}
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		out[i] = p.Masked()
	}
	return out, nil
}

// Allowed says whether a client may exchange packets with the peer; when not,
// reason is one of a fixed set of short words.
func (p *Policy) Allowed(peer netip.AddrPort) (ok bool, reason string) {
	reason, _ = p.decide(peer)
	return reason == "", reason
}

// AllowedIP says whether any port of the address can be allowed: what a TURN
// permission, which names no port, is checked with.
func (p *Policy) AllowedIP(ip netip.Addr) (ok bool, reason string) {
	if contains(p.relay, ip.Unmap()) {
		return true, ""
	}
	reason, _ = p.decide(netip.AddrPortFrom(ip, 443))
	return reason == "", reason
}

// decide returns "" for an allowed peer. ownRelay says that it is allowed only
// as a relay port of this server, so that it must be a live one.
func (p *Policy) decide(peer netip.AddrPort) (reason string, ownRelay bool) {
	ip, port := peer.Addr().Unmap(), peer.Port()
	if !ip.IsValid() || ip.Zone() != "" || port == 0 {
		return denyInvalid, false
	}
	if port >= p.ports[0] && port <= p.ports[1] && contains(p.relay, ip) &&
		(!match(p.allow, ip) || match(p.deny, ip)) {
		return "", true
	}
	if port < 1024 && port != 443 {
		return denyPort, false
	}
	if reason := p.judge(ip); reason != "" {
		return reason, false
	}
	for _, inner := range embedded(ip) {
		if reason := p.judge(inner); reason != "" {
			return reason, false
		}
	}
	return "", false
}

// judge applies the rules that know no port to one address.
func (p *Policy) judge(ip netip.Addr) string {
	if match(p.deny, ip) {
		return denyOperator
	}
	for _, m := range metadataHosts {
		if m.net.Contains(ip) {
			if p.allowsHost(ip) {
				return ""
			}
			return m.reason
		}
	}
	if match(p.allow, ip) {
		return ""
	}
	if contains(p.own, ip) {
		return denyOwnHost
	}
	list := denied4
	if ip.Is6() {
		list = denied6
	}
	for _, d := range list {
		if d.net.Contains(ip) {
			return d.reason
		}
	}
	if ip.Is6() && !globalUnicast.Contains(ip) && !nat64.Contains(ip) {
		return denySpecial
	}
	return ""
}

func (p *Policy) allowsHost(ip netip.Addr) bool {
	for _, n := range p.allow {
		if n.IsSingleIP() && n.Addr() == ip {
			return true
		}
	}
	return false
}

// embedded returns the IPv4 addresses that an IPv6 address leads to.
func embedded(ip netip.Addr) []netip.Addr {
	if !ip.Is6() || ip.IsLoopback() || ip.IsUnspecified() {
		return nil
	}
	b := ip.As16()
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte(b[i : i+4])) }
	switch {
	case nat64.Contains(ip), compatible.Contains(ip):
		return []netip.Addr{at(12)}
	case sixToFour.Contains(ip):
		return []netip.Addr{at(2)}
	case teredo.Contains(ip):
		// The server in the clear, the client's address inverted (RFC 4380).
		client := netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]})
		return []netip.Addr{at(4), client}
	case b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe:
		return []netip.Addr{at(12)} // ISATAP (RFC 5214)
	}
	return nil
}

func match(nets []netip.Prefix, ip netip.Addr) bool {
	for _, n := range nets {
		if n.Contains(ip) {
			return true
		}
	}
	return false
}

func contains(addrs []netip.Addr, ip netip.Addr) bool {
	for _, a := range addrs {
		if a == ip {
			return true
		}
	}
	return false
}
