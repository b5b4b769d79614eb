package link

import (
	"io"
	"net"
	"slices"
	"strings"

	pionice "github.com/pion/ice/v4"
	"github.com/pion/logging"
	piontransport "github.com/pion/transport/v4"
	"github.com/pion/transport/v4/stdnet"
	"github.com/pion/webrtc/v4"

	"github.com/peersignal/peersignal/pkg/wire"
)

// sctpBuffer is the receive window of a connection: what one path of 100 ms
// needs for 300 Mbit/s.
const sctpBuffer = 4 << 20

// newAPI makes the WebRTC stack for one connection, so that the interfaces of
// this moment are used.
func newAPI(loopback bool, policy ICETransport) (*webrtc.API, error) {
	std, err := stdnet.NewNet()
	if err != nil {
		return nil, err
	}
	var s webrtc.SettingEngine
	s.DetachDataChannels()
	s.SetNet(bigBuffers{std})
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6})
	s.SetICEMulticastDNSMode(pionice.MulticastDNSModeDisabled)
	s.SetIncludeLoopbackCandidate(loopback)
	s.SetSCTPMaxReceiveBufferSize(sctpBuffer)
	if policy == ICERelay {
		s.SetRelayAcceptanceMinWait(0) // nothing better will come
	}
	// The stack's own log names addresses.
	s.LoggerFactory = &logging.DefaultLoggerFactory{
		Writer: io.Discard, DefaultLogLevel: logging.LogLevelDisabled, ScopeLevels: map[string]logging.LogLevel{},
	}
	return webrtc.NewAPI(webrtc.WithSettingEngine(s)), nil
}

// bigBuffers asks for large buffers on each UDP socket: with the usual 208 KiB
// a burst of one connection loses packets. The kernel may grant less
// (net.core.rmem_max).
type bigBuffers struct{ *stdnet.Net }

func (b bigBuffers) ListenUDP(network string, addr *net.UDPAddr) (piontransport.UDPConn, error) {
	c, err := b.Net.ListenUDP(network, addr)
	if err == nil {
		_ = c.SetReadBuffer(socketBufferBytes)
		_ = c.SetWriteBuffer(socketBufferBytes)
	}
	return c, err
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
