package signaling

import (
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/peersignal/peersignal/pkg/wire"
)

// checkName decides whether the name that a client signed is this server's.
// local is the server's end of the client's socket. What the client says in
// HTTP headers plays no part: who forwards a connection writes them.
func checkName(names []string, local netip.AddrPort, name string) *wire.Refused {
	if len(names) > 0 {
		switch slices.Index(names, name) {
		case 0:
			return nil
		case -1:
			return &wire.Refused{
				Code:    wire.CodeUnknownName,
				Message: "this server is not known by the name that you dialled; an operator adds names with --name",
			}
		default:
			return &wire.Refused{Code: wire.CodeUseName, Message: "dial the canonical name of this server", Name: names[0]}
		}
	}
	port := strconv.Itoa(int(local.Port()))
	if name == "localhost:"+port || name == net.JoinHostPort(local.Addr().Unmap().WithZone("").String(), port) {
		return nil
	}
	return &wire.Refused{
		Code: wire.CodeUnknownName,
		Message: "this server has no configured name and accepts only localhost and its own address; " +
			"start peersignal with --name and the host:port that you dial",
	}
}

// hostOf gives the host of a canonical name, IPv6 without brackets.
func hostOf(name string) string {
	host, _, err := net.SplitHostPort(name)
	if err != nil {
		return name
	}
	return host
}
