package signaling_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/peersignal/peersignal/internal/signaling"
	"github.com/peersignal/peersignal/pkg/wire"
)

// TestFlood fills the server with upgraded connections that say nothing, from
// one address and from many. Each time good clients get in within a few tries,
// and those that have begun are not disturbed by the flood that goes on.
func TestFlood(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all of 127.0.0.0/8")
	}
	for _, many := range []bool{false, true} {
		t.Run(fmt.Sprintf("many addresses %v", many), func(t *testing.T) {
			n := start(t, signaling.Config{Limits: signaling.Limits{Pending: 64, PendingPerAddress: -1}})
			before := connect(t, n, newDevice(t))
			ctx, stop := context.WithCancel(context.Background())
			var flood sync.WaitGroup
			defer flood.Wait()
			defer stop()
			for i := range 4 {
				flood.Go(func() { floodFrom(ctx, n, i, many) })
			}
			until(t, "a full server", func() bool { return n.Stats().Pending >= 60 })
			for range 5 {
				comeIn(t, n)
			}
			before.quiet()
		})
	}
}

// floodFrom opens connections that say nothing, at most 100 a second, and keeps them.
func floodFrom(ctx context.Context, n *node, worker int, many bool) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		from := net.IPv4(127, 1, 0, 1)
		if many {
			from = net.IPv4(127, byte(2+worker), byte(i>>8), byte(i))
		}
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}
		nc, err := d.DialContext(ctx, "tcp", n.name)
		if err != nil {
			continue
		}
		defer func() { _ = nc.Close() }()
		_, _ = nc.Write([]byte("GET " + wire.Path + " HTTP/1.1\r\nHost: " + n.name + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: " + wire.Subprotocol + "\r\n\r\n"))
		_ = nc.SetReadDeadline(time.Now().Add(patience))
		_, _ = bufio.NewReader(nc).ReadString('\n')
	}
}

// comeIn makes a session as a client does that tries again when it is told to.
func comeIn(t *testing.T, n *node) {
	t.Helper()
	ctx := deadline(t)
	for ctx.Err() == nil {
		ws, resp, err := websocket.Dial(ctx, n.url, &websocket.DialOptions{Subprotocols: []string{wire.Subprotocol}})
		if err != nil {
			if resp == nil || resp.StatusCode != http.StatusServiceUnavailable {
				t.Fatalf("refused with %v, %v", resp, err)
			}
			time.Sleep(50 * time.Millisecond)
			continue
		}
		c := &client{t: t, ws: ws, device: newDevice(t)}
		c.hello = read[*wire.Hello](c)
		c.send(c.device.auth(t, c.hello.Nonce, n.name, time.Now()))
		c.ready = read[*wire.Ready](c)
		c.bye()
		return
	}
	t.Fatal("a good client does not get in")
}

// TestMemoryBudget refuses connections beyond the budget, and gives it back.
func TestMemoryBudget(t *testing.T) {
	n := start(t, signaling.Config{Limits: signaling.Limits{MemoryBytes: 1 << 20}})
	var all []*client
	status := 0
	for range 200 {
		ws, resp, err := websocket.Dial(deadline(t), n.url, &websocket.DialOptions{Subprotocols: []string{wire.Subprotocol}})
		if err != nil {
			status = resp.StatusCode
			break
		}
		c := &client{t: t, ws: ws}
		c.hello = read[*wire.Hello](c)
		all = append(all, c)
	}
	if status != http.StatusServiceUnavailable || len(all) < 50 {
		t.Errorf("status %d after %d connections", status, len(all))
	}
	for _, c := range all {
		_ = c.ws.CloseNow()
	}
	until(t, "room", func() bool {
		ws, _, err := websocket.Dial(deadline(t), n.url, &websocket.DialOptions{Subprotocols: []string{wire.Subprotocol}})
		if err != nil {
			return false
		}
		_ = ws.CloseNow()
		return true
	})
}

// TestPingFlood counts control frames, of sessions and before.
func TestPingFlood(t *testing.T) {
	n := start(t, signaling.Config{Limits: signaling.Limits{MessagesPer10s: 30}})
	for _, c := range []*client{connect(t, n, newDevice(t)), dial(t, n)} {
		ctx := deadline(t)
		go func() {
			for c.ws.Ping(ctx) == nil {
			}
		}()
		c.wantClose(wire.CloseRate)
	}
}
