package turn

import (
	"fmt"
	"net"
	"net/netip"
	"time"
)

const portTries = 64

// open binds a relay's socket and adopts it; port 0 lets it choose. On an
// error, reason is a label.
func (s *Server) open(r *relay, port int) (reason string, err error) {
	if err = s.bindRelay(r, port); err != nil {
		return refusePort, err
	}
	r.port = addrPortOf(r.conn.LocalAddr()).Port()
	r.addr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(r.family.public, r.port))
	if host := r.front.host(); host != nil {
		r.routes.Store(noRoutes)
		if err = host.adopt(r); err != nil {
			r.discard()
			return refusePort, err
		}
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopped:
		r.discard()
		return refuseClosed, ErrClosed
	case s.isRevoked(r.front.claims, r.source.Addr()):
		// Revoked after it was authenticated: Revoke has looked at the relays
		// before this one was among them.
		r.discard()
		return refuseRevoked, ErrRevoked
	}
	s.running.Add(1)
	// At least minLifetime, or authenticate would have refused it.
	r.timer = time.AfterFunc(r.front.lifetime()-expireEarly, func() { r.end(endClient) })
	s.relays[r.addr] = r
	r.family.open(r)
	r.front.remember(r)
	s.metrics.allocations.WithLabelValues(r.front.transport).Inc()
	s.metrics.created.WithLabelValues(r.front.transport).Inc()
	return "", nil
}

// discard closes the socket of a relay that did not come to be.
func (r *relay) discard() {
	_ = r.conn.Close()
	if host := r.front.host(); host != nil {
		host.release(r)
	}
}

// bindRelay binds the port, or for 0 tries ports from a random one upward.
func (s *Server) bindRelay(r *relay, port int) error {
	if port != 0 {
		if err := s.bindPort(r, uint16(port)); err != nil {
			return fmt.Errorf("binding relay port %d: %w", port, err)
		}
		return nil
	}
	var err error
	tries := 0
	r.family.freePorts(func(port uint16) bool {
		err = s.bindPort(r, port)
		tries++
		return err != nil && tries < portTries
	})
	switch {
	case err != nil:
		return fmt.Errorf("binding a relay port: %d ports were taken: %w", tries, err)
	case tries == 0:
		return fmt.Errorf("binding a relay port: all of %d-%d are taken", r.family.first, r.family.last)
	}
	return nil
}

// bindPort gives the relay a socket, of its host's kind when it has one.
func (s *Server) bindPort(r *relay, port uint16) error {
	at := netip.AddrPortFrom(r.family.ip, port)
	if host := r.front.host(); host != nil {
		var err error
		r.conn, err = host.bindRelay(at)
		return err
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	s.growBuffers(conn)
	r.conn, r.reader = conn, conn
	return nil
}
