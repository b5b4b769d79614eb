package signaling

import (
	"net/netip"
	"slices"
)

// Live is what a running server can change.
type Live struct {
	AllowedOrigins []string // as in Config, for new connections
	TrustedProxies []string // as in Config, for new connections
	// Limits are as in Config. Of them the numbers of sessions, connections,
	// devices, topics, messages and offers can change, for what comes from then
	// on; the others stay.
	Limits Limits
}

// live is what New or the last Reload said. It is immutable.
type live struct {
	origins []string
	proxies []netip.Prefix
	limits  Limits
}

// Reload changes a running server. An error means that nothing has changed.
func (s *Server) Reload(l Live) error {
	cfg := s.cfg
	cfg.AllowedOrigins, cfg.TrustedProxies, cfg.Limits = l.AllowedOrigins, l.TrustedProxies, s.cfg.Limits.with(l.Limits)
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	next, err := newLive(&cfg)
	if err != nil {
		return err
	}
	s.live.Store(next)
	s.gate.mu.Lock()
	s.gate.limits = next.limits
	s.gate.mu.Unlock()
	s.hub.mu.Lock()
	s.hub.live = &next.limits
	s.hub.mu.Unlock()
	return nil
}

func newLive(cfg *Config) (*live, error) {
	proxies, err := parsePrefixes(cfg.TrustedProxies)
	if err != nil {
		return nil, err
	}
	return &live{origins: slices.Clone(cfg.AllowedOrigins), proxies: proxies, limits: cfg.Limits}, nil
}

// with gives l with what can change from next.
func (l Limits) with(next Limits) Limits {
	l.Sessions, l.SessionsPerAddress = next.Sessions, next.SessionsPerAddress
	l.Pending, l.PendingPerAddress = next.Pending, next.PendingPerAddress
	l.DevicesPerUser = next.DevicesPerUser
	l.Topics, l.TopicsTotal, l.TopicMembers = next.Topics, next.TopicsTotal, next.TopicMembers
	l.MessagesPer10s = next.MessagesPer10s
	l.OffersPerMinute, l.ConcurrentOffers = next.OffersPerMinute, next.ConcurrentOffers
	return l
}
