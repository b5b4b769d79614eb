package link_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	pionturn "github.com/pion/turn/v4"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer/link"
	"github.com/peersignal/peersignal/pkg/wire"
)

// Both offers are on their way before either arrives, in both orders.
func TestGlareCrossing(t *testing.T) {
	r := newRelay(t)
	a, b := startDevice(t, r.url(), nil), startDevice(t, r.url(), nil)
	a.sees(b)
	b.sees(a)
	lower := a
	if b.deviceID() < a.deviceID() {
		lower = b
	}
	for round := range 8 {
		first, second := a.deviceID(), b.deviceID()
		if round%2 == 1 {
			first, second = second, first
		}
		var mu sync.Mutex
		held := make(map[peercrypto.ID]*wire.Signal) // by target
		both, firstSent := make(chan struct{}), make(chan struct{})
		r.setPass(func(to peercrypto.ID, m *wire.Signal) []*wire.Signal {
			if m.Kind != wire.KindOffer {
				return []*wire.Signal{m}
			}
			mu.Lock()
			held[to] = m
			if len(held) == 2 {
				close(both)
			}
			mu.Unlock()
			<-both
			if to == second {
				<-firstSent
			}
			r.inject(to, m)
			if to == first {
				close(firstSent)
			}
			return nil
		})
		conns := make(chan *link.Conn, 2)
		for _, pair := range [][2]*device{{a, b}, {b, a}} {
			go func() {
				c, err := pair[0].link.Dial(testContext(t), pair[1].deviceID())
				if err != nil {
					t.Errorf("round %d: %v", round, err)
				}
				conns <- c
			}()
		}
		x, y := <-conns, <-conns
		if x == nil || y == nil || x.SessionID() != y.SessionID() {
			t.Fatalf("round %d: not one connection", round)
		}
		if c := lower.link.Conns(); len(c) != 1 || !c[0].Outgoing() {
			t.Fatalf("round %d: not the offer of the lower device id survived", round)
		}
		_ = x.Close("next round")
		eventually(t, "end of round", func() bool { return len(a.link.Conns())+len(b.link.Conns()) == 0 })
	}
	for _, d := range []*device{a, b} {
		if n := count(d, func(link.DialFailed) bool { return true }); n != 0 {
			t.Errorf("%d failures were reported", n)
		}
	}
}

// A small message does not wait behind a large transfer: between question and
// answer on one stream, little goes over the other.
func TestStreamsAreIndependent(t *testing.T) {
	r := newRelay(t)
	a, b := startDevice(t, r.url(), nil), startDevice(t, r.url(), nil)
	ac, bc := connect(t, a, b)
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	open := func(name string) (x, y *link.Stream) {
		x, err := ac.OpenStream(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		if y, err = bc.AcceptStream(ctx); err != nil {
			t.Fatal(err)
		}
		return x, y
	}
	bulk, bulkEnd := open("bulk")
	ask, answer := open("small")
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		for msg := make([]byte, link.MaxMessage); bulk.WriteMessage(ctx, msg) == nil; {
		}
	})
	wg.Go(func() {
		for {
			if _, err := bulkEnd.ReadMessage(ctx); err != nil {
				return
			}
		}
	})
	wg.Go(func() {
		for {
			msg, err := answer.ReadMessage(ctx)
			if err != nil || answer.WriteMessage(ctx, msg) != nil {
				return
			}
		}
	})
	eventually(t, "transfer", func() bool { return bc.Stats().MessagesIn > 2 })
	const rounds = 50
	before := bc.Stats().BytesIn
	for range rounds {
		if err := ask.WriteMessage(ctx, []byte("?")); err != nil {
			t.Fatal(err)
		}
		if _, err := ask.ReadMessage(ctx); err != nil {
			t.Fatal(err)
		}
	}
	mean := float64(bc.Stats().BytesIn-before) / rounds
	t.Logf("%.0f KiB of the transfer for each round trip", mean/1024)
	if mean > 4<<20 {
		t.Errorf("a round trip waits for %.0f bytes of the transfer", mean)
	}
}

func TestSlowReader(t *testing.T) {
	r := newRelay(t)
	a, b := startDevice(t, r.url(), nil), startDevice(t, r.url(), nil)
	ac, bc := connect(t, a, b)
	ctx := testContext(t)
	s, err := ac.OpenStream(ctx, "flood")
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		err = s.WriteMessage(ctx, make([]byte, 1<<20))
	}
	wantErr(t, err, link.ErrPeerClosed)
	<-bc.Done()
	wantErr(t, bc.Err(), link.ErrSlowReader)
}

// An answer, and nothing else, makes room: WriteMessage waits for the path, and
// a context ends the wait.
func TestWriteWaits(t *testing.T) {
	r := newRelay(t)
	a, b := startDevice(t, r.url(), nil), startDevice(t, r.url(), nil)
	ac, bc := connect(t, a, b)
	ctx := testContext(t)
	s, err := ac.OpenStream(ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	wantErr(t, s.WriteMessage(done, []byte("x")), context.Canceled)
	if err := s.WriteMessage(ctx, []byte("still usable")); err != nil {
		t.Fatal(err)
	}
	_ = bc.Close("")
	<-ac.Done()
	wantErr(t, s.WriteMessage(ctx, nil), link.ErrPeerClosed)
	_, err = ac.OpenStream(ctx, "late")
	wantErr(t, err, link.ErrPeerClosed)
	_, err = ac.AcceptStream(ctx)
	wantErr(t, err, link.ErrPeerClosed)
}

// A stream that was closed properly ends with EOF; one that was given up in the
// middle, or whose connection was lost, does not.
func TestStreamEndsAreTold(t *testing.T) {
	r := newRelay(t)
	a, b := startDevice(t, r.url(), nil), startDevice(t, r.url(), nil)
	ac, bc := connect(t, a, b)
	ctx := testContext(t)
	open := func() (x, y *link.Stream) {
		x, err := ac.OpenStream(ctx, "x")
		if err != nil {
			t.Fatal(err)
		}
		if y, err = bc.AcceptStream(ctx); err != nil {
			t.Fatal(err)
		}
		return x, y
	}
	x, y := open()
	_ = x.Close()
	_, err := y.ReadMessage(ctx)
	wantErr(t, err, io.EOF)
	wantErr(t, y.WriteMessage(ctx, nil), link.ErrStreamClosed)
	_ = y.Close()
	// The reader does not read, so that the writer stands in the middle of a
	// message when it is told to stop.
	x, y = open()
	short, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		var err error
		for msg := make([]byte, 1<<20); err == nil; {
			err = x.WriteMessage(short, msg)
		}
		done <- err
	}()
	if _, err := y.ReadMessage(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	wantErr(t, <-done, context.Canceled)
	_ = x.Close() // if it stood between two messages
	for err = nil; err == nil; {
		_, err = y.ReadMessage(ctx)
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, link.ErrStreamReset) {
		t.Errorf("error %v", err)
	}
	// Nothing says that the last message was the last one.
	_, y = open()
	_ = ac.Close("without a word")
	_, err = y.ReadMessage(ctx)
	wantErr(t, err, link.ErrPeerClosed)
}

// turnServer starts a TURN server on loopback and returns its URL.
func turnServer(t *testing.T) wire.ICEServer {
	t.Helper()
	_, server := stoppableTURN(t)
	return server
}

// stoppableTURN is turnServer with a function that ends it.
func stoppableTURN(t *testing.T) (stop func(), server wire.ICEServer) {
	t.Helper()
	var pc net.PacketConn
	var ln net.Listener
	eventually(t, "a port that is free for both", func() bool {
		var err error
		if pc, err = net.ListenPacket("udp4", "127.0.0.1:0"); err != nil {
			return false
		}
		if ln, err = net.Listen("tcp4", pc.LocalAddr().String()); err != nil {
			_ = pc.Close()
		}
		return err == nil
	})
	relays := &pionturn.RelayAddressGeneratorStatic{RelayAddress: net.IPv4(127, 0, 0, 1), Address: "127.0.0.1"}
	s, err := pionturn.NewServer(pionturn.ServerConfig{
		Realm: "test",
		AuthHandler: func(user, realm string, _ net.Addr) ([]byte, bool) {
			return pionturn.GenerateAuthKey(user, realm, "secret"), user == "user"
		},
		PacketConnConfigs: []pionturn.PacketConnConfig{{PacketConn: pc, RelayAddressGenerator: relays}},
		ListenerConfigs:   []pionturn.ListenerConfig{{Listener: ln, RelayAddressGenerator: relays}},
	})
	if err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() { _ = s.Close() })
	t.Cleanup(stop)
	return stop, wire.ICEServer{URLs: []string{"turn:" + pc.LocalAddr().String() + "?transport=udp"}, Username: "user", Credential: "secret"}
}

func TestRelayOnly(t *testing.T) {
	r := newRelay(t)
	r.ice = []wire.ICEServer{turnServer(t)}
	relayed := func(c *link.Config) { c.ICETransport = link.ICERelay }
	a, b := startDevice(t, r.url(), relayed), startDevice(t, r.url(), relayed)
	ac, bc := connect(t, a, b)
	echo(t, ac, bc, "relayed")
	for _, c := range []*link.Conn{ac, bc} {
		if st := c.Stats(); st.LocalCandidateType != "relay" {
			t.Errorf("path is %s to %s", st.LocalCandidateType, st.RemoteCandidateType)
		}
	}
}

func TestICERenewed(t *testing.T) {
	r := newRelay(t)
	r.ice = []wire.ICEServer{{URLs: []string{"stun:127.0.0.1:9"}}}
	r.iceExpires = time.Now().Add(time.Second).UnixMilli()
	a, b := startDevice(t, r.url(), nil), startDevice(t, r.url(), nil)
	connect(t, a, b)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.iceAsked != 2 {
		t.Errorf("asked %d times for ICE servers", r.iceAsked)
	}
}

func TestTopics(t *testing.T) {
	r := newRelay(t)
	a, b := startDevice(t, r.url(), nil), startDevice(t, r.url(), nil)
	a.sees(b)
	second := peercrypto.Tag{7}
	salted := link.Topic{Tag: second, EnvSalt: [32]byte{1, 2}}
	a.link.SetTopics([]link.Topic{{Tag: testTag, ListenOnly: true}, salted})
	b.link.SetTopics([]link.Topic{{Tag: testTag, ListenOnly: true}, salted, salted, {}})
	await(a, "second topic", func(e link.Discovered) bool { return e.Tag == second })
	ac, bc := connect(t, a, b)
	if via := bc.Remote().Via; len(via) != 1 || via[0] != second {
		t.Errorf("negotiated over %v", via)
	}
	b.link.SetTopics(nil)
	for _, tag := range []peercrypto.Tag{testTag, second} {
		await(a, "leaving", func(e link.Gone) bool { return e.Tag == tag && e.DeviceID == b.deviceID() })
		await(b, "forgetting", func(e link.Gone) bool { return e.Tag == tag && e.DeviceID == a.deviceID() })
	}
	if ac.Err() != nil {
		t.Error("the connection ended with the topic")
	}
	if st := a.link.Status(); st.Topics != 2 || st.Peers != 0 || len(st.Conns) != 1 || st.Session == "" {
		t.Errorf("status %+v", st)
	}
}

func TestUseName(t *testing.T) {
	r := newRelay(t)
	r.name = strings.Replace(hostPort(r.url()), "127.0.0.1", "localhost", 1)
	a := startDevice(t, r.url(), nil)
	up := await(a, "session", func(link.ServerUp) bool { return true })
	if up.Name != r.name || a.link.ServerName() != r.name {
		t.Errorf("name is %q", up.Name)
	}
	if st := a.link.Status(); st.Topics != 0 {
		t.Error("topics for the other name were kept")
	}
	a.link.SetTopics([]link.Topic{{Tag: testTag}})
	published(t, a)
	// A server whose names point at one another is given up for now.
	loop := newRelay(t)
	loop.name = "localhost:1"
	b := startDevice(t, loop.url(), nil)
	await(b, "failure", func(e link.ServerDown) bool { return e.Err != nil && e.Retry >= 0 })
}

// Long before the certificate expires, the session is made anew with a fresh one.
func TestCertificateRenewed(t *testing.T) {
	r := newRelay(t)
	startDevice(t, r.url(), func(c *link.Config) { c.CertLife = 400 * time.Millisecond })
	eventually(t, "second session", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.auths) > 1 && r.auths[1].Cert.Issued > r.auths[0].Cert.Issued
	})
}

func TestTLSRequired(t *testing.T) {
	r := newRelay(t)
	secure := httptest.NewUnstartedServer(http.HandlerFunc(r.serve))
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	a := startDevice(t, secure.URL, nil)
	down := await(a, "refusal", func(link.ServerDown) bool { return true })
	var unknown *tls.CertificateVerificationError
	if !errors.As(down.Err, &unknown) {
		t.Errorf("error %v", down.Err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(secure.Certificate())
	b := startDevice(t, secure.URL, func(c *link.Config) { c.TLS = &tls.Config{RootCAs: pool} })
	await(b, "session", func(link.ServerUp) bool { return true })
}

func TestRedirectRefused(t *testing.T) {
	r := newRelay(t)
	other := httptest.NewServer(http.RedirectHandler(r.url()+wire.Path, http.StatusFound))
	t.Cleanup(other.Close)
	a := startDevice(t, other.URL, nil)
	down := await(a, "refusal", func(link.ServerDown) bool { return true })
	if !strings.Contains(down.Err.Error(), "redirects") {
		t.Errorf("error %v", down.Err)
	}
}

func TestReplacedStaysAway(t *testing.T) {
	r := newRelay(t)
	a := startDevice(t, r.url(), nil)
	published(t, a)
	r.mu.Lock()
	s := r.sessions[a.deviceID()]
	r.mu.Unlock()
	s.send(&wire.Notice{Code: wire.CodeReplaced, Message: "elsewhere"})
	down := await(a, "end", func(link.ServerDown) bool { return true })
	if down.Retry >= 0 {
		t.Errorf("comes back in %v", down.Retry)
	}
	_, err := a.link.Dial(testContext(t), peercrypto.NewID(time.Now()))
	wantErr(t, err, link.ErrServerDown)
	a.link.Reconnect()
	eventually(t, "second session", func() bool { return a.link.Status().Session != "" })
}

func TestConfig(t *testing.T) {
	id, doc := testIdentity(t)
	other, otherDoc := testIdentity(t)
	good := func() link.Config {
		return link.Config{
			Server: "https://example.org", Identity: id, UserDoc: doc,
			Admit: func(context.Context, link.Remote) error { return nil },
		}
	}
	if _, err := link.New(good()); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*link.Config){
		"no server":      func(c *link.Config) { c.Server = "" },
		"plain http":     func(c *link.Config) { c.Server = "http://example.org" },
		"no identity":    func(c *link.Config) { c.Identity = peercrypto.Identity{} },
		"no document":    func(c *link.Config) { c.UserDoc = nil },
		"other document": func(c *link.Config) { c.UserDoc = otherDoc },
		"other identity": func(c *link.Config) { c.Identity = other },
		"no admit":       func(c *link.Config) { c.Admit = nil },
		"policy":         func(c *link.Config) { c.ICETransport = "some" },
		"negative":       func(c *link.Config) { c.MaxConns = -1 },
		"no TLS check":   func(c *link.Config) { c.TLS = &tls.Config{InsecureSkipVerify: true} }, //nolint:gosec // it has to be refused
		"backoff":        func(c *link.Config) { c.ReconnectMin, c.ReconnectMax = time.Minute, time.Second },
	} {
		cfg := good()
		change(&cfg)
		if _, err := link.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestRunOnce(t *testing.T) {
	r := newRelay(t)
	a := startDevice(t, r.url(), nil)
	published(t, a)
	if err := a.link.Run(context.Background()); err == nil {
		t.Error("ran twice")
	}
	a.stop()
	_, err := a.link.Dial(context.Background(), peercrypto.NewID(time.Now()))
	wantErr(t, err, link.ErrNotRunning)
	a.link.SetTopics(nil)
	_ = a.link.Status()
}
