package turn

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"
)

const portTries = 64

// open binds a relay's socket and adopts it; port 0 lets it choose. On an
// error, reason is a label.
func (s *Server) open(r *relay, port int) (reason string, err error) {
	if r.conn, err = s.bindRelay(port); err != nil {
		return refusePort, err
	}
	r.port = addrPortOf(r.conn.LocalAddr()).Port()
	r.addr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.publicIP, r.port))
	s.growBuffers(r.conn)

	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopped:
		_ = r.conn.Close()
		return refuseClosed, ErrClosed
	case s.minter.isRevoked(r.tag, s.cfg.Now()):
		// Revoked after it was authenticated: Revoke has looked at the relays
		// before this one was among them.
		_ = r.conn.Close()
		return refuseRevoked, ErrRevoked
	}
	s.running.Add(1)
	// At least minLifetime, or authenticate would have refused it.
	r.timer = time.AfterFunc(r.front.lifetime()-expireEarly, func() { r.end(endClient) })
	s.relays[r.addr] = r
	s.live[r.port].Store(true)
	r.front.remember(r)
	s.metrics.allocations.WithLabelValues(r.front.transport).Inc()
	s.metrics.created.WithLabelValues(r.front.transport).Inc()
	return "", nil
}

// bindRelay binds the port, or for 0 tries ports from a random one upward.
func (s *Server) bindRelay(port int) (*net.UDPConn, error) {
	if port != 0 {
		conn, err := s.bindPort(port)
		if err != nil {
			return nil, fmt.Errorf("binding relay port %d: %w", port, err)
		}
		return conn, nil
	}
	first, last := int(s.cfg.RelayPorts[0]), int(s.cfg.RelayPorts[1])
	span := last - first + 1
	start, tries := rand.IntN(span), 0
	for i := range span {
		port := first + (start+i)%span
		if s.live[port].Load() {
			continue
		}
		conn, err := s.bindPort(port)
		if err == nil {
			return conn, nil
		}
		if tries++; tries == portTries {
			return nil, fmt.Errorf("binding a relay port: %d ports were taken: %w", tries, err)
		}
	}
	return nil, fmt.Errorf("binding a relay port: all of %d-%d are taken", first, last)
}

func (s *Server) bindPort(port int) (*net.UDPConn, error) {
	return net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.relayIP, uint16(port))))
}

// freeEvenPort returns an even relay port that no relay has; another process
// may have it.
func (s *Server) freeEvenPort() (uint16, bool) {
	first, last := int(s.cfg.RelayPorts[0]), int(s.cfg.RelayPorts[1])
	span := last - first + 1
	start := rand.IntN(span)
	for i := range span {
		if port := first + (start+i)%span; port%2 == 0 && !s.live[port].Load() {
			return uint16(port), true
		}
	}
	return 0, false
}
