package link_test

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	piontransport "github.com/pion/transport/v4"
	"github.com/pion/transport/v4/stdnet"

	"github.com/peersignal/peersignal/pkg/peer/link"
)

// lab is the network of one device: real sockets on loopback addresses that can
// be taken away, and packets that can be lost or late.
type lab struct {
	*stdnet.Net

	mu    sync.Mutex
	addrs []netip.Addr
	lose  func(local, remote netip.AddrPort) bool // nil: none
	delay time.Duration                           // of each packet that is sent
	rate  int                                     // bytes a second that leave; 0: any
	free  time.Time                               // when the last of them has left
}

func newLab(t testing.TB, addrs ...string) *lab {
	t.Helper()
	n, err := stdnet.NewNet()
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{Net: n}
	l.move(addrs...)
	return l
}

// move gives the device other addresses. Sockets on the old ones are deaf and
// dumb from then on.
func (l *lab) move(addrs ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.addrs = nil
	for _, a := range addrs {
		l.addrs = append(l.addrs, netip.MustParseAddr(a))
	}
}

// cut loses the packets for which lose is true; nil ends that.
func (l *lab) cut(lose func(local, remote netip.AddrPort) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lose = lose
}

func everything(netip.AddrPort, netip.AddrPort) bool { return true }

func (l *lab) use(c *link.Config, disconnected time.Duration) {
	link.Hurry(c, disconnected, func() (piontransport.Net, error) { return l, nil })
	c.Addresses = func() ([]netip.Addr, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return append(slices.Clone(l.addrs), netip.MustParseAddr("127.0.0.1")), nil
	}
}

func (l *lab) Interfaces() ([]*piontransport.Interface, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ifc := piontransport.NewInterface(net.Interface{Index: 1, MTU: 1500, Name: "lab0", Flags: net.FlagUp})
	for _, a := range l.addrs {
		ifc.AddAddress(&net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(8, 32)})
	}
	return []*piontransport.Interface{ifc}, nil
}

func (l *lab) ListenUDP(network string, addr *net.UDPAddr) (piontransport.UDPConn, error) {
	c, err := l.Net.ListenUDP(network, addr)
	if err != nil {
		return nil, err
	}
	return l.wrap(c), nil
}

func (l *lab) ListenPacket(network, addr string) (net.PacketConn, error) {
	c, err := l.Net.ListenPacket(network, addr)
	if err != nil {
		return nil, err
	}
	return l.wrap(c.(piontransport.UDPConn)), nil
}

// lost reports whether a packet is lost.
func (l *lab) lost(local netip.AddrPort, remote net.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	ip := local.Addr().Unmap()
	if !ip.IsUnspecified() && !slices.Contains(l.addrs, ip) {
		return true
	}
	to := remote.(*net.UDPAddr).AddrPort()
	return l.lose != nil && l.lose(local, netip.AddrPortFrom(to.Addr().Unmap(), to.Port()))
}

// due says when a packet of n bytes arrives; zero: at once.
func (l *lab) due(n int) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.delay == 0 {
		return time.Time{}
	}
	now := time.Now()
	if l.rate > 0 {
		if l.free.Before(now) {
			l.free = now
		}
		l.free = l.free.Add(time.Duration(n) * time.Second / time.Duration(l.rate))
		now = l.free
	}
	return now.Add(l.delay)
}

type labConn struct {
	piontransport.UDPConn
	lab   *lab
	local netip.AddrPort
	once  sync.Once
	late  chan latePacket
	done  chan struct{}
}

type latePacket struct {
	b   []byte
	to  net.Addr
	due time.Time
}

func (l *lab) wrap(c piontransport.UDPConn) *labConn {
	return &labConn{
		UDPConn: c, lab: l, local: c.LocalAddr().(*net.UDPAddr).AddrPort(),
		late: make(chan latePacket, 1<<14), done: make(chan struct{}),
	}
}

func (c *labConn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.UDPConn.ReadFrom(b)
		if err != nil {
			return n, from, err
		}
		if !c.lab.lost(c.local, from) {
			return n, from, nil
		}
	}
}

func (c *labConn) WriteTo(b []byte, to net.Addr) (int, error) {
	if c.lab.lost(c.local, to) {
		return len(b), nil
	}
	due := c.lab.due(len(b))
	if due.IsZero() {
		return c.UDPConn.WriteTo(b, to)
	}
	c.once.Do(func() { go c.deliver() })
	select {
	case c.late <- latePacket{slices.Clone(b), to, due}:
	default: // the queue is full
	}
	return len(b), nil
}

// deliver sends what is late, in order.
func (c *labConn) deliver() {
	for {
		select {
		case p := <-c.late:
			time.Sleep(time.Until(p.due))
			_, _ = c.UDPConn.WriteTo(p.b, p.to)
		case <-c.done:
			return
		}
	}
}

func (c *labConn) Close() error {
	err := c.UDPConn.Close()
	if err == nil {
		close(c.done)
	}
	return err
}

// gate is a TCP connection to a server that can hang, as a dead network makes it.
type gate struct {
	ln   net.Listener
	mu   sync.Mutex
	open chan struct{} // closed while bytes pass
	all  map[net.Conn]struct{}
	wg   sync.WaitGroup
}

// newGate returns the URL of a gate before a server's URL "http://host:port".
func newGate(t testing.TB, url string) (*gate, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{ln: ln, open: make(chan struct{}), all: make(map[net.Conn]struct{})}
	close(g.open)
	g.wg.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", hostPort(url))
			if err != nil {
				_ = in.Close()
				continue
			}
			g.pass(in, out)
			g.pass(out, in)
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		g.set(true)
		g.mu.Lock()
		for c := range g.all {
			_ = c.Close()
		}
		g.mu.Unlock()
		g.wg.Wait()
	})
	return g, "http://" + ln.Addr().String()
}

// set opens or closes the gate.
func (g *gate) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
		if !open {
			g.open = make(chan struct{})
		}
	default:
		if open {
			close(g.open)
		}
	}
}

func (g *gate) pass(from, to net.Conn) {
	g.mu.Lock()
	g.all[from] = struct{}{}
	g.mu.Unlock()
	g.wg.Go(func() {
		defer func() { _ = from.Close(); _ = to.Close() }()
		buf := make([]byte, 64<<10)
		for {
			n, err := from.Read(buf)
			g.mu.Lock()
			open := g.open
			g.mu.Unlock()
			<-open
			if n > 0 {
				if _, err := to.Write(buf[:n]); err != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
}
