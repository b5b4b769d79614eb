//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// Behaviour is what a host's way out does to UDP, in the words of RFC 4787.
type Behaviour struct {
	Reaches bool // at all
	// SameMapping: one public address and port for all destinations (endpoint-independent mapping).
	SameMapping bool
	// Open: packets from addresses come in to which none was sent (endpoint-independent filtering).
	Open bool
	// OpenPorts: packets from other ports of an address come in to which one was sent (address-dependent filtering).
	OpenPorts bool
	Mapped    netip.AddrPort // as the first destination sees it
}

// Kind names the behaviour.
func (b Behaviour) Kind() string {
	switch {
	case !b.Reaches:
		return "no UDP"
	case !b.SameMapping:
		return string(Symmetric)
	case b.Open:
		return string(FullCone)
	case b.OpenPorts:
		return "address-restricted"
	}
	return string(PortRestricted)
}

// AwaitTCP waits until a host reaches a TCP port of a server: the kernel takes about a second to use a new cable for IPv6.
// Nothing may listen on that port yet.
func AwaitTCP(ctx context.Context, host, server *Node, to netip.AddrPort) error {
	var listener net.Listener
	err := server.Do(func() (err error) {
		listener, err = net.Listen("tcp", to.String())
		return err
	})
	if err != nil {
		return fmt.Errorf("listening at %s: %w", server.Role, err)
	}
	defer func() { _ = stopListening(listener) }()
	for {
		err := host.Do(func() error {
			c, err := net.DialTimeout("tcp", to.String(), probeWait)
			if err != nil {
				return err
			}
			return c.Close()
		})
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not reach %s: %w", host.Role, to, errors.Join(ctx.Err(), err))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// stopListening frees the port at once. To close is not enough while another case of the laboratory starts a program: until
// its exec the new process holds a copy of every descriptor, and with it the port.
func stopListening(l net.Listener) error {
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { _ = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) })
	}
	return errors.Join(err, l.Close())
}

// probeWait is long for a veth; every negative answer costs it once.
const probeWait = 300 * time.Millisecond

// Probe measures how UDP from a host gets to a server. The server's two addresses are of one family.
func Probe(host *Node, server *Node, first, second netip.Addr) (Behaviour, error) {
	var b Behaviour
	var sockets []*net.UDPConn
	defer func() {
		for _, c := range sockets {
			_ = c.Close()
		}
	}()
	open := func(n *Node, a netip.Addr) (*net.UDPConn, error) {
		var c *net.UDPConn
		err := n.Do(func() (err error) {
			c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
			return err
		})
		if err == nil {
			sockets = append(sockets, c)
		}
		return c, err
	}
	any := netip.IPv4Unspecified()
	if first.Is6() {
		any = netip.IPv6Unspecified()
	}
	client, err := open(host, any)
	if err != nil {
		return b, fmt.Errorf("probing from %s: %w", host.Role, err)
	}
	// A host on the way could answer the first packet with an error; that is an answer too.
	var servers []*net.UDPConn
	for _, a := range []netip.Addr{first, first, second, second} {
		c, err := open(server, a)
		if err != nil {
			return b, fmt.Errorf("probing at %s: %w", server.Role, err)
		}
		servers = append(servers, c)
	}
	return measure(client, servers)
}

// measure uses two ports of a first address and two of a second one. The second address's last port, and before that the
// first address's second port, stay unknown to the NAT until they have been tried from outside.
func measure(client *net.UDPConn, servers []*net.UDPConn) (b Behaviour, err error) {
	seen, err := passes(client, servers[0])
	if err != nil || !seen.IsValid() {
		return b, err
	}
	b.Reaches, b.Mapped = true, seen
	if b.Open, err = comesIn(servers[3], seen, client); err != nil {
		return b, err
	}
	if b.OpenPorts, err = comesIn(servers[1], seen, client); err != nil {
		return b, err
	}
	b.SameMapping = true
	for _, s := range servers[1:3] {
		other, err := passes(client, s)
		if err != nil {
			return b, err
		}
		b.SameMapping = b.SameMapping && other == seen
	}
	return b, nil
}

// passes sends to a server, and returns where it saw the packet come from; nothing if it did not.
func passes(client, server *net.UDPConn) (netip.AddrPort, error) {
	if _, err := client.WriteToUDPAddrPort([]byte("out"), local(server)); err != nil {
		return netip.AddrPort{}, nil //nolint:nilerr // a refusal of the way is an answer
	}
	from, _, err := receive(server)
	return from, err
}

// comesIn sends from a server to where the NAT should be, and tells whether the client gets it.
func comesIn(server *net.UDPConn, to netip.AddrPort, client *net.UDPConn) (bool, error) {
	if _, err := server.WriteToUDPAddrPort([]byte("in"), to); err != nil {
		return false, nil //nolint:nilerr // a refusal of the way is an answer
	}
	_, ok, err := receive(client)
	return ok, err
}

func receive(c *net.UDPConn) (netip.AddrPort, bool, error) {
	if err := c.SetReadDeadline(time.Now().Add(probeWait)); err != nil {
		return netip.AddrPort{}, false, err
	}
	_, from, err := c.ReadFromUDPAddrPort(make([]byte, 16))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return netip.AddrPort{}, false, nil
	}
	return netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), err == nil, err
}

func local(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }
