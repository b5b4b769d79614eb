package signaling_test

import (
	"bytes"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/peersignal/peersignal/internal/signaling"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// narrow is dial with a small window, so that not much fits between the server
// and a client that does not read.
func narrow(t testing.TB, n *node) *client {
	t.Helper()
	dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		if e := raw.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 8<<10)
		}); e != nil {
			return e
		}
		return err
	}}
	transport := &http.Transport{DialContext: dialer.DialContext}
	ws, _, err := websocket.Dial(deadline(t), n.url, &websocket.DialOptions{
		Subprotocols: []string{wire.Subprotocol}, HTTPClient: &http.Client{Transport: transport},
	})
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(-1)
	t.Cleanup(func() { _ = ws.CloseNow() })
	c := &client{t: t, ws: ws}
	c.hello = read[*wire.Hello](c)
	return c
}

// nextSignal reads until a signal, past presence.
func (c *client) nextSignal() *wire.Signal {
	c.t.Helper()
	for {
		switch m := c.next().(type) {
		case *wire.Signal:
			return m
		case *wire.Present:
		default:
			c.t.Fatalf("got %T %+v (%v)", m, m, c.closed)
		}
	}
}

// TestEarlyAck acknowledges what was not received yet, to have its memory used for
// somebody else's signals: they do not come out at the wrong end.
func TestEarlyAck(t *testing.T) {
	n := start(t, signaling.Config{Limits: signaling.Limits{
		MessagesPer10s: 1 << 20, WriteTimeout: time.Minute, PingTimeout: time.Hour, SendQueueBytes: 8 << 20,
	}})
	sender, sly, other := connect(t, n, newDevice(t)), narrow(t, n), attach(t, n, newDevice(t), nil)
	if _, ok := sly.signIn(n, newDevice(t), nil).(*wire.Ready); !ok {
		t.Fatal("not ready")
	}
	for _, c := range []*client{sender, sly, other} {
		c.holdSome([]peercrypto.Tag{tag(1)}, nil)
	}
	sly.catchUp(view{})
	other.catchUp(view{})
	fill := func(to *client, b byte, n uint64) {
		for range n {
			sender.nextID++
			sender.send(&wire.Signal{
				Kind: wire.KindCandidate, ID: sender.nextID, To: to.id(), Via: tag(1), Conn: newConnID(),
				Env: wire.NewEnvelope(nil, bytes.Repeat([]byte{b}, 2000)),
			})
		}
		sender.skipTo(sender.nextID, view{})
	}
	sent := uint64(0)
	for queued := 0; queued < 20<<10; { // the kernel's buffers come first
		fill(sly, 1, 32)
		sent += 32
		queued = n.Sessions(signaling.Selector{Device: string(sly.id())}, 0)[0].Queued
		sly.send(&wire.Ack{N: sly.got + sent})
	}
	for range 8 {
		fill(other, 2, 8)
		for range 8 {
			other.nextSignal()
		}
		other.send(&wire.Ack{N: other.got})
	}
	for range sent {
		if got, err := sly.nextSignal().Env.Sealed(); err != nil || !bytes.Equal(got, bytes.Repeat([]byte{1}, 2000)) {
			t.Fatalf("somebody else's signal: %v", err)
		}
	}
	sly.quiet()
}
