package link_test

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer/link"
	"github.com/peersignal/peersignal/pkg/wire"
)

// soon is when tests take a path without a sign of life for lost; never is when
// they do not.
const (
	soon  = 500 * time.Millisecond
	never = time.Hour
)

// pair are two devices in networks of their own, and their connection.
type pair struct {
	r      *relay
	a, b   *device // a dialled
	an, bn *lab
	ac, bc *link.Conn
	gateA  *gate
}

func newPair(t *testing.T, disconnected time.Duration, mod func(*link.Config)) *pair {
	t.Helper()
	p := &pair{r: newRelay(t), an: newLab(t, "127.0.0.2"), bn: newLab(t, "127.0.0.3")}
	var url string
	p.gateA, url = newGate(t, p.r.url())
	start := func(url string, n *lab) *device {
		return startDevice(t, url, func(c *link.Config) {
			n.use(c, disconnected)
			c.RestartTimeout = patience
			if mod != nil {
				mod(c)
			}
		})
	}
	p.a, p.b = start(url, p.an), start(p.r.url(), p.bn)
	p.ac, p.bc = connect(t, p.a, p.b)
	return p
}

// traffic sends numbered messages from one side to the other until stop, which
// checks that all of them came, in order.
func traffic(t *testing.T, from, to *link.Conn, name string) (stop func()) {
	t.Helper()
	ctx := testContext(t)
	s, err := from.OpenStream(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var end atomic.Bool
	var sent uint64
	wg.Go(func() {
		for msg := make([]byte, 20_000); !end.Load(); sent++ {
			binary.BigEndian.PutUint64(msg, sent)
			if err := s.WriteMessage(ctx, msg); err != nil {
				t.Errorf("writing message %d: %v", sent, err)
				return
			}
			time.Sleep(time.Millisecond)
		}
		_ = s.Close()
	})
	var got uint64
	wg.Go(func() {
		r, err := to.AcceptStream(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		for ; ; got++ {
			msg, err := r.ReadMessage(ctx)
			if err != nil {
				return
			}
			if n := binary.BigEndian.Uint64(msg); n != got {
				t.Errorf("message %d is %d", got, n)
				return
			}
		}
	})
	return func() {
		t.Helper()
		end.Store(true)
		wg.Wait()
		if got != sent || sent == 0 {
			t.Errorf("%d messages sent, %d came", sent, got)
		}
	}
}

// loses waits until a path is lost. The event of a short loss may not be seen.
func (d *device) loses(c *link.Conn) {
	d.t.Helper()
	eventually(d.t, "loss of the path", func() bool {
		st := c.Stats()
		return st.Lost || st.Restarts > 0
	})
}

// recovers waits until both sides have a path after they lost it.
func (p *pair) recovers(t *testing.T) {
	t.Helper()
	eventually(t, "path", func() bool { return !p.ac.Stats().Lost && !p.bc.Stats().Lost })
	if p.ac.Err() != nil || p.bc.Err() != nil {
		t.Fatalf("connection ended: %v, %v", p.ac.Err(), p.bc.Err())
	}
	if p.a.link.Conn(p.b.deviceID()) != p.ac || p.b.link.Conn(p.a.deviceID()) != p.bc {
		t.Fatal("the connection was replaced")
	}
}

// The whole network of one device is away for a while, the signaling server
// included. Both sides send all the time, and nothing is lost.
func TestNetworkDown(t *testing.T) {
	p := newPair(t, soon, nil)
	one, two := traffic(t, p.ac, p.bc, "there"), traffic(t, p.bc, p.ac, "back")
	p.an.cut(everything)
	p.gateA.set(false)
	p.a.loses(p.ac)
	p.b.loses(p.bc)
	await(p.a, "event", func(e link.PathChanged) bool { return e.Conn == p.ac && e.Lost })
	await(p.a, "loss of the server", func(link.ServerDown) bool { return true })
	time.Sleep(soon) // it stays away for a moment
	p.gateA.set(true)
	p.an.cut(nil)
	p.recovers(t)
	one()
	two()
	echo(t, p.ac, p.bc, "again")
}

// Nothing is given up for an offer that nobody would get: a path that comes back
// while the server is away is simply used on.
func TestPathComesBack(t *testing.T) {
	p := newPair(t, soon, nil)
	one := traffic(t, p.bc, p.ac, "there")
	p.gateA.set(false)
	p.an.cut(everything)
	eventually(t, "loss", func() bool { return p.ac.Stats().Lost })
	time.Sleep(soon)
	p.an.cut(nil)
	eventually(t, "path", func() bool { return !p.ac.Stats().Lost && !p.bc.Stats().Lost })
	one()
	if st := p.ac.Stats(); st.Restarts != 0 {
		t.Errorf("restarted: %+v", st)
	}
}

// An address goes away and another one comes. Nobody waits for silence.
func TestAddressChange(t *testing.T) {
	for _, moves := range []string{"the offerer moves", "the answerer moves", "both move"} {
		t.Run(moves, func(t *testing.T) {
			p := newPair(t, never, nil)
			one, two := traffic(t, p.ac, p.bc, "there"), traffic(t, p.bc, p.ac, "back")
			if moves != "the answerer moves" {
				p.an.move("127.0.0.12")
			}
			if moves != "the offerer moves" {
				p.bn.move("127.0.0.13")
			}
			for _, side := range []struct {
				d *device
				c *link.Conn
			}{{p.a, p.ac}, {p.b, p.bc}} {
				side.d.loses(side.c)
				e := await(side.d, "new path", func(e link.PathChanged) bool { return e.Conn == side.c && !e.Lost })
				if e.Path.Local != "host" || e.Path.Protocol != "udp" {
					t.Errorf("path %+v", e.Path)
				}
			}
			p.recovers(t)
			one()
			two()
			if n := p.ac.Stats().Restarts; n == 0 || n > 4 {
				t.Errorf("%d restarts", n)
			}
		})
	}
}

// The session with the server depends on an address, too.
func TestSessionAddressGone(t *testing.T) {
	r := newRelay(t)
	var away atomic.Bool
	d := startDevice(t, r.url(), func(c *link.Config) {
		link.Hurry(c, soon, nil)
		c.Addresses = func() ([]netip.Addr, error) {
			if away.Load() {
				return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
			}
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}
	})
	published(t, d)
	away.Store(true)
	await(d, "end of the session", func(link.ServerDown) bool { return true })
	eventually(t, "new session", func() bool { return count(d, func(link.ServerUp) bool { return true }) > 1 })
	d.link.NetworkChanged()
}

// A path that nobody replaces in time ends the connection on both sides. Who is later can hear of it from the other one.
func TestPathStaysLost(t *testing.T) {
	p := newPair(t, soon, func(c *link.Config) { c.RestartTimeout = 2 * time.Second })
	p.an.cut(everything)
	ended := func(d *device, c *link.Conn) error {
		return await(d, "end", func(e link.Disconnected) bool { return e.Conn == c }).Reason
	}
	one, two := ended(p.a, p.ac), ended(p.b, p.bc)
	for _, reason := range []error{one, two} {
		if !errors.Is(reason, link.ErrICEFailed) && !errors.Is(reason, link.ErrPeerClosed) {
			t.Errorf("ended by %v", reason)
		}
	}
	if !errors.Is(one, link.ErrICEFailed) && !errors.Is(two, link.ErrICEFailed) {
		t.Errorf("ended by %v and %v", one, two)
	}
}

// A relay goes away: the next one that the server names is used, or a direct
// path that was not there before.
func TestRelayLost(t *testing.T) {
	stopRelay, first := stoppableTURN(t)
	_, second := stoppableTURN(t)
	direct := func(server wire.ICEServer) func(local, remote netip.AddrPort) bool {
		return func(_, remote netip.AddrPort) bool { return !strings.Contains(server.URLs[0], remote.String()) }
	}
	for _, policy := range []link.ICETransport{link.ICERelay, link.ICEAll} {
		t.Run(string(policy), func(t *testing.T) {
			stop, server := stopRelay, first
			if policy == link.ICEAll {
				stop, server = stoppableTURN(t)
			}
			r := newRelay(t)
			r.ice = []wire.ICEServer{server}
			start := func(n *lab) *device {
				if policy == link.ICEAll {
					n.cut(direct(server))
				}
				return startDevice(t, r.url(), func(c *link.Config) {
					n.use(c, soon)
					c.RestartTimeout, c.ICETransport = patience, policy
				})
			}
			an, bn := newLab(t, "127.0.0.2"), newLab(t, "127.0.0.3")
			p := &pair{r: r, a: start(an), b: start(bn), an: an, bn: bn}
			p.ac, p.bc = connect(t, p.a, p.b)
			if st := p.ac.Stats(); st.LocalCandidateType != "relay" {
				t.Fatalf("path is %+v", st)
			}
			one := traffic(t, p.ac, p.bc, "there")
			if policy == link.ICERelay {
				r.push([]wire.ICEServer{second})
			} else {
				an.cut(nil)
				bn.cut(nil)
			}
			stop()
			p.a.loses(p.ac)
			p.b.loses(p.bc)
			p.recovers(t)
			one()
			want := "relay"
			if policy == link.ICEAll {
				want = "host"
			}
			if st := p.ac.Stats(); st.LocalCandidateType != want || st.Restarts == 0 {
				t.Errorf("path is %+v", st)
			}
		})
	}
}

// A process that is gone without a word is noticed by its session and silence
// together, long before the timeout.
func TestProcessDies(t *testing.T) {
	p := newPair(t, soon, nil)
	p.bn.cut(everything)
	p.b.stop()
	e := await(p.a, "end", func(e link.Disconnected) bool { return e.Conn == p.ac })
	wantErr(t, e.Reason, link.ErrICEFailed)
	if e.Conn.Stats().Restarts != 0 {
		t.Error("restarted with nobody")
	}
}

// A device that is present as another process can't have the old connection.
func TestProcessStartsAnew(t *testing.T) {
	p := newPair(t, soon, func(c *link.Config) { c.RestartTimeout = time.Hour })
	p.bn.cut(everything)
	p.b.stop()
	n := newLab(t, "127.0.0.4")
	b := startIdentity(t, p.r.url(), p.b.id, mustDoc(t, p.b.id), func(c *link.Config) { n.use(c, soon) })
	e := await(p.a, "end", func(e link.Disconnected) bool { return e.Conn == p.ac })
	if !errors.Is(e.Reason, link.ErrPeerClosed) { // as the new process says when it is asked first
		wantErr(t, e.Reason, link.ErrICEFailed)
	}
	ac, bc := connect(t, p.a, b)
	echo(t, ac, bc, "new")
}

// One side has ended the connection and could not tell. It says so when it is
// asked for a restart.
func TestEndedWithoutAWord(t *testing.T) {
	for _, who := range []string{"offerer", "answerer"} {
		t.Run(who, func(t *testing.T) {
			p := newPair(t, soon, func(c *link.Config) { c.RestartTimeout = time.Hour })
			stays, ends := p.a, p.b
			sc, ec := p.ac, p.bc
			if who == "offerer" {
				stays, ends, sc, ec = ends, stays, ec, sc
			}
			p.an.cut(everything)
			_ = ec.Close("without a word")
			await(ends, "end", func(e link.Disconnected) bool { return e.Conn == ec })
			e := await(stays, "end", func(e link.Disconnected) bool { return e.Conn == sc })
			wantErr(t, e.Reason, link.ErrPeerClosed)
			refusals(t, ends, "restart of a connection that is not there")
		})
	}
}

// Both sides want another path at the same moment, again and again.
func TestBothAskAtOnce(t *testing.T) {
	p := newPair(t, never, nil)
	one, two := traffic(t, p.ac, p.bc, "there"), traffic(t, p.bc, p.ac, "back")
	for round := range uint64(3) {
		p.bc.Restart()
		p.ac.Restart()
		eventually(t, "restart", func() bool {
			a, b := p.ac.Stats(), p.bc.Stats()
			return a.Restarts > round && b.Restarts > round && !a.Lost && !b.Lost
		})
	}
	p.recovers(t)
	one()
	two()
	if n := p.ac.Stats().Restarts; n > 9 {
		t.Errorf("%d restarts for three", n)
	}
}

// A path that should be replaced while nobody can be told stays if it works.
func TestRestartWithNobody(t *testing.T) {
	for _, who := range []string{"offerer", "answerer"} {
		t.Run(who, func(t *testing.T) {
			p := newPair(t, never, func(c *link.Config) { c.RestartTimeout = 4 * time.Second })
			p.a.link.SetTopics(nil)
			eventually(t, "absence", func() bool { return p.b.link.Status().Peers == 0 && p.a.link.Status().Published == 0 })
			time.Sleep(3200 * time.Millisecond) // longer than a lost device may be absent
			c := p.ac
			if who == "answerer" {
				c = p.bc
			}
			c.Restart()
			eventually(t, "doubt", func() bool { return c.Stats().Lost })
			eventually(t, "confidence", func() bool { return !c.Stats().Lost })
			echo(t, p.ac, p.bc, "still-there")
			if c.Stats().Restarts != 0 {
				t.Error("restarted with nobody")
			}
		})
	}
}

// An offer that the server swallows is made again.
func TestRestartOfferLost(t *testing.T) {
	p := newPair(t, never, nil)
	one := traffic(t, p.ac, p.bc, "there")
	var swallowed atomic.Int32
	p.r.setPass(func(_ peercrypto.ID, m *wire.Signal) []*wire.Signal {
		if m.Kind == wire.KindOffer && swallowed.Add(1) <= 2 || m.Kind == wire.KindAnswer && swallowed.Add(1) == 4 {
			return nil
		}
		return []*wire.Signal{m}
	})
	p.ac.Restart()
	p.a.loses(p.ac)
	eventually(t, "restart", func() bool { return p.ac.Stats().Restarts == 1 && !p.bc.Stats().Lost })
	p.recovers(t)
	one()
	if n := swallowed.Load(); n < 4 {
		t.Errorf("%d signals", n)
	}
}
