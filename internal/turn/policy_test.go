package turn_test

import (
	"net/netip"
	"testing"

	"github.com/peersignal/peersignal/internal/turn"
)

var relayPorts = [2]uint16{49152, 65535}

func newPolicy(t testing.TB, allow, deny []string) *turn.Policy {
	t.Helper()
	p, err := turn.NewPolicy(turn.PolicyConfig{
		Allow: allow, Deny: deny, RelayPorts: relayPorts,
		Relay: []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("8.8.4.4")},
		Own:   []netip.Addr{netip.MustParseAddr("1.1.1.7"), netip.MustParseAddr("2a00:1450::7")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDefaultPolicy(t *testing.T) {
	p := newPolicy(t, nil, nil)
	for peer, want := range map[string]string{
		// The public internet.
		"8.8.8.8:1024": "", "8.8.8.8:443": "", "1.1.1.1:65535": "", "9.255.255.255:5000": "", "11.0.0.0:5000": "",
		"100.63.255.255:5000": "", "100.128.0.0:5000": "", "172.15.255.255:5000": "", "172.32.0.0:5000": "",
		"169.253.255.255:5000": "", "169.255.0.0:5000": "", "192.167.255.255:5000": "", "192.169.0.0:5000": "",
		"198.17.255.255:5000": "", "198.20.0.0:5000": "", "223.255.255.255:5000": "", "126.255.255.255:5000": "",
		"128.0.0.1:5000": "", "192.0.1.0:5000": "", "192.0.3.0:5000": "", "203.0.112.255:5000": "",
		"[2606:4700::1111]:5000": "", "[2a00:1450::8]:443": "", "[2400:cb00::1]:5000": "",
		"[2001:200::1]:5000": "", "[3ffe::1]:5000": "",
		// Ports.
		"8.8.8.8:0": "invalid", "8.8.8.8:1": "port", "8.8.8.8:22": "port", "8.8.8.8:53": "port",
		"8.8.8.8:80": "port", "8.8.8.8:442": "port", "8.8.8.8:444": "port", "8.8.8.8:1023": "port",
		"[2606:4700::1111]:53": "port", "[::ffff:8.8.8.8]:53": "port",
		// This relay and this host.
		"10.1.2.3:49152": "", "10.1.2.3:65535": "", "8.8.4.4:50000": "", "[::ffff:10.1.2.3]:50000": "",
		"10.1.2.3:49151": "own_host", "10.1.2.3:443": "own_host", "8.8.4.4:3478": "own_host", "8.8.4.4:22": "port",
		"1.1.1.7:50000": "own_host", "[2a00:1450::7]:50000": "own_host",
		// IPv4 special purposes.
		"0.0.0.0:5000": "unspecified", "0.1.2.3:5000": "unspecified",
		"127.0.0.1:5000": "loopback", "127.255.255.255:5000": "loopback",
		"10.0.0.0:5000": "private", "10.255.255.255:5000": "private", "172.16.0.0:5000": "private",
		"172.31.255.255:5000": "private", "192.168.0.0:5000": "private", "192.168.255.255:5000": "private",
		"169.254.0.0:5000": "link_local", "169.254.255.255:5000": "link_local",
		"100.64.0.0:5000": "cgnat", "100.127.255.255:5000": "cgnat",
		"192.0.2.1:5000": "documentation", "198.51.100.1:5000": "documentation", "203.0.113.255:5000": "documentation",
		"192.88.99.1:5000": "transition", "192.0.0.1:5000": "special", "198.18.0.0:5000": "special",
		"198.19.255.255:5000": "special", "192.31.196.1:5000": "special", "192.52.193.1:5000": "special",
		"192.175.48.1:5000": "special", "224.0.0.1:5000": "multicast", "239.255.255.255:5000": "multicast",
		"240.0.0.0:5000": "special", "255.255.255.254:5000": "special", "255.255.255.255:5000": "broadcast",
		// Cloud metadata.
		"169.254.169.254:443": "metadata", "169.254.170.2:5000": "metadata", "169.254.170.23:5000": "metadata",
		"168.63.129.16:32526": "metadata", "100.100.100.200:5000": "metadata", "192.0.0.192:5000": "metadata",
		"[fd00:ec2::254]:5000": "metadata", "[fd20:ce::254]:5000": "metadata", "[fd00:ec2::23]:5000": "metadata",
		"[fe80::a9fe:a9fe]:5000": "metadata", "[::ffff:169.254.169.254]:5000": "metadata",
		// IPv6 special purposes.
		"[::]:5000": "unspecified", "[::1]:5000": "loopback", "[fc00::1]:5000": "private",
		"[fdff:ffff::1]:5000": "private", "[fec0::1]:5000": "private", "[fe80::1]:5000": "link_local",
		"[febf::1]:5000": "link_local", "[ff02::1]:5000": "multicast", "[ff0e::1]:5000": "multicast",
		"[2001:db8::1]:5000": "documentation", "[3fff:fff::1]:5000": "documentation",
		"[2001:2::1]:5000": "special", "[2001:10::1]:5000": "special", "[2001:20::1]:5000": "special",
		"[2620:4f:8000::1]:5000": "special", "[100::1]:5000": "special", "[100:0:0:1::1]:5000": "special",
		"[5f00::1]:5000": "special", "[4000::1]:5000": "special", "[1::1]:5000": "special",
		"[::ffff:0:8.8.8.8]:5000": "special", "[fe80::1%eth0]:5000": "invalid", "[2606:4700::1%eth0]:5000": "invalid",
		// IPv4 inside of IPv6.
		"[::ffff:8.8.8.8]:5000": "", "[::ffff:127.0.0.1]:5000": "loopback", "[::ffff:10.0.0.1]:5000": "private",
		"[64:ff9b::8.8.8.8]:5000": "", "[64:ff9b::10.0.0.1]:5000": "private",
		"[64:ff9b::127.0.0.1]:5000": "loopback", "[64:ff9b::169.254.169.254]:5000": "metadata",
		"[64:ff9b::8.8.8.8]:53": "port", "[64:ff9b::1.1.1.7]:5000": "own_host",
		"[64:ff9b:1::8.8.8.8]:5000": "transition", "[::8.8.8.8]:5000": "transition",
		"[2002:808:808::1]:5000": "transition", "[2002:7f00:1::1]:5000": "transition",
		"[2001:0:808:808::f5ff:fffe]:5000": "transition",
		"[2a00::5efe:10.0.0.1]:5000":       "private", "[2a00::200:5efe:127.0.0.1]:5000": "loopback",
		"[2a00::5efe:8.8.8.8]:5000": "",
	} {
		if ok, got := p.Allowed(netip.MustParseAddrPort(peer)); got != want || ok != (want == "") {
			t.Errorf("%s: got %v %q, want %q", peer, ok, got, want)
		}
	}
	if ok, reason := p.Allowed(netip.AddrPort{}); ok || reason != "invalid" {
		t.Errorf("no address: got %v %q", ok, reason)
	}
}

func TestPolicyOfTheOperator(t *testing.T) {
	p := newPolicy(t,
		[]string{"127.0.0.0/8", "::1/128", "192.168.7.0/24", "169.254.0.0/16", "168.63.129.16/32", "2002::/16", "::ffff:172.16.0.0/112", "64:ff9b:1::/48"},
		[]string{"9.9.9.0/24", "192.168.7.66/32", "2606:4700::/32", "8.8.4.4/32"})
	for peer, want := range map[string]string{
		"127.0.0.1:5000": "", "127.0.0.1:50000": "", "192.168.7.1:5000": "", "192.168.8.1:5000": "private",
		"[::1]:5000": "", "127.0.0.1:22": "port", "9.9.9.9:5000": "operator", "192.168.7.66:5000": "operator",
		"[2606:4700::1111]:5000": "operator", "[64:ff9b::9.9.9.9]:5000": "operator", "[64:ff9b::127.0.0.1]:5000": "",
		// A wide network does not open metadata, one address does.
		"169.254.1.1:5000": "", "169.254.169.254:5000": "metadata", "168.63.129.16:5000": "",
		// What is carried inside is judged as well.
		"[2002:808:808::1]:5000": "", "[2002:a00:1::1]:5000": "private", "[2002:909:909::1]:5000": "operator",
		"172.16.5.5:5000": "", "172.17.5.5:5000": "private",
		// An operator who denies the network of the relay does not lock clients out.
		"8.8.4.4:50000": "", "8.8.4.4:5000": "operator",
	} {
		if _, got := p.Allowed(netip.MustParseAddrPort(peer)); got != want {
			t.Errorf("%s: got %q, want %q", peer, got, want)
		}
	}
}

func TestPolicyOfPermissions(t *testing.T) {
	p := newPolicy(t, nil, nil)
	for ip, want := range map[string]bool{
		"8.8.8.8": true, "8.8.4.4": true, "10.1.2.3": true, "::ffff:8.8.8.8": true,
		"10.1.2.4": false, "1.1.1.7": false, "127.0.0.1": false, "::": false, "169.254.169.254": false,
	} {
		if got, reason := p.AllowedIP(netip.MustParseAddr(ip)); got != want {
			t.Errorf("%s: got %v %q, want %v", ip, got, reason, want)
		}
	}
}

func TestMalformedPolicy(t *testing.T) {
	for _, n := range []string{"", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "fe80::%eth0/10", "example.org", "::ffff:0.0.0.0/90"} {
		if _, err := turn.NewPolicy(turn.PolicyConfig{Allow: []string{n}}); err == nil {
			t.Errorf("allow %q was accepted", n)
		}
		if _, err := turn.NewPolicy(turn.PolicyConfig{Deny: []string{n}}); err == nil {
			t.Errorf("deny %q was accepted", n)
		}
	}
}

// FuzzPolicy holds the policy to what does not depend on its tables.
func FuzzPolicy(f *testing.F) {
	p := newPolicy(f, nil, nil)
	for _, s := range []string{"8.8.8.8", "127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2001::1", "2002:a00:1::", "10.1.2.3"} {
		f.Add(netip.MustParseAddr(s).AsSlice(), uint16(50000))
	}
	f.Fuzz(func(t *testing.T, raw []byte, port uint16) {
		ip, _ := netip.AddrFromSlice(raw)
		peer := netip.AddrPortFrom(ip, port)
		ok, reason := p.Allowed(peer)
		if ok != (reason == "") {
			t.Fatalf("%v: %v with reason %q", peer, ok, reason)
		}
		inner := ip.Unmap()
		if mapped, _ := p.Allowed(netip.AddrPortFrom(inner, port)); mapped != ok {
			t.Fatalf("%v: differs from its IPv4-mapped form", peer)
		}
		if !ok {
			return
		}
		own := inner.String() == "10.1.2.3" || inner.String() == "8.8.4.4"
		if own && port >= relayPorts[0] {
			return
		}
		if own || inner.IsPrivate() || inner.IsLoopback() || inner.IsMulticast() || inner.IsLinkLocalUnicast() ||
			inner.IsUnspecified() || !inner.IsGlobalUnicast() {
			t.Fatalf("%v is allowed", peer)
		}
		if port < 1024 && port != 443 {
			t.Fatalf("%v is allowed", peer)
		}
		if permitted, _ := p.AllowedIP(ip); !permitted {
			t.Fatalf("%v is allowed, but no permission for its address", peer)
		}
	})
}
