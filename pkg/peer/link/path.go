package link

import (
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/pion/webrtc/v4"
)

// path describes the network path that is used now, with empty members when
// there is none.
func (t *transport) path() Path {
	var p Path
	pair := t.selected()
	if pair == nil || pair.Local == nil || pair.Remote == nil {
		return p
	}
	p.Local, p.Remote, p.Protocol = pair.Local.Typ.String(), pair.Remote.Typ.String(), pair.Local.Protocol.String()
	if st, ok := t.pc.SCTP().Transport().ICETransport().GetSelectedCandidatePairStats(); ok {
		p.RTT = time.Duration(st.CurrentRoundTripTime * float64(time.Second))
	}
	return p
}

// pairKey names a pair of candidates, to tell one from another.
func pairKey(pair *webrtc.ICECandidatePair) string {
	if pair == nil || pair.Local == nil || pair.Remote == nil {
		return ""
	}
	end := func(c *webrtc.ICECandidate) string {
		return c.Typ.String() + " " + net.JoinHostPort(c.Address, strconv.Itoa(int(c.Port)))
	}
	return end(pair.Local) + " " + end(pair.Remote)
}

// anchor is the local address that a path depends on.
type anchor struct {
	addr netip.Addr // zero when unknown
	// to is set when the path's socket is bound to no address: then addr is
	// what the system chooses to reach to.
	to netip.Addr
}

// anchorOf finds out on which of this machine's addresses a pair depends.
func anchorOf(pair *webrtc.ICECandidatePair) anchor {
	text := pair.Local.Address
	if pair.Local.Typ != webrtc.ICECandidateTypeHost {
		text = pair.Local.RelatedAddress
	}
	if addr, err := netip.ParseAddr(text); err == nil && !addr.IsUnspecified() {
		return anchor{addr: plainAddr(addr)}
	}
	to, err := netip.ParseAddr(pair.Remote.Address)
	if err != nil {
		return anchor{}
	}
	return anchor{addr: sourceFor(to), to: to}
}

// gone reports whether the address is not among have, or not chosen any more.
func (a anchor) gone(have map[netip.Addr]struct{}) bool {
	if !a.addr.IsValid() {
		return false
	}
	if _, ok := have[a.addr]; !ok {
		return true
	}
	return a.to.IsValid() && sourceFor(a.to) != a.addr
}

// sourceFor returns the local address that the system uses to reach to, the
// zero address if it can't. Nothing is sent.
func sourceFor(to netip.Addr) netip.Addr {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 9)))
	if err != nil {
		return netip.Addr{}
	}
	defer func() { _ = c.Close() }()
	local, err := netip.ParseAddrPort(c.LocalAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return plainAddr(local.Addr())
}

// plainAddr is a without zone, and IPv4 as such.
func plainAddr(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// machineAddresses lists the addresses of the interfaces that packets can
// leave by: one without a carrier keeps its addresses for a while.
func machineAddresses() ([]netip.Addr, error) {
	list, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, ifc := range list {
		const working = net.FlagUp | net.FlagRunning
		if ifc.Flags&working != working {
			continue
		}
		addrs, err := ifc.Addrs()
		if err != nil {
			continue // it has just gone
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				out = append(out, p.Addr())
			}
		}
	}
	return out, nil
}
