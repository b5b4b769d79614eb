package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// rolling is a device that sends numbered offers to its peer all the time, and
// behaves as a client should: it goes on with its session, comes back when it was
// told, and sends again what got no result.
type rolling struct {
	t    *testing.T
	who  someone
	peer peercrypto.ID
	tag  peercrypto.Tag
	host string

	mu        sync.Mutex
	token     string
	got       uint64
	nextID    uint64
	number    uint64            // of the offer that is sent now
	delivered map[uint64]bool   // numbers that the server called delivered
	received  map[uint64]uint64 // how often each of the peer's numbers came
	told      []time.Duration   // retryAfter of the notices
	ups       int               // connections that became ready
	resumed   int               // of them, those that went on
	up        bool
	quiet     bool // no offer is under way, and none will be
}

func newRolling(t *testing.T, host string, who someone, peer peercrypto.ID, tag peercrypto.Tag) *rolling {
	return &rolling{
		t: t, host: host, who: who, peer: peer, tag: tag, number: 1,
		delivered: make(map[uint64]bool), received: make(map[uint64]uint64),
	}
}

// state gives the counts of connections, and whether there is one now.
func (d *rolling) state() (ups, resumed int, up bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ups, d.resumed, d.up
}

// run connects again and again until ctx ends. After quit no new offers are made.
func (d *rolling) run(ctx context.Context, quit <-chan struct{}) {
	for ctx.Err() == nil {
		wait := d.connect(ctx, quit)
		d.mu.Lock()
		d.up = false
		d.mu.Unlock()
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// connect makes one connection, serves it until it ends, and says when to make
// the next.
func (d *rolling) connect(ctx context.Context, quit <-chan struct{}) (wait time.Duration) {
	const again = 20 * time.Millisecond
	ws, _, err := websocket.Dial(ctx, "ws://"+d.host+wire.Path, &websocket.DialOptions{Subprotocols: []string{wire.Subprotocol}})
	if err != nil {
		return again
	}
	defer func() { _ = ws.CloseNow() }()
	ws.SetReadLimit(-1)
	if err := d.signIn(ctx, ws); err != nil {
		return again
	}
	c := &rollingConn{rolling: d, ws: ws, results: make(chan *wire.Result, 1), answers: make(chan *wire.Signal, 64)}
	connCtx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { c.offers(connCtx, quit) })
	wg.Go(func() { c.write(connCtx) })
	c.read(connCtx)
	cancel()
	wg.Wait()
	if c.leaveAt.IsZero() {
		return again
	}
	return max(time.Until(c.leaveAt), 0)
}

func (d *rolling) signIn(ctx context.Context, ws *websocket.Conn) error {
	m, err := readMessage(ctx, ws)
	hello, ok := m.(*wire.Hello)
	if err != nil || !ok {
		return fmt.Errorf("no hello: %w", err)
	}
	auth, err := wire.SignAuth(wire.AuthBody{
		Server: d.host, Nonce: hello.Nonce, CNonce: peercrypto.NewNonce(), Time: time.Now().UnixMilli(),
		Caps: []string{wire.CapRV1, wire.CapResume},
	}, d.who.key, d.who.cert)
	if err != nil {
		return err
	}
	if d.token != "" {
		auth.Resume, auth.Got = d.token, d.got
	}
	if err := writeMessage(ctx, ws, auth); err != nil {
		return err
	}
	m, err = readMessage(ctx, ws)
	ready, ok := m.(*wire.Ready)
	if err != nil || !ok {
		return fmt.Errorf("not ready, %T: %w", m, err)
	}
	d.mu.Lock()
	d.ups++
	d.up = true
	d.token = ready.Resume
	if ready.Resumed {
		d.resumed++
	} else {
		d.got = 0
	}
	d.nextID++
	id := d.nextID
	d.mu.Unlock()
	if ready.Topics > 0 {
		return nil
	}
	return writeMessage(ctx, ws, &wire.Topics{ID: id, Add: []peercrypto.Tag{d.tag}})
}

func readMessage(ctx context.Context, ws *websocket.Conn) (wire.Message, error) {
	_, frame, err := ws.Read(ctx)
	if err != nil {
		return nil, err
	}
	return wire.DecodeFromServer(frame)
}

func writeMessage(ctx context.Context, ws *websocket.Conn, m wire.Message) error {
	frame, err := wire.Encode(m)
	if err != nil {
		return err
	}
	return ws.Write(ctx, websocket.MessageText, frame)
}

// rollingConn is one connection of a device.
type rollingConn struct {
	*rolling
	ws      *websocket.Conn
	results chan *wire.Result
	answers chan *wire.Signal // to be sent
	waiting uint64            // request id of the offer; guarded by mu
	leaveAt time.Time         // of the reader
}

// read takes what the server sends, until the connection ends.
func (c *rollingConn) read(ctx context.Context) {
	var leave *time.Timer
	for {
		m, err := readMessage(ctx, c.ws)
		if err != nil {
			if leave != nil {
				leave.Stop()
			}
			return
		}
		switch m := m.(type) {
		case *wire.Signal:
			c.signal(m)
		case *wire.Present:
			c.mu.Lock()
			c.got++
			c.mu.Unlock()
		case *wire.Result:
			c.mu.Lock()
			mine := m.ID == c.waiting
			c.mu.Unlock()
			if mine {
				c.results <- m
			}
		case *wire.Notice:
			after := time.Duration(m.RetryAfter) * time.Millisecond
			c.mu.Lock()
			c.told = append(c.told, after)
			c.mu.Unlock()
			c.leaveAt = time.Now().Add(after)
			// After bye the server sends what it has yet, and closes.
			leave = time.AfterFunc(after, func() { _ = writeMessage(ctx, c.ws, &wire.Bye{}) })
		}
	}
}

// signal counts an offer and answers it.
func (c *rollingConn) signal(m *wire.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got++
	sealed, err := m.Env.Sealed()
	if err != nil || m.From != c.peer {
		c.t.Errorf("a signal from %s: %v", m.From.Short(), err)
		return
	}
	if m.Kind != wire.KindOffer {
		return
	}
	c.received[binary.BigEndian.Uint64(sealed)]++
	c.nextID++
	select {
	case c.answers <- &wire.Signal{
		Kind: wire.KindAnswer, ID: c.nextID, To: c.peer, Via: c.tag, Conn: m.Conn, Env: wire.NewEnvelope(nil, sealed),
	}:
	default: // the connection is slow; the peer's offer counts as unanswered for a while
	}
}

// write sends answers, and acknowledges after each.
func (c *rollingConn) write(ctx context.Context) {
	for {
		select {
		case a := <-c.answers:
			c.mu.Lock()
			got := c.got
			c.mu.Unlock()
			if writeMessage(ctx, c.ws, a) != nil || writeMessage(ctx, c.ws, &wire.Ack{N: got}) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// offers sends one after the other. A number is given up only when the server
// has said what became of it.
func (c *rollingConn) offers(ctx context.Context, quit <-chan struct{}) {
	for ctx.Err() == nil {
		select {
		case <-quit:
			c.mu.Lock()
			c.quiet = true
			c.mu.Unlock()
			return
		default:
		}
		code, err := c.offer(ctx)
		if err != nil {
			return // without a result: the next connection sends it again
		}
		c.mu.Lock()
		if code == wire.CodeDelivered {
			c.delivered[c.number] = true
			c.number++
		}
		c.mu.Unlock()
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

var errNoResult = errors.New("the connection ended before the result")

func (c *rollingConn) offer(ctx context.Context) (wire.Code, error) {
	c.mu.Lock()
	c.nextID++
	c.waiting = c.nextID
	id, sealed := c.nextID, binary.BigEndian.AppendUint64(nil, c.number)
	c.mu.Unlock()
	err := writeMessage(ctx, c.ws, &wire.Signal{
		Kind: wire.KindOffer, ID: id, To: c.peer, Via: c.tag, Conn: peercrypto.NewID(time.Now()),
		Env: wire.NewEnvelope(&peercrypto.BoxPublicKey{9}, sealed),
	})
	if err != nil {
		return "", err
	}
	select {
	case r := <-c.results:
		return r.Code, nil
	case <-ctx.Done():
		return "", errNoResult
	}
}

// tcpSwitch passes connections to the one behind it.
type tcpSwitch struct {
	ln net.Listener
	wg sync.WaitGroup

	mu    sync.Mutex
	to    string
	conns map[net.Conn]struct{}
}

func newTCPSwitch(t *testing.T) *tcpSwitch {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &tcpSwitch{ln: ln, conns: make(map[net.Conn]struct{})}
	s.wg.Go(s.accept)
	t.Cleanup(func() {
		_ = ln.Close()
		s.cut()
		s.wg.Wait()
	})
	return s
}

func (s *tcpSwitch) addr() string { return s.ln.Addr().String() }

// turn leads new connections elsewhere; those that stand stay.
func (s *tcpSwitch) turn(to string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.to = to
}

// cut breaks all connections.
func (s *tcpSwitch) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close()
	}
}

func (s *tcpSwitch) accept() {
	for {
		in, err := s.ln.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		to := s.to
		s.mu.Unlock()
		out, err := net.Dial("tcp", to)
		if err != nil {
			_ = in.Close()
			continue
		}
		s.mu.Lock()
		s.conns[in], s.conns[out] = struct{}{}, struct{}{}
		s.mu.Unlock()
		s.wg.Go(func() { s.forward(in, out) })
		s.wg.Go(func() { s.forward(out, in) })
	}
}

// forward passes bytes, and the end of them, in one direction.
func (s *tcpSwitch) forward(from, to net.Conn) {
	_, err := io.Copy(to, from)
	if tcp, ok := to.(*net.TCPConn); ok && err == nil {
		_ = tcp.CloseWrite()
	} else {
		_ = to.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, from)
}
