package turn_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v3"
	pionturn "github.com/pion/turn/v4"

	"github.com/peersignal/peersignal/internal/turn"
)

// served fails unless somebody who did nothing wrong, in another network, gets
// an allocation and a packet across. The session must be a fresh one.
func (r *rig) served(who string) {
	r.t.Helper()
	client := newRawFrom(r.t, "127.77.0.1", r.addr)
	c := r.credentials("session of "+who, who)
	client.relayed(c)
	client.exchange(c, net.IPv4(127, 0, 0, 1))
	client.refresh(c, 0)
}

// One user with many sessions and sockets cannot take the ports of the others.
func TestUserExhaustingPorts(t *testing.T) {
	r := start(t, func(c *turn.Config) {
		loopbackPeers(c)
		c.RelayPorts, c.AllocationsPerUser = [2]uint16{21201, 21208}, 6
	})
	made := 0
	for session := range 10 {
		c := r.credentials(fmt.Sprint("m", session), "mallory")
		for range 3 {
			if code(t, newRaw(t, r.addr).tryAllocate(c, overUDP)) == 0 {
				made++
			}
		}
	}
	if made != 6 {
		t.Errorf("one user has %d of the 8 ports, want 6", made)
	}
	if got := r.metric("allocations_refused_total", "reason", "user_quota"); got != 24 {
		t.Errorf("%v refusals counted, want 24", got)
	}
	r.served("alice")
}

// A nonce that the server did not make is not answered with more than a new
// one, and is paid for.
func TestForgedNonces(t *testing.T) {
	r := start(t, func(c *turn.Config) {
		loopbackPeers(c)
		c.UnauthenticatedPerSecond = 10
	})
	other := start(t, nil)
	c := r.credentials("s1", "mallory")
	key := stun.MessageIntegrity(pionturn.GenerateAuthKey(c.Username, turn.DefaultRealm, c.Password))
	theirs := newRaw(t, other.addr).ask(stun.NewType(stun.MethodAllocate, stun.ClassRequest))
	var foreign stun.Nonce
	if err := foreign.GetFrom(theirs); err != nil {
		t.Fatal(err)
	}
	client := newRaw(t, r.addr)
	for i, nonce := range []stun.Nonce{foreign, stun.NewNonce("x"), stun.NewNonce(strings.Repeat("7", 300)), {}} {
		m := client.ask(stun.NewType(stun.MethodAllocate, stun.ClassRequest), overUDP, stun.NewUsername(c.Username),
			stun.NewRealm(turn.DefaultRealm), nonce, key)
		if got := code(t, m); got != stun.CodeStaleNonce {
			t.Errorf("nonce %d: got %d, want 438", i, got)
		}
	}
	if got := r.metric("auth_failures_total", "reason", "nonce"); got != 4 {
		t.Errorf("%v counted, want 4", got)
	}
	// A flood of them runs dry.
	for range 60 {
		m := stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest), overUDP,
			stun.NewUsername(c.Username), stun.NewRealm(turn.DefaultRealm), stun.NewNonce("x"), key)
		if _, err := client.conn.Write(m.Raw); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the flood was dropped", func() bool {
		return r.metric("client_packets_dropped_total", "reason", "source_rate") > 0
	})
	r.served("alice")
}

// Floods of Allocate requests, without a credential, with an expired one, with
// somebody else's name, and with a good one, meet their limits.
func TestAllocationFloods(t *testing.T) {
	const flood = 200
	for name, k := range map[string]struct {
		credential func(r *rig) turn.Credentials
		metric     []string
	}{
		"expired": {func(r *rig) turn.Credentials {
			c := r.credentials("s1", "mallory")
			r.advance(2 * time.Hour)
			return c
		}, []string{"auth_failures_total", "reason", "expired"}},
		"of somebody else": {func(r *rig) turn.Credentials {
			return turn.Credentials{Username: r.credentials("s2", "bob").Username, Password: r.credentials("s1", "mallory").Password}
		}, []string{"auth_failures_total", "reason", "bad_integrity"}},
		"good": {func(r *rig) turn.Credentials { return r.credentials("s1", "mallory") },
			[]string{"allocations_refused_total", "reason", "session_quota"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, func(c *turn.Config) {
				loopbackPeers(c)
				c.UnauthenticatedPerSecond = 20
				c.UDPSockets = 1 // each shard has nonces of its own
			})
			c := k.credential(r)
			var nonce stun.Nonce
			if err := nonce.GetFrom(newRaw(t, r.addr).ask(stun.NewType(stun.MethodAllocate, stun.ClassRequest))); err != nil {
				t.Fatal(err)
			}
			key := stun.MessageIntegrity(pionturn.GenerateAuthKey(c.Username, turn.DefaultRealm, c.Password))
			for range flood {
				client := newRaw(t, r.addr)
				for _, n := range []stun.Setter{nonce, stun.NewNonce("x")} {
					m := stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest), overUDP,
						stun.NewUsername(c.Username), stun.NewRealm(turn.DefaultRealm), n, key)
					if _, err := client.conn.Write(m.Raw); err != nil {
						t.Fatal(err)
					}
				}
			}
			eventually(t, "the flood was refused", func() bool { return r.metric(k.metric[0], k.metric[1:]...) > 0 })
			eventually(t, "and then dropped", func() bool {
				return r.metric("client_packets_dropped_total", "reason", "source_rate") > 0
			})
			if got := r.metric("allocations", "transport", "udp"); got > turn.DefaultAllocationsPerSession {
				t.Errorf("the flood has %v allocations", got)
			}
			r.served("alice")
		})
	}
}

// deniedPeers is what a relay must not lead to: networks of its operator,
// ports of services, metadata of clouds, in every notation.
var deniedPeers = []string{
	"0.0.0.0:5000", "0.1.2.3:5000", "10.0.0.1:5000", "10.255.255.255:443", "100.64.0.1:5000", "100.127.255.255:5000",
	"127.0.0.2:5000", "127.1.2.3:6379", "127.255.255.254:8080", "169.254.0.1:5000", "169.254.169.254:443",
	"169.254.169.254:8080", "169.254.170.2:5000", "169.254.170.23:5000", "168.63.129.16:32526", "100.100.100.200:5000",
	"172.16.0.1:5432", "172.31.255.255:5000", "192.0.0.1:5000", "192.0.0.192:5000", "192.0.2.1:5000",
	"192.31.196.1:5000", "192.52.193.1:5000", "192.88.99.1:5000", "192.168.0.1:8443", "192.168.255.255:5000",
	"192.175.48.1:5000", "198.18.0.1:5000", "198.19.255.255:5000", "198.51.100.1:5000", "203.0.113.1:5000",
	"224.0.0.1:5000", "224.0.0.251:5353", "239.255.255.250:1900", "240.0.0.1:5000", "255.255.255.254:5000",
	"255.255.255.255:5000", "127.0.0.1:3306", "127.0.0.1:5432", "127.0.0.1:6379", "127.0.0.1:9200", "127.0.0.1:27017",
	// Ports of the public internet.
	"8.8.8.8:0", "8.8.8.8:1", "8.8.8.8:19", "8.8.8.8:22", "8.8.8.8:25", "8.8.8.8:53", "8.8.8.8:80", "8.8.8.8:111",
	"8.8.8.8:123", "8.8.8.8:137", "8.8.8.8:161", "8.8.8.8:389", "8.8.8.8:442", "8.8.8.8:444", "8.8.8.8:445",
	"8.8.8.8:514", "8.8.8.8:1023",
	"[::]:5000", "[::1]:6379", "[::1]:443", "[fc00::1]:5000", "[fd00::1]:5000", "[fd00:ec2::254]:5000",
	"[fd00:ec2::23]:5000", "[fd20:ce::254]:5000", "[fe80::1]:5000", "[fe80::a9fe:a9fe]:5000", "[febf::1]:5000",
	"[fec0::1]:5000", "[ff02::1]:5000", "[ff02::fb]:5353", "[ff0e::1]:5000", "[2001:db8::1]:5000", "[3fff::1]:5000",
	"[100::1]:5000", "[2001::1]:5000", "[2001:2::1]:5000", "[2001:20::1]:5000", "[2620:4f:8000::1]:5000",
	"[5f00::1]:5000", "[4000::1]:5000", "[64:ff9b:1::1]:5000", "[64:ff9b::10.0.0.1]:5000",
	"[64:ff9b::127.0.0.1]:5000", "[64:ff9b::169.254.169.254]:443", "[64:ff9b::192.168.1.1]:5000",
	"[2002:a00:1::1]:5000", "[2002:7f00:1::1]:5000", "[2001:0:a00:1::1]:5000", "[::10.0.0.1]:5000",
	"[2a00::5efe:10.0.0.1]:5000", "[2606:4700::1111]:22", "[2606:4700::1111]:53", "[2606:4700::1111]:1023",
}

// Through a real allocation, with the policy that a Config without networks
// has, none of them gets a channel, none gets a packet, and an address that is
// denied as such gets no permission.
func TestDenySetThroughAnAllocation(t *testing.T) {
	needIPv6(t)
	if len(deniedPeers) < 80 {
		t.Fatalf("only %d peers are probed", len(deniedPeers))
	}
	r := start(t, func(c *turn.Config) { c.RelayIP6, c.UnauthenticatedPerSecond = netip.MustParseAddr("::1"), -1 })
	c := r.credentials("s1", "mallory")
	clients := map[bool]*raw{true: newRaw(t, r.addr), false: newRaw(t, r.addr)}
	clients[true].relayed(c, family(1))
	clients[false].relayed(c, family(2))
	policy, err := turn.NewPolicy(turn.PolicyConfig{
		RelayPorts: relayPorts, Relay: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")},
	})
	if err != nil {
		t.Fatal(err)
	}
	dropped := func() float64 {
		return r.metric("relayed_packets_dropped_total", "direction", "to_peer", "reason", "policy")
	}
	for _, peer := range deniedPeers {
		at := netip.MustParseAddrPort(peer)
		client := clients[at.Addr().Is4()]
		if got := client.bind(c, 9, peer); got != stun.CodeForbidden {
			t.Errorf("a channel to %s: got %d, want 403", peer, got)
		}
		if ok, _ := policy.AllowedIP(at.Addr()); !ok {
			if got := client.permission(c, peer); got != stun.CodeForbidden {
				t.Errorf("a permission for %s: got %d, want 403", peer, got)
			}
			continue
		}
		// Other ports of the address are open: the packet must not pass.
		if got := client.permission(c, peer); got != 0 {
			t.Errorf("a permission for the address of %s: got %d", peer, got)
		}
		before := dropped()
		m := stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodSend, stun.ClassIndication), xorPeer(peer),
			value(stun.AttrData, 'x'))
		if _, err := client.conn.Write(m.Raw); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the packet to "+peer+" was dropped", func() bool { return dropped() == before+1 })
	}
	if got := r.metric("relayed_packets_total", "direction", "to_peer"); got != 0 {
		t.Errorf("%v packets passed", got)
	}
}
