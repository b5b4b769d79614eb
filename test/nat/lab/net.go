//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Kind is what a router does with addresses.
type Kind string

// What routers can be.
const (
	// None routes, and lets nothing in that was not asked for: a firewall for public addresses.
	None Kind = "firewall"
	// FullCone maps each port of its one host to the same public port and lets everybody in.
	FullCone Kind = "full cone"
	// PortRestricted maps a port of a host to one public port, and lets only those in that were sent to.
	PortRestricted Kind = "port-restricted"
	// Symmetric maps each flow to a random public port of its own.
	Symmetric Kind = "symmetric"
)

// A RouterConfig describes a router. Upstream is its device "wan".
type RouterConfig struct {
	Kind Kind
	// Outside is the router's address upstream; for None it has the addresses of its LAN routed to it.
	Outside netip.Addr
	// Inside is the host that FullCone forwards to.
	Inside netip.Addr
	// BlockUDP drops all UDP silently.
	BlockUDP bool
	// OnlyTCP, when set, lets out nothing but TCP to these ports.
	OnlyTCP []uint16
	// UDPTimeout is when mappings of UDP are forgotten; 0: the kernel's 30 s and 120 s.
	UDPTimeout time.Duration
}

// A Router is a node that forwards. The public segment is one too.
type Router struct {
	*Node
	lab *Lab
	cfg RouterConfig
	up  *Router // nil for the public segment
}

// A Port is a host's place at a router.
type Port struct {
	Router *Router
	Host   *Node
	dev    string // at the host
	at     string // at the router
	addrs  []netip.Addr
	gw     netip.Addr
}

// Internet makes the public segment: a router that all public addresses hang on.
func (l *Lab) Internet(ctx context.Context) (*Router, error) {
	n, err := l.Node(ctx, "internet")
	if err != nil {
		return nil, err
	}
	return &Router{Node: n, lab: l}, n.forward()
}

// Router makes a router that hangs on another one.
func (l *Lab) Router(ctx context.Context, role string, up *Router, gateway netip.Addr, cfg RouterConfig) (*Router, error) {
	n, err := l.Node(ctx, role)
	if err != nil {
		return nil, err
	}
	r := &Router{Node: n, lab: l, cfg: cfg, up: up}
	if _, err := up.Attach(ctx, n, "wan", gateway, cfg.Outside); err != nil {
		return nil, err
	}
	if err := n.Rules(ctx, cfg.rules()); err != nil {
		return nil, err
	}
	if cfg.UDPTimeout > 0 {
		seconds := strconv.Itoa(int(cfg.UDPTimeout.Seconds()))
		for _, key := range []string{"nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"} {
			if err := n.Sysctl("net.netfilter."+key, seconds); err != nil {
				return nil, err
			}
		}
	}
	return r, n.forward()
}

// forward is switched on last: it would change how addresses are configured before.
func (n *Node) forward() error {
	return errors.Join(n.Sysctl("net.ipv4.ip_forward", "1"), n.Sysctl("net.ipv6.conf.all.forwarding", "1"))
}

// Host makes a host with one device, eth0, at this router.
func (r *Router) Host(ctx context.Context, role string, gateway netip.Addr, addrs ...netip.Addr) (*Port, error) {
	n, err := r.lab.Node(ctx, role)
	if err != nil {
		return nil, err
	}
	return r.Attach(ctx, n, "eth0", gateway, addrs...)
}

// Attach plugs a node in: it gets a device with the addresses, and routes everything to the gateway, which becomes an
// address of the router. Sites without NAT need [Router.Delegate] besides.
func (r *Router) Attach(ctx context.Context, n *Node, dev string, gateway netip.Addr, addrs ...netip.Addr) (*Port, error) {
	r.links++
	p := &Port{Router: r, Host: n, dev: dev, at: fmt.Sprintf("lan%d", r.links), addrs: addrs, gw: gateway}
	if err := r.lab.Link(ctx, n, dev, r.Node, p.at); err != nil {
		return nil, err
	}
	// On each device, because a neighbour's question is answered for addresses of its device only in IPv6.
	if err := r.IP(ctx, addrArgs("add", gateway, p.at)...); err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if err := p.add(ctx, a); err != nil {
			return nil, err
		}
	}
	return p, p.route(ctx)
}

func (p *Port) add(ctx context.Context, a netip.Addr) error {
	if err := p.Host.IP(ctx, addrArgs("add", a, p.dev)...); err != nil {
		return err
	}
	return p.Router.IP(ctx, "route", "replace", prefixOf(a), "dev", p.at)
}

func (p *Port) route(ctx context.Context) error {
	gateway := p.gw
	if err := p.Host.IP(ctx, "route", "replace", prefixOf(gateway), "dev", p.dev); err != nil {
		return err
	}
	return p.Host.IP(ctx, family(gateway), "route", "replace", "default", "via", gateway.String(), "dev", p.dev)
}

// Delegate routes a network to a router that hangs on this one by its outside address.
func (r *Router) Delegate(ctx context.Context, network netip.Prefix, to *Router) error {
	return r.IP(ctx, family(network.Addr()), "route", "replace", network.String(), "via", to.cfg.Outside.String())
}

// SetCable plugs the cable in or out, at the router's end: the host sees its carrier come and go.
func (p *Port) SetCable(ctx context.Context, in bool) error {
	if !in {
		return p.Router.IP(ctx, "link", "set", p.at, "down")
	}
	if err := p.Router.IP(ctx, "link", "set", p.at, "up"); err != nil {
		return err
	}
	// Routes go with the device, and so do addresses of IPv6.
	if p.gw.Is6() {
		if err := p.Router.IP(ctx, addrArgs("replace", p.gw, p.at)...); err != nil {
			return err
		}
	}
	for _, a := range p.addrs {
		if err := p.Router.IP(ctx, "route", "replace", prefixOf(a), "dev", p.at); err != nil {
			return err
		}
	}
	return nil
}

// Readdress takes the host's addresses away and gives it another one, as a new lease does.
func (p *Port) Readdress(ctx context.Context, a netip.Addr) error {
	for _, old := range p.addrs {
		if err := p.Host.IP(ctx, addrArgs("del", old, p.dev)...); err != nil {
			return err
		}
		if err := p.Router.IP(ctx, "route", "del", prefixOf(old), "dev", p.at); err != nil {
			return err
		}
	}
	p.addrs = []netip.Addr{a}
	if err := p.add(ctx, a); err != nil {
		return err
	}
	return p.route(ctx)
}

// Unplug removes the host's device with its addresses and routes.
func (p *Port) Unplug(ctx context.Context) error { return p.Host.IP(ctx, "link", "del", p.dev) }

// Blackhole drops everything that the router would forward, silently, or lets it pass again. Nobody sees a carrier go.
func (r *Router) Blackhole(ctx context.Context, on bool) error {
	if !on {
		return r.Rules(ctx, "delete table inet blackhole\n")
	}
	return r.Rules(ctx, "table inet blackhole {\n chain forward {\n  type filter hook forward priority -300; policy drop;\n }\n}\n")
}

// rules are the router's packet filter.
func (c RouterConfig) rules() string {
	var b strings.Builder
	add := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	if c.Kind != None {
		add("table ip nat {")
		add("chain post {\ntype nat hook postrouting priority srcnat")
		add("oifname wan masquerade%s\n}", map[Kind]string{Symmetric: " fully-random"}[c.Kind])
		if c.Kind == FullCone {
			add("chain pre {\ntype nat hook prerouting priority dstnat\niifname wan meta l4proto udp dnat to %s\n}", c.Inside)
		}
		add("}")
	}
	add("table inet filter {")
	// Without this the packets that arrive before the hole is punched would be tracked as connections to the router
	// itself, and take the mapping away from the host: home routers drop them.
	add("chain input {\ntype filter hook input priority filter")
	add("iifname wan ct state new meta l4proto { tcp, udp } drop\n}")
	add("chain forward {\ntype filter hook forward priority filter; policy drop;")
	if c.BlockUDP || len(c.OnlyTCP) > 0 {
		add("meta l4proto udp drop")
	}
	add("ct state established,related accept")
	if c.Kind == FullCone {
		add("iifname wan ct status dnat accept")
	}
	add("iifname wan drop")
	if len(c.OnlyTCP) > 0 {
		ports := make([]string, 0, len(c.OnlyTCP))
		for _, p := range c.OnlyTCP {
			ports = append(ports, strconv.Itoa(int(p)))
		}
		add("meta l4proto != tcp drop\ntcp dport != { %s } drop", strings.Join(ports, ", "))
	}
	add("accept\n}\n}")
	return b.String()
}

// addrArgs are for ip address; nodad because a lab need not wait for other owners of an address.
func addrArgs(verb string, a netip.Addr, dev string) []string {
	args := []string{family(a), "addr", verb, prefixOf(a), "dev", dev}
	if a.Is6() && verb != "del" {
		args = append(args, "nodad")
	}
	return args
}

func prefixOf(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }

func family(a netip.Addr) string {
	if a.Is6() {
		return "-6"
	}
	return "-4"
}
