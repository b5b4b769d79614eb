//go:build !linux

package turn

import "net/netip"

// hosted, channelWire: relays have hosts on Linux only.
type hosted struct{}

type channelWire struct{}

func (*channelWire) set(*family, netip.AddrPort) {}

// listenUDP binds the address; there is one socket for it.
func (s *Server) listenUDP(address string) ([]udpListener, error) {
	conn, err := listenOne(address)
	if err != nil {
		return nil, err
	}
	return []udpListener{portableListener{conn}}, nil
}
