package turn_test

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v3"

	"github.com/peersignal/peersignal/internal/turn"
)

// meet lets two relays exchange a packet each way. The payloads have more than
// four bytes: the client's own framing of TCP waits for nine bytes of a frame.
func meet(t *testing.T, a, b net.PacketConn) {
	t.Helper()
	// The first packet of each side makes its permission; the one that comes
	// before the other side has a permission is lost.
	if _, err := a.WriteTo([]byte("opening"), b.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.WriteTo([]byte("pinging"), a.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if got, from := receive(t, a); got != "pinging" || from.String() != b.LocalAddr().String() {
		t.Fatalf("got %q from %v, want pinging from %v", got, from, b.LocalAddr())
	}
	if _, err := a.WriteTo([]byte("ponging"), b.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	for {
		if got, _ := receive(t, b); got == "ponging" {
			return
		}
	}
}

func TestRelayToRelay(t *testing.T) {
	for _, networks := range [][2]string{{"udp", "udp"}, {"tcp", "tcp"}, {"udp", "tcp"}} {
		t.Run(strings.Join(networks[:], "-"), func(t *testing.T) {
			r := start(t, nil)
			_, a := r.allocate(networks[0], "s1", "alice")
			_, b := r.allocate(networks[1], "s2", "bob")
			meet(t, a, b)
			if got := r.metric("relayed_bytes_total", "direction", "to_client"); got < 8 {
				t.Errorf("%v bytes counted to clients while the sessions run, want at least 8", got)
			}
			if got := r.metric("allocations", "transport", networks[1]); got < 1 {
				t.Errorf("%v allocations over %s counted", got, networks[1])
			}
			// Channel data: the client binds a channel by itself after a while;
			// a large packet shows that lengths and padding hold.
			big := bytes.Repeat([]byte{'x'}, 1201)
			if _, err := a.WriteTo(big, b.LocalAddr()); err != nil {
				t.Fatal(err)
			}
			if got, _ := receive(t, b); got != string(big) {
				t.Fatalf("got %d bytes, want %d", len(got), len(big))
			}
		})
	}
}

// Behind a one-to-one NAT two clients of one relay know each other by the
// public address, and meet without going through the NAT.
func TestPublicIP(t *testing.T) {
	public := netip.MustParseAddr("8.8.4.4")
	r := start(t, func(c *turn.Config) { c.PublicIP = public })
	_, a := r.allocate("udp", "s1", "alice")
	_, b := r.allocate("udp", "s2", "bob")
	if got := a.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(); got != public {
		t.Fatalf("relayed address %v, want %v", got, public)
	}
	meet(t, a, b)
}

func TestBinding(t *testing.T) {
	r := start(t, nil)
	for _, network := range []string{"udp", "tcp"} {
		client := r.dial(network, turn.Credentials{Username: "x", Password: "y"})
		got, err := client.SendBindingRequest()
		if err != nil {
			t.Fatalf("%s: %v", network, err)
		}
		if ip := got.(*net.UDPAddr).IP; !ip.IsLoopback() {
			t.Errorf("%s: mapped address %v", network, ip)
		}
	}
}

func TestDeniedPeers(t *testing.T) {
	r := start(t, nil)
	client, relay := r.allocate("udp", "s1", "alice")
	for _, peer := range []string{
		"10.0.0.1", "169.254.169.254", "100.100.100.200", "192.168.1.1", "224.0.0.1", "0.0.0.0", "255.255.255.255",
		"127.0.0.2", "168.63.129.16",
	} {
		if err := client.CreatePermission(&net.UDPAddr{IP: net.ParseIP(peer), Port: 5000}); err == nil {
			t.Errorf("a permission for %s was given", peer)
		}
	}
	if got := r.metric("peer_refusals_total", "reason", "metadata"); got != 3 {
		t.Errorf("%v refusals for metadata addresses counted, want 3", got)
	}

	// The relay's own address gets a permission, since other relays are there;
	// its other ports stay shut, inside and outside the relay range.
	low, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = low.Close() }()
	if _, err := relay.WriteTo([]byte("secret"), low.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	silent(t, low)
	dropped := r.metric("relayed_packets_dropped_total", "direction", "to_peer", "reason", "policy") +
		r.metric("relayed_packets_dropped_total", "direction", "to_peer", "reason", "own_port")
	if dropped == 0 {
		t.Error("the packet to a port of this host was not counted as dropped")
	}
}

func TestAllowedPeers(t *testing.T) {
	r := start(t, func(c *turn.Config) { c.AllowPeers = []string{"127.0.0.0/8"} })
	_, relay := r.allocate("udp", "s1", "alice")
	peer, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = peer.Close() }()

	// Nobody without a permission reaches the client.
	if _, err := peer.WriteTo([]byte("stranger"), relay.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stranger's packet was dropped", func() bool {
		return r.metric("relayed_packets_dropped_total", "direction", "to_client", "reason", "no_permission") == 1
	})
	if _, err := relay.WriteTo([]byte("hello"), peer.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	got, from := receive(t, peer)
	if got != "hello" || from.String() != relay.LocalAddr().String() {
		t.Fatalf("got %q from %v", got, from)
	}
	if _, err := peer.WriteTo([]byte("back"), from); err != nil {
		t.Fatal(err)
	}
	if got, _ := receive(t, relay); got != "back" {
		t.Fatalf("got %q", got)
	}
}

func TestPeersPerAllocation(t *testing.T) {
	r := start(t, nil)
	client, _ := r.allocate("udp", "s1", "alice")
	given := 0
	for i := range 140 {
		if client.CreatePermission(&net.UDPAddr{IP: net.IPv4(8, 8, 8, byte(i)), Port: 5000}) == nil {
			given++
		}
	}
	if given != 128 {
		t.Errorf("%d permissions were given, want 128", given)
	}
	if got := r.metric("peer_refusals_total", "reason", "too_many_peers"); got != 12 {
		t.Errorf("%v refusals counted, want 12", got)
	}
}

func TestReleaseOnClose(t *testing.T) {
	r := start(t, nil)
	_, a := r.allocate("udp", "s1", "alice")
	client, _ := r.allocate("tcp", "s1", "alice")
	_ = a.Close() // a Refresh with lifetime 0
	client.Close()
	eventually(t, "the allocation over UDP ended", func() bool { return r.metric("allocations", "transport", "udp") == 0 })
}

func TestShutdownEndsAllocations(t *testing.T) {
	reg := start(t, nil)
	reg.allocate("udp", "s1", "alice")
	reg.allocate("tcp", "s2", "bob")
	if err := reg.Close(); err != nil {
		t.Fatal(err)
	}
	if err := reg.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "every allocation ended", func() bool {
		return reg.metric("allocations_ended_total", "reason", "shutdown") == 2 && reg.metric("tcp_connections") == 0
	})
	if _, err := reg.Credentials("s1", "alice"); err == nil {
		t.Error("credentials were minted after Close")
	}
	if err := reg.Run(t.Context()); err == nil {
		t.Error("a second Run was accepted")
	}
}

func TestCloseWithoutRun(t *testing.T) {
	s, err := turn.New(turn.Config{Listen: []string{"127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	addr := s.Addrs()[0].String()
	_ = s.Close()
	if c, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
		_ = c.Close()
		t.Error("the listener is open after Close")
	}
}

// A client that comes over IPv6 gets a relay of the family of the relay IP.
func TestIPv6(t *testing.T) {
	for _, relayIP := range []string{"127.0.0.1", "::1"} {
		t.Run(relayIP, func(t *testing.T) {
			probe, err := net.ListenPacket("udp6", "[::1]:0")
			if err != nil {
				t.Skipf("this host has no IPv6: %v", err)
			}
			_ = probe.Close()
			r := start(t, func(c *turn.Config) {
				c.Listen, c.RelayIP = []string{"[::1]:0"}, netip.MustParseAddr(relayIP)
			})
			m := newRaw(t, r.addr).tryAllocate(r.credentials("s1", "alice"), overUDP)
			if m == nil {
				t.Fatal("no answer")
			}
			var relayed stun.XORMappedAddress
			if err := relayed.GetFromAs(m, stun.AttrXORRelayedAddress); err != nil {
				t.Fatalf("%v: %v", m, err)
			}
			if relayed.IP.String() != relayIP {
				t.Errorf("relayed address %v, want one of %s", relayed, relayIP)
			}
		})
	}
}
