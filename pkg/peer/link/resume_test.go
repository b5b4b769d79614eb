package link_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/peersignal/peersignal/internal/signaling"
	"github.com/peersignal/peersignal/pkg/peer/link"
)

// wires is a TCP forwarder whose connections a test can cut.
type wires struct {
	ln net.Listener
	wg sync.WaitGroup

	mu    sync.Mutex
	to    string
	down  bool
	conns []net.Conn
}

func newWires(t *testing.T) *wires {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wires{ln: ln}
	w.wg.Go(w.accept)
	t.Cleanup(func() {
		_ = ln.Close()
		w.cut(true)
		w.wg.Wait()
	})
	return w
}

func (w *wires) accept() {
	for {
		in, err := w.ln.Accept()
		if err != nil {
			return
		}
		w.mu.Lock()
		to, down := w.to, w.down
		w.mu.Unlock()
		out, err := net.Dial("tcp", to)
		if err != nil || down {
			_ = in.Close()
			if out != nil {
				_ = out.Close()
			}
			continue
		}
		w.mu.Lock()
		w.conns = append(w.conns, in, out)
		w.mu.Unlock()
		w.wg.Go(func() { forward(in, out) })
		w.wg.Go(func() { forward(out, in) })
	}
}

func forward(from, to net.Conn) {
	_, _ = io.Copy(to, from)
	_ = from.Close()
	_ = to.Close()
}

// cut ends all connections, and refuses new ones while down.
func (w *wires) cut(down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = down
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.conns = nil
}

// behind runs a server for each of the wires' addresses, which all lead to it.
func behind(t *testing.T, all ...*wires) *signaling.Server {
	t.Helper()
	cfg := signaling.Config{Registerer: prometheus.NewRegistry(), Limits: signaling.Limits{MessagesPer10s: 10000}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Names = []string{all[0].ln.Addr().String()}
	s, err := signaling.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range all {
		w.mu.Lock()
		w.to = ln.Addr().String()
		w.mu.Unlock()
	}
	srv := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 5 * time.Second}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx) })
	wg.Go(func() { _ = srv.Serve(ln) })
	t.Cleanup(func() {
		cancel()
		_ = srv.Close()
		wg.Wait()
	})
	return s
}

// TestSessionGoesOn: a connection to the server breaks, and nobody notices but
// the device itself.
func TestSessionGoesOn(t *testing.T) {
	w := newWires(t)
	behind(t, w)
	url := "http://" + w.ln.Addr().String()
	a, b := startDevice(t, url, nil), startDevice(t, url, nil)
	ac, bc := connect(t, a, b)
	session := a.link.Status().Session
	for i := range 3 {
		w.cut(false)
		eventually(t, "return", func() bool {
			st := a.link.Status()
			return count(a, func(link.ServerUp) bool { return true }) == i+2 && st.Session != "" && st.Peers == 1 && st.Published == 1
		})
		eventually(t, "discovery again", func() bool {
			return count(a, func(link.Discovered) bool { return true }) >= i+2
		})
	}
	if got := a.link.Status().Session; got != session {
		t.Error("another session")
	}
	for _, d := range []*device{a, b} {
		if n := count(d, func(link.Gone) bool { return true }); n != 0 {
			t.Errorf("%d times gone", n)
		}
	}
	echo(t, ac, bc, "after")
	// It knows what changed meanwhile.
	other := []link.Topic{{Tag: testTag}, {Tag: [16]byte{9}}}
	w.cut(true)
	await(a, "loss", func(link.ServerDown) bool { return true })
	a.link.SetTopics(other)
	b.link.SetTopics(other)
	w.cut(false)
	await(a, "the new topic", func(e link.Discovered) bool { return e.Tag == other[1].Tag })
	await(b, "the new topic", func(e link.Discovered) bool { return e.Tag == other[1].Tag })
	b.stop()
	await(a, "the end of the other", func(e link.Gone) bool { return e.Tag == other[1].Tag })
}

// TestDialWhileConnectionsBreak: what a device dials is there in the end, in one
// attempt.
func TestDialWhileConnectionsBreak(t *testing.T) {
	w := newWires(t)
	behind(t, w)
	url := "http://" + w.ln.Addr().String()
	a, b := startDevice(t, url, nil), startDevice(t, url, nil)
	a.sees(b)
	b.sees(a)
	for range 5 {
		done := make(chan error, 1)
		go func() {
			c, err := a.link.Dial(testContext(t), b.deviceID())
			if err == nil {
				_ = c.Close("again")
			}
			done <- err
		}()
		// A device that has no session at that moment knows nobody whom it could dial.
		eventually(t, "attempt", func() bool {
			st := a.link.Status()
			return st.Attempts+len(st.Conns)+len(done) > 0
		})
		w.cut(false)
		if err := <-done; err != nil {
			t.Fatalf("Dial: %v", err)
		}
		eventually(t, "end", func() bool {
			return len(a.link.Conns())+len(b.link.Conns()) == 0 && a.link.Status().Peers == 1 && b.link.Status().Peers == 1
		})
	}
}

// TestServerDrains: devices move to another server behind the same name, each at
// its time, and keep their connection.
func TestServerDrains(t *testing.T) {
	w := newWires(t)
	old := behind(t, w)
	url := "http://" + w.ln.Addr().String()
	a, b := startDevice(t, url, nil), startDevice(t, url, nil)
	ac, bc := connect(t, a, b)
	session := a.link.Status().Session
	behind(t, w)
	if err := old.Drain(testContext(t), 500*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both at the other server", func() bool {
		x, y := a.link.Status(), b.link.Status()
		return x.Session != "" && x.Session != session && x.Peers == 1 && y.Peers == 1 && x.Published == 1
	})
	if st := old.Stats(); st.Sessions+st.Parked+st.Topics != 0 {
		t.Errorf("left behind: %+v", st)
	}
	echo(t, ac, bc, "moved")
}
