package doctor

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/pion/logging"
	"github.com/pion/stun/v3"
	"github.com/pion/transport/v4"
	"github.com/pion/transport/v4/stdnet"
	pionturn "github.com/pion/turn/v4"

	"github.com/peersignal/peersignal/pkg/wire"
)

// forbidden are addresses that no relay on the Internet should reach for a client, one of each kind, by family.
var forbidden = [2][]string{
	{
		"127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.1", "198.18.0.1",
		"224.0.0.1", "240.0.0.1", "255.255.255.255",
	},
	{"::1", "fc00::1", "fe80::1", "fd00:ec2::254", "64:ff9b::a00:1", "2002:a00:1::1", "2001:0:a00:1::1", "ff02::1"},
}

// service is one ICE URL with what it takes to use it.
type service struct {
	uri                *stun.URI
	username, password string
}

func (s service) name(f int) string {
	kind, over := "STUN", "UDP"
	if s.relays() {
		kind = "TURN"
	}
	switch {
	case s.uri.Scheme == stun.SchemeTypeTURNS || s.uri.Scheme == stun.SchemeTypeSTUNS:
		over = "TLS"
	case s.uri.Proto == stun.ProtoTypeTCP:
		over = "TCP"
	}
	return fmt.Sprintf("%s over %s, %s, %s", kind, over, familyName(f), net.JoinHostPort(s.uri.Host, strconv.Itoa(s.uri.Port)))
}

func (s service) relays() bool {
	return s.uri.Scheme == stun.SchemeTypeTURN || s.uri.Scheme == stun.SchemeTypeTURNS
}

func (s service) tls() bool { return s.uri.Scheme == stun.SchemeTypeTURNS }

// relays tries each ICE server that the session was given.
func (e *examination) relays(ctx context.Context, servers []wire.ICEServer) {
	var all []service
	turns := 0
	for _, srv := range servers {
		for _, u := range srv.URLs {
			uri, err := stun.ParseURI(u)
			if err != nil {
				e.fail("ICE server", "Correct the address in the server's configuration.", "%q: %v", u, err)
				continue
			}
			s := service{uri, srv.Username, srv.Credential}
			if s.relays() {
				turns++
			}
			all = append(all, s)
		}
	}
	if turns == 0 {
		e.warn("ICE servers", "Run the embedded relay (--turn) or name others: about one device in ten has no direct path.",
			"the server gives no TURN server")
	}
	carried := false
	for _, s := range all {
		for f := range 2 {
			if ctx.Err() != nil {
				return
			}
			if e.try(ctx, s, f) && !carried {
				carried = true
				e.carry(ctx, s, f)
			}
		}
	}
}

// try makes a binding or an allocation. It reports whether the service relays.
func (e *examination) try(ctx context.Context, s service, f int) bool {
	name := s.name(f)
	addr, err := e.resolve(ctx, s.uri.Host, f)
	if err != nil {
		e.skip(name, "%v", err)
		return false
	}
	began := time.Now()
	c, err := e.client(ctx, s, netip.AddrPortFrom(addr, uint16(s.uri.Port)))
	if err != nil {
		if lacksFamily(err) {
			e.skip(name, "this machine has no %s", familyName(f))
			return false
		}
		e.fail(name, blocked(s), "%v", plain(err))
		return false
	}
	defer c.close()
	mapped, err := c.bind()
	if err != nil {
		e.fail(name, blocked(s), "%v", plain(err))
		return false
	}
	if !s.relays() {
		e.ok(name, "this machine is seen as %s, in %s", mapped, time.Since(began).Round(100*time.Microsecond))
		return false
	}
	relay, err := c.Allocate()
	if err != nil {
		e.fail(name, allocateAdvice(err), "no relay: %v", plain(err))
		return false
	}
	defer func() { _ = relay.Close() }()
	e.relayed(name, addr, relay.LocalAddr(), time.Since(began))
	return true
}

// relayed judges the address that a relay tells its clients.
func (e *examination) relayed(name string, server netip.Addr, local net.Addr, took time.Duration) {
	at, err := netip.ParseAddrPort(local.String())
	if err == nil && private(at.Addr().Unmap()) && !private(server) {
		e.fail(name, "The relay is behind NAT and tells its inner address: set --turn-public-ip or --turn-public-ip-from.",
			"the relay is at %s, which others can't reach", local)
		return
	}
	e.ok(name, "relay at %s, in %s", local, took.Round(100*time.Microsecond))
}

func private(a netip.Addr) bool {
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsUnspecified()
}

func blocked(s service) string {
	kind := "UDP"
	if s.tls() || s.uri.Proto == stun.ProtoTypeTCP {
		kind = "TCP"
	}
	return fmt.Sprintf("Open %s port %d in the firewalls of the server and of this network. Devices here fall back to other transports.",
		kind, s.uri.Port)
}

func allocateAdvice(err error) string {
	switch text := err.Error(); {
	case strings.Contains(text, "401"):
		return "Credentials were refused: all nodes need the same turn-secrets, and the clocks must agree."
	case strings.Contains(text, "440"):
		return "The relay has no IPv4 address to give, and most peers need one: set --turn-relay-ip to an IPv4 address."
	case strings.Contains(text, "486") || strings.Contains(text, "508"):
		return "The relay is full: raise --turn-allocations or widen --turn-ports."
	default:
		return "See the server's log and docs/turn.md."
	}
}

func (e *examination) resolve(ctx context.Context, host string, f int) (netip.Addr, error) {
	ctx, cancel := e.within(ctx)
	defer cancel()
	network := [2]string{"ip4", "ip6"}[f]
	if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		if family(a) != f {
			return a, fmt.Errorf("the server has no %s address", familyName(f))
		}
		return a.Unmap(), nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, network, host)
	if err != nil || len(addrs) == 0 {
		return netip.Addr{}, fmt.Errorf("%s has no %s address", host, familyName(f))
	}
	return addrs[0].Unmap(), nil
}

// turnClient is a client with the socket below it.
type turnClient struct {
	*pionturn.Client
	conn net.PacketConn
}

func (c *turnClient) close() {
	c.Close()
	_ = c.conn.Close()
}

func (c *turnClient) bind() (string, error) {
	mapped, err := c.SendBindingRequest()
	if err != nil {
		return "", err
	}
	return mapped.String(), nil
}

func (e *examination) client(ctx context.Context, s service, addr netip.AddrPort) (*turnClient, error) {
	conn, err := e.transport(ctx, s, addr)
	if err != nil {
		return nil, err
	}
	std, err := stdnet.NewNet()
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("making a TURN client: %w", err)
	}
	c, err := pionturn.NewClient(&pionturn.ClientConfig{
		STUNServerAddr: addr.String(), TURNServerAddr: addr.String(), Conn: conn, Username: s.username, Password: s.password,
		Net:           bothFamilies{std},
		LoggerFactory: &logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled},
	})
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("making a TURN client: %w", err)
	}
	if err := c.Listen(); err != nil {
		c.Close()
		_ = conn.Close()
		return nil, fmt.Errorf("making a TURN client: %w", err)
	}
	return &turnClient{c, conn}, nil
}

// bothFamilies lets the client, which asks for IPv4 only, have servers of either family.
type bothFamilies struct{ transport.Net }

// ResolveUDPAddr implements [transport.Net].
func (n bothFamilies) ResolveUDPAddr(_, address string) (*net.UDPAddr, error) {
	return n.Net.ResolveUDPAddr("udp", address)
}

// transport opens what a URL names.
func (e *examination) transport(ctx context.Context, s service, addr netip.AddrPort) (net.PacketConn, error) {
	ctx, cancel := e.within(ctx)
	defer cancel()
	if !s.tls() && s.uri.Proto != stun.ProtoTypeTCP {
		// Connecting tells at once whether there is a route.
		probe, err := (&net.Dialer{}).DialContext(ctx, "udp", addr.String())
		if err != nil {
			return nil, err
		}
		_ = probe.Close()
		return (&net.ListenConfig{}).ListenPacket(ctx, [2]string{"udp4", "udp6"}[family(addr.Addr())], ":0")
	}
	stream, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	if s.tls() {
		secure := tls.Client(stream, e.tlsConfig(strings.Trim(s.uri.Host, "[]")))
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = stream.Close()
			return nil, fmt.Errorf("%w (%s)", err, tlsAdvice(err))
		}
		stream = secure
	}
	return pionturn.NewSTUNConn(stream), nil
}

// carry has data go from one relay to another and back, and asks for what must be refused.
func (e *examination) carry(ctx context.Context, s service, f int) {
	const name = "data through the relay"
	if err := e.carryData(ctx, s, f); err != nil {
		e.fail(name, "Open the relay's UDP ports (--turn-ports) in its firewall; behind NAT check --turn-public-ip.", "%v", err)
	} else {
		e.ok(name, "both ways between two relays")
	}
	e.refusals(ctx, s, f)
}

// end is a client with its relay.
type end struct {
	*turnClient
	relay net.PacketConn
}

func (e *examination) end(ctx context.Context, s service, f int) (end, error) {
	addr, err := e.resolve(ctx, s.uri.Host, f)
	if err != nil {
		return end{}, err
	}
	c, err := e.client(ctx, s, netip.AddrPortFrom(addr, uint16(s.uri.Port)))
	if err != nil {
		return end{}, err
	}
	relay, err := c.Allocate()
	if err != nil {
		c.close()
		return end{}, err
	}
	return end{c, relay}, nil
}

func (n end) close() {
	_ = n.relay.Close()
	n.turnClient.close()
}

func (e *examination) carryData(ctx context.Context, s service, f int) error {
	a, err := e.end(ctx, s, f)
	if err != nil {
		return fmt.Errorf("opening a relay: %w", err)
	}
	defer a.close()
	b, err := e.end(ctx, s, f)
	if err != nil {
		return fmt.Errorf("opening a second relay: %w", err)
	}
	defer b.close()
	for _, p := range [][2]end{{a, b}, {b, a}} {
		if err := p[0].CreatePermission(p[1].relay.LocalAddr()); err != nil {
			return fmt.Errorf("asking for permission: %w", err)
		}
	}
	if err := e.pass(a, b); err != nil {
		return err
	}
	return e.pass(b, a)
}

// pass sends datagrams until one has arrived: single ones may be lost.
func (e *examination) pass(from, to end) error {
	var token [16]byte
	if _, err := rand.Read(token[:]); err != nil {
		return fmt.Errorf("drawing a token: %w", err)
	}
	began := time.Now()
	buf := make([]byte, 1500)
	for time.Since(began) < e.cfg.Timeout {
		if _, err := from.relay.WriteTo(token[:], to.relay.LocalAddr()); err != nil {
			return fmt.Errorf("sending: %w", err)
		}
		_ = to.relay.SetReadDeadline(time.Now().Add(e.cfg.Timeout / 10))
		n, _, err := to.relay.ReadFrom(buf)
		if err == nil && string(buf[:n]) == string(token[:]) {
			return nil
		}
	}
	return errors.New("what one relay sends does not arrive at the other")
}

// refusals asks for permission to reach addresses that have to be refused.
func (e *examination) refusals(ctx context.Context, s service, f int) {
	const name = "forbidden peers"
	n, err := e.end(ctx, s, f)
	if err != nil {
		e.fail(name, allocateAdvice(err), "opening a relay: %v", err)
		return
	}
	defer n.close()
	own, _ := netip.ParseAddrPort(n.relay.LocalAddr().String())
	var open []string
	asked := 0
	for _, text := range forbidden[family(own.Addr())] {
		if ip := netip.MustParseAddr(text); ip != own.Addr() {
			asked++
			if n.CreatePermission(&net.UDPAddr{IP: ip.AsSlice(), Port: 80}) == nil {
				open = append(open, text)
			}
		}
	}
	if len(open) > 0 {
		e.fail(name, "Whoever has credentials can reach the relay's inner networks: remove --turn-allow-peer, except in a lab.",
			"the relay would reach %s", strings.Join(open, ", "))
		return
	}
	e.ok(name, "%d private and special addresses are refused", asked)
}
