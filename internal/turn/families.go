package turn

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
)

// family is one address family that is relayed. It is immutable but for relays.
type family struct {
	ip          netip.Addr // relay sockets are bound to it
	public      netip.Addr // clients are told it
	first, last uint16     // the inclusive range of relay ports

	// relays has the relays that are open now, by port minus first.
	relays []atomic.Pointer[relay]
}

func newFamily(ip, public netip.Addr, ports [2]uint16) *family {
	return &family{
		ip: ip, public: public, first: ports[0], last: ports[1],
		relays: make([]atomic.Pointer[relay], int(ports[1])-int(ports[0])+1),
	}
}

// has says whether relays of this server are known by the address.
func (f *family) has(ip netip.Addr) bool { return ip == f.public || ip == f.ip }

// relayOf returns the relay that is open at the address of a peer, or nil.
func (f *family) relayOf(peer netip.AddrPort) *relay {
	if !f.has(peer.Addr()) {
		return nil
	}
	return f.relayAt(peer.Port())
}

// relayAt returns the relay that is open at the port, or nil.
func (f *family) relayAt(port uint16) *relay {
	if port < f.first || port > f.last {
		return nil
	}
	return f.relays[port-f.first].Load()
}

// isLive says whether a relay is open at the port.
func (f *family) isLive(port uint16) bool { return f.relayAt(port) != nil }

func (f *family) open(r *relay) { f.relays[r.port-f.first].Store(r) }

func (f *family) close(r *relay) { f.relays[r.port-f.first].CompareAndSwap(r, nil) }

// toSocket replaces the address that clients know a relay of this server by,
// with the one that its socket is bound to: the public address may not be
// reachable from behind the NAT.
func (f *family) toSocket(peer netip.AddrPort) netip.AddrPort {
	if peer.Addr() == f.public && f.isLive(peer.Port()) {
		return netip.AddrPortFrom(f.ip, peer.Port())
	}
	return peer
}

// toPublic is the opposite, for the source of a packet.
func (f *family) toPublic(from netip.AddrPort) netip.AddrPort {
	if from.Addr() == f.ip && f.isLive(from.Port()) {
		return netip.AddrPortFrom(f.public, from.Port())
	}
	return from
}

// freePorts calls try with the ports that no relay has, from a random one
// upward, until it returns false.
func (f *family) freePorts(try func(port uint16) bool) {
	span := len(f.relays)
	start := rand.IntN(span)
	for i := range span {
		port := f.first + uint16((start+i)%span)
		if !f.isLive(port) && !try(port) {
			return
		}
	}
}

// freeEvenPort returns an even port that no relay has; another process may have it.
func (f *family) freeEvenPort() (port uint16, ok bool) {
	f.freePorts(func(p uint16) bool {
		if p%2 == 0 {
			port, ok = p, true
		}
		return !ok
	})
	return port, ok
}

// mainFamily is what a client gets that asks for none: IPv4 when there is one.
func (s *Server) mainFamily() *family {
	if s.family4 != nil {
		return s.family4
	}
	return s.family6
}

// resolveFamilies settles the addresses that are relayed from.
func (s *Server) resolveFamilies() error {
	ip, public := s.cfg.RelayIP.Unmap(), s.cfg.PublicIP.Unmap()
	if !ip.IsValid() {
		ip = deriveRelayIP(s.cfg.Listen[0])
	}
	if ip.Is6() && s.cfg.RelayIP6.IsValid() {
		if s.cfg.RelayIP.IsValid() {
			return fmt.Errorf("relay IP %s: is IPv6, and so is relay IP6 %s; set one of them", ip, s.cfg.RelayIP6)
		}
		ip = netip.Addr{} // what was asked for wins over what was derived
	}
	if ip.IsValid() {
		if err := s.addFamily(ip, public); err != nil {
			return err
		}
	} else if public.IsValid() {
		return fmt.Errorf("public IP %s: there is no relay IP of its family; set the relay IP too", public)
	}
	switch {
	case s.cfg.RelayIP6.IsValid():
		return s.addFamily(s.cfg.RelayIP6, s.cfg.PublicIP6)
	case s.cfg.PublicIP6.IsValid():
		return fmt.Errorf("public IP6 %s: there is no relay IP6; set it too", s.cfg.PublicIP6)
	}
	return nil
}

func (s *Server) addFamily(ip, public netip.Addr) error {
	if !public.IsValid() {
		public = ip
	}
	if public.Is4() != ip.Is4() {
		return fmt.Errorf("public IP %s: the relay IP %s is of the other family; set the relay IP too", public, ip)
	}
	probe, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, 0)))
	if err != nil {
		return fmt.Errorf("relay IP %s: cannot be bound on this host (the address of a NAT belongs in the public IP): %w",
			ip, err)
	}
	if f := newFamily(ip, public, s.cfg.RelayPorts); ip.Is4() {
		s.family4 = f
	} else {
		s.family6 = f
	}
	return probe.Close()
}

// relayAddresses returns every address that a relay can have or be bound to.
func (s *Server) relayAddresses() []netip.Addr {
	var out []netip.Addr
	for _, f := range []*family{s.family4, s.family6} {
		if f != nil {
			if out = append(out, f.ip); f.public != f.ip {
				out = append(out, f.public)
			}
		}
	}
	return out
}
