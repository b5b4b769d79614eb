package turn_test

import (
	"net"
	"testing"
	"time"

	"github.com/pion/stun/v3"
	pionturn "github.com/pion/turn/v4"

	"github.com/peersignal/peersignal/internal/turn"
)

// raw speaks STUN over one UDP socket, message by message.
type raw struct {
	t    testing.TB
	conn net.Conn
	// dropped counts the packets that the server did not answer; nil: it answers.
	dropped func() float64
}

func newRaw(t testing.TB, addr string) *raw {
	t.Helper()
	return newRawFrom(t, "", addr)
}

// newRawFrom is a client at the address; all of 127.0.0.0/8 is this host.
func newRawFrom(t testing.TB, from, addr string) *raw {
	t.Helper()
	var d net.Dialer
	if from != "" {
		d.LocalAddr = &net.UDPAddr{IP: net.ParseIP(from)}
	}
	conn, err := d.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &raw{t: t, conn: conn}
}

// ask sends a request and returns the answer, nil when the server drops it.
func (r *raw) ask(setters ...stun.Setter) *stun.Message {
	r.t.Helper()
	m, err := stun.Build(append([]stun.Setter{stun.TransactionID}, setters...)...)
	if err != nil {
		r.t.Fatal(err)
	}
	before := 0.0
	if r.dropped != nil {
		before = r.dropped()
	}
	if _, err := r.conn.Write(m.Raw); err != nil {
		r.t.Fatal(err)
	}
	buf, n := make([]byte, 2048), 0
	for end := time.Now().Add(waitFor); n == 0; {
		_ = r.conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if n, err = r.conn.Read(buf); err == nil {
			break
		}
		if r.dropped != nil && r.dropped() > before {
			return nil
		}
		if time.Now().After(end) {
			r.t.Fatalf("no answer: %v", err)
		}
	}
	answer := &stun.Message{Raw: buf[:n]}
	if err := answer.Decode(); err != nil {
		r.t.Fatal(err)
	}
	return answer
}

// next returns the next packet that is no answer.
func (r *raw) next() []byte {
	r.t.Helper()
	buf := make([]byte, 2048)
	_ = r.conn.SetReadDeadline(time.Now().Add(waitFor))
	n, err := r.conn.Read(buf)
	if err != nil {
		r.t.Fatalf("receiving: %v", err)
	}
	return buf[:n]
}

// authenticated asks with a credential, fetching a nonce first.
func (r *raw) authenticated(c turn.Credentials, method stun.Method, attrs ...stun.Setter) *stun.Message {
	r.t.Helper()
	typ := stun.NewType(method, stun.ClassRequest)
	challenge := r.ask(typ)
	if challenge == nil {
		r.t.Fatal("no challenge")
	}
	var nonce stun.Nonce
	if err := nonce.GetFrom(challenge); err != nil {
		r.t.Fatal(err)
	}
	realm := stun.NewRealm(turn.DefaultRealm)
	key := stun.MessageIntegrity(pionturn.GenerateAuthKey(c.Username, turn.DefaultRealm, c.Password))
	all := append([]stun.Setter{typ}, attrs...)
	return r.ask(append(all, stun.NewUsername(c.Username), realm, nonce, key)...)
}

func value(t stun.AttrType, v ...byte) stun.Setter { return stun.RawAttribute{Type: t, Value: v} }

func (r *raw) tryAllocate(c turn.Credentials, attrs ...stun.Setter) *stun.Message {
	r.t.Helper()
	return r.authenticated(c, stun.MethodAllocate, attrs...)
}

var overUDP = value(stun.AttrRequestedTransport, 17, 0, 0, 0)

func (r *raw) allocate(c turn.Credentials) {
	r.t.Helper()
	if m := r.tryAllocate(c, overUDP); m == nil || m.Type.Class != stun.ClassSuccessResponse {
		r.t.Fatalf("no allocation: %v", m)
	}
}

func (r *raw) refresh(c turn.Credentials, lifetime byte) {
	r.t.Helper()
	r.authenticated(c, stun.MethodRefresh, value(stun.AttrLifetime, 0, 0, 0, lifetime))
}

// A place in the quotas that a failing Allocate took is given back.
func TestFailedAllocateGivesItsPlaceBack(t *testing.T) {
	r := start(t, func(c *turn.Config) { c.AllocationsPerSession = 1 })
	c := r.credentials("s1", "alice")
	for name, attrs := range map[string][]stun.Setter{
		"lifetime 0":    {overUDP, value(stun.AttrLifetime, 0, 0, 0, 0)},
		"pair of ports": {overUDP, value(stun.AttrEvenPort, 0x80)},
		"over TCP":      {value(stun.AttrRequestedTransport, 6, 0, 0, 0)},
		"of IPv6":       {overUDP, value(stun.AttrRequestedAddressFamily, 2, 0, 0, 0)},
		"no transport":  nil,
		"dont fragment": {overUDP, value(stun.AttrDontFragment)},
	} {
		t.Run(name, func(t *testing.T) {
			client := newRaw(t, r.addr)
			if m := client.tryAllocate(c, attrs...); m == nil || m.Type.Class != stun.ClassErrorResponse {
				t.Fatalf("got %v, want a refusal", m)
			}
		})
	}
	newRaw(t, r.addr).allocate(c)
	if got := r.metric("allocations_refused_total", "reason", "transport"); got != 1 {
		t.Errorf("%v refusals for TCP counted, want 1", got)
	}
	if got := r.metric("allocations_refused_total", "reason", "family"); got != 1 {
		t.Errorf("%v refusals for IPv6 counted, want 1", got)
	}
}

func TestEvenPort(t *testing.T) {
	r := start(t, nil)
	for i := range 4 {
		m := newRaw(t, r.addr).tryAllocate(r.credentials("s1", "alice"), overUDP, value(stun.AttrEvenPort, 0))
		if m == nil || m.Type.Class != stun.ClassSuccessResponse {
			t.Fatalf("allocation %d: got %v", i, m)
		}
		var relayed stun.XORMappedAddress
		if err := relayed.GetFromAs(m, stun.AttrXORRelayedAddress); err != nil {
			t.Fatal(err)
		}
		if relayed.Port%2 != 0 {
			t.Errorf("got port %d, want an even one", relayed.Port)
		}
	}
}

// What is no request of a client is dropped without an answer, and counted.
func TestGateDrops(t *testing.T) {
	r := start(t, nil)
	client := newRaw(t, r.addr)
	for name, c := range map[string]struct {
		packet []byte
		reason string
	}{
		"empty":                 {[]byte{}, "malformed"},
		"text":                  {[]byte("GET / HTTP/1.1\r\n\r\n\r\n\r\n"), "malformed"},
		"cut header":            {[]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42}, "malformed"},
		"length too large":      {append([]byte{0, 1, 0xff, 0xec, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 12)...), "malformed"},
		"no cookie":             {append([]byte{0, 1, 0, 0, 0, 0, 0, 0}, make([]byte, 12)...), "malformed"},
		"binding response":      {append([]byte{1, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 12)...), "unexpected"},
		"binding indication":    {append([]byte{0, 0x11, 0, 0, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 12)...), "unexpected"},
		"send indication":       {append([]byte{0, 0x16, 0, 0, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 12)...), "no_allocation"},
		"unknown method":        {append([]byte{0, 0x0b, 0, 0, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 12)...), "unexpected"},
		"channel data":          {[]byte{0x40, 0, 0, 1, 'x'}, "no_allocation"},
		"channel data cut":      {[]byte{0x40, 0, 0, 9, 'x'}, "malformed"},
		"reserved channel type": {[]byte{0x80, 0, 0, 0}, "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			before := r.metric("client_packets_dropped_total", "reason", c.reason)
			if _, err := client.conn.Write(c.packet); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it was counted as "+c.reason, func() bool {
				return r.metric("client_packets_dropped_total", "reason", c.reason) == before+1
			})
		})
	}
	if m := client.ask(stun.BindingRequest); m == nil || m.Type != stun.BindingSuccess {
		t.Errorf("a binding request got %v", m)
	}
}

// tooMany counts the packets that came faster than a network may send them.
func (r *rig) tooMany() float64 {
	return r.metric("client_packets_dropped_total", "reason", "source_rate")
}

func TestUnauthenticatedRate(t *testing.T) {
	r := start(t, func(c *turn.Config) { c.UnauthenticatedPerSecond = 1 })
	r.stopClock()
	client := newRaw(t, r.addr)
	client.dropped = r.tooMany
	answered := 0
	for range 8 {
		if client.ask(stun.BindingRequest) != nil {
			answered++
		}
	}
	if answered != 4 {
		t.Errorf("%d of 8 were answered, want a burst of 4", answered)
	}
	if r.metric("client_packets_dropped_total", "reason", "source_rate") == 0 {
		t.Error("nothing was counted")
	}
	if got := r.metric("sources"); got != 1 {
		t.Errorf("%v networks tracked, want 1", got)
	}
	r.advance(time.Minute)
	if client.ask(stun.BindingRequest) == nil {
		t.Error("no answer after a minute")
	}
}

// Guessing credentials costs the guesser's network its tokens.
func TestGuessingIsLimited(t *testing.T) {
	r := start(t, func(c *turn.Config) { c.UnauthenticatedPerSecond = 1 })
	client := newRaw(t, r.addr)
	client.dropped = r.tooMany
	c := r.credentials("s1", "alice")
	guess := func() *stun.Message {
		key := stun.MessageIntegrity("not the key")
		return client.ask(stun.NewType(stun.MethodAllocate, stun.ClassRequest), overUDP,
			stun.NewUsername(c.Username), stun.NewRealm(turn.DefaultRealm), stun.NewNonce("x"), key)
	}
	_ = guess() // a stale nonce proves nothing yet
	wrong := turn.Credentials{Username: c.Username, Password: "wrong"}
	for range 2 {
		client.tryAllocate(wrong, overUDP)
	}
	eventually(t, "guesses are dropped", func() bool {
		guess()
		client.ask(stun.BindingRequest)
		return r.metric("client_packets_dropped_total", "reason", "source_rate") > 0
	})
}
