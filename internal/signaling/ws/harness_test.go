package ws_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peersignal/peersignal/internal/signaling/ws"
	"github.com/peersignal/peersignal/test/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

const patience = time.Minute

// peer is the server's end of a connection under test.
type peer struct {
	*ws.Conn
	server *server

	mu       sync.Mutex
	messages []string
	frames   int
	err      error         // of Serve
	done     chan struct{} // closed after Finish
}

func (p *peer) Message(text []byte) bool {
	p.mu.Lock()
	p.messages = append(p.messages, string(text))
	p.mu.Unlock()
	if p.server.onMessage != nil {
		return p.server.onMessage(p, text)
	}
	return true
}

func (p *peer) Frame() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frames++
	return true
}

func (p *peer) Drained() {
	if p.server.onDrained != nil {
		p.server.onDrained(p)
	}
}

func (p *peer) Failed(err error) {
	if errors.Is(err, ws.ErrFull) {
		p.Shut(ws.End{Code: 4003, Drop: true})
		return
	}
	p.Shut(ws.End{})
}

// server accepts peers.
type server struct {
	*httptest.Server
	options   ws.Options
	limit     int
	onMessage func(*peer, []byte) bool
	onDrained func(*peer)
	peers     chan *peer
}

// newServer starts a server that ends with the test. change may be nil.
func newServer(t testing.TB, secure bool, change func(*server)) *server {
	t.Helper()
	s := &server{
		options: ws.Options{
			QueueBytes: 1 << 18, WriteTimeout: patience, CloseTimeout: time.Second, Budget: ws.NewBudget(64 << 20),
		},
		limit: 1 << 20, peers: make(chan *peer, 1024),
	}
	if change != nil {
		change(s)
	}
	var all sync.WaitGroup
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := &peer{server: s, done: make(chan struct{})}
		c, err := ws.Upgrade(w, r, "test", p, &s.options)
		if err != nil {
			return
		}
		c.SetLimit(s.limit)
		p.Conn = c
		s.peers <- p
		all.Go(p.run)
	}))
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(func() {
		for len(s.peers) > 0 {
			(<-s.peers).Shut(ws.End{Drop: true})
		}
		s.Close()
		all.Wait()
		if used := s.options.Budget.Used(); used != 0 {
			t.Errorf("%d bytes are left on the budget", used)
		}
	})
	return s
}

func (p *peer) run() {
	defer close(p.done)
	defer p.Finish()
	p.Kick() // so that the answer to the upgrade goes out
	err := p.Serve()
	p.mu.Lock()
	p.err = err
	p.mu.Unlock()
	var bad *ws.ProtocolError
	switch {
	case errors.As(err, &bad):
		p.Shut(ws.End{Code: bad.Code, Reason: bad.Reason})
	case errors.Is(err, ws.ErrTooLong):
		p.Shut(ws.End{Code: 1009})
	default:
		p.Shut(ws.End{})
	}
}

// probe does what the owner of connections does now and then, until the end.
func (p *peer) probe(t testing.TB) {
	t.Helper()
	for range int(patience / time.Millisecond) {
		select {
		case <-p.done:
			return
		case <-time.After(time.Millisecond):
			p.Probe()
		}
	}
	t.Fatal("the connection does not end")
}

// ended waits for the end and gives what Serve gave.
func (p *peer) ended(t testing.TB) error {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatal("the connection does not end")
	}
	return p.err
}

func (p *peer) got() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.messages...)
}

// raw is a client that speaks in bytes.
type raw struct {
	net.Conn
	r *bufio.Reader
}

const request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

// dialRaw upgrades, and sends more in the same packet.
func dialRaw(t testing.TB, s *server, more []byte) (*raw, *peer) {
	t.Helper()
	nc, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(patience))
	if _, err := nc.Write(append([]byte(request), more...)); err != nil {
		t.Fatal(err)
	}
	c := &raw{nc, bufio.NewReader(nc)}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	// The example of RFC 6455, section 1.3.
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("got %+v", resp)
	}
	return c, <-s.peers
}

// read reads one frame of the server, which are never masked.
func (c *raw) read() (op byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return 0, nil, err
	}
	n := uint64(head[1])
	switch n {
	case 126:
		var b [2]byte
		_, err = io.ReadFull(c.r, b[:])
		n = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		_, err = io.ReadFull(c.r, b[:])
		n = binary.BigEndian.Uint64(b[:])
	}
	if err != nil || head[0]&0x80 == 0 || n > 1<<24 {
		return 0, nil, errors.Join(err, errors.New("not a frame"))
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(c.r, payload)
	return head[0] & 0x0f, payload, err
}

// frame is a masked frame; first is its first byte.
func frame(first byte, payload string) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	key := [4]byte{1, 2, 3, 0xff}
	b = append(b, key[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^key[i%4])
	}
	return b
}

func join(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func wsURL(s *server) string { return "ws" + strings.TrimPrefix(s.URL, "http") }

func echo(p *peer, text []byte) bool {
	p.Reply(text, false)
	return true
}
