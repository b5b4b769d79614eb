//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/peersignal/peersignal/test/harness"
	"github.com/peersignal/peersignal/test/nat/lab"
)

// errNotOffered: this build of peersignal lacks what the case is about.
var errNotOffered = errors.New("peersignal does not offer it")

// A network is the laboratory of one case: a public segment with the server, and two sites.
type network struct {
	lab      *lab.Lab
	world    *harness.World
	plan     plan
	internet *lab.Router
	server   *lab.Node
	setup    server
	a, b     place
	// certificate is the server's, with TLS.
	certificate *lab.Certificate
}

// A place is one side.
type place struct {
	router *lab.Router // the one nearest to the host
	port   *lab.Port
	other  netip.Addr // free in the host's LAN
}

// plan numbers the network.
type plan struct {
	gateway         netip.Addr
	signaling, turn netip.Addr // both the server's; signaling also relays unless it has to be alone on its port
	public          string     // network that the relay may send to
}

func addr(format string, args ...any) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf(format, args...))
}

func planOf(v6 bool) plan {
	if v6 {
		return plan{addr("2001:db8::1"), addr("2001:db8::10"), addr("2001:db8::11"), "2001:db8::/32"}
	}
	return plan{addr("203.0.113.1"), addr("203.0.113.10"), addr("203.0.113.11"), "203.0.113.0/24"}
}

// newNetwork builds the network of a case; no program runs yet. On an error the lab has to be closed all the same.
func newNetwork(ctx context.Context, l *lab.Lab, s scenario) (*network, error) {
	n := &network{lab: l, plan: planOf(s.server.v6), setup: s.server}
	var err error
	if n.internet, err = l.Internet(ctx); err != nil {
		return n, err
	}
	server, err := n.internet.Host(ctx, "server", n.plan.gateway, n.plan.signaling, n.plan.turn)
	if err != nil {
		return n, err
	}
	n.server = server.Host
	if n.a, err = n.site(ctx, "a", 1, s.a, nil); err != nil {
		return n, err
	}
	n.b, err = n.site(ctx, "b", 2, s.b, nil)
	return n, err
}

// site builds one side's way to the public segment. A host that is given moves there: its old device is gone.
func (n *network) site(ctx context.Context, name string, number int, s site, host *lab.Node) (place, error) {
	lan := number
	if s.sameLAN {
		lan = 1
	}
	up, gateway, outside := n.internet, n.plan.gateway, addr("203.0.113.%d", 20+number)
	inside, own, other := addr("192.168.%d.1", lan), addr("192.168.%d.%d", lan, 1+number), addr("192.168.%d.77", lan)
	if n.setup.v6 {
		outside = addr("2001:db8:0:%d::1", number)
		inside, own, other = addr("2001:db8:%d::1", number), addr("2001:db8:%d::2", number), addr("2001:db8:%d::77", number)
	}
	if s.carrier {
		carrier, err := n.lab.Router(ctx, "carrier-"+name, up, gateway, lab.RouterConfig{Kind: s.kind, Outside: outside})
		if err != nil {
			return place{}, err
		}
		up, gateway, outside = carrier, addr("100.64.%d.1", number), addr("100.64.%d.2", number)
	}
	router, err := n.lab.Router(ctx, "nat-"+name, up, gateway, lab.RouterConfig{
		Kind: s.kind, Outside: outside, Inside: own, BlockUDP: s.blockUDP, OnlyTCP: s.onlyTCP, UDPTimeout: s.udpTimeout,
	})
	if err != nil {
		return place{}, err
	}
	if s.kind == lab.None {
		if err := up.Delegate(ctx, netip.PrefixFrom(inside, 48).Masked(), router); err != nil {
			return place{}, err
		}
	}
	p := place{router: router, other: other}
	if host != nil {
		p.port, err = router.Attach(ctx, host, "eth1", inside, own)
	} else {
		p.port, err = router.Host(ctx, "host-"+name, inside, own)
	}
	return p, err
}

// move takes b's host out of its network into a third one.
func (n *network) move(ctx context.Context) error {
	if err := n.b.port.Unplug(ctx); err != nil {
		return err
	}
	moved, err := n.site(ctx, "c", 3, site{kind: lab.PortRestricted}, n.b.port.Host)
	n.b = moved
	return err
}

// measure waits until both sides reach the server, by the port that is open everywhere, and names what becomes of their
// UDP.
func (n *network) measure(ctx context.Context) (a, b string, err error) {
	limited, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, p := range []place{n.a, n.b} {
		if err := lab.AwaitTCP(limited, p.port.Host, n.server, netip.AddrPortFrom(n.plan.signaling, 443)); err != nil {
			return "", "", err
		}
	}
	ba, err := lab.Probe(n.a.port.Host, n.server, n.plan.signaling, n.plan.turn)
	if err != nil {
		return "", "", err
	}
	bb, err := lab.Probe(n.b.port.Host, n.server, n.plan.signaling, n.plan.turn)
	return ba.Kind(), bb.Kind(), err
}

// wanted is what measuring a site has to find.
func (s site) wanted() string {
	switch {
	case s.blockUDP || len(s.onlyTCP) > 0:
		return "no UDP"
	case s.kind == lab.None: // a firewall lets in what a port-restricted NAT does
		return string(lab.PortRestricted)
	}
	return string(s.kind)
}

// useWorld names the server's URL for the daemons.
func (n *network) useWorld(w *harness.World) {
	n.world = w
	port, scheme, query := "8080", "http", "?insecure=1"
	if n.setup.port443 {
		port = "443"
	}
	if n.setup.tls {
		scheme, query = "https", ""
	}
	w.ServerURL = scheme + "://" + net.JoinHostPort(n.plan.signaling.String(), port) + query
}

// startServer starts peersignal in its namespace and waits until it serves.
func (n *network) startServer(ctx context.Context) error {
	turn, signalPort, turnPort := n.plan.signaling, "8080", "3478"
	if n.setup.port443 {
		turn, signalPort, turnPort = n.plan.turn, "443", "443"
	}
	if n.setup.tls {
		turnPort = "3478" // 443 is for TLS
	}
	args := []string{
		"--listen", net.JoinHostPort(n.plan.signaling.String(), signalPort),
		"--turn-listen", net.JoinHostPort(turn.String(), turnPort), "--turn-host", turn.String(),
		"--turn-relay-ip", turn.String(), "--turn-allow-peer", n.plan.public,
	}
	if n.setup.tls {
		more, err := n.tlsArgs(ctx)
		if err != nil {
			return err
		}
		args = append(args, more...)
	}
	for try := 1; ; try++ {
		p, err := harness.Start("peersignal", filepath.Join(n.world.Dir, "peersignal.log"), nil, n.server.Command(), n.world.Bin.Peersignal, args...)
		if err != nil {
			return err
		}
		n.world.Server = p
		// A program of another case that has not come to its exec yet may still hold a socket of ours.
		if err = p.Listening(ctx); !errors.Is(err, harness.ErrTaken) || try == 50 {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// tlsArgs makes a certificate for the server's addresses.
func (n *network) tlsArgs(ctx context.Context) ([]string, error) {
	help, err := exec.CommandContext(ctx, n.world.Bin.Peersignal, "--help").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("peersignal --help: %w", err)
	}
	for _, flag := range []string{"--tls-cert", "--tls-key", "--turn-tls-listen"} {
		if !strings.Contains(string(help), flag) {
			return nil, fmt.Errorf("%s: %w", flag, errNotOffered)
		}
	}
	if n.certificate == nil { // the server may start anew
		c, err := lab.WriteCertificate(n.world.Dir, n.plan.signaling, n.plan.turn)
		if err != nil {
			return nil, err
		}
		n.certificate = &c
	}
	return []string{
		"--tls-cert", n.certificate.Cert, "--tls-key", n.certificate.Key, "--turn-tls-listen", net.JoinHostPort(n.plan.turn.String(), "443"),
	}, nil
}
