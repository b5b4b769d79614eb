package turn_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pion/logging"
	pionturn "github.com/pion/turn/v4"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/peersignal/peersignal/internal/turn"
)

// waitFor is how long a test waits for what has to come.
const waitFor = 2 * time.Minute

// quiet is how long a test waits for what must not come.
const quiet = 150 * time.Millisecond

// rig is a running server on loopback, with its metrics and its clock.
type rig struct {
	*turn.Server
	t    testing.TB
	reg  *prometheus.Registry
	addr string
	rto  time.Duration // of clients that are dialled

	mu     sync.Mutex
	offset time.Duration
	still  time.Time // what the clock shows without offset; zero: the time
}

// start runs a server that listens on 127.0.0.1 and relays from there. change
// may be nil.
func start(t testing.TB, change func(*turn.Config)) *rig {
	t.Helper()
	r := &rig{t: t, reg: prometheus.NewRegistry(), rto: 200 * time.Millisecond}
	cfg := turn.Config{
		Listen: []string{"127.0.0.1:0"}, RelayIP: netip.MustParseAddr("127.0.0.1"),
		Registerer: r.reg, Now: r.now,
	}
	if change != nil {
		change(&cfg)
	}
	s, err := turn.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Server, r.addr = s, s.Addrs()[0].String()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(waitFor):
			t.Error("Run did not return after its context ended")
		}
	})
	return r
}

func (r *rig) now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.still.IsZero() {
		return r.still.Add(r.offset)
	}
	return time.Now().Add(r.offset)
}

// stopClock lets time pass by advance alone.
func (r *rig) stopClock() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.still = time.Now()
}

func (r *rig) advance(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.offset += d
}

func (r *rig) credentials(session, user string) turn.Credentials {
	r.t.Helper()
	c, err := r.Credentials(session, user)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// dial returns a TURN client on its own socket.
func (r *rig) dial(network string, c turn.Credentials) *pionturn.Client {
	r.t.Helper()
	var conn net.PacketConn
	switch network {
	case "tcp":
		tcp, err := net.Dial("tcp", r.addr)
		if err != nil {
			r.t.Fatal(err)
		}
		conn = pionturn.NewSTUNConn(tcp)
	case "tls":
		c, err := tls.Dial("tcp", r.TLSAddrs()[0].String(), &tls.Config{RootCAs: testRoots, NextProtos: []string{turn.ALPN}})
		if err != nil {
			r.t.Fatal(err)
		}
		conn = pionturn.NewSTUNConn(c)
	default:
		udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			r.t.Fatal(err)
		}
		conn = udp
	}
	logs := logging.NewDefaultLoggerFactory()
	logs.DefaultLogLevel = logging.LogLevelDisabled
	client, err := pionturn.NewClient(&pionturn.ClientConfig{
		STUNServerAddr: r.addr, TURNServerAddr: r.addr, Username: c.Username, Password: c.Password,
		Realm: turn.DefaultRealm, Conn: conn, RTO: r.rto, LoggerFactory: logs,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := client.Listen(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { client.Close(); _ = conn.Close() })
	return client
}

// allocate returns a client and its relay socket.
func (r *rig) allocate(network, session, user string) (*pionturn.Client, net.PacketConn) {
	r.t.Helper()
	client := r.dial(network, r.credentials(session, user))
	relay, err := client.Allocate()
	if err != nil {
		r.t.Fatalf("allocating over %s: %v", network, err)
	}
	r.t.Cleanup(func() { _ = relay.Close() })
	return client, relay
}

// metric returns the value of one series; labels are name, value pairs.
func (r *rig) metric(name string, labels ...string) float64 {
	r.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "peersignal_turn_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			if hasLabels(m, labels) {
				if m.Gauge != nil {
					return m.GetGauge().GetValue()
				}
				return m.GetCounter().GetValue()
			}
		}
	}
	r.t.Fatalf("no series %s %v", name, labels)
	return 0
}

func hasLabels(m *dto.Metric, labels []string) bool {
	got := make(map[string]string)
	for _, l := range m.GetLabel() {
		got[l.GetName()] = l.GetValue()
	}
	for i := 0; i < len(labels); i += 2 {
		if got[labels[i]] != labels[i+1] {
			return false
		}
	}
	return true
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(waitFor); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not come to be that %s", what)
		}
	}
}

// receive reads one packet or fails.
func receive(t testing.TB, c net.PacketConn) (string, net.Addr) {
	t.Helper()
	buf := make([]byte, 2048)
	_ = c.SetReadDeadline(time.Now().Add(waitFor))
	n, from, err := c.ReadFrom(buf)
	if err != nil {
		t.Fatalf("receiving: %v", err)
	}
	return string(buf[:n]), from
}

// silent fails when a packet comes.
func silent(t *testing.T, c net.PacketConn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(quiet))
	if n, _, err := c.ReadFrom(make([]byte, 2048)); err == nil {
		t.Fatalf("a packet of %d bytes came that must not", n)
	}
}
