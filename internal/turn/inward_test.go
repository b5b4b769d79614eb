package turn_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/pion/stun/v3"

	"github.com/peersignal/peersignal/internal/turn"
)

// eachPath runs a test for packets that come to a relay: on a channel and as indications, forwarded in shards and by pion.
func eachPath(t *testing.T, test func(t *testing.T, channel bool, change func(*turn.Config))) {
	for _, portable := range []bool{false, true} {
		for _, channel := range []bool{false, true} {
			t.Run(fmt.Sprintf("portable %v channel %v", portable, channel), func(t *testing.T) {
				test(t, channel, func(c *turn.Config) {
					if portable {
						turn.Portable(c)
					}
				})
			})
		}
	}
}

// hears lets a client hear a peer.
func (r *raw) hears(c turn.Credentials, channel bool, peer string) {
	r.t.Helper()
	got := r.permission(c, peer)
	if channel {
		got = r.bind(c, 1, peer)
	}
	if got != 0 {
		r.t.Fatalf("%s is refused: %d", peer, got)
	}
}

func (r *rig) toClient(reason string) float64 {
	return r.metric("relayed_packets_dropped_total", "direction", "to_client", "reason", reason)
}

// TestPortOfNoRelay: the address of the relay is open only for its relays. When somebody else on the host gets the port of one that has ended, what comes
// from there does not reach a client, though it had a permission.
func TestPortOfNoRelay(t *testing.T) {
	eachPath(t, func(t *testing.T, channel bool, change func(*turn.Config)) {
		r := start(t, func(c *turn.Config) {
			change(c)
			c.RelayPorts = [2]uint16{21401, 21430} // which the system gives to nobody by itself
		})
		c := r.credentials("s1", "alice")
		client := newRaw(t, r.addr)
		at := client.relayed(c)
		_, bob := r.allocate("udp", "s2", "bob")
		client.hears(c, channel, bob.LocalAddr().String())
		port := bob.LocalAddr().(*net.UDPAddr)
		_ = bob.Close()
		var taken *net.UDPConn
		eventually(t, "the port is free", func() bool {
			var err error
			taken, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port.Port})
			return err == nil
		})
		defer func() { _ = taken.Close() }()
		if _, err := taken.WriteTo([]byte("not a relay"), net.UDPAddrFromAddrPort(at)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the packet was dropped", func() bool { return r.toClient("own_port") == 1 })
		if got := r.metric("relayed_packets_total", "direction", "to_client"); got != 0 {
			t.Errorf("%v packets came to the client", got)
		}
	})
}

// TestInwardQuota: what comes from peers counts, too, and is dropped over the session's rate.
func TestInwardQuota(t *testing.T) {
	eachPath(t, func(t *testing.T, channel bool, change func(*turn.Config)) {
		r := start(t, func(c *turn.Config) {
			change(c)
			loopbackPeers(c)
			c.BytesPerSecond = 1000
		})
		r.stopClock()
		c := r.credentials("s1", "alice")
		client, peer := newRaw(t, r.addr), listenPeer(t, "127.0.0.1")
		at := client.relayed(c)
		client.hears(c, channel, peer.LocalAddr().String())
		eventually(t, "packets were dropped", func() bool {
			_, err := peer.WriteTo(pattern(1000), net.UDPAddrFromAddrPort(at))
			return err == nil && r.toClient("rate") > 10
		})
		if got := r.metric("relayed_bytes_total", "direction", "to_client"); got > 80_000 {
			t.Errorf("%v bytes came to the client within the burst of 64 KiB", got)
		}
	})
}

// TestExpiredPermission: without a permission nothing passes in either direction, on a channel neither, which outlives it.
func TestExpiredPermission(t *testing.T) {
	eachPath(t, func(t *testing.T, channel bool, change func(*turn.Config)) {
		r := start(t, func(c *turn.Config) {
			change(c)
			loopbackPeers(c)
		})
		c := r.credentials("s1", "alice")
		client, peer := newRaw(t, r.addr), listenPeer(t, "127.0.0.1")
		at := client.relayed(c)
		client.hears(c, channel, peer.LocalAddr().String())
		r.ExpirePermission(at, netip.MustParseAddr("127.0.0.1"))
		if _, err := peer.WriteTo([]byte("inward"), net.UDPAddrFromAddrPort(at)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the packet to the client was dropped", func() bool { return r.toClient("no_permission") == 1 })
		if !channel {
			return
		}
		if _, err := client.conn.Write(channelData(0x4001, []byte("outward"))); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the packet to the peer was dropped", func() bool {
			return r.metric("relayed_packets_dropped_total", "direction", "to_peer", "reason", "no_permission") == 1
		})
	})
}

// TestChannelsAreBounded: one allocation has so many channels; each of them can be renewed.
func TestChannelsAreBounded(t *testing.T) {
	eachPath(t, func(t *testing.T, channel bool, change func(*turn.Config)) {
		if !channel {
			t.Skip("of channels only")
		}
		r := start(t, func(c *turn.Config) {
			change(c)
			loopbackPeers(c)
		})
		c := r.credentials("s1", "alice")
		client := newRaw(t, r.addr)
		client.relayed(c)
		peer := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", 21500+i) }
		for i := range 128 {
			if got := client.bind(c, byte(i), peer(i)); got != 0 {
				t.Fatalf("channel %d: got %d", i, got)
			}
		}
		if got := client.bind(c, 128, peer(128)); got != stun.CodeInsufficientCapacity {
			t.Errorf("one channel too many: got %d, want 508", got)
		}
		if got := client.bind(c, 5, peer(5)); got != 0 {
			t.Errorf("a channel that there is: got %d", got)
		}
	})
}
