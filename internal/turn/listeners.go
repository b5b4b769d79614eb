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
	socketBuffer   = 4 << 20
	bindTries      = 16
	connsPerSource = 8 // one eighth of MaxTCPConns for one source network
	minPerSource   = 4
)

// listener is one Config.Listen: a UDP socket, and a stream listener on the
// same port. TLS would be one more stream listener, handed to accept.
type listener struct {
	udp *net.UDPConn
	tcp net.Listener
}

// listen binds UDP and TCP to one port. For port 0 it looks for a port that is
// free for both.
func (s *Server) listen(address string) (listener, error) {
	var lc net.ListenConfig
	for try := 1; ; try++ {
		pc, err := lc.ListenPacket(context.Background(), "udp", address)
		if err != nil {
			return listener{}, err
		}
		udp, ok := pc.(*net.UDPConn)
		if !ok {
			_ = pc.Close()
			return listener{}, fmt.Errorf("a %T is no UDP socket", pc)
		}
		host, wanted, err := net.SplitHostPort(address)
		if err != nil {
			return listener{}, errors.Join(err, udp.Close())
		}
		port := strconv.Itoa(int(addrPortOf(udp.LocalAddr()).Port()))
		tcp, err := lc.Listen(context.Background(), "tcp", net.JoinHostPort(host, port))
		if err == nil {
			s.growBuffers(udp)
			return listener{udp: udp, tcp: tcp}, nil
		}
		_ = udp.Close()
		if wanted != "0" || try == bindTries || !errors.Is(err, syscall.EADDRINUSE) {
			return listener{}, err
		}
	}
}

// accept makes every connection of the listener a front, until the listener is
// closed.
func (s *Server) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			if s.retry(err) {
				continue
			}
			return
		}
		s.admitConn(conn)
	}
}

func (s *Server) admitConn(conn net.Conn) {
	source := sourceNet(addrPortOf(conn.RemoteAddr()).Addr())
	closed := s.metrics.tcpClosed
	s.mu.Lock()
	reason := ""
	switch {
	case s.stopped:
		reason = connClosed
	case s.tcpConns >= s.cfg.MaxTCPConns:
		reason = connLimit
	case s.tcpByNet[source] >= max(s.cfg.MaxTCPConns/connsPerSource, minPerSource):
		reason = connSourceLimit
	default:
		s.tcpConns++
		s.tcpByNet[source]++
		s.metrics.tcpConns.Inc()
	}
	s.mu.Unlock()
	if reason != "" {
		closed.WithLabelValues(reason).Inc()
		_ = conn.Close()
		return
	}
	w := newStreamWire(conn, func(reason string) {
		closed.WithLabelValues(reason).Inc()
		s.releaseConn(source)
	})
	if err := s.addFront(transportTCP, w); err != nil {
		w.end(connClosed)
	}
}

func (s *Server) releaseConn(source netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tcpConns--
	s.metrics.tcpConns.Dec()
	if s.tcpByNet[source]--; s.tcpByNet[source] == 0 {
		delete(s.tcpByNet, source)
	}
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

// resolveAddresses settles relayIP and publicIP.
func (s *Server) resolveAddresses() error {
	s.relayIP = s.cfg.RelayIP.Unmap()
	if !s.relayIP.IsValid() {
		s.relayIP = deriveRelayIP(s.cfg.Listen[0])
	}
	s.publicIP = s.cfg.PublicIP.Unmap()
	if !s.publicIP.IsValid() {
		s.publicIP = s.relayIP
	}
	if s.publicIP.Is4() != s.relayIP.Is4() {
		return fmt.Errorf("public IP %s: the relay IP %s is of the other family; set the relay IP too",
			s.publicIP, s.relayIP)
	}
	probe, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.relayIP, 0)))
	if err != nil {
		return fmt.Errorf("relay IP %s: cannot be bound on this host (the address of a NAT belongs in the public IP): %w",
			s.relayIP, err)
	}
	return probe.Close()
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
	if err == nil && (!ok || got >= socketBuffer) {
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
