package link_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/peersignal/peersignal/internal/signaling"
	"github.com/peersignal/peersignal/pkg/peer/link"
	"github.com/peersignal/peersignal/pkg/wire"
)

// startServer runs a real signaling server on addr ("" for any port). stop ends
// it and every session.
func startServer(t *testing.T, addr string) (url string, stop func()) {
	t.Helper()
	s, err := signaling.New(signaling.Config{Limits: signaling.Limits{
		OffersPerMinute: 10000, ConcurrentOffers: 1000, MessagesPer10s: 10000,
	}})
	if err != nil {
		t.Fatal(err)
	}
	var ln net.Listener
	eventually(t, "free port", func() bool {
		at := addr
		if at == "" { // below the ports of clients, one of which could have it when the server comes back
			at = fmt.Sprintf("127.0.0.1:%d", 16_384+rand.IntN(16_384))
		}
		ln, err = net.Listen("tcp", at)
		return err == nil
	})
	srv := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 5 * time.Second}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx) })
	wg.Go(func() { _ = srv.Serve(ln) })
	stop = sync.OnceFunc(func() {
		cancel()
		_ = srv.Close()
		wg.Wait()
	})
	t.Cleanup(stop)
	return "http://" + ln.Addr().String(), stop
}

func TestRealServer(t *testing.T) {
	url, stop := startServer(t, "")
	a, b := startDevice(t, url, nil), startDevice(t, url, nil)
	ac, bc := connect(t, a, b)
	echo(t, ac, bc, "first")
	stop()
	await(a, "loss of the server", func(link.ServerDown) bool { return true })
	echo(t, ac, bc, "without-server")
	_, _ = startServer(t, strings.TrimPrefix(url, "http://"))
	for _, d := range []*device{a, b} {
		// The server's drain notice may ask for some patience.
		eventually(t, "return", func() bool {
			d.link.Reconnect()
			st := d.link.Status()
			return st.Published == 1 && st.Peers == 1
		})
	}
	if a.link.Conn(b.deviceID()) != ac || b.link.Conn(a.deviceID()) != bc {
		t.Error("the connection did not survive")
	}
	_ = ac.Close("again")
	eventually(t, "end", func() bool { return len(a.link.Conns())+len(b.link.Conns()) == 0 })
	connect(t, b, a)
}

func TestRealServerGlare(t *testing.T) {
	url, _ := startServer(t, "")
	a, b := startDevice(t, url, nil), startDevice(t, url, nil)
	a.sees(b)
	b.sees(a)
	conns := make(chan *link.Conn, 2)
	for _, pair := range [][2]*device{{a, b}, {b, a}} {
		go func() {
			c, err := pair[0].link.Dial(testContext(t), pair[1].deviceID())
			if err != nil {
				t.Error(err)
			}
			conns <- c
		}()
	}
	if x, y := <-conns, <-conns; x == nil || y == nil || x.SessionID() != y.SessionID() {
		t.Error("not one connection")
	}
}

// A malicious server that forwards everything to the real one, to sign in there
// as its own client, is refused: the client signs the name that it dialled.
func TestAuthForwarded(t *testing.T) {
	realURL, _ := startServer(t, "")
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		in, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{wire.Subprotocol}})
		if err != nil {
			return
		}
		defer func() { _ = in.CloseNow() }()
		out, _, err := websocket.Dial(r.Context(), "ws"+strings.TrimPrefix(realURL, "http")+wire.Path,
			&websocket.DialOptions{Subprotocols: []string{wire.Subprotocol}})
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = out.CloseNow() }()
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		forward := func(from, to *websocket.Conn) {
			defer cancel()
			for {
				typ, b, err := from.Read(ctx)
				if err != nil || to.Write(ctx, typ, b) != nil {
					return
				}
			}
		}
		var wg sync.WaitGroup
		wg.Go(func() { forward(in, out) })
		forward(out, in)
		wg.Wait()
	}))
	t.Cleanup(evil.Close)
	d := startDevice(t, evil.URL, nil)
	down := await(d, "refusal", func(link.ServerDown) bool { return true })
	var refused *link.RefusedError
	if !errors.As(down.Err, &refused) || refused.Code != wire.CodeUnknownName {
		t.Errorf("error %v", down.Err)
	}
}
