package turn_test

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/peersignal/peersignal/internal/turn"
)

func TestDiscover(t *testing.T) {
	r := start(t, loopbackPeers)
	from := netip.MustParseAddr("127.0.0.1")
	seen, err := turn.Discover(t.Context(), r.addr, from)
	if err != nil || seen != from {
		t.Errorf("got %v, %v", seen, err)
	}
}

func TestDiscoverWithoutAnswer(t *testing.T) {
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = turn.Discover(ctx, silent.LocalAddr().String(), netip.Addr{})
	if err == nil || !strings.Contains(err.Error(), silent.LocalAddr().String()) {
		t.Errorf("got %v", err)
	}
}
