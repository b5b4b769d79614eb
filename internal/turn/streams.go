package turn

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
)

const (
	connsPerSource = 8 // one eighth of MaxTCPConns for one source network
	minPerSource   = 4
)

// serverTLS returns the configuration of TLS listeners.
func serverTLS(from *tls.Config) *tls.Config {
	c := from.Clone()
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	if len(c.NextProtos) == 0 {
		c.NextProtos = []string{ALPN, "stun.nat-discovery"}
	}
	return c
}

// ALPN is the protocol name with which a TLS client asks for TURN (RFC 7443),
// where the port is shared with a web server.
const ALPN = "stun.turn"

var errRefused = errors.New("the connection was refused, at a limit or since the server ended")

// accept makes every connection of the listener a front, until the listener is
// closed.
func (s *Server) accept(l net.Listener, transport string) {
	for {
		conn, err := l.Accept()
		if err != nil {
			if s.retry(err) {
				continue
			}
			return
		}
		_ = s.admitConn(conn, transport, func() {})
	}
}

// ServeConn serves a connection that something else accepted, such as a web
// server that shares its port by the protocol name ALPN; the function type of
// http.Server.TLSNextProto calls it. A *tls.Conn is taken through its handshake
// when that was not done. ServeConn owns the connection, with the limits of
// those that the server accepts itself, and returns when it has ended; an error
// says that it was not served at all.
func (s *Server) ServeConn(conn net.Conn) error {
	transport := transportTCP
	if _, ok := conn.(*tls.Conn); ok {
		transport = transportTLS
	}
	s.mu.Lock()
	serving := s.serving && !s.stopped
	s.mu.Unlock()
	if !serving {
		return errors.Join(ErrClosed, conn.Close())
	}
	done := make(chan struct{})
	if err := s.admitConn(conn, transport, func() { close(done) }); err != nil {
		return err
	}
	<-done
	return nil
}

// admitConn makes the connection a front, or closes it. ended is called once,
// unless there is an error.
func (s *Server) admitConn(conn net.Conn, transport string, ended func()) error {
	source := sourceNet(addrPortOf(conn.RemoteAddr()).Addr())
	closed := s.metrics.tcpClosed
	if reason := s.takeConn(source, transport); reason != "" {
		closed.WithLabelValues(reason).Inc()
		return errors.Join(errRefused, conn.Close())
	}
	if transport == transportTLS {
		if _, ok := conn.(*tls.Conn); !ok {
			conn = tls.Server(conn, s.tlsConfig)
		}
	}
	w := newStreamWire(conn, func(reason string) {
		closed.WithLabelValues(reason).Inc()
		s.releaseConn(source)
		ended()
	})
	if s.addFront(transport, w) != nil {
		w.end(connClosed)
	}
	return nil
}

// takeConn counts a connection of the source, or says why there is no place.
// A TLS handshake costs more than an answer, so it takes a token as well.
func (s *Server) takeConn(source netip.Prefix, transport string) string {
	if transport == transportTLS && !s.sources.allow(source.Addr(), s.cfg.Now()) {
		return connSourceRate
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopped:
		return connClosed
	case s.tcpConns >= s.cfg.MaxTCPConns:
		return connLimit
	case s.tcpByNet[source] >= max(s.cfg.MaxTCPConns/connsPerSource, minPerSource):
		return connSourceLimit
	}
	s.tcpConns++
	s.tcpByNet[source]++
	s.metrics.tcpConns.Inc()
	return ""
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
