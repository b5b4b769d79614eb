package turn

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// outboxRig is an outbox with a socket, and two peers.
type outboxRig struct {
	t     *testing.T
	sock  *rawSocket
	box   *outbox
	peers [2]*net.UDPConn
	addrs [2]rawAddr
}

func newOutboxRig(t *testing.T, segments bool) *outboxRig {
	t.Helper()
	r := &outboxRig{t: t}
	var err error
	if r.sock, err = bindRaw(netip.MustParseAddrPort("127.0.0.1:0")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.sock.Close() })
	for i := range r.peers {
		if r.peers[i], err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.peers[i].Close() })
		r.addrs[i] = newRawAddr(unix.AF_INET, addrPortOf(r.peers[i].LocalAddr()))
	}
	if segments && !knowsSegments(r.sock.fd) {
		t.Skip("this kernel has no UDP_SEGMENT")
	}
	r.box = newOutbox(backBatch, segments)
	return r
}

func (r *outboxRig) expect(peer int, packets ...[]byte) {
	r.t.Helper()
	buf := make([]byte, 2048)
	for i, want := range packets {
		_ = r.peers[peer].SetReadDeadline(time.Now().Add(2 * time.Minute))
		n, err := r.peers[peer].Read(buf)
		if err != nil || !bytes.Equal(buf[:n], want) {
			r.t.Fatalf("packet %d: got %d bytes, %v; want %d", i, n, err, len(want))
		}
	}
}

func filled(b byte, size int) []byte { return bytes.Repeat([]byte{b}, size) }

// Equal packets to one address become one message, with one shorter behind
// them; each arrives as it was.
func TestOutboxJoins(t *testing.T) {
	for _, segments := range []bool{true, false} {
		r := newOutboxRig(t, segments)
		toFirst := [][]byte{filled('a', 1200), filled('b', 1200), filled('c', 900), filled('d', 900), {}, filled('e', 3)}
		toSecond := [][]byte{filled('f', 10), filled('g', 10), filled('h', 11)}
		for _, p := range toFirst {
			r.box.add(p, &r.addrs[0])
		}
		copied := r.addrs[1] // equal addresses need not be one pointer
		for i, p := range toSecond {
			r.box.add(p, []*rawAddr{&r.addrs[1], &copied}[i%2])
		}
		// abc, d, nothing, e; fg, h
		if want := map[bool]int{true: 6, false: 9}[segments]; r.box.messages != want {
			t.Errorf("segments %v: %d messages, want %d", segments, r.box.messages, want)
		}
		if lost := r.box.flush(r.sock); lost != 0 {
			t.Errorf("%d packets were lost", lost)
		}
		r.expect(0, toFirst...)
		r.expect(1, toSecond...)
	}
}

func TestOutboxLimits(t *testing.T) {
	r := newOutboxRig(t, true)
	for range 100 {
		r.box.add(filled('a', 10), &r.addrs[0])
	}
	if r.box.messages != 2 {
		t.Errorf("100 packets are %d messages, want 2 of at most 64", r.box.messages)
	}
	if lost := r.box.flush(r.sock); lost != 0 {
		t.Errorf("%d packets were lost", lost)
	}
	for range 45 {
		r.box.add(filled('b', 1599), &r.addrs[1])
	}
	if r.box.messages != 2 {
		t.Errorf("45 large packets are %d messages, want 2 of at most 60,000 bytes", r.box.messages)
	}
	if lost := r.box.flush(r.sock); lost != 0 {
		t.Errorf("%d packets were lost", lost)
	}
}

// A message of several packets that is refused goes out packet by packet, and
// for a second the others do.
func TestOutboxRefusedMessage(t *testing.T) {
	r := newOutboxRig(t, true)
	packets := [][]byte{filled('a', 100), filled('b', 100), filled('c', 50)}
	for _, p := range packets {
		r.box.add(p, &r.addrs[0])
	}
	// More than the route's MTU, as the kernel sees it.
	control := (*unix.Cmsghdr)(unsafe.Pointer(unsafe.SliceData(r.box.controls)))
	control.SetLen(unix.CmsgLen(1))
	if lost := r.box.flush(r.sock); lost != 0 {
		t.Errorf("%d packets were lost", lost)
	}
	r.expect(0, packets...)
	for _, p := range packets {
		r.box.add(p, &r.addrs[0])
	}
	if r.box.messages != len(packets) {
		t.Errorf("%d messages right after a refusal, want %d", r.box.messages, len(packets))
	}
	_ = r.box.flush(r.sock)
	r.box.now = int64(segmentPause)
	for _, p := range packets {
		r.box.add(p, &r.addrs[0])
	}
	if r.box.messages != 1 {
		t.Errorf("%d messages a second later, want 1", r.box.messages)
	}
}

// What cannot be sent is counted, and does not stop the rest.
func TestOutboxLosses(t *testing.T) {
	r := newOutboxRig(t, true)
	nowhere := newRawAddr(unix.AF_INET, netip.MustParseAddrPort("255.255.255.255:5000"))
	r.box.add(filled('a', 10), &r.addrs[0])
	r.box.add(filled('b', 10), &nowhere)
	r.box.add(filled('c', 10), &r.addrs[0])
	if lost := r.box.flush(r.sock); lost != 1 {
		t.Errorf("%d packets were lost, want the broadcast", lost)
	}
	r.expect(0, filled('a', 10), filled('c', 10))
	_ = r.sock.Close()
	r.box.add(filled('a', 10), &r.addrs[0])
	r.box.add(filled('b', 10), &r.addrs[0])
	if lost := r.box.flush(r.sock); lost != 2 {
		t.Errorf("%d packets were lost on a closed socket, want 2", lost)
	}
}

func TestRawAddr(t *testing.T) {
	for _, text := range []string{"1.2.3.4:5", "[2001:db8::1]:65535", "[fe80::1%2]:7"} {
		want := netip.MustParseAddrPort(text)
		domain := unix.AF_INET6
		if want.Addr().Is4() {
			domain = unix.AF_INET
			mapped := newRawAddr(unix.AF_INET6, want)
			if got := mapped.addrPort(); got != want {
				t.Errorf("mapped %v became %v", want, got)
			}
		}
		raw := newRawAddr(domain, want)
		if want.Addr().Zone() != "" {
			raw.bytes[24] = 2 // as the kernel writes it, on little-endian machines
			if raw.bytes[0] == 0 {
				raw.bytes[24], raw.bytes[27] = 0, 2
			}
		}
		if got := raw.addrPort(); got != want {
			t.Errorf("%v became %v", want, got)
		}
	}
}
