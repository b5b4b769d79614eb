package signaling_test

import (
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/peersignal/peersignal/internal/signaling"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

func TestParkedInCluster(t *testing.T) {
	bus := signaling.NewMemBus()
	one := startNode(t, bus, "one", signaling.Config{})
	two := startNode(t, bus, "two", signaling.Config{})
	until(t, "both nodes", func() bool { return one.Stats().Nodes == 1 && two.Stats().Nodes == 1 })
	a, b := attach(t, one, newDevice(t), nil), attach(t, two, newDevice(t), nil)
	a.hold(tag(1))
	until(t, "a on the other node", func() bool { return two.Stats().RemoteSessions == 1 })
	b.hold(tag(1))
	b.joined(tag(1), a)
	a.joined(tag(1), b)
	a.snap()
	parked(t, one, 1)
	id := b.ask(wire.KindOffer, a.id(), tag(1))
	until(t, "the held signal", func() bool {
		s := one.Sessions(signaling.Selector{Device: string(a.id())}, 0)
		return len(s) == 1 && s[0].Queued > 0
	})
	b.snap() // the sender changes its connection, too
	parked(t, two, 1)
	b2 := attach(t, two, b.device, b)
	a2 := attach(t, one, a.device, a)
	if !a2.ready.Resumed || !b2.ready.Resumed {
		t.Fatal(a2.ready, b2.ready)
	}
	read[*wire.Signal](a2)
	if r := b2.result(id); r.Code != wire.CodeDelivered {
		t.Errorf("got %+v", r)
	}
	// At another node the client begins anew, and takes over.
	a2.snap()
	parked(t, one, 1)
	a3 := attach(t, two, a.device, a2)
	if a3.ready.Resumed || a3.ready.Topics != 0 {
		t.Errorf("got %+v", a3.ready)
	}
	b2.left(tag(1), a)
	until(t, "the parked session's end", func() bool { return one.Stats().Sessions == 0 && one.Stats().Parked == 0 })
}

// TestResumeRaces has many connections of few devices come, break, resume, take
// over and leave at once: in the end nothing is left.
func TestResumeRaces(t *testing.T) {
	n := start(t, signaling.Config{Limits: signaling.Limits{ResumeWindow: 20 * time.Millisecond, MessagesPer10s: 1 << 20}})
	var devices []device
	for range 4 {
		devices = append(devices, newDevice(t))
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			var prev *client
			for i := range 25 {
				d := devices[(w+i/5)%len(devices)]
				if prev != nil && prev.device.cert.DeviceID != d.cert.DeviceID {
					prev = nil
				}
				prev = churn(t, n, d, prev, devices, i)
			}
		})
	}
	wg.Wait()
	until(t, "the end of all", func() bool {
		st := n.Stats()
		return st.Sessions == 0 && st.Parked == 0 && st.Topics == 0 && st.Users == 0
	})
}

// churn makes one connection and ends it in one of several ways.
func churn(t *testing.T, n *node, d device, prev *client, all []device, i int) *client {
	c, m := tryAttach(t, n, d, prev)
	ready, ok := m.(*wire.Ready)
	if !ok {
		return nil // replaced already
	}
	c.ready = ready
	if ready.Resumed {
		c.got = prev.got
	}
	write := func(m wire.Message) {
		if frame, err := wire.Encode(m); err == nil {
			_ = c.ws.Write(t.Context(), websocket.MessageText, frame)
		}
	}
	write(&wire.Topics{ID: 1, Add: []peercrypto.Tag{tag(1), tag(2)}})
	write(&wire.Signal{
		Kind: wire.KindCandidate, ID: 2, To: all[i%len(all)].cert.DeviceID, Via: tag(1), Conn: newConnID(),
		Env: envelope(wire.KindCandidate),
	})
	write(&wire.Topics{ID: 3, Del: []peercrypto.Tag{tag(9)}}) // three results come, whatever else
	for range i % 4 {
		if _, _, err := c.ws.Read(deadline(t)); err != nil {
			break
		}
	}
	if i%3 == 0 {
		write(&wire.Bye{})
		_ = c.ws.Close(websocket.StatusNormalClosure, "")
		return nil
	}
	c.snap()
	return c
}
