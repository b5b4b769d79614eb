package ws_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/lxzan/gws"

	"github.com/peersignal/peersignal/internal/signaling/ws"
)

// TestEchoToCoder exchanges messages of many lengths with another library, with
// and without TLS.
func TestEchoToCoder(t *testing.T) {
	for _, secure := range []bool{false, true} {
		s := newServer(t, secure, func(s *server) { s.onMessage = echo })
		c, _, err := websocket.Dial(deadline(t), wsURL(s), &websocket.DialOptions{HTTPClient: s.Client(), Subprotocols: []string{"test"}})
		if err != nil {
			t.Fatal(err)
		}
		c.SetReadLimit(-1)
		for _, n := range []int{0, 1, 125, 126, 1600, 4096, 8191, 65535, 65536, 200_000} {
			text := bytes.Repeat([]byte("x"), n)
			if err := c.Write(deadline(t), websocket.MessageText, text); err != nil {
				t.Fatal(err)
			}
			typ, got, err := c.Read(deadline(t))
			if err != nil || typ != websocket.MessageText || !bytes.Equal(got, text) {
				t.Fatalf("%d bytes: got %d, %v", n, len(got), err)
			}
		}
		ctx := c.CloseRead(deadline(t))
		if err := c.Ping(ctx); err != nil {
			t.Error(err)
		}
		p := <-s.peers
		if err := c.Close(websocket.StatusNormalClosure, "done"); err != nil {
			t.Error(err)
		}
		var closed *ws.CloseError
		if err := p.ended(t); !errors.As(err, &closed) || closed.Code != ws.CodeNormal {
			t.Errorf("Serve gave %v", err)
		}
	}
}

// gwsClient notes what gws receives.
type gwsClient struct {
	gws.BuiltinEventHandler
	messages chan string
	closed   chan error
}

func (c *gwsClient) OnMessage(_ *gws.Conn, m *gws.Message) {
	c.messages <- m.Data.String()
	_ = m.Close()
}
func (c *gwsClient) OnPong(*gws.Conn, []byte)       { c.messages <- "pong" }
func (c *gwsClient) OnClose(_ *gws.Conn, err error) { c.closed <- err }
func (c *gwsClient) OnPing(g *gws.Conn, payload []byte) {
	c.messages <- "ping"
	_ = g.WritePong(payload)
}

// TestEchoToGWS is the same with a third one, which also fragments, and is shut
// by the server.
func TestEchoToGWS(t *testing.T) {
	s := newServer(t, false, func(s *server) { s.onMessage = echo })
	h := &gwsClient{messages: make(chan string, 10), closed: make(chan error, 1)}
	g, _, err := gws.NewClient(h, &gws.ClientOption{Addr: wsURL(s)})
	if err != nil {
		t.Fatal(err)
	}
	go g.ReadLoop()
	long := strings.Repeat("fragment", 30_000)
	if err := g.WriteFile(gws.OpcodeText, strings.NewReader(long)); err != nil {
		t.Fatal(err)
	}
	if got := <-h.messages; got != long {
		t.Errorf("got %d bytes", len(got))
	}
	_ = g.WritePing([]byte("x"))
	if got := <-h.messages; got != "pong" {
		t.Errorf("got %q", got)
	}
	p := <-s.peers
	p.Ping()
	if got := <-h.messages; got != "ping" {
		t.Errorf("got %q", got)
	}
	p.Shut(ws.End{Last: []byte("last words"), Code: 4008, Reason: "draining"})
	if got := <-h.messages; got != "last words" {
		t.Errorf("got %q", got)
	}
	var closed *gws.CloseError
	if err := <-h.closed; !errors.As(err, &closed) || closed.Code != 4008 || string(closed.Reason) != "draining" {
		t.Errorf("closed with %v", err)
	}
	_ = p.ended(t)
}

// TestOrderOfWrites has many goroutines write in all ways to a reader that is
// slow at times: nothing is lost or torn, and each one's messages stay in order.
func TestOrderOfWrites(t *testing.T) {
	for _, secure := range []bool{false, true} {
		s := newServer(t, secure, func(s *server) {
			s.options.QueueBytes, s.options.Late = 64<<20, ws.NewLate(time.Millisecond)
		})
		c, _, err := websocket.Dial(deadline(t), wsURL(s), &websocket.DialOptions{HTTPClient: s.Client(), Subprotocols: []string{"test"}})
		if err != nil {
			t.Fatal(err)
		}
		c.SetReadLimit(-1)
		p := <-s.peers
		const writers, each = 8, 200
		var all sync.WaitGroup
		for w := range writers {
			all.Go(func() { writeInAllWays(t, p, w, each) })
		}
		next := [writers]int{}
		for i := range writers * each {
			if i%300 == 0 {
				time.Sleep(5 * time.Millisecond) // the socket fills
			}
			_, text, err := c.Read(deadline(t))
			if err != nil {
				t.Fatal(err)
			}
			w, n := int(text[0]), int(text[1])*128+int(text[2])
			if n != next[w] || len(bytes.Trim(text[3:], "x")) != 0 {
				t.Fatalf("writer %d: message %d (%d bytes), want %d", w, n, len(text), next[w])
			}
			next[w]++
		}
		all.Wait()
		_ = c.CloseNow()
		_ = p.ended(t)
	}
}

func writeInAllWays(t *testing.T, p *peer, w, each int) {
	for n := range each {
		text := append([]byte{byte(w), byte(n / 128), byte(n % 128)}, bytes.Repeat([]byte("x"), n*97%9000)...)
		var err error
		ok := true
		switch n % 5 {
		case 0:
			err = p.Send(text)
		case 1:
			err = p.Queue(text)
		case 2:
			ok = p.QueueSoon(text, 64<<20)
		case 3:
			ok = p.SendBelow(text, 64<<20)
		default:
			err = p.QueueOver(text)
		}
		if err != nil || !ok {
			t.Errorf("writing: %v, %v", err, ok)
			return
		}
	}
}

// TestSlowReader fills the queue of one that does not read.
func TestSlowReader(t *testing.T) {
	s := newServer(t, false, nil)
	c, p := dialRaw(t, s, nil)
	text := bytes.Repeat([]byte("x"), 10_000)
	var err error
	for range 10_000 {
		if err = p.Send(text); err != nil {
			break
		}
		if queued := p.Queued(); queued > s.options.QueueBytes {
			t.Fatalf("%d bytes wait", queued)
		}
	}
	if !errors.Is(err, ws.ErrFull) {
		t.Fatalf("got %v", err)
	}
	if p.QueueBelow(text, s.options.QueueBytes/2) {
		t.Error("queued although there is more already")
	}
	p.Failed(err)
	_ = p.ended(t)
	if err := p.Send(text); !errors.Is(err, ws.ErrClosing) {
		t.Errorf("got %v", err)
	}
	_ = c.Close()
}

// TestStuckWrite ends a connection whose write takes too long.
func TestStuckWrite(t *testing.T) {
	s := newServer(t, false, func(s *server) { s.options.WriteTimeout = 20 * time.Millisecond })
	_, p := dialRaw(t, s, nil)
	for err := error(nil); !errors.Is(err, ws.ErrClosing); err = p.Send(bytes.Repeat([]byte("x"), 10_000)) {
		if errors.Is(err, ws.ErrFull) {
			time.Sleep(time.Millisecond)
		}
	}
	_ = p.ended(t)
}

// TestDrained asks for more once all is written, again and again.
func TestDrained(t *testing.T) {
	left := 50
	s := newServer(t, false, func(s *server) {
		s.onDrained = func(p *peer) {
			if left > 0 {
				left--
				_ = p.QueueOver(bytes.Repeat([]byte("y"), 100_000))
			}
		}
	})
	c, p := dialRaw(t, s, nil)
	p.Kick()
	for range 50 {
		if _, text, err := c.read(); err != nil || len(text) != 100_000 {
			t.Fatalf("got %d bytes, %v", len(text), err)
		}
	}
	_ = c.Close()
	_ = p.ended(t)
}

// TestHiddenEnd has the peer's end arrive together with its last message.
func TestHiddenEnd(t *testing.T) {
	s := newServer(t, false, func(s *server) {
		s.onMessage = func(*peer, []byte) bool {
			time.Sleep(5 * time.Millisecond) // the end comes meanwhile
			return true
		}
	})
	c, p := dialRaw(t, s, nil)
	_, _ = c.Write(frame(0x81, "last"))
	_ = c.Close()
	p.probe(t)
	if err := p.ended(t); !errors.Is(err, io.EOF) || len(p.got()) != 1 {
		t.Errorf("got %v, %v", err, p.got())
	}
}

// TestBudget refuses what does not fit, and keeps nothing.
func TestBudget(t *testing.T) {
	s := newServer(t, false, func(s *server) { s.options.Budget = ws.NewBudget(100_000) })
	_, p := dialRaw(t, s, frame(0x81, strings.Repeat("x", 200_000))[:150_000])
	if err := p.ended(t); !errors.Is(err, ws.ErrMemory) {
		t.Errorf("got %v", err)
	}
}

// TestUpgradeRefused answers requests that are none.
func TestUpgradeRefused(t *testing.T) {
	s := newServer(t, false, nil)
	for change, want := range map[string]int{
		"GET→POST":                             http.StatusMethodNotAllowed,
		"Upgrade: WebSocket→Upgrade: h2c":      http.StatusUpgradeRequired,
		"keep-alive, Upgrade→keep-alive":       http.StatusUpgradeRequired,
		"Version: 13→Version: 8":               http.StatusUpgradeRequired,
		"dGhlIHNhbXBsZSBub25jZQ==→dGhl":        http.StatusBadRequest,
		"Host: x→Host: x\r\nContent-Length: 1": http.StatusBadRequest,
	} {
		old, instead, _ := strings.Cut(change, "→")
		rec := httptest.NewRecorder()
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(strings.Replace(request, old, instead, 1) + "x")))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ws.Upgrade(rec, r, "", nil, &s.options); err == nil || rec.Code != want {
			t.Errorf("%s: got %d, want %d", change, rec.Code, want)
		}
	}
}
