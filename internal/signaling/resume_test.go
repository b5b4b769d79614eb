package signaling_test

import (
	"testing"
	"time"

	"github.com/peersignal/peersignal/internal/signaling"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// attach makes a session that can be resumed, or goes on with that of prev.
func attach(t testing.TB, n *node, d device, prev *client) *client {
	t.Helper()
	c, m := tryAttach(t, n, d, prev)
	ready, ok := m.(*wire.Ready)
	if !ok {
		t.Fatalf("got %T %+v (%v)", m, m, c.closed)
	}
	c.ready = ready
	if ready.Resumed {
		c.got, c.nextID = prev.got, prev.nextID
	}
	return c
}

func tryAttach(t testing.TB, n *node, d device, prev *client) (*client, wire.Message) {
	t.Helper()
	c := dial(t, n)
	return c, c.signIn(n, d, prev)
}

// signIn shows what d is and gives the answer.
func (c *client) signIn(n *node, d device, prev *client) wire.Message {
	t := c.t
	t.Helper()
	c.device = d
	a, err := wire.SignAuth(wire.AuthBody{
		Server: n.name, Nonce: c.hello.Nonce, CNonce: peercrypto.NewNonce(), Time: time.Now().UnixMilli(),
		Caps: []string{wire.CapRV1, wire.CapResume},
	}, d.key, d.cert)
	if err != nil {
		t.Fatal(err)
	}
	if prev != nil {
		a.Resume, a.Got = prev.ready.Resume, prev.got
	}
	c.send(a)
	return c.next()
}

// snap breaks the connection without a word.
func (c *client) snap() { _ = c.ws.CloseNow() }

// ask sends a signal without waiting for its result.
func (c *client) ask(kind wire.Kind, to peercrypto.ID, via peercrypto.Tag) (id uint64) {
	c.t.Helper()
	c.nextID++
	c.send(&wire.Signal{Kind: kind, ID: c.nextID, To: to, Via: via, Conn: newConnID(), Env: envelope(kind)})
	return c.nextID
}

// parked waits until so many sessions are.
func parked(t testing.TB, n *node, want int) {
	t.Helper()
	until(t, "parked sessions", func() bool { return n.Stats().Parked == want })
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not in time", what)
		}
	}
}

// pair gives two devices that hold a tag and know of each other; the first can
// be resumed.
func pair(t testing.TB, n *node) (a, b *client) {
	t.Helper()
	a, b = attach(t, n, newDevice(t), nil), connect(t, n, newDevice(t))
	a.hold(tag(1))
	b.hold(tag(1))
	b.joined(tag(1), a)
	a.joined(tag(1), b)
	return a, b
}

func TestResume(t *testing.T) {
	n := start(t, signaling.Config{})
	a, b := pair(t, n)
	for range 3 {
		if r := b.offer(a.id(), tag(1)); r.Code != wire.CodeDelivered {
			t.Fatal(r)
		}
	}
	first := *read[*wire.Signal](a) // the others are not read
	a.snap()
	parked(t, n, 1)
	id := b.ask(wire.KindCandidate, a.id(), tag(1))
	b.quietBesides(t, id)

	again := attach(t, n, a.device, a)
	if !again.ready.Resumed || again.ready.Session != a.ready.Session || again.ready.Topics != 1 {
		t.Fatalf("got %+v", again.ready)
	}
	for range 2 {
		if s := read[*wire.Signal](again); s.Kind != wire.KindOffer || s.Conn == first.Conn {
			t.Errorf("got %+v", s)
		}
	}
	if s := read[*wire.Signal](again); s.Kind != wire.KindCandidate {
		t.Errorf("got %+v", s)
	}
	if r := b.result(id); r.Code != wire.CodeDelivered {
		t.Errorf("got %+v", r)
	}
	again.send(&wire.Ack{N: again.got})
	again.quiet()
	b.quiet()
	if st := n.Stats(); st.Parked != 0 || st.Sessions != 2 {
		t.Errorf("got %+v", st)
	}
	// Once more, with everything acknowledged.
	again.snap()
	parked(t, n, 1)
	last := attach(t, n, a.device, again)
	last.quiet()
	last.bye()
	b.left(tag(1), a)
}

// quietBesides checks that there is no result of id yet, nor anything else.
func (c *client) quietBesides(t testing.TB, id uint64) {
	t.Helper()
	c.nextID++
	c.send(&wire.Topics{ID: c.nextID, Del: []peercrypto.Tag{tag(250)}})
	if r := read[*wire.Result](c); r.ID == id {
		t.Fatalf("%d was not held: %+v", id, r)
	}
}

func TestResumeTooLate(t *testing.T) {
	n := start(t, signaling.Config{Limits: signaling.Limits{ResumeWindow: 300 * time.Millisecond}})
	a, b := pair(t, n)
	a.snap()
	parked(t, n, 1)
	id := b.ask(wire.KindOffer, a.id(), tag(1))
	b.left(tag(1), a)
	if r := b.result(id); r.Code != wire.CodeExpired {
		t.Errorf("got %+v", r)
	}
	parked(t, n, 0)
	// The topics are known yet, and others are told.
	again := attach(t, n, a.device, a)
	if again.ready.Resumed || again.ready.Topics != 1 || again.ready.Session == a.ready.Session {
		t.Fatalf("got %+v", again.ready)
	}
	again.joined(tag(1), b)
	b.joined(tag(1), again)
	if r := b.offer(a.id(), tag(1)); r.Code != wire.CodeDelivered {
		t.Error(r)
	}
	again.bye()
	b.left(tag(1), a)
	// After bye there is nothing to go on with.
	if c := attach(t, n, a.device, again); c.ready.Resumed || c.ready.Topics != 0 {
		t.Errorf("got %+v", c.ready)
	}
}

// TestResumePresence: only what changed meanwhile is told again.
func TestResumePresence(t *testing.T) {
	n := start(t, signaling.Config{})
	a, b := pair(t, n)
	a.hold(tag(2))
	a.snap()
	parked(t, n, 1)
	c := connect(t, n, newDevice(t))
	c.hold(tag(2))
	c.joined(tag(2), a) // a is there for others
	b.hold(tag(3))
	again := attach(t, n, a.device, a)
	again.joined(tag(2), c)
	again.quiet()
	// What was sent and not received is told again, too.
	c.hold(tag(1))
	c.joined(tag(1), a, b)
	again.snap()
	parked(t, n, 1)
	third := attach(t, n, a.device, again)
	if p := read[*wire.Present](third); !p.Full || p.Tag != tag(1) || len(p.Join) != 2 {
		t.Errorf("got %+v", p)
	}
	third.quiet()
	// A topic that is dropped by another is told at once.
	if r := c.topics(nil, []peercrypto.Tag{tag(1)}); r.Code != wire.CodeOK {
		t.Error(r)
	}
	third.left(tag(1), c)
}

func TestTokenIsBoundToKey(t *testing.T) {
	n := start(t, signaling.Config{})
	a, b := pair(t, n)
	a.snap()
	parked(t, n, 1)
	thief := attach(t, n, newDevice(t), a)
	if thief.ready.Resumed || thief.ready.Topics != 0 || thief.ready.Session == a.ready.Session {
		t.Errorf("got %+v", thief.ready)
	}
	b.quiet()
	if c := attach(t, n, a.device, a); !c.ready.Resumed {
		t.Errorf("the owner got %+v", c.ready)
	}
}

// TestBadTokens begin a new session, as no token does.
func TestBadTokens(t *testing.T) {
	for name, spoil := range map[string]func(*client){
		"another token":                 func(c *client) { c.ready.Resume = peercrypto.NewNonce().String() },
		"no token at all":               func(c *client) { c.ready.Resume = "x" },
		"more than was sent":            func(c *client) { c.got++ },
		"less than it had acknowledged": func(c *client) { c.got-- },
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t, signaling.Config{})
			a, b := pair(t, n)
			a.send(&wire.Ack{N: a.got})
			a.quiet()
			a.snap()
			parked(t, n, 1)
			spoil(a)
			c := attach(t, n, a.device, a)
			b.left(tag(1), a)
			if c.ready.Resumed {
				t.Errorf("got %+v", c.ready)
			}
		})
	}
}

// TestTakeoverByToken: the client knows before the server that its connection
// broke. The end of the old one changes nothing.
func TestTakeoverByToken(t *testing.T) {
	n := start(t, signaling.Config{})
	a, b := pair(t, n)
	again := attach(t, n, a.device, a)
	if !again.ready.Resumed {
		t.Fatalf("got %+v", again.ready)
	}
	if m := read[*wire.Notice](a); m.Code != wire.CodeReplaced {
		t.Errorf("got %+v", m)
	}
	a.wantClose(wire.CloseReplaced)
	until(t, "one session less", func() bool { return n.Stats().Sessions == 2 })
	b.quiet()
	again.quiet()
	if r := b.offer(a.id(), tag(1)); r.Code != wire.CodeDelivered {
		t.Error(r)
	}
	// Without the token it is a new session, in the place of the old.
	fresh := attach(t, n, a.device, nil)
	b.left(tag(1), a)
	if fresh.ready.Resumed || fresh.ready.Topics != 0 {
		t.Errorf("got %+v", fresh.ready)
	}
	again.wantClose(wire.CloseReplaced)
	fresh.quiet()
}

// TestResumeKeepsItsPlace: a parked session counts, and its own client is let in.
func TestResumeKeepsItsPlace(t *testing.T) {
	n := start(t, signaling.Config{Limits: signaling.Limits{Sessions: 1}})
	a := attach(t, n, newDevice(t), nil)
	for range 3 {
		a.snap()
		parked(t, n, 1)
		_, m := tryAttach(t, n, newDevice(t), nil)
		if r, ok := m.(*wire.Refused); !ok || r.Code != wire.CodeServerFull {
			t.Fatalf("got %+v", m)
		}
		a = attach(t, n, a.device, a)
		if !a.ready.Resumed {
			t.Fatal(a.ready)
		}
	}
	a.bye()
	until(t, "no session", func() bool { return n.Stats().Sessions == 0 })
}

// TestKickIsFinal: a session that is kicked while its connection breaks and
// another one comes does not go on.
func TestKickIsFinal(t *testing.T) {
	reasons := make(chan string, 1)
	n := start(t, signaling.Config{OnSessionEnd: func(_, reason string) {
		select {
		case reasons <- reason:
		default: // of the second session
		}
	}})
	for i := range 30 {
		a := attach(t, n, newDevice(t), nil)
		a.hold(tag(1))
		a.snap()
		for range i * 20 {
			_ = n.Stats() // some time
		}
		if kick(t, n, a.id()) != 1 {
			t.Fatal("nobody to kick")
		}
		again := attach(t, n, a.device, a)
		if again.ready.Resumed || again.ready.Topics != 0 {
			t.Fatalf("got %+v", again.ready)
		}
		if got := <-reasons; got != signaling.EndKicked {
			t.Fatalf("ended as %q", got)
		}
		again.bye()
		until(t, "no session", func() bool { return n.Stats().Sessions == 0 })
		select {
		case <-reasons:
		default:
		}
	}
}

func TestParkedIsBounded(t *testing.T) {
	n := start(t, signaling.Config{Limits: signaling.Limits{
		Parked: 1, SendQueueBytes: 2 * wire.MaxFrame, MessagesPer10s: 1 << 20,
	}})
	a, b := pair(t, n)
	c := attach(t, n, newDevice(t), nil)
	a.snap()
	parked(t, n, 1)
	c.snap()
	until(t, "the end of the one too many", func() bool { return n.Stats().Sessions == 2 })
	big := wire.NewEnvelope(nil, make([]byte, 40<<10))
	for i := range 4 {
		b.nextID++
		b.send(&wire.Signal{Kind: wire.KindCandidate, ID: b.nextID, To: a.id(), Via: tag(1), Conn: newConnID(), Env: big})
		if i >= 2 {
			if r := b.result(b.nextID); r.Code != wire.CodeOffline {
				t.Errorf("got %+v", r)
			}
		}
	}
	again := attach(t, n, a.device, a)
	read[*wire.Signal](again)
	read[*wire.Signal](again)
	again.quiet()
}

// TestNoRoomToKeep: without memory for it, signals are passed on all the same,
// but the session cannot go on until they are acknowledged.
func TestNoRoomToKeep(t *testing.T) {
	n := start(t, signaling.Config{Limits: signaling.Limits{ResumeBytes: 1}})
	a, b := pair(t, n)
	if r := b.offer(a.id(), tag(1)); r.Code != wire.CodeDelivered {
		t.Fatal(r)
	}
	read[*wire.Signal](a)
	a.send(&wire.Ack{N: a.got})
	a.quiet()
	a.snap()
	parked(t, n, 1)
	if r := b.offer(a.id(), tag(1)); r.Code != wire.CodeOffline {
		t.Error(r)
	}
	again := attach(t, n, a.device, a)
	if !again.ready.Resumed {
		t.Fatal(again.ready)
	}
	if r := b.offer(a.id(), tag(1)); r.Code != wire.CodeDelivered {
		t.Fatal(r)
	}
	again.snap()
	b.left(tag(1), a)
	if c := attach(t, n, a.device, again); c.ready.Resumed || c.ready.Topics != 1 {
		t.Errorf("got %+v", c.ready)
	}
}

// TestAckAlong: a signal may acknowledge what came before it.
func TestAckAlong(t *testing.T) {
	n := start(t, signaling.Config{})
	a, b := pair(t, n)
	if r := b.offer(a.id(), tag(1)); r.Code != wire.CodeDelivered {
		t.Fatal(r)
	}
	offer := read[*wire.Signal](a)
	answer := func(spell func(frame []byte) []byte) {
		t.Helper()
		a.nextID++
		frame, err := wire.Encode(&wire.Signal{
			Kind: wire.KindAnswer, ID: a.nextID, Ack: a.got, To: b.id(), Via: tag(1), Conn: offer.Conn, Env: envelope(wire.KindAnswer),
		})
		if err != nil {
			t.Fatal(err)
		}
		a.write(spell(frame))
		if r := a.result(a.nextID); r.Code != wire.CodeDelivered {
			t.Fatal(r)
		}
		if got := read[*wire.Signal](b); got.Ack != 0 || got.Kind != wire.KindAnswer {
			t.Errorf("got %+v", got)
		}
	}
	answer(func(frame []byte) []byte { return frame })
	a.got-- // what is acknowledged cannot be had again
	a.snap()
	parked(t, n, 1)
	if c := attach(t, n, a.device, a); c.ready.Resumed {
		t.Fatalf("the offer is still kept: %+v", c.ready)
	}

	n = start(t, signaling.Config{})
	a, b = pair(t, n)
	if r := b.offer(a.id(), tag(1)); r.Code != wire.CodeDelivered {
		t.Fatal(r)
	}
	offer = read[*wire.Signal](a)
	answer(func(frame []byte) []byte { return append(frame, ' ') }) // not as we spell it
	a.got++
	for _, end := range []string{"", " "} { // as we spell it, and otherwise
		c := attach(t, n, newDevice(t), nil)
		c.got++
		frame, err := wire.Encode(&wire.Signal{
			Kind: wire.KindAnswer, ID: 1, Ack: a.got, To: b.id(), Via: tag(1), Conn: offer.Conn, Env: envelope(wire.KindAnswer),
		})
		if err != nil {
			t.Fatal(err)
		}
		c.write(append(frame, end...))
		c.wantClose(wire.CloseProtocol)
	}
}

func TestAckOfNothing(t *testing.T) {
	n := start(t, signaling.Config{})
	a := attach(t, n, newDevice(t), nil)
	a.send(&wire.Ack{N: 1})
	a.wantClose(wire.CloseProtocol)
	b := connect(t, n, newDevice(t)) // cannot resume
	b.send(&wire.Ack{N: 1})
	b.wantClose(wire.CloseProtocol)
	if b.ready.Resume != "" {
		t.Error("a token for who did not ask")
	}
}

// TestPresenceIsNeverStale: a client that was silent for the ping timeout is not
// parked.
func TestPresenceIsNeverStale(t *testing.T) {
	n := start(t, signaling.Config{Limits: signaling.Limits{
		PingInterval: 50 * time.Millisecond, PingTimeout: 5 * time.Second, ResumeWindow: time.Hour,
	}})
	a, b := pair(t, n) // a does not read, and answers no ping
	b.left(tag(1), a)
	c := attach(t, n, a.device, a)
	if c.ready.Resumed || c.ready.Topics != 1 {
		t.Errorf("got %+v", c.ready)
	}
	b.joined(tag(1), c)
	// One whose connection broke is there no longer than that, either.
	c.snap()
	b.left(tag(1), a)
}
