package turn_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/pion/stun/v3"

	"github.com/peersignal/peersignal/internal/turn"
)

func loopbackPeers(c *turn.Config) { c.AllowPeers = []string{"127.0.0.0/8", "::1/128"} }

func needShards(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux forwards without pion")
	}
}

// listenPeer returns a socket that plays a peer.
func listenPeer(t testing.TB, ip string) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(ip), 0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// relayed allocates and returns where peers send to.
func (r *raw) relayed(c turn.Credentials, attrs ...stun.Setter) netip.AddrPort {
	r.t.Helper()
	m := r.tryAllocate(c, append(attrs, overUDP)...)
	if got := code(r.t, m); got != 0 {
		r.t.Fatalf("no allocation: %d", got)
	}
	var at stun.XORMappedAddress
	if err := at.GetFromAs(m, stun.AttrXORRelayedAddress); err != nil {
		r.t.Fatal(err)
	}
	ip, _ := netip.AddrFromSlice(at.IP)
	return netip.AddrPortFrom(ip.Unmap(), uint16(at.Port))
}

func channelData(number uint16, data []byte) []byte {
	p := binary.BigEndian.AppendUint16(nil, number)
	p = binary.BigEndian.AppendUint16(p, uint16(len(data)))
	return append(p, data...)
}

func pattern(size int) []byte {
	p := make([]byte, size)
	for i := range p {
		p[i] = byte(i * 7)
	}
	return p
}

// Packets of all sizes cross both ways unchanged and in order, alone and in
// bursts, whether or not they can be sent as one message.
func TestChannelDataSizes(t *testing.T) {
	for name, change := range map[string]func(*turn.Config){"shards": nil, "portable": turn.Portable} {
		t.Run(name, func(t *testing.T) {
			r := start(t, func(c *turn.Config) {
				loopbackPeers(c)
				if change != nil {
					change(c)
				}
			})
			c := r.credentials("s1", "alice")
			client, peer := newRaw(t, r.addr), listenPeer(t, "127.0.0.1")
			at := net.UDPAddrFromAddrPort(client.relayed(c))
			if got := client.bind(c, 1, peer.LocalAddr().String()); got != 0 {
				t.Fatalf("no channel: %d", got)
			}
			sizes := []int{1, 4, 3, 1200, 1200, 1200, 700, 700, 1200, 1595, 1595, 5, 0, 5, 5, 5, 1400, 1400, 1, 1500}
			for _, size := range sizes {
				if _, err := client.conn.Write(channelData(0x4001, pattern(size))); err != nil {
					t.Fatal(err)
				}
			}
			for i, size := range sizes {
				if got, _ := receive(t, peer); got != string(pattern(size)) {
					t.Fatalf("packet %d: the peer got %d bytes, want %d", i, len(got), size)
				}
			}
			for _, size := range sizes {
				if _, err := peer.WriteTo(pattern(size), at); err != nil {
					t.Fatal(err)
				}
			}
			for i, size := range sizes {
				if got := client.next(); !bytes.HasPrefix(got, channelData(0x4001, pattern(size))) || len(got) > size+7 {
					t.Fatalf("packet %d: the client got %d bytes, want channel data of %d", i, len(got), size)
				}
			}
			if got := r.metric("relayed_packets_total", "direction", "to_peer"); got != float64(len(sizes)) {
				t.Errorf("%v packets counted to peers, want %d", got, len(sizes))
			}
		})
	}
}

func TestChannelDataDrops(t *testing.T) {
	needShards(t)
	r := start(t, loopbackPeers)
	c := r.credentials("s1", "alice")
	client, peer := newRaw(t, r.addr), listenPeer(t, "127.0.0.1")
	at := net.UDPAddrFromAddrPort(client.relayed(c))
	if got := client.bind(c, 1, peer.LocalAddr().String()); got != 0 {
		t.Fatalf("no channel: %d", got)
	}
	for name, k := range map[string]struct {
		send   func() error
		metric []string
	}{
		"unbound channel": {func() error { _, err := client.conn.Write(channelData(0x4002, nil)); return err },
			[]string{"client_packets_dropped_total", "reason", "no_channel"}},
		"no channel number": {func() error { _, err := client.conn.Write(channelData(0x7fff, nil)); return err },
			[]string{"client_packets_dropped_total", "reason", "no_channel"}},
		"cut": {func() error { _, err := client.conn.Write([]byte{0x40, 1, 0, 9, 1}); return err },
			[]string{"client_packets_dropped_total", "reason", "malformed"}},
		"too large for a client": {func() error { _, err := client.conn.Write(channelData(0x4001, pattern(1596))); return err },
			[]string{"client_packets_dropped_total", "reason", "too_large"}},
		"too large of a peer": {func() error { _, err := peer.WriteTo(pattern(1600), at); return err },
			[]string{"relayed_packets_dropped_total", "direction", "to_client", "reason", "too_large"}},
		"of a stranger": {func() error { _, err := listenPeer(t, "127.0.0.2").WriteTo(pattern(10), at); return err },
			[]string{"relayed_packets_dropped_total", "direction", "to_client", "reason", "no_permission"}},
	} {
		before := r.metric(k.metric[0], k.metric[1:]...)
		if err := k.send(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		eventually(t, name+" was counted", func() bool { return r.metric(k.metric[0], k.metric[1:]...) == before+1 })
	}
}

// When pion's timers end a permission or a channel, forwarding stops.
func TestExpiry(t *testing.T) {
	needShards(t)
	r := start(t, loopbackPeers)
	c := r.credentials("s1", "alice")
	client, peer := newRaw(t, r.addr), listenPeer(t, "127.0.0.1")
	at := client.relayed(c)
	bind := func() {
		if got := client.bind(c, 1, peer.LocalAddr().String()); got != 0 {
			t.Fatalf("no channel: %d", got)
		}
	}
	exchange := func() {
		if _, err := client.conn.Write(channelData(0x4001, []byte("hello"))); err != nil {
			t.Fatal(err)
		}
		if _, err := peer.WriteTo([]byte("hello"), net.UDPAddrFromAddrPort(at)); err != nil {
			t.Fatal(err)
		}
	}
	bind()
	exchange()
	receive(t, peer)
	client.next()

	r.ExpirePermission(at, netip.MustParseAddr("127.0.0.1"))
	exchange()
	for _, direction := range []string{"to_peer", "to_client"} {
		eventually(t, "the packet "+direction+" was dropped", func() bool {
			return r.metric("relayed_packets_dropped_total", "direction", direction, "reason", "no_permission") == 1
		})
	}
	r.ExpireChannel(at, 0x4001)
	exchange()
	eventually(t, "the packet on an expired channel was dropped", func() bool {
		return r.metric("client_packets_dropped_total", "reason", "no_channel") == 1
	})
}

// Without a channel, peers' packets come as Data indications.
func TestDataIndications(t *testing.T) {
	for ip, f := range map[string]byte{"127.0.0.1": 1, "::1": 2} {
		t.Run(ip, func(t *testing.T) {
			needIPv6(t)
			r := start(t, func(c *turn.Config) {
				loopbackPeers(c)
				c.RelayIP6 = netip.MustParseAddr("::1")
			})
			c := r.credentials("s1", "alice")
			client, peer := newRaw(t, r.addr), listenPeer(t, ip)
			at := net.UDPAddrFromAddrPort(client.relayed(c, family(f)))
			if got := client.permission(c, peer.LocalAddr().String()); got != 0 {
				t.Fatalf("no permission: %d", got)
			}
			for _, size := range []int{0, 1, 2, 3, 4, 5, 1200, 1599} {
				if _, err := peer.WriteTo(pattern(size), at); err != nil {
					t.Fatal(err)
				}
				m := &stun.Message{Raw: client.next()}
				if err := m.Decode(); err != nil {
					t.Fatalf("%d bytes: %v", size, err)
				}
				var from stun.XORMappedAddress
				if err := from.GetFromAs(m, stun.AttrXORPeerAddress); err != nil {
					t.Fatal(err)
				}
				data, err := m.Get(stun.AttrData)
				if err != nil || !bytes.Equal(data, pattern(size)) {
					t.Fatalf("%d bytes: got %d, %v", size, len(data), err)
				}
				if want := peer.LocalAddr().(*net.UDPAddr); from.Port != want.Port || !from.IP.Equal(want.IP) {
					t.Fatalf("from %v, want %v", from, want)
				}
				if m.Type != stun.NewType(stun.MethodData, stun.ClassIndication) {
					t.Fatalf("got a %v", m.Type)
				}
			}
		})
	}
}

// One shard reads relays of both families into the same memory.
func TestFamiliesInOneShard(t *testing.T) {
	needIPv6(t)
	r := start(t, func(c *turn.Config) {
		loopbackPeers(c)
		c.UDPSockets, c.RelayIP6 = 1, netip.MustParseAddr("::1")
	})
	c := r.credentials("s1", "alice")
	v4, v6 := newRaw(t, r.addr), newRaw(t, r.addr)
	v4.relayed(c, family(1))
	v6.relayed(c, family(2))
	for range 3 {
		v6.exchange(c, net.IPv6loopback)
		v4.exchange(c, net.IPv4(127, 0, 0, 1))
		v6, v4 = v6.again(c, 2), v4.again(c, 1)
	}
}

// again is a new client in place of an old one, whose channel is taken.
func (r *raw) again(c turn.Credentials, f byte) *raw {
	r.refresh(c, 0)
	next := newRaw(r.t, r.conn.RemoteAddr().String())
	next.relayed(c, family(f))
	return next
}

// With more channels than a scan is good for, each still leads to its peer.
func TestManyChannels(t *testing.T) {
	r := start(t, loopbackPeers)
	c := r.credentials("s1", "alice")
	client := newRaw(t, r.addr)
	at := net.UDPAddrFromAddrPort(client.relayed(c))
	var peers []*net.UDPConn
	for i := range 20 {
		peer := listenPeer(t, fmt.Sprintf("127.0.0.%d", i+1))
		peers = append(peers, peer)
		if got := client.bind(c, byte(i), peer.LocalAddr().String()); got != 0 {
			t.Fatalf("no channel: %d", got)
		}
	}
	for i, peer := range peers {
		data := []byte(fmt.Sprint("peer ", i))
		if _, err := client.conn.Write(channelData(0x4000+uint16(i), data)); err != nil {
			t.Fatal(err)
		}
		if got, _ := receive(t, peer); got != string(data) {
			t.Fatalf("peer %d got %q", i, got)
		}
		if _, err := peer.WriteTo(data, at); err != nil {
			t.Fatal(err)
		}
		if got := client.next(); !bytes.HasPrefix(got, channelData(0x4000+uint16(i), data)) {
			t.Fatalf("peer %d: the client got %q", i, got)
		}
	}
}

// Clients are spread over the sockets that share the address, and each is
// served by the one that it began with.
func TestSharedAddress(t *testing.T) {
	r := start(t, func(c *turn.Config) {
		loopbackPeers(c)
		c.UDPSockets = 4
	})
	for i := range 16 {
		client := newRaw(t, r.addr)
		c := r.credentials(fmt.Sprint("s", i), fmt.Sprint("u", i))
		client.relayed(c)
		client.exchange(c, net.IPv4(127, 0, 0, 1))
	}
	if _, err := turn.New(turn.Config{Listen: []string{r.addr}, UDPSockets: 4}); err == nil {
		t.Error("a second server could share the address")
	}
	if got := r.metric("allocations", "transport", "udp"); got != 16 {
		t.Errorf("%v allocations alive, want 16", got)
	}
}

// A client and a peer that exchange packets through a relay, without
// allocating themselves.
type pair struct {
	client, peer *net.UDPConn
	relay        netip.AddrPort
	out, in      []byte
}

func newPair(t testing.TB, size int) *pair {
	t.Helper()
	r := start(t, func(c *turn.Config) {
		loopbackPeers(c)
		c.BytesPerSecond, c.BytesPerDay = 1<<40, 1<<50
	})
	c := r.credentials("s1", "alice")
	client, peer := newRaw(t, r.addr), listenPeer(t, "127.0.0.1")
	p := &pair{client: client.conn.(*net.UDPConn), peer: peer, relay: client.relayed(c)}
	if got := client.bind(c, 1, peer.LocalAddr().String()); got != 0 {
		t.Fatalf("no channel: %d", got)
	}
	p.out, p.in = channelData(0x4001, pattern(size)), make([]byte, 2048)
	deadline := time.Now().Add(time.Minute)
	_, _ = p.client.SetDeadline(deadline), p.peer.SetDeadline(deadline)
	return p
}

func (p *pair) roundTrip(t testing.TB) {
	if _, err := p.client.Write(p.out); err != nil {
		t.Fatal(err)
	}
	n, _, err := p.peer.ReadFromUDPAddrPort(p.in)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.peer.WriteToUDPAddrPort(p.in[:n], p.relay); err != nil {
		t.Fatal(err)
	}
	if _, err := p.client.Read(p.in); err != nil {
		t.Fatal(err)
	}
}

// Forwarding channel data allocates nothing, in either direction.
func TestForwardingAllocatesNothing(t *testing.T) {
	needShards(t)
	p := newPair(t, 1200)
	p.roundTrip(t)
	if got := testing.AllocsPerRun(1000, func() { p.roundTrip(t) }); got != 0 {
		t.Errorf("%v allocations for a packet each way, want none", got)
	}
}

// A packet from the client to the peer and back, one at a time: mostly the
// latency of four sockets. test/bench/turn measures throughput.
func BenchmarkChannelData(b *testing.B) {
	for _, size := range []int{160, 1200} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			p := newPair(b, size)
			b.ReportAllocs()
			b.SetBytes(2 * int64(size))
			for b.Loop() {
				p.roundTrip(b)
			}
		})
	}
}

// FuzzClient sends anything from a client that has an allocation and a channel,
// and anything to its relay; afterwards both still work.
func FuzzClient(f *testing.F) {
	f.Add(channelData(0x4001, []byte("hello")))
	f.Add(channelData(0x4002, nil))
	f.Add([]byte{0x40, 1, 0xff, 0xff})
	f.Add([]byte{0, 0x16, 0, 8, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0x13, 0, 4, 1, 2, 3, 4})
	f.Add([]byte{0, 9, 0, 4, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 8, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, packet []byte) {
		if len(packet) > 4096 {
			return
		}
		p := newPair(t, 9)
		_, _ = p.client.Write(packet)
		_, _ = p.peer.WriteToUDPAddrPort(packet, p.relay)
		if _, err := p.client.Write(p.out); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(waitFor)
		_, _ = p.peer.SetReadDeadline(deadline), p.client.SetReadDeadline(deadline)
		for {
			n, err := p.peer.Read(p.in)
			if err != nil {
				t.Fatalf("the channel is dead: %v", err)
			}
			if bytes.Equal(p.in[:n], p.out[4:]) {
				return
			}
		}
	})
}
