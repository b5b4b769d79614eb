package signaling

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/peersignal/peersignal/internal/signaling/ws"
	"github.com/peersignal/peersignal/pkg/wire"
)

// accept upgrades a request. The connection is served by goroutines of its own
// so that net/http's buffers and stack can go.
func (s *Server) accept(w http.ResponseWriter, r *http.Request) {
	addr, told := s.clientAddr(r)
	key := addrKey(addr)
	if result := s.admit(w, r, key); result != "" {
		s.metrics.connections.WithLabelValues(result).Inc()
		return
	}
	if result := s.upgrade(w, r, key, told); result != resultAccepted {
		s.gate.leave(key, false)
		s.metrics.connections.WithLabelValues(result).Inc()
	}
}

// admit answers a request that cannot be upgraded and names the reason, or
// counts a pending connection.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, key netip.Addr) (refusal string) {
	s.mu.Lock()
	draining := s.draining
	s.mu.Unlock()
	if draining {
		unavailable(w, http.StatusServiceUnavailable, "this server is stopping")
		return resultDraining
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		w.Header().Set("Upgrade", "websocket")
		http.Error(w, "this is the WebSocket of peersignal, subprotocol "+wire.Subprotocol, http.StatusUpgradeRequired)
		return resultUpgrade
	}
	if !s.originAllowed(r) {
		http.Error(w, "pages of this origin may not connect", http.StatusForbidden)
		return resultOrigin
	}
	if !offersSubprotocol(r.Header) {
		http.Error(w, "the subprotocol must be "+wire.Subprotocol, http.StatusBadRequest)
		return resultSubprotocol
	}
	switch result := s.gate.enter(key); result {
	case "":
		return ""
	case resultPerAddress:
		unavailable(w, http.StatusTooManyRequests, "too many connections from your address")
		return result
	default:
		unavailable(w, http.StatusServiceUnavailable, "too many connections at once")
		return result
	}
}

func unavailable(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Retry-After", "5")
	http.Error(w, text, status)
}

func offersSubprotocol(h http.Header) bool {
	for _, line := range h.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(line, ",") {
			if strings.TrimSpace(p) == wire.Subprotocol {
				return true
			}
		}
	}
	return false
}

// originAllowed lets programs in (no Origin), pages of the dialled host, and
// those that the operator lists.
func (s *Server) originAllowed(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false
	}
	if strings.EqualFold(u.Host, r.Host) {
		return true
	}
	return slices.ContainsFunc(s.live.Load().origins, func(allowed string) bool {
		if strings.Contains(allowed, "://") {
			return strings.EqualFold(allowed, u.Scheme+"://"+u.Host)
		}
		return strings.EqualFold(allowed, u.Host)
	})
}

// clientAddr gives the client's address, and its text. Behind trusted proxies it
// is the last address in X-Forwarded-For that is no trusted proxy.
func (s *Server) clientAddr(r *http.Request) (netip.Addr, string) {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}, ""
	}
	ap = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	addr := ap.Addr()
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && s.trusted(addr); i-- {
		next, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		addr = next.Unmap().WithZone("")
	}
	if addr != ap.Addr() {
		ap = netip.AddrPortFrom(addr, 0)
	}
	return addr, ap.String()
}

func (s *Server) trusted(a netip.Addr) bool {
	return slices.ContainsFunc(s.live.Load().proxies, func(p netip.Prefix) bool { return p.Contains(a) })
}

// upgrade makes the WebSocket and starts its goroutine, or names why there is
// none, with the request answered.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request, key netip.Addr, told string) (result string) {
	c := &conn{server: s, limits: &s.cfg.Limits, metrics: s.metrics, addr: told, addrKey: key}
	if ap, err := netip.ParseAddrPort(told); err == nil {
		c.from = ap.Addr()
	}
	c.pending = s.pendings.enter(s.live.Load().limits.Pending, c.from, c.evict)
	if c.pending == nil {
		w.Header().Set("Retry-After", "1") // by then others have had their time
		http.Error(w, "too many connections at once", http.StatusServiceUnavailable)
		return resultPending
	}
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
		c.local = local.AddrPort()
	}
	socket, err := ws.Upgrade(w, r, wire.Subprotocol, c, &s.sockets)
	if err != nil {
		s.pendings.leave(c.pending)
		return resultUpgrade
	}
	socket.SetLimit(wire.MaxPreAuthFrame)
	c.transport = socket
	if !s.start(c) {
		s.pendings.leave(c.pending)
		socket.Finish()
		return resultDraining
	}
	s.metrics.connections.WithLabelValues(resultAccepted).Inc()
	return resultAccepted
}

// evict ends a connection that is not authenticated, for others.
func (c *conn) evict() { c.shut(closing{reason: endEvicted}) }
