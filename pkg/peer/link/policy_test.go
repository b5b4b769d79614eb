package link_test

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/peersignal/peersignal/pkg/peer/link"
	"github.com/peersignal/peersignal/pkg/wire"
)

// A device that wants relays only says nothing about its own addresses, also
// when it reaches the relay by TCP from one of them, and after a restart.
func TestRelayHidesAddresses(t *testing.T) {
	server := turnServer(t)
	server.URLs = []string{strings.Replace(server.URLs[0], "transport=udp", "transport=tcp", 1)}
	r := newRelay(t)
	r.ice = []wire.ICEServer{server}
	start := func(n *lab) *device {
		return startDevice(t, r.url(), func(c *link.Config) {
			n.use(c, never)
			c.ICETransport = link.ICERelay
		})
	}
	a, b := start(newLab(t, "127.0.0.2")), start(newLab(t, "127.0.0.3"))
	ac, bc := connect(t, a, b)
	related := regexp.MustCompile(` raddr (\S+)`)
	check := func() {
		t.Helper()
		for _, sdp := range []string{ac.LocalSDP(), bc.LocalSDP()} {
			if strings.Contains(sdp, "typ host") || strings.Contains(sdp, "typ srflx") || !strings.Contains(sdp, "typ relay") {
				t.Error("the description has other candidates than relays")
			}
			for _, m := range related.FindAllStringSubmatch(sdp, -1) {
				if m[1] != "0.0.0.0" {
					t.Errorf("the description names %s", m[1])
				}
			}
		}
	}
	check()
	echo(t, ac, bc, "relayed")
	ac.Restart()
	eventually(t, "restart", func() bool { return ac.Stats().Restarts == 1 && bc.Stats().Restarts == 1 })
	check()
	if st := ac.Stats(); st.LocalCandidateType != "relay" {
		t.Errorf("path is %+v", st)
	}
}

// A device that wants no relay does not use the peer's either, even if it is
// the only way.
func TestNoRelay(t *testing.T) {
	server := turnServer(t)
	r := newRelay(t)
	r.ice = []wire.ICEServer{server}
	start := func(policy link.ICETransport, addr string) *device {
		n := newLab(t, addr)
		n.cut(func(_, remote netip.AddrPort) bool { return remote.Addr() != netip.MustParseAddr("127.0.0.1") })
		return startDevice(t, r.url(), func(c *link.Config) {
			n.use(c, never)
			c.ICETransport = policy
		})
	}
	a, b := start(link.ICENoRelay, "127.0.0.2"), start(link.ICEAll, "127.0.0.3")
	a.sees(b)
	_, err := a.link.Dial(testContext(t), b.deviceID())
	wantErr(t, err, link.ErrICEFailed)
	// The same two without the policy.
	c := start(link.ICEAll, "127.0.0.4")
	cc, bc := connect(t, c, b)
	echo(t, cc, bc, "relayed")
}

func TestFilterAddress(t *testing.T) {
	r := newRelay(t)
	refused := netip.MustParseAddr("127.0.0.2")
	start := func(n *lab, filter func(netip.Addr) bool) *device {
		return startDevice(t, r.url(), func(c *link.Config) {
			n.use(c, never)
			c.FilterAddress = filter
		})
	}
	not := func(ip netip.Addr) bool { return ip != refused }
	for _, c := range []struct {
		name         string
		mine, theirs func(netip.Addr) bool
	}{{"own address", not, nil}, {"the peer's address", nil, not}} {
		t.Run(c.name, func(t *testing.T) {
			a, b := start(newLab(t, "127.0.0.2", "127.0.0.12"), c.mine), start(newLab(t, "127.0.0.3"), c.theirs)
			ac, bc := connect(t, a, b)
			echo(t, ac, bc, "works")
			if c.mine != nil && strings.Contains(ac.LocalSDP(), "127.0.0.2 ") {
				t.Error("the refused address was offered")
			}
		})
	}
	// With nothing else there is no connection.
	a, b := start(newLab(t, "127.0.0.2"), nil), start(newLab(t, "127.0.0.3"), func(netip.Addr) bool { return false })
	a.sees(b)
	_, err := a.link.Dial(testContext(t), b.deviceID())
	wantErr(t, err, link.ErrICEFailed)
}
