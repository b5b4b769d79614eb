package turn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
)

const (
	socketBuffer = 4 << 20
	bindTries    = 16
)

// listener is one Config.Listen: UDP sockets, and a stream listener on the
// same port.
type listener struct {
	udp []udpListener
	tcp net.Listener
}

// listenAll binds every address of the configuration. On an error the caller
// closes what is bound.
func (s *Server) listenAll() error {
	for _, a := range s.cfg.Listen {
		l, err := s.listen(a)
		if err != nil {
			return fmt.Errorf("listening for turn on %s: %w", a, err)
		}
		s.listeners = append(s.listeners, l)
	}
	if len(s.cfg.TLSListen) == 0 {
		return nil
	}
	s.tlsConfig = serverTLS(s.cfg.TLSConfig)
	for _, a := range s.cfg.TLSListen {
		var lc net.ListenConfig
		l, err := lc.Listen(context.Background(), "tcp", a)
		if err != nil {
			return fmt.Errorf("listening for turn over TLS on %s: %w", a, err)
		}
		s.tls = append(s.tls, l)
	}
	return nil
}

// udpListener is a bound UDP socket that becomes the wire of a front.
type udpListener interface {
	LocalAddr() net.Addr
	Close() error
	wire(s *Server) (wire, error)
}

// listen binds TCP and UDP to one port. For port 0 it looks for a port that is
// free for both.
func (s *Server) listen(address string) (listener, error) {
	host, wanted, err := net.SplitHostPort(address)
	if err != nil {
		return listener{}, err
	}
	var lc net.ListenConfig
	for try := 1; ; try++ {
		tcp, err := lc.Listen(context.Background(), "tcp", address)
		if err != nil {
			return listener{}, err
		}
		port := strconv.Itoa(int(addrPortOf(tcp.Addr()).Port()))
		udp, err := s.listenUDP(net.JoinHostPort(host, port))
		if err == nil {
			return listener{udp: udp, tcp: tcp}, nil
		}
		_ = tcp.Close()
		if wanted != "0" || try == bindTries || !errors.Is(err, syscall.EADDRINUSE) {
			return listener{}, err
		}
	}
}

// listenOne binds one UDP socket.
func listenOne(address string) (*net.UDPConn, error) {
	var lc net.ListenConfig
	pc, err := lc.ListenPacket(context.Background(), "udp", address)
	if err != nil {
		return nil, err
	}
	return asUDP(pc)
}

func asUDP(pc net.PacketConn) (*net.UDPConn, error) {
	conn, ok := pc.(*net.UDPConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("a %T is no UDP socket", pc), pc.Close())
	}
	return conn, nil
}

// portableListener is a UDP socket that the Go runtime polls.
type portableListener struct{ *net.UDPConn }

func (l portableListener) wire(s *Server) (wire, error) {
	s.growBuffers(l.UDPConn)
	return &udpWire{UDPConn: l.UDPConn, retry: s.retry}, nil
}

// addFront adopts the wire and starts pion on it. On an error the wire is
// closed.
func (s *Server) addFront(transport string, w wire) error {
	f := &front{server: s, transport: transport, wire: w}
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		_ = w.Close()
		return ErrClosed
	}
	s.running.Add(1)
	s.fronts[f] = struct{}{}
	s.mu.Unlock()
	if err := f.serve(); err != nil {
		f.finish()
		return fmt.Errorf("starting pion/turn: %w", err)
	}
	return nil
}

func (s *Server) frontDone(f *front) {
	s.mu.Lock()
	delete(s.fronts, f)
	s.mu.Unlock()
	s.running.Done()
}

// deriveRelayIP prefers the address that is listened on, then the one that
// outbound traffic leaves from, then loopback.
func deriveRelayIP(listen string) netip.Addr {
	if host, _, err := net.SplitHostPort(listen); err == nil {
		if ip, err := netip.ParseAddr(host); err == nil && !ip.IsUnspecified() && ip.Zone() == "" {
			return ip.Unmap()
		}
	}
	// Connecting a UDP socket sends nothing; it only asks for the route.
	for _, target := range []string{"198.51.100.1:9", "[2001:db8::1]:9"} {
		var d net.Dialer
		conn, err := d.DialContext(context.Background(), "udp", target)
		if err != nil {
			continue
		}
		ip := addrPortOf(conn.LocalAddr()).Addr()
		_ = conn.Close()
		if ip.IsValid() && !ip.IsUnspecified() && ip.Zone() == "" {
			return ip
		}
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// hostAddresses returns the addresses of this host's interfaces; none when the
// system does not say.
func hostAddresses() []netip.Addr {
	nets, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var out []netip.Addr
	for _, n := range nets {
		if p, ok := n.(*net.IPNet); ok {
			if a, ok := netip.AddrFromSlice(p.IP); ok {
				out = append(out, a.Unmap())
			}
		}
	}
	return out
}

// growBuffers asks for large socket buffers, which is worth a factor of three
// in packets a second, and logs once when the kernel gives less.
func (s *Server) growBuffers(c *net.UDPConn) {
	_ = c.SetWriteBuffer(socketBuffer)
	err := c.SetReadBuffer(socketBuffer)
	got, ok := readBuffer(c)
	s.checkBuffer(got, ok && err == nil)
}

// checkBuffer looks at the size that the kernel gave, if that is known.
func (s *Server) checkBuffer(got int, ok bool) {
	if ok && got >= socketBuffer {
		return
	}
	s.mu.Lock()
	logged := s.capLogged
	s.capLogged = true
	s.mu.Unlock()
	if !logged {
		s.cfg.Logger.Warn("the kernel caps socket buffers, so the relay will lose packets under load; "+
			"raise net.core.rmem_max and net.core.wmem_max", "wanted", socketBuffer, "got", got)
	}
}
