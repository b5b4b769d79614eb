package signaling_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/peersignal/peersignal/internal/signaling"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
	"github.com/peersignal/peersignal/test/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// patience is how long a test waits for what has to happen.
const patience = 2 * time.Minute

// node is a server on a loopback socket.
type node struct {
	*signaling.Server
	url  string // ws URL
	name string // host:port
	stop func() // drains and waits
}

func start(t testing.TB, cfg signaling.Config) *node {
	t.Helper()
	s, err := signaling.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s.Handler())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	n := &node{Server: s, name: strings.TrimPrefix(web.URL, "http://")}
	n.url = "ws://" + n.name + wire.Path
	n.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		web.Close()
	}
	t.Cleanup(n.stop)
	return n
}

// identity is a user with one or more devices, from fixed seeds.
type identity struct {
	user    peercrypto.SigningKey
	genesis peercrypto.UserGenesis
	id      peercrypto.ID
}

type device struct {
	key  peercrypto.SigningKey
	cert peercrypto.DeviceCert
}

var nextSeed atomic.Uint32

func freshKey(t testing.TB) peercrypto.SigningKey {
	t.Helper()
	n := nextSeed.Add(1)
	seed := make([]byte, 32)
	seed[0], seed[1], seed[2] = byte(n), byte(n>>8), 7
	k, err := peercrypto.SigningKeyFromSeed(seed)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newUser(t testing.TB) identity {
	t.Helper()
	u := identity{user: freshKey(t)}
	u.genesis = peercrypto.UserGenesis{V: 1, Created: time.Now().Add(-time.Hour).UnixMilli(), Key: u.user.Public()}
	// The server never computes a user id from its body, so any id will do, and
	// the costly derivation is spared.
	u.id = peercrypto.NewID(time.Now())
	return u
}

func (u identity) device(t testing.TB) device {
	t.Helper()
	d := device{key: freshKey(t)}
	now := time.Now()
	body := peercrypto.DeviceBody{Created: now.Add(-time.Hour).UnixMilli(), Key: d.key.Public()}
	box, err := peercrypto.GenerateBoxKey()
	if err != nil {
		t.Fatal(err)
	}
	d.cert, err = peercrypto.SignDeviceCert(u.user, peercrypto.DeviceCert{
		V: 1, DeviceID: body.ID(), DeviceKey: d.key.Public(), BoxKey: box.Public(), UserID: u.id,
		UserKey: u.user.Public(), Issued: now.Add(-time.Minute).UnixMilli(), Expires: now.Add(24 * time.Hour).UnixMilli(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func newDevice(t testing.TB) device { return newUser(t).device(t) }

func (d device) auth(t testing.TB, nonce wire.Nonce, server string, now time.Time) *wire.Auth {
	t.Helper()
	a, err := wire.SignAuth(wire.AuthBody{
		Server: server, Nonce: nonce, CNonce: peercrypto.NewNonce(), Time: now.UnixMilli(), Caps: []string{wire.CapRV1},
	}, d.key, d.cert)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// client is one end of a real WebSocket.
type client struct {
	t      testing.TB
	ws     *websocket.Conn
	hello  *wire.Hello
	ready  *wire.Ready
	device device
	nextID uint64
	got    uint64 // counted frames
	closed error  // the error of the last read
}

// dial opens a WebSocket and reads hello.
func dial(t testing.TB, n *node) *client {
	t.Helper()
	ws, resp, err := websocket.Dial(deadline(t), n.url, &websocket.DialOptions{Subprotocols: []string{wire.Subprotocol}})
	if err != nil {
		t.Fatalf("dial: %v (%v)", err, resp)
	}
	ws.SetReadLimit(-1)
	t.Cleanup(func() { _ = ws.CloseNow() })
	c := &client{t: t, ws: ws}
	c.hello = read[*wire.Hello](c)
	return c
}

// connect makes a session for d.
func connect(t testing.TB, n *node, d device) *client {
	t.Helper()
	c := dial(t, n)
	c.device = d
	c.send(d.auth(t, c.hello.Nonce, n.name, time.Now()))
	c.ready = read[*wire.Ready](c)
	return c
}

func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func (c *client) send(m wire.Message) {
	c.t.Helper()
	frame, err := wire.Encode(m)
	if err != nil {
		c.t.Fatal(err)
	}
	c.write(frame)
}

func (c *client) write(frame []byte) {
	c.t.Helper()
	if err := c.ws.Write(deadline(c.t), websocket.MessageText, frame); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// next reads a message, or returns nil when the connection has ended.
func (c *client) next() wire.Message {
	c.t.Helper()
	_, frame, err := c.ws.Read(deadline(c.t))
	if err != nil {
		c.closed = err
		return nil
	}
	m, err := wire.DecodeFromServer(frame)
	if err != nil {
		c.t.Fatalf("from server: %v: %s", err, frame)
	}
	switch m.(type) {
	case *wire.Present, *wire.Signal:
		c.got++
	}
	return m
}

// read expects a message of type M next.
func read[M wire.Message](c *client) M {
	c.t.Helper()
	got := c.next()
	m, ok := got.(M)
	if !ok {
		c.t.Fatalf("got %T %+v (%v), want %T", got, got, c.closed, m)
	}
	return m
}

// wantClose expects the connection to end with code, ignoring messages before.
func (c *client) wantClose(code wire.CloseCode) {
	c.t.Helper()
	for c.next() != nil {
	}
	if got := wire.CloseCode(websocket.CloseStatus(c.closed)); got != code {
		c.t.Fatalf("closed with %d (%v), want %d %v", got, c.closed, code, code)
	}
}

// quiet checks that nothing has been sent to c before now: the answer to a
// request comes first.
func (c *client) quiet() {
	c.t.Helper()
	c.nextID++
	c.send(&wire.Topics{ID: c.nextID, Del: []peercrypto.Tag{tag(250)}})
	if r := read[*wire.Result](c); r.ID != c.nextID {
		c.t.Fatalf("got %+v", r)
	}
}

// hold adds tags and waits for the result.
func (c *client) hold(tags ...peercrypto.Tag) {
	c.t.Helper()
	if r := c.topics(tags, nil); r.Code != wire.CodeOK {
		c.t.Fatalf("topics: %+v", r)
	}
}

func (c *client) topics(add, del []peercrypto.Tag) *wire.Result {
	c.t.Helper()
	c.nextID++
	c.send(&wire.Topics{ID: c.nextID, Add: add, Del: del})
	return c.result(c.nextID)
}

// result reads until the result of id, and keeps presence that comes first out
// of the way by failing on it: results of topics come before its lists.
func (c *client) result(id uint64) *wire.Result {
	c.t.Helper()
	r := read[*wire.Result](c)
	if r.ID != id {
		c.t.Fatalf("result of %d, want %d: %+v", r.ID, id, r)
	}
	return r
}

// offer sends an offer and returns its result.
func (c *client) offer(to peercrypto.ID, via peercrypto.Tag) *wire.Result {
	c.t.Helper()
	return c.signal(wire.KindOffer, to, via, newConnID())
}

func (c *client) signal(kind wire.Kind, to peercrypto.ID, via peercrypto.Tag, conn peercrypto.ID) *wire.Result {
	c.t.Helper()
	c.nextID++
	c.send(&wire.Signal{Kind: kind, ID: c.nextID, To: to, Via: via, Conn: conn, Env: envelope(kind)})
	return c.result(c.nextID)
}

func envelope(kind wire.Kind) wire.Envelope {
	if kind == wire.KindOffer || kind == wire.KindNotify {
		return wire.NewEnvelope(&peercrypto.BoxPublicKey{9}, []byte("sealed"))
	}
	return wire.NewEnvelope(nil, []byte("sealed"))
}

func newConnID() peercrypto.ID { return peercrypto.NewID(time.Now()) }

func (c *client) id() peercrypto.ID { return c.device.cert.DeviceID }

// joined reads one presence frame that announces exactly these devices.
func (c *client) joined(tag peercrypto.Tag, who ...*client) {
	c.t.Helper()
	p := read[*wire.Present](c)
	want := map[peercrypto.ID]bool{}
	for _, w := range who {
		want[w.id()] = true
	}
	if p.Tag != tag || len(p.Join) != len(who) || len(p.Leave) != 0 {
		c.t.Fatalf("got %+v, want a join of %v", p, want)
	}
	for _, j := range p.Join {
		if !want[j.Cert.DeviceID] {
			c.t.Fatalf("a join of %v was not expected", j.Cert.DeviceID)
		}
		if err := j.Cert.Verify(time.Now()); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *client) left(tag peercrypto.Tag, who *client) {
	c.t.Helper()
	p := read[*wire.Present](c)
	if p.Tag != tag || len(p.Join) != 0 || len(p.Leave) != 1 || p.Leave[0] != who.id() {
		c.t.Fatalf("got %+v, want the leave of %v", p, who.id())
	}
}

func (c *client) bye() {
	c.t.Helper()
	c.send(&wire.Bye{})
	c.wantClose(wire.CloseCode(websocket.StatusNormalClosure))
}

func tag(n byte) (t peercrypto.Tag) {
	for i := range t {
		t[i] = n
	}
	return t
}

func tags(n int) []peercrypto.Tag {
	out := make([]peercrypto.Tag, n)
	for i := range out {
		out[i] = peercrypto.Tag{1: 1, 2: byte(i), 3: byte(i >> 8), 4: byte(i >> 16)}
	}
	return out
}

// httpStatus makes a plain upgrade request and gives the response's status.
func httpStatus(t testing.TB, n *node, header http.Header) int {
	t.Helper()
	ws, resp, err := websocket.Dial(deadline(t), n.url, &websocket.DialOptions{
		Subprotocols: []string{wire.Subprotocol}, HTTPHeader: header,
	})
	if err == nil {
		_ = ws.CloseNow()
		return http.StatusSwitchingProtocols
	}
	if resp == nil {
		var ne net.Error
		t.Fatalf("no response: %v %v", err, errors.As(err, &ne))
	}
	return resp.StatusCode
}
