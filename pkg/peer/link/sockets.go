package link

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	piontransport "github.com/pion/transport/v4"
	"github.com/pion/transport/v4/stdnet"
)

const (
	// relayDialTimeout bounds the connection to a TURN server over TCP.
	relayDialTimeout = 10 * time.Second
	// closeGrace is how long a connection has to say goodbye over a relay.
	closeGrace = 500 * time.Millisecond
)

// machineNet is the machine's network with the interfaces of the moment: a
// restart has to see those that came since the connection was made.
func machineNet() (piontransport.Net, error) {
	n, err := stdnet.NewNet()
	return freshInterfaces{n}, err
}

type freshInterfaces struct{ *stdnet.Net }

func (f freshInterfaces) Interfaces() ([]*piontransport.Interface, error) {
	now, err := stdnet.NewNet()
	if err != nil {
		return nil, err
	}
	return now.Interfaces()
}

// sockets is the network of one connection. It asks for large buffers on UDP
// sockets: with the usual 208 KiB a burst of one connection loses packets (the
// kernel may grant less, net.core.rmem_max). And it knows the sockets towards
// TURN servers: the stack waits for one that does not answer, for eight seconds
// or longer, even when the connection has ended.
type sockets struct {
	piontransport.Net
	mu     sync.Mutex
	open   map[io.Closer]struct{}
	closed bool
}

func newSockets(n piontransport.Net) *sockets {
	return &sockets{Net: n, open: make(map[io.Closer]struct{})}
}

var errSocketsClosed = errors.New("connection has ended")

func (s *sockets) ListenUDP(network string, addr *net.UDPAddr) (piontransport.UDPConn, error) {
	c, err := s.Net.ListenUDP(network, addr)
	if err == nil {
		_ = c.SetReadBuffer(socketBufferBytes)
		_ = c.SetWriteBuffer(socketBufferBytes)
	}
	return c, err
}

// The stack asks TURN servers over IPv4 only. What it asks for is extended here
// to servers of either family: it sees no difference.

// ListenPacket is asked for sockets towards TURN servers, before it is known
// which addresses they have.
func (s *sockets) ListenPacket(network, addr string) (net.PacketConn, error) {
	var c net.PacketConn
	err := errors.ErrUnsupported
	if network == "udp4" && addr == "0.0.0.0:0" {
		c, err = s.Net.ListenPacket("udp", "[::]:0")
	}
	if err != nil { // this machine has no IPv6, or the address was chosen
		c, err = s.Net.ListenPacket(network, addr)
	}
	if err != nil {
		return nil, err
	}
	t := &relayPacketConn{c, s}
	if err := s.add(t); err != nil {
		return nil, err
	}
	return t, nil
}

func (s *sockets) DialTCP(network string, local, remote *net.TCPAddr) (piontransport.TCPConn, error) {
	d := &net.Dialer{Timeout: relayDialTimeout}
	if local != nil {
		d.LocalAddr = local
	}
	if network == "tcp4" && remote.IP.To4() == nil {
		network = "tcp6"
	}
	c, err := s.CreateDialer(d).Dial(network, remote.String())
	if err != nil {
		return nil, err
	}
	tcp, ok := c.(piontransport.TCPConn)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("dialling %s: not a TCP connection", network)
	}
	t := &relayTCPConn{tcp, s}
	if err := s.add(t); err != nil {
		return nil, err
	}
	return t, nil
}

// ResolveUDPAddr implements the stack's network, see ListenPacket.
func (s *sockets) ResolveUDPAddr(network, addr string) (*net.UDPAddr, error) {
	a, err := s.Net.ResolveUDPAddr(network, addr)
	if err != nil && network == "udp4" {
		return s.Net.ResolveUDPAddr("udp6", addr)
	}
	return a, err
}

// ResolveTCPAddr implements the stack's network, see ListenPacket.
func (s *sockets) ResolveTCPAddr(network, addr string) (*net.TCPAddr, error) {
	a, err := s.Net.ResolveTCPAddr(network, addr)
	if err != nil && network == "tcp4" {
		return s.Net.ResolveTCPAddr("tcp6", addr)
	}
	return a, err
}

func (s *sockets) add(c io.Closer) error {
	s.mu.Lock()
	if !s.closed {
		s.open[c] = struct{}{}
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	_ = c.Close()
	return errSocketsClosed
}

func (s *sockets) remove(c io.Closer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
}

// close closes the sockets towards TURN servers, now and from now on.
func (s *sockets) close() {
	s.mu.Lock()
	s.closed = true
	open := s.open
	s.open = nil
	s.mu.Unlock()
	for c := range open {
		_ = c.Close()
	}
}

type relayPacketConn struct {
	net.PacketConn
	of *sockets
}

func (c *relayPacketConn) Close() error {
	c.of.remove(c)
	return c.PacketConn.Close()
}

type relayTCPConn struct {
	piontransport.TCPConn
	of *sockets
}

func (c *relayTCPConn) Close() error {
	c.of.remove(c)
	return c.TCPConn.Close()
}
