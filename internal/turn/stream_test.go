package turn_test

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/pion/stun/v3"

	"github.com/peersignal/peersignal/internal/turn"
)

func dialTCP(t testing.TB, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(waitFor))
	return conn
}

func bindingRequest(t testing.TB) []byte {
	t.Helper()
	m, err := stun.Build(stun.TransactionID, stun.BindingRequest)
	if err != nil {
		t.Fatal(err)
	}
	return m.Raw
}

// bound reads one answer and checks that it is a binding success.
func bound(t testing.TB, conn io.Reader) {
	t.Helper()
	head := make([]byte, 20)
	if _, err := io.ReadFull(conn, head); err != nil {
		t.Fatalf("no answer: %v", err)
	}
	if head[0] != 1 || head[1] != 1 {
		t.Fatalf("the answer begins with % x", head[:2])
	}
	if _, err := io.CopyN(io.Discard, conn, int64(head[2])<<8|int64(head[3])); err != nil {
		t.Fatal(err)
	}
}

// However a stream is cut, each frame is answered once; a frame larger than a
// datagram is skipped.
func TestStreamFrames(t *testing.T) {
	r := start(t, nil)
	conn := dialTCP(t, r.addr)
	request := bindingRequest(t)
	for i := range request {
		if _, err := conn.Write(request[i : i+1]); err != nil {
			t.Fatal(err)
		}
	}
	bound(t, conn)
	huge := append([]byte{0x40, 0, 0xff, 0xff}, make([]byte, 0x10000)...)
	three := bytes.Join([][]byte{request, huge, request, {0x40, 1, 0, 1, 'x', 0, 0, 0}, request}, nil)
	if _, err := conn.Write(three); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		bound(t, conn)
	}
	udp := newRaw(t, r.addr)
	if _, err := udp.conn.Write(make([]byte, 1600)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both large packets were counted", func() bool {
		return r.metric("client_packets_dropped_total", "reason", "too_large") == 2
	})
}

func TestStreamOfSomethingElse(t *testing.T) {
	r := start(t, nil)
	conn := dialTCP(t, r.addr)
	if _, err := conn.Write([]byte("\xffET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Fatalf("%d bytes came, want the connection closed", n)
	}
	eventually(t, "it was counted", func() bool {
		return r.metric("tcp_connections_closed_total", "reason", "malformed") == 1 && r.metric("tcp_connections") == 0
	})
}

// A header whose length wraps around 16 bits must not keep a core busy.
func TestStreamLengthOverflow(t *testing.T) {
	r := start(t, nil)
	conn := dialTCP(t, r.addr)
	frame := append([]byte{0, 1, 0xff, 0xec, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 0xffec+12)...)
	if _, err := conn.Write(append(frame, bindingRequest(t)...)); err != nil {
		t.Fatal(err)
	}
	bound(t, conn)
	if got := r.metric("requests_total", "method", "binding"); got != 1 {
		t.Errorf("%v binding requests counted, want 1", got)
	}
}

func TestConnectionLimits(t *testing.T) {
	for reason, max := range map[string]int{"limit": 2, "source_limit": 16} {
		t.Run(reason, func(t *testing.T) {
			r := start(t, func(c *turn.Config) { c.MaxTCPConns = max })
			open := min(max, 4)
			for range open {
				conn := dialTCP(t, r.addr)
				if _, err := conn.Write(bindingRequest(t)); err != nil {
					t.Fatal(err)
				}
				bound(t, conn)
			}
			conn := dialTCP(t, r.addr)
			if _, err := conn.Read(make([]byte, 1)); err == nil {
				t.Error("one connection too many was served")
			}
			if got := r.metric("tcp_connections_closed_total", "reason", reason); got != 1 {
				t.Errorf("%v counted, want 1", got)
			}
		})
	}
}

// FuzzPackets sends anything over UDP and over TCP; afterwards the server
// still answers, and holds no connection and no allocation.
func FuzzPackets(f *testing.F) {
	f.Add(bindingRequest(f))
	f.Add([]byte{0, 1, 0xff, 0xec, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{0, 3, 0, 8, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0x19, 0, 4, 17, 0, 0, 0})
	f.Add([]byte{0, 3, 0, 4, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 8, 0xff, 0xff})
	f.Add([]byte{0x40, 0, 0, 4, 1, 2, 3, 4})
	s, err := turn.New(turn.Config{Listen: []string{"127.0.0.1:0"}, UnauthenticatedPerSecond: -1})
	if err != nil {
		f.Fatal(err)
	}
	done, ctx := make(chan error, 1), f.Context()
	go func() { done <- s.Run(ctx) }()
	f.Cleanup(func() { _ = s.Close(); <-done })
	addr := s.Addrs()[0].String()
	f.Fuzz(func(t *testing.T, packet []byte) {
		if len(packet) > 4096 {
			return
		}
		udp, err := net.Dial("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = udp.Close() }()
		tcp := dialTCP(t, addr)
		_, _ = udp.Write(packet)
		_, _ = tcp.Write(packet)
		_ = tcp.Close()
		alive := dialTCP(t, addr)
		if _, err := alive.Write(bindingRequest(t)); err != nil {
			t.Fatal(err)
		}
		bound(t, alive)
		_ = alive.Close()
	})
}
