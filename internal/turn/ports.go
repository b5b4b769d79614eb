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
	if r.conn, err = s.bindRelay(r.family, port); err != nil {
		return refusePort, err
	}
	r.port = addrPortOf(r.conn.LocalAddr()).Port()
	r.addr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(r.family.public, r.port))
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
	r.family.open(r)
	r.front.remember(r)
	s.metrics.allocations.WithLabelValues(r.front.transport).Inc()
	s.metrics.created.WithLabelValues(r.front.transport).Inc()
	return "", nil
}

// bindRelay binds the port, or for 0 tries ports from a random one upward.
func (s *Server) bindRelay(f *family, port int) (*net.UDPConn, error) {
	if port != 0 {
		conn, err := bindPort(f, uint16(port))
		if err != nil {
			return nil, fmt.Errorf("binding relay port %d: %w", port, err)
		}
		return conn, nil
	}
	var conn *net.UDPConn
	var err error
	tries := 0
	f.freePorts(func(port uint16) bool {
		conn, err = bindPort(f, port)
		tries++
		return err != nil && tries < portTries
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("binding a relay port: %d ports were taken: %w", tries, err)
	case conn == nil:
		return nil, fmt.Errorf("binding a relay port: all of %d-%d are taken", f.first, f.last)
	}
	return conn, nil
}

func bindPort(f *family, port uint16) (*net.UDPConn, error) {
	return net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(f.ip, port)))
}
