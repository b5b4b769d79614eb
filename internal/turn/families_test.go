package turn_test

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"github.com/pion/stun/v3"

	"github.com/peersignal/peersignal/internal/turn"
)

// needIPv6 skips a test on a host without IPv6.
func needIPv6(t *testing.T) {
	t.Helper()
	probe, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		t.Skipf("this host has no IPv6: %v", err)
	}
	_ = probe.Close()
}

// code returns the error code of an answer, 0 for a success.
func code(t testing.TB, m *stun.Message) stun.ErrorCode {
	t.Helper()
	if m == nil {
		t.Fatal("no answer")
	}
	if m.Type.Class == stun.ClassSuccessResponse {
		return 0
	}
	var c stun.ErrorCodeAttribute
	if err := c.GetFrom(m); err != nil {
		t.Fatalf("an error answer without a code: %v", err)
	}
	return c.Code
}

func xorPeer(peer string) stun.Setter {
	ap := netip.MustParseAddrPort(peer)
	return peerAttribute{stun.XORMappedAddress{IP: ap.Addr().AsSlice(), Port: int(ap.Port())}}
}

type peerAttribute struct{ stun.XORMappedAddress }

func (p peerAttribute) AddTo(m *stun.Message) error { return p.AddToAs(m, stun.AttrXORPeerAddress) }

func (r *raw) permission(c turn.Credentials, peer string) stun.ErrorCode {
	r.t.Helper()
	return code(r.t, r.authenticated(c, stun.MethodCreatePermission, xorPeer(peer)))
}

func (r *raw) bind(c turn.Credentials, channel byte, peer string) stun.ErrorCode {
	r.t.Helper()
	return code(r.t, r.authenticated(c, stun.MethodChannelBind, value(stun.AttrChannelNumber, 0x40, channel, 0, 0), xorPeer(peer)))
}

func family(f byte) stun.Setter { return value(stun.AttrRequestedAddressFamily, f, 0, 0, 0) }

// With two families a client gets the one that it asks for.
func TestBothFamilies(t *testing.T) {
	needIPv6(t)
	r := start(t, func(c *turn.Config) {
		c.RelayIP6, c.AllowPeers = netip.MustParseAddr("::1"), []string{"127.0.0.0/8", "::1/128"}
	})
	for name, c := range map[string]struct {
		attrs []stun.Setter
		want  string
		peer  string
		other string
	}{
		"unsaid": {nil, "127.0.0.1", "127.0.0.1:5000", "[::1]:5000"},
		"IPv4":   {[]stun.Setter{family(1)}, "127.0.0.1", "127.0.0.1:5000", "[::1]:5000"},
		"IPv6":   {[]stun.Setter{family(2)}, "::1", "[::1]:5000", "127.0.0.1:5000"},
	} {
		t.Run(name, func(t *testing.T) {
			credential := r.credentials("s1", "alice")
			client := newRaw(t, r.addr)
			m := client.tryAllocate(credential, append(c.attrs, overUDP)...)
			if got := code(t, m); got != 0 {
				t.Fatalf("refused with %d", got)
			}
			var relayed stun.XORMappedAddress
			if err := relayed.GetFromAs(m, stun.AttrXORRelayedAddress); err != nil {
				t.Fatal(err)
			}
			if relayed.IP.String() != c.want {
				t.Errorf("relayed address %v, want one of %s", relayed, c.want)
			}
			if got := client.permission(credential, c.peer); got != 0 {
				t.Errorf("a permission for %s was refused with %d", c.peer, got)
			}
			if got := client.permission(credential, c.other); got != stun.CodePeerAddrFamilyMismatch {
				t.Errorf("a permission for %s: got %d, want 443", c.other, got)
			}
			if got := client.bind(credential, 1, c.other); got != stun.CodePeerAddrFamilyMismatch {
				t.Errorf("a channel to %s: got %d, want 443", c.other, got)
			}
			client.exchange(credential, relayed.IP)
			client.refresh(credential, 0)
		})
	}
}

// exchange sends data over a new channel and back.
func (r *raw) exchange(c turn.Credentials, ip net.IP) {
	r.t.Helper()
	peer, err := net.ListenUDP("udp", &net.UDPAddr{IP: ip})
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = peer.Close() }()
	if got := r.bind(c, 7, peer.LocalAddr().String()); got != 0 {
		r.t.Fatalf("a channel was refused with %d", got)
	}
	data := append([]byte{0x40, 7, 0, 5}, "hello"...)
	if _, err := r.conn.Write(data); err != nil {
		r.t.Fatal(err)
	}
	got, from := receive(r.t, peer)
	if got != "hello" {
		r.t.Fatalf("the peer got %q", got)
	}
	if _, err := peer.WriteTo([]byte("hello"), from); err != nil {
		r.t.Fatal(err)
	}
	if got := r.next(); !bytes.HasPrefix(got, data) {
		r.t.Fatalf("the client got % x, want % x", got, data)
	}
}

// Refusals carry the codes of RFC 8656.
func TestRefusalCodes(t *testing.T) {
	r := start(t, func(c *turn.Config) { c.AllocationsPerSession = 1 })
	c := r.credentials("s1", "alice")
	for name, k := range map[string]struct {
		attrs []stun.Setter
		want  stun.ErrorCode
	}{
		"IPv6":           {[]stun.Setter{overUDP, family(2)}, stun.CodeAddrFamilyNotSupported},
		"unknown family": {[]stun.Setter{overUDP, family(9)}, stun.CodeAddrFamilyNotSupported},
		"TCP relay":      {[]stun.Setter{value(stun.AttrRequestedTransport, 6, 0, 0, 0)}, stun.CodeUnsupportedTransProto},
		"pair of ports":  {[]stun.Setter{overUDP, value(stun.AttrEvenPort, 0x80)}, stun.CodeInsufficientCapacity},
		"no transport":   {nil, stun.CodeBadRequest},
	} {
		if got := code(t, newRaw(t, r.addr).tryAllocate(c, k.attrs...)); got != k.want {
			t.Errorf("%s: got %d, want %d", name, got, k.want)
		}
	}
	client := newRaw(t, r.addr)
	client.allocate(c)
	if got := code(t, newRaw(t, r.addr).tryAllocate(c, overUDP)); got != stun.CodeAllocQuotaReached {
		t.Errorf("over the quota: got %d, want 486", got)
	}
	if got := client.permission(c, "10.0.0.1:5000"); got != stun.CodeForbidden {
		t.Errorf("a denied permission: got %d, want 403", got)
	}
	if got := client.bind(c, 1, "10.0.0.1:5000"); got != stun.CodeForbidden {
		t.Errorf("a denied channel: got %d, want 403", got)
	}
	if got := client.bind(c, 1, "8.8.8.8:22"); got != stun.CodeForbidden {
		t.Errorf("a channel to a denied port: got %d, want 403", got)
	}
	if got := client.bind(c, 1, "8.8.8.8:5000"); got != 0 {
		t.Errorf("a channel: got %d", got)
	}
	if got := client.bind(c, 1, "8.8.8.8:5001"); got != stun.CodeBadRequest {
		t.Errorf("a channel that is bound to another peer: got %d, want 400", got)
	}
	if got := code(t, client.authenticated(c, stun.MethodCreatePermission)); got != stun.CodeBadRequest {
		t.Errorf("a permission for nobody: got %d, want 400", got)
	}
	if got := code(t, client.authenticated(r.credentials("s2", "bob"), stun.MethodRefresh)); got != stun.CodeWrongCredentials {
		t.Errorf("another user's refresh: got %d, want 441", got)
	}
}

func TestFamilyErrors(t *testing.T) {
	v6, v4 := netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.1")
	for want, c := range map[string]turn.Config{
		"must be IPv6":          {RelayIP: v4, RelayIP6: v4},
		"there is no relay IP6": {RelayIP: v4, PublicIP6: v6},
		"set one of them":       {RelayIP: v6, RelayIP6: v6},
		"cannot be bound":       {RelayIP: v4, RelayIP6: netip.MustParseAddr("2606:4700::1111")},
	} {
		c.Listen = []string{"127.0.0.1:0"}
		s, err := turn.New(c)
		if err == nil {
			_ = s.Close()
			t.Errorf("no error, want one with %q", want)
		} else if !bytes.Contains([]byte(err.Error()), []byte(want)) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}
