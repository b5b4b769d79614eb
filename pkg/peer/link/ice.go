package link

import (
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	pionice "github.com/pion/ice/v4"
	"github.com/pion/logging"
	"github.com/pion/webrtc/v4"

	"github.com/peersignal/peersignal/pkg/wire"
)

// sctpBuffer is the receive window of a connection: what one path of 100 ms
// needs for 300 Mbit/s.
const sctpBuffer = 4 << 20

// rtoMax bounds the wait of SCTP between two attempts to send what was not
// confirmed. Its default of 60 s would let a path that is there again stay idle
// for as long as it was away.
const rtoMax = 4 * time.Second

// newAPI makes the WebRTC stack for one connection, and its sockets.
func newAPI(cfg Config) (*webrtc.API, *sockets, error) {
	n, err := cfg.timing.net()
	if err != nil {
		return nil, nil, err
	}
	socks := newSockets(n)
	var s webrtc.SettingEngine
	s.DetachDataChannels()
	s.SetNet(socks)
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6})
	s.SetICEMulticastDNSMode(pionice.MulticastDNSModeDisabled)
	s.SetIncludeLoopbackCandidate(cfg.AllowLoopback)
	if keep := cfg.FilterAddress; keep != nil {
		s.SetIPFilter(func(ip net.IP) bool {
			addr, ok := netip.AddrFromSlice(ip)
			return ok && keep(addr.Unmap())
		})
	}
	s.SetSCTPMaxReceiveBufferSize(sctpBuffer)
	s.SetSCTPRTOMax(rtoMax)
	// The stack never gives a path up (0): the keeper of the connection does,
	// and the attempt does as long as there is none.
	s.SetICETimeouts(cfg.timing.disconnected, 0, cfg.timing.keepalive)
	if cfg.ICETransport == ICERelay {
		s.SetRelayAcceptanceMinWait(0) // nothing better will come
	}
	// The stack's own log names addresses.
	s.LoggerFactory = &logging.DefaultLoggerFactory{
		Writer: io.Discard, DefaultLogLevel: logging.LogLevelDisabled, ScopeLevels: map[string]logging.LogLevel{},
	}
	return webrtc.NewAPI(webrtc.WithSettingEngine(s)), socks, nil
}

// iceServers converts what the server and the configuration name, without what
// the policy does not use and without what the stack would refuse whole.
func iceServers(list []wire.ICEServer, policy ICETransport) []webrtc.ICEServer {
	var out []webrtc.ICEServer
	for _, s := range list {
		urls := slices.Clone(s.URLs)
		urls = slices.DeleteFunc(urls, func(u string) bool {
			relay := strings.HasPrefix(u, "turn:") || strings.HasPrefix(u, "turns:")
			stun := strings.HasPrefix(u, "stun:") || strings.HasPrefix(u, "stuns:")
			if relay {
				return policy == ICENoRelay || s.Username == "" || s.Credential == ""
			}
			return !stun || policy == ICERelay
		})
		if len(urls) > 0 {
			out = append(out, webrtc.ICEServer{URLs: urls, Username: s.Username, Credential: s.Credential})
		}
	}
	return out
}

func icePolicy(t ICETransport) webrtc.ICETransportPolicy {
	if t == ICERelay {
		return webrtc.ICETransportPolicyRelay
	}
	return webrtc.ICETransportPolicyAll
}
