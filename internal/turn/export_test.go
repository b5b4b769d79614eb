package turn

import "net/netip"

// Portable makes a server work as on systems other than Linux.
func Portable(c *Config) { c.portable = true }

// ExpirePermission does what follows when pion's timer ends a permission of
// the relay at the address.
func (s *Server) ExpirePermission(at netip.AddrPort, peer netip.Addr) {
	if r := s.at(at); r != nil {
		r.setPeer(peer, false)
	}
}

// ExpireChannel is the same for a channel.
func (s *Server) ExpireChannel(at netip.AddrPort, number uint16) {
	if r := s.at(at); r != nil {
		r.setChannel(number, netip.AddrPort{})
	}
}

func (s *Server) at(at netip.AddrPort) *relay {
	for _, f := range []*family{s.family4, s.family6} {
		if f != nil && f.has(at.Addr()) {
			return f.relayAt(at.Port())
		}
	}
	return nil
}
