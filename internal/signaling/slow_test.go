package signaling_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/peersignal/peersignal/internal/signaling"
	"github.com/peersignal/peersignal/pkg/wire"
)

// TestSlowReader sends to a device that reads nothing until its queue is full:
// it is closed, and a third device notices nothing of it.
func TestSlowReader(t *testing.T) {
	n := start(t, signaling.Config{Limits: signaling.Limits{MessagesPer10s: 1 << 20, WriteTimeout: time.Minute}})
	sender, slow, quick := connect(t, n, newDevice(t)), connect(t, n, newDevice(t)), connect(t, n, newDevice(t))
	sender.hold(tag(1), tag(2))
	slow.hold(tag(1))
	sender.joined(tag(1), slow)
	quick.hold(tag(2))
	sender.joined(tag(2), quick)
	quick.joined(tag(2), sender)

	big := wire.NewEnvelope(nil, bytes.Repeat([]byte{1}, 40<<10))
	send := func(c *client) wire.Code {
		sender.nextID++
		via := tag(1)
		if c == quick {
			via = tag(2)
		}
		sender.send(&wire.Signal{Kind: wire.KindCandidate, ID: sender.nextID, To: c.id(), Via: via, Conn: newConnID(), Env: big})
		for {
			switch m := sender.next().(type) {
			case *wire.Present: // the slow one leaves
			case *wire.Result:
				return m.Code
			default:
				t.Fatalf("got %T", m)
			}
		}
	}
	full := false
	for range 2000 { // the kernel's buffers come first
		code := send(slow)
		if got := send(quick); got != wire.CodeDelivered {
			t.Fatalf("the quick reader: %s", got)
		}
		read[*wire.Signal](quick)
		if code != wire.CodeDelivered {
			full = code == wire.CodeOffline || code == wire.CodeNotAllowed
			break
		}
	}
	if !full {
		t.Error("the slow reader was never closed")
	}
	quick.quiet()
}

// TestDeadConnection stops answering pings.
func TestDeadConnection(t *testing.T) {
	n := start(t, signaling.Config{Limits: signaling.Limits{PingInterval: 50 * time.Millisecond, PingTimeout: 5 * time.Second}})
	alive, dead := connect(t, n, newDevice(t)), connect(t, n, newDevice(t))
	alive.hold(tag(1))
	dead.hold(tag(1))
	alive.joined(tag(1), dead)
	// Only a client that reads answers pings. alive does while it waits.
	alive.left(tag(1), dead)
	for range 3 {
		dead.next()
	}
	if got := websocket.CloseStatus(dead.closed); got != -1 && got != websocket.StatusCode(wire.ClosePingTimeout) {
		t.Errorf("closed with %v", dead.closed)
	}
}

// TestSilentConnectionStays is about a connection that nobody writes to for longer than a write may take: the pings must
// go through all the same.
func TestSilentConnectionStays(t *testing.T) {
	n := start(t, signaling.Config{Limits: signaling.Limits{
		WriteTimeout: time.Second, PingInterval: 1500 * time.Millisecond, PingTimeout: 20 * time.Second,
	}})
	silent, other := connect(t, n, newDevice(t)), connect(t, n, newDevice(t))
	silent.hold(tag(1))
	time.Sleep(4 * time.Second) // two pings
	other.hold(tag(1))
	silent.joined(tag(1), other)
}

// TestAnswersPingsAfterSilence is the same for the client's pings, whose answers the WebSocket library writes.
func TestAnswersPingsAfterSilence(t *testing.T) {
	n := start(t, signaling.Config{Limits: signaling.Limits{
		WriteTimeout: time.Second, PingInterval: 10 * time.Second, PingTimeout: 20 * time.Second,
	}})
	silent, other := connect(t, n, newDevice(t)), connect(t, n, newDevice(t))
	silent.hold(tag(1))
	time.Sleep(1200 * time.Millisecond) // the deadline of the last write passes
	answered := make(chan error, 1)
	go func() { answered <- silent.ws.Ping(deadline(t)) }()
	time.Sleep(100 * time.Millisecond) // the answer is in the socket, which is read below
	other.hold(tag(1))
	silent.joined(tag(1), other)
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

// TestDeferredIsBounded: what is noted for clients that read nothing, and that change their topics again and again, is bounded by those that
// they hold.
func TestDeferredIsBounded(t *testing.T) {
	n := start(t, signaling.Config{Limits: signaling.Limits{WriteTimeout: time.Minute}})
	both := []*client{connect(t, n, newDevice(t)), connect(t, n, newDevice(t))}
	const many = 10_000
	for round := range 16 {
		mine := tags(many)
		for i := range mine {
			mine[i][0] = byte(round + 1)
		}
		for _, c := range both {
			c.send(&wire.Topics{ID: 1, Add: mine})
		}
		until(t, "topics are there", func() bool { return n.Stats().Topics == 2*many })
		for _, c := range both {
			c.send(&wire.Topics{ID: 2, Del: mine})
		}
		until(t, "topics are gone", func() bool { return n.Stats().Topics == 0 })
	}
	if got := n.Deferred(); got > 2*many {
		t.Errorf("%d lists are noted, and no topic is held", got)
	}
}
