package link

import (
	"net"
	"testing"
)

// What the stack asks for in IPv4 also reaches servers that have IPv6 only.
func TestSocketsOfEitherFamily(t *testing.T) {
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skip("this machine has no IPv6")
	} else {
		_ = l.Close()
	}
	n, err := machineNet()
	if err != nil {
		t.Fatal(err)
	}
	s := newSockets(n)
	defer s.close()
	for _, host := range []string{"127.0.0.1", "[::1]"} {
		udp, err := net.ListenPacket("udp", host+":0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = udp.Close() }()
		to, err := s.ResolveUDPAddr("udp4", udp.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.ListenPacket("udp4", "0.0.0.0:0")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.WriteTo([]byte("ping"), to); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 8)
		_, from, err := udp.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := udp.WriteTo([]byte("pong"), from); err != nil {
			t.Fatal(err)
		}
		// The client compares whom it hears with whom it asked.
		if _, from, err := c.ReadFrom(buf); err != nil || from.String() != to.String() {
			t.Errorf("heard %v from %v, %v", buf, from, err)
		}
		tcp, err := net.Listen("tcp", host+":0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tcp.Close() }()
		at, err := s.ResolveTCPAddr("tcp4", tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		stream, err := s.DialTCP("tcp4", nil, at)
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.Close()
	}
}
