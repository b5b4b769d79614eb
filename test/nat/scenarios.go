//go:build linux

package main

import (
	"context"
	"time"

	"github.com/peersignal/peersignal/test/nat/lab"
)

// A site is what stands between one of the two daemons and the public segment.
type site struct {
	kind       lab.Kind
	carrier    bool // a second NAT, of the provider, before the site's own
	blockUDP   bool
	onlyTCP    []uint16
	udpTimeout time.Duration
	sameLAN    bool // numbered like the other site's LAN
}

// trouble is what happens to the network once two daemons are in sync.
type trouble struct {
	cut  func(ctx context.Context, n *network) error // nil: nothing, the two are idle
	hold time.Duration                               // from the cut to heal
	heal func(ctx context.Context, n *network) error // nil: what was cut stays so
}

// A scenario is one case.
type scenario struct {
	name, about string
	short       bool // quick enough for each run of CI
	a, b        site
	server      server
	path        string // direct or relay
	trouble     *trouble
	// known says why the case cannot hold yet. It is run all the same and does not fail the run.
	known string
}

// server is how peersignal is set up.
type server struct {
	v6 bool
	// port443: signaling and TURN on port 443 of an address each.
	port443 bool
	// tls: HTTPS and TURN over TLS.
	tls bool
}

var only443 = []uint16{443}

func scenarios() []scenario {
	cone, open, random := site{kind: lab.PortRestricted}, site{kind: lab.FullCone}, site{kind: lab.Symmetric}
	return append(ways(cone, open, random), troubles(cone, random)...)
}

// ways are the cases about finding a path.
func ways(cone, open, random site) []scenario {
	carrier := site{kind: lab.PortRestricted, carrier: true, sameLAN: true}
	firewall := site{kind: lab.None}
	noUDP := site{kind: lab.PortRestricted, blockUDP: true}
	strict := site{kind: lab.PortRestricted, onlyTCP: only443}
	return []scenario{
		{name: "full-cone", about: "both behind full-cone NAT", a: open, b: open, path: "direct"},
		{name: "port-restricted", about: "both behind port-restricted NAT", short: true, a: cone, b: cone, path: "direct"},
		{name: "symmetric", about: "both behind symmetric NAT", short: true, a: random, b: random, path: "relay"},
		{name: "symmetric-cone", about: "one behind symmetric, one behind full-cone NAT", a: random, b: open, path: "direct"},
		{name: "udp-blocked", about: "UDP is dropped at one site: TURN over TCP", a: noUDP, b: cone, path: "relay"},
		{name: "udp-blocked-both", about: "UDP is dropped at both sites", short: true, a: noUDP, b: noUDP, path: "relay"},
		{name: "tcp-443", about: "only TCP to port 443 leaves both sites", a: strict, b: strict, server: server{port443: true}, path: "relay"},
		{
			name: "tls-443", about: "only TCP to port 443 leaves both sites; HTTPS and TURN over TLS",
			a: strict, b: strict, server: server{port443: true, tls: true}, path: "relay",
		},
		{name: "ipv6-only", about: "IPv6 only, a firewall at each site", a: firewall, b: firewall, server: server{v6: true}, path: "direct"},
		{
			name: "ipv6-udp-blocked", about: "IPv6 only, UDP is dropped at both sites",
			a: site{kind: lab.None, blockUDP: true}, b: site{kind: lab.None, blockUDP: true}, server: server{v6: true}, path: "relay",
		},
		{name: "double-nat", about: "two NATs at each site, LANs numbered alike", a: carrier, b: carrier, path: "direct"},
	}
}

// troubles are the cases about keeping it.
func troubles(cone, random site) []scenario {
	forgetful, forgetfulRandom := cone, random
	forgetful.udpTimeout, forgetfulRandom.udpTimeout = 30*time.Second, 30*time.Second
	idle := &trouble{hold: 40 * time.Second}
	unplugged := &trouble{
		cut:  func(ctx context.Context, n *network) error { return n.b.port.SetCable(ctx, false) },
		hold: 20 * time.Second,
		heal: func(ctx context.Context, n *network) error { return n.b.port.SetCable(ctx, true) },
	}
	outage := &trouble{
		cut:  func(ctx context.Context, n *network) error { return n.b.router.Blackhole(ctx, true) },
		hold: 45 * time.Second,
		heal: func(ctx context.Context, n *network) error { return n.b.router.Blackhole(ctx, false) },
	}
	lease := &trouble{cut: func(ctx context.Context, n *network) error { return n.b.port.Readdress(ctx, n.b.other) }}
	return []scenario{
		{name: "forgetful-nat", about: "NATs forget UDP after 30 s; idle for 40 s", a: forgetful, b: forgetful, path: "direct", trouble: idle},
		{name: "forgetful-relay", about: "the same through the relay", a: forgetfulRandom, b: forgetfulRandom, path: "relay", trouble: idle},
		{name: "link-down", about: "one site's cable is out for 20 s", a: cone, b: cone, path: "direct", trouble: unplugged},
		{name: "link-down-relay", about: "the same through the relay", a: random, b: random, path: "relay", trouble: unplugged},
		{name: "outage", about: "one site's provider drops everything for 45 s", a: cone, b: cone, path: "direct", trouble: outage},
		{name: "new-address", about: "one side gets another address in its LAN", a: cone, b: cone, path: "direct", trouble: lease},
		{
			name: "new-network", about: "one side moves to another network with another NAT", a: cone, b: cone, path: "direct",
			trouble: &trouble{cut: func(ctx context.Context, n *network) error { return n.move(ctx) }},
		},
		{
			name: "nat-restart", about: "one side's symmetric NAT restarts and maps everything anew", a: random, b: random, path: "relay",
			trouble: &trouble{cut: func(ctx context.Context, n *network) error { return n.b.router.Forget(ctx) }},
		},
		{
			name: "relay-restart", about: "peersignal is killed under a relayed connection and comes back after 5 s", a: random, b: random, path: "relay",
			trouble: &trouble{
				cut:  func(_ context.Context, n *network) error { n.world.Server.Kill(); return nil },
				hold: 5 * time.Second, heal: func(ctx context.Context, n *network) error { return n.startServer(ctx) },
			},
		},
	}
}
