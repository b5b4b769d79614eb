package turn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/pion/stun/v3"
)

// Discover asks a STUN server (RFC 8489) which address this host has when seen
// from there: what PublicIP has to be behind a one-to-one NAT. server is
// "host:port"; from is the local address to ask from, and its family, where it is
// valid. It asks over UDP, again after lost packets, until ctx ends or 5 s passed.
func Discover(ctx context.Context, server string, from netip.Addr) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	seen, err := discover(ctx, server, from)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("asking STUN server %s for the public address: %w", server, err)
	}
	return seen, nil
}

func discover(ctx context.Context, server string, from netip.Addr) (netip.Addr, error) {
	dialer := net.Dialer{}
	network := "udp4"
	if from.IsValid() {
		dialer.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
		if from.Is6() && !from.Is4In6() {
			network = "udp6"
		}
	}
	conn, err := dialer.DialContext(ctx, network, server)
	if err != nil {
		return netip.Addr{}, err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	request, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.Fingerprint)
	if err != nil {
		return netip.Addr{}, err
	}
	for ctx.Err() == nil {
		if _, err := conn.Write(request.Raw); err != nil && ctx.Err() == nil {
			return netip.Addr{}, err
		}
		if seen, ok := awaitBinding(conn, request.TransactionID); ok {
			return seen, nil
		}
	}
	return netip.Addr{}, errors.New("no answer")
}

// awaitBinding reads until the answer to a request, or for half a second.
func awaitBinding(conn net.Conn, id [stun.TransactionIDSize]byte) (netip.Addr, bool) {
	_ = conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	buf := make([]byte, 1500)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return netip.Addr{}, false
		}
		m := &stun.Message{Raw: buf[:n]}
		var mapped stun.XORMappedAddress
		if m.Decode() != nil || m.Type != stun.BindingSuccess || m.TransactionID != id || mapped.GetFrom(m) != nil {
			continue
		}
		if seen, ok := netip.AddrFromSlice(mapped.IP); ok {
			return seen.Unmap(), true
		}
	}
}
