package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peersignal/peersignal/pkg/wire"
)

// transportAbuses are below the messages.
var transportAbuses = []abuse{
	{"", "keep connections open with a slow request", "50 requests whose header comes byte by byte and never ends",
		"the connections end; meanwhile others register", slowHeader},
	{"", "keep connections open with a slow message", "after the upgrade, an `auth` byte by byte", "refused `auth-timeout` after 10 s", slowAuth},
	{"", "keep a reader busy with a slow message", "after `ready`, a frame byte by byte", "others are served meanwhile", slowFrame},
	{"", "use up the connections", "400 that are only open, 400 that sent half a request, 100 that upgraded and are silent",
		"others register meanwhile", halfOpen},
	{"", "flood with fragments", "a message in fragments of 1 byte, 600,000 of them, and of 0 bytes", "closed when it is longer than any message can be, or sooner", fragmentFlood},
	{"", "flood with pings", "20,000 pings, each with 125 bytes, without reading", "answered, or closed; others are served meanwhile", pingFlood},
	{"", "bomb with compressed data", "an upgrade that offers permessage-deflate; a frame marked as compressed",
		"compression is not agreed on; closed with 1002", compressedBomb},
	{"", "confuse the framing", "unmasked, reserved and nested frames, control frames that are too long or in parts, a continuation of nothing",
		"closed with 1002", badFrames},
	{"", "confuse HTTP", "another method, protocol and path, no subprotocol, 64 KB of header, two requests in one, `..` in the path",
		"an HTTP error; the port serves on", badHTTP},
	{"", "leave without a word", "200 sessions that are reset in the middle of a frame", "the sessions end", resets},
}

func slowHeader(t *testing.T, v *victim) {
	const request = "GET /v1/signal HTTP/1.1\r\nHost: x\r\nX-Slow: "
	var all []net.Conn
	for range 50 {
		all = append(all, v.tcp(t))
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			for _, c := range all {
				_, _ = c.Write([]byte{(request + strings.Repeat("x", 1<<16))[i%(1<<16)]})
			}
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	v.pair(t).works()
	for _, c := range all {
		if _, err := io.Copy(io.Discard, c); timedOut(err) {
			t.Error("the server keeps a connection whose request never ends")
			break
		}
	}
	close(stop)
	wg.Wait()
}

// drip writes b byte by byte until the connection or the test ends.
func drip(t *testing.T, c *wsConn, b []byte) {
	done := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for i := range b {
			if _, err := c.nc.Write(b[i : i+1]); err != nil {
				return
			}
			select {
			case <-done:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(func() { close(done); <-stopped })
}

func slowAuth(t *testing.T, v *victim) {
	c := v.dial(t)
	auth := must[[]byte](t)(wire.Encode(newSomeone(t).auth(t, c.hello.Nonce, v.host)))
	drip(t, c, append([]byte{0x81, 0xfe, byte(len(auth) >> 8), byte(len(auth)), 0, 0, 0, 0}, auth...))
	c.refused(wire.CodeAuthTimeout)
}

func slowFrame(t *testing.T, v *victim) {
	c := v.connect(t, newSomeone(t))
	drip(t, c, append([]byte{0x81, 0xfe, 1, 0, 0, 0, 0, 0}, strings.Repeat(" ", 256)...))
	for range 5 {
		v.pair(t).works()
	}
}

func halfOpen(t *testing.T, v *victim) {
	for range 400 {
		v.tcp(t)
		half := v.tcp(t)
		_, _ = io.WriteString(half, "GET /v1/signal HTTP/1.1\r\nHost: ")
	}
	for range 100 {
		c := v.tcp(t)
		_, _ = fmt.Fprintf(c, upgradeHeader+"\r\n", v.host)
	}
	v.pair(t).works()
}

func fragmentFlood(t *testing.T, v *victim) {
	for _, size := range []int{1, 0} {
		c := v.connect(t, newSomeone(t))
		flooded := make(chan struct{})
		go func() {
			defer close(flooded)
			frame := append([]byte{0x00, 0x80 | byte(size), 0, 0, 0, 0}, make([]byte, size)...)
			many := []byte(strings.Repeat(string(frame), 600))
			if c.frame(0x01, false, []byte("{")) != nil {
				return
			}
			for range 1_000 {
				if _, err := c.nc.Write(many); err != nil {
					return
				}
			}
			_ = c.frame(0x80, false, nil) // the message ends, and is none
		}()
		c.ended()
		_ = c.nc.Close()
		<-flooded
	}
}

func pingFlood(t *testing.T, v *victim) {
	c := v.connect(t, newSomeone(t))
	ping := append([]byte{0x89, 0x80 | 125, 0, 0, 0, 0}, strings.Repeat("p", 125)...)
	for range 20_000 {
		_ = c.nc.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := c.nc.Write(ping); err != nil {
			return // it was closed, or nobody reads any more
		}
	}
	v.pair(t).works()
}

func compressedBomb(t *testing.T, v *victim) {
	c, resp := v.upgrade(t, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n")
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Extensions") != "" {
		t.Errorf("upgrade: %s, extensions %q", resp.Status, resp.Header.Get("Sec-WebSocket-Extensions"))
	}
	_ = c.frame(0xc1, false, []byte{0xed, 0xc1, 0x01, 0x01, 0, 0, 0, 0x80, 0x90, 0xfe, 0xaf, 0xee, 0x08, 0x0a, 0, 0, 0})
	c.ended(1002, int(wire.CloseProtocol), 0)
	for _, code := range []byte{0xc1, 0xa1, 0x91, 0xf1} {
		c := v.connect(t, newSomeone(t))
		_ = c.frame(code, false, []byte(`{"type":"bye"}`))
		c.ended(1002, int(wire.CloseProtocol), 0)
	}
}

func badFrames(t *testing.T, v *victim) {
	text := []byte(`{"type":"topics","id":1,"add":[]}`)
	for _, send := range []func(c *wsConn){
		func(c *wsConn) { _ = c.frame(0x81, true, text) },
		func(c *wsConn) { _ = c.frame(0x83, false, text) },
		func(c *wsConn) { _ = c.frame(0x8b, false, nil) },
		func(c *wsConn) { _ = c.frame(0x80, false, text) },
		func(c *wsConn) { _ = c.frame(0x09, false, nil) },
		func(c *wsConn) { _ = c.frame(0x89, false, make([]byte, 126)) },
		func(c *wsConn) { _ = c.frame(0x88, false, []byte{3}) },
		func(c *wsConn) { _ = c.frame(0x88, false, []byte{0, 1}) },
		func(c *wsConn) {
			_ = c.frame(0x01, false, text)
			_ = c.frame(0x81, false, text)
		},
		func(c *wsConn) {
			_, _ = c.nc.Write([]byte{0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0})
		},
	} {
		c := v.connect(t, newSomeone(t))
		send(c)
		c.ended()
		_ = c.nc.Close()
	}
}

func badHTTP(t *testing.T, v *victim) {
	upgrade := fmt.Sprintf(upgradeHeader, v.host)
	for _, request := range []string{
		strings.Replace(upgrade, "GET", "POST", 1) + "\r\n", strings.Replace(upgrade, "peers.v1", "chat", 1) + "\r\n",
		strings.Replace(upgrade, "Version: 13", "Version: 8", 1) + "\r\n", strings.Replace(upgrade, "HTTP/1.1", "HTTP/1.0", 1) + "\r\n",
		strings.Replace(upgrade, "AAAAAAAAAAAAAAAAAAAAAA==", "short", 1) + "\r\n",
		upgrade + "X-Long: " + strings.Repeat("x", 64<<10) + "\r\n\r\n",
		upgrade + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"GET /v1/signal/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "\x00\x00\x00\x00\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		nc := v.tcp(t)
		_, _ = io.WriteString(nc, request)
		_ = nc.(*net.TCPConn).CloseWrite()
		answer, err := io.ReadAll(nc)
		if timedOut(err) {
			t.Errorf("%.60q is neither answered nor closed", request)
		}
		status, _, _ := strings.Cut(string(answer), "\r\n")
		if len(answer) > 0 && !strings.HasPrefix(status, "HTTP/1.1 4") && !strings.HasPrefix(status, "HTTP/1.1 5") &&
			!strings.HasPrefix(status, "HTTP/1.0 4") && !strings.HasPrefix(status, "HTTP/1.1 3") && !strings.HasPrefix(status, "HTTP/1.0 5") {
			t.Errorf("%.60q was answered %q", request, status)
		}
		if strings.Contains(string(answer), "root:") || strings.Contains(string(answer), "goroutine") {
			t.Errorf("%.60q shows internals: %.200q", request, answer)
		}
	}
}

func resets(t *testing.T, v *victim) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 25 {
				c := v.connect(t, newSomeone(t))
				c.hold(freshTag())
				_, _ = c.nc.Write([]byte{0x81, 0xfe, 1, 0, 0, 0})
				_ = c.nc.(*net.TCPConn).SetLinger(0)
				_ = c.nc.Close()
			}
		})
	}
	wg.Wait()
}
