package turn_test

import (
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/pion/stun/v3"

	"github.com/peersignal/peersignal/internal/turn"
)

// book is a signaling server's knowledge, for tests.
type book struct {
	mu    sync.Mutex
	pairs map[[2]string]bool
	addrs map[string]netip.Addr // where a session comes from
}

func newBook() *book {
	return &book{pairs: make(map[[2]string]bool), addrs: make(map[string]netip.Addr)}
}

func (b *book) set(x, y string, introduced bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pairs[[2]string{x, y}], b.pairs[[2]string{y, x}] = introduced, introduced
}

func (b *book) from(session, addr string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.addrs[session] = netip.MustParseAddr(addr)
}

func (b *book) Introduced(x, y string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pairs[[2]string{x, y}]
}

func (b *book) IntroducedAddr(session string, peer netip.Addr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for other, addr := range b.addrs {
		if addr == peer && b.pairs[[2]string{session, other}] {
			return true
		}
	}
	return false
}

func withBook(b *book) func(*turn.Config) {
	return func(c *turn.Config) { c.Introductions = b }
}

// Two relays of one server meet when their sessions were introduced.
func TestIntroducedRelays(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			b := newBook()
			r := start(t, withBook(b))
			b.set("s1", "s2", true)
			_, alice := r.allocate(network, "s1", "alice")
			_, bob := r.allocate(network, "s2", "bob")
			_, eve := r.allocate(network, "s3", "eve")
			meet(t, alice, bob)

			// A stranger's packets go nowhere, in either direction.
			if _, err := eve.WriteTo([]byte("stranger"), bob.LocalAddr()); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the stranger's packet was dropped", func() bool {
				return r.metric("relayed_packets_dropped_total", "direction", "to_peer", "reason", "not_introduced") == 1
			})
			silent(t, bob)
		})
	}
}

func TestIntroducedAddresses(t *testing.T) {
	b := newBook()
	b.set("s1", "s2", true)
	b.from("s2", "8.8.8.8")
	b.from("s3", "9.9.9.9")
	r := start(t, withBook(b))
	c := r.credentials("s1", "alice")
	client := newRaw(t, r.addr)
	client.allocate(c)
	for peer, want := range map[string]stun.ErrorCode{
		"8.8.8.8:5000": 0, "8.8.8.8:6000": 0, "9.9.9.9:5000": stun.CodeForbidden, "1.1.1.1:5000": stun.CodeForbidden,
	} {
		if got := client.permission(c, peer); got != want {
			t.Errorf("a permission for %s: got %d, want %d", peer, got, want)
		}
	}
	if got := client.bind(c, 1, "8.8.8.8:5000"); got != 0 {
		t.Errorf("a channel: got %d", got)
	}
	if got := client.bind(c, 2, "9.9.9.9:5000"); got != stun.CodeForbidden {
		t.Errorf("a channel to a stranger: got %d, want 403", got)
	}
	if got := r.metric("peer_refusals_total", "reason", "not_introduced"); got != 3 {
		t.Errorf("%v refusals counted, want 3", got)
	}
	// An introduction that ended is found out by the next permission.
	b.set("s1", "s2", false)
	if got := client.permission(c, "8.8.8.8:5000"); got != stun.CodeForbidden {
		t.Errorf("after the introduction ended: got %d, want 403", got)
	}
}

// Channels to other relays are refused by the session behind the port, and
// follow the port when another client gets it.
func TestIntroducedPortIsReused(t *testing.T) {
	b := newBook()
	b.set("s1", "s2", true)
	r := start(t, func(c *turn.Config) {
		c.Introductions, c.RelayPorts = b, [2]uint16{21101, 21102}
	})
	c := r.credentials("s1", "alice")
	alice := newRaw(t, r.addr)
	alice.allocate(c)
	bobClient, bob := r.allocate("udp", "s2", "bob")
	at := bob.LocalAddr().String()
	if got := alice.bind(c, 1, at); got != 0 {
		t.Fatalf("a channel to an introduced session: got %d", got)
	}
	if err := bobClient.CreatePermission(&net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 21101}); err != nil {
		t.Fatal(err)
	}
	send := func() {
		if _, err := alice.conn.Write([]byte{0x40, 1, 0, 5, 'h', 'e', 'l', 'l', 'o'}); err != nil {
			t.Fatal(err)
		}
	}
	send()
	if got, _ := receive(t, bob); got != "hello" {
		t.Fatalf("got %q", got)
	}
	_ = bob.Close()
	eventually(t, "bob's relay ended", func() bool { return r.metric("allocations", "transport", "udp") == 1 })
	_, eve := r.allocate("udp", "s3", "eve")
	if eve.LocalAddr().String() != at {
		t.Fatalf("eve got %v, want bob's old port %s", eve.LocalAddr(), at)
	}
	send()
	eventually(t, "the packet to eve was dropped", func() bool {
		return r.metric("relayed_packets_dropped_total", "direction", "to_peer", "reason", "not_introduced") == 1
	})
	if got := alice.bind(c, 2, at); got != stun.CodeForbidden {
		t.Errorf("a channel to the port of a stranger: got %d, want 403", got)
	}
}
