package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/peersignal/peersignal/internal/throwaway"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// abusePatience is how long the server may take for what it has to do.
const abusePatience = 2 * time.Minute

// victim is the server under abuse, and what an attacker knows of it.
type victim struct {
	host string // host:port
	name string // of the Host header; "": host
}

// someone is a device of a user.
type someone struct {
	user, key peercrypto.SigningKey
	cert      peercrypto.DeviceCert
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newSomeone(t *testing.T) someone {
	t.Helper()
	return newDeviceOf(t, must[peercrypto.SigningKey](t)(peercrypto.GenerateSigningKey()))
}

func newDeviceOf(t *testing.T, user peercrypto.SigningKey) someone {
	t.Helper()
	d := must[throwaway.Device](t)(throwaway.NewDeviceOf(user, time.Hour))
	return someone{user: user, key: d.Key, cert: d.Cert}
}

// auth is the message with which s answers hello.
func (s someone) auth(t *testing.T, nonce wire.Nonce, server string) *wire.Auth {
	t.Helper()
	return must[*wire.Auth](t)(wire.SignAuth(wire.AuthBody{
		V: 1, Server: server, Nonce: nonce, CNonce: peercrypto.NewNonce(), DeviceID: s.cert.DeviceID, DeviceKey: s.cert.DeviceKey,
		UserID: s.cert.UserID, UserKey: s.cert.UserKey, Time: time.Now().UnixMilli(), Caps: []string{wire.CapRV1},
	}, s.key, s.cert))
}

// wsConn is a WebSocket that can do everything wrong.
type wsConn struct {
	t     *testing.T
	nc    net.Conn
	in    *bufio.Reader
	hello *wire.Hello
	ready *wire.Ready
	id    uint64
}

const upgradeHeader = "GET /v1/signal HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: peers.v1\r\n"

// tcp opens a connection that ends with the test.
func (v *victim) tcp(t *testing.T) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", v.host)
	if err != nil {
		t.Fatalf("the server takes no connection: %v", err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(abusePatience))
	return nc
}

// upgrade sends a request with further header lines and returns the response.
func (v *victim) upgrade(t *testing.T, lines ...string) (*wsConn, *http.Response) {
	t.Helper()
	c := &wsConn{t: t, nc: v.tcp(t)}
	c.in = bufio.NewReader(c.nc)
	_, _ = fmt.Fprintf(c.nc, upgradeHeader+"%s\r\n", cmp.Or(v.name, v.host), strings.Join(lines, ""))
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		t.Fatalf("no response to the upgrade: %v", err)
	}
	return c, resp
}

// dial upgrades and reads hello.
func (v *victim) dial(t *testing.T) *wsConn {
	t.Helper()
	c, resp := v.upgrade(t)
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %s", resp.Status)
	}
	c.hello = expect[*wire.Hello](c)
	return c
}

// connect makes a session for s.
func (v *victim) connect(t *testing.T, s someone) *wsConn {
	t.Helper()
	c := v.dial(t)
	c.say(s.auth(t, c.hello.Nonce, v.host))
	c.ready = expect[*wire.Ready](c)
	return c
}

// frame writes one frame, masked unless bare.
func (c *wsConn) frame(first byte, bare bool, payload []byte) error {
	b := []byte{first}
	mask := byte(0x80)
	if bare {
		mask = 0
	}
	switch n := len(payload); {
	case n < 126:
		b = append(b, mask|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, mask|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, mask|127), uint64(n))
	}
	if !bare {
		b = append(b, 0, 0, 0, 0)
	}
	_, err := c.nc.Write(append(b, payload...))
	return err
}

// text writes a whole text message; what the server does about it is read.
func (c *wsConn) text(format string, args ...any) {
	_ = c.frame(0x81, false, fmt.Appendf(nil, format, args...))
}

func (c *wsConn) say(m wire.Message) {
	c.t.Helper()
	_ = c.frame(0x81, false, must[[]byte](c.t)(wire.Encode(m)))
}

// An endError is how the server ended a connection: with a close code, or 0.
type endError struct {
	code int
	err  error
}

func (e *endError) Error() string { return fmt.Sprintf("closed with %d: %v", e.code, e.err) }

// closeCode is the code of an endError, else 0.
func closeCode(err error) int {
	var end *endError
	if errors.As(err, &end) {
		return end.code
	}
	return 0
}

// timedOut tells an end that did not come.
func timedOut(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// next returns the next text message.
func (c *wsConn) next() ([]byte, error) {
	for {
		var h [2]byte
		if _, err := io.ReadFull(c.in, h[:]); err != nil {
			return nil, &endError{0, err}
		}
		n := uint64(h[1] & 0x7f)
		size := map[uint64]int{126: 2, 127: 8}[n]
		if size > 0 {
			long := make([]byte, 8)
			if _, err := io.ReadFull(c.in, long[8-size:]); err != nil {
				return nil, &endError{0, err}
			}
			n = binary.BigEndian.Uint64(long)
		}
		payload := make([]byte, n)
		if _, err := io.ReadFull(c.in, payload); err != nil {
			return nil, &endError{0, err}
		}
		switch h[0] & 0x0f {
		case 1:
			return payload, nil
		case 8:
			if len(payload) < 2 {
				return nil, &endError{1005, nil}
			}
			return nil, &endError{int(binary.BigEndian.Uint16(payload)), errors.New(string(payload[2:]))}
		case 9:
			_ = c.frame(0x8a, false, payload)
		}
	}
}

// expect reads until a message of type M, and fails when the connection ends.
func expect[M wire.Message](c *wsConn) M {
	c.t.Helper()
	for {
		frame, err := c.next()
		if err != nil {
			var want M
			c.t.Fatalf("waiting for %T: %v", want, err)
		}
		m, err := wire.DecodeFromServer(frame)
		if err != nil {
			c.t.Fatalf("from the server: %v: %s", err, frame)
		}
		if got, ok := m.(M); ok {
			return got
		}
	}
}

// refused expects a refusal with a code, and the end.
func (c *wsConn) refused(code wire.Code) {
	c.t.Helper()
	if r := expect[*wire.Refused](c); r.Code != code {
		c.t.Errorf("refused with %s (%s), want %s", r.Code, r.Message, code)
	}
	c.ended(int(wire.CloseRefused), int(wire.CloseAuthTimeout))
}

// result expects the result of the last request.
func (c *wsConn) result(codes ...wire.Code) *wire.Result {
	c.t.Helper()
	r := expect[*wire.Result](c)
	for _, code := range codes {
		if r.Code == code {
			return r
		}
	}
	c.t.Errorf("result %s (%s), want one of %v", r.Code, r.Message, codes)
	return r
}

// ended expects the end of the connection, with one of these close codes if
// there are any. The code 0 is an end without one.
func (c *wsConn) ended(codes ...int) {
	c.t.Helper()
	for {
		_, err := c.next()
		var end *endError
		if !errors.As(err, &end) {
			continue
		}
		if timedOut(end.err) {
			c.t.Error("the server does not end the connection")
			return
		}
		for _, code := range codes {
			if code == end.code {
				return
			}
		}
		if len(codes) > 0 {
			c.t.Errorf("%v, want one of %v", end, codes)
		}
		return
	}
}

// alive checks that the session still answers, in order.
func (c *wsConn) alive() {
	c.t.Helper()
	c.id += 1 << 30
	c.text(`{"type":"topics","id":%d,"del":["AQEBAQEBAQEBAQEBAQEBAQ"]}`, c.id)
	for {
		if r := expect[*wire.Result](c); r.ID == c.id {
			return
		}
	}
}

var freshTags atomic.Uint32

// freshTag is one that nobody else holds.
func freshTag() (t peercrypto.Tag) {
	binary.BigEndian.PutUint32(t[:], freshTags.Add(1))
	t[15] = 1
	return t
}

// hold publishes tags.
func (c *wsConn) hold(tags ...peercrypto.Tag) {
	c.t.Helper()
	c.id++
	c.say(&wire.Topics{ID: c.id, Add: tags})
	c.result(wire.CodeOK)
}

// offer sends an offer and does not read the answer.
func (c *wsConn) offer(to peercrypto.ID, via peercrypto.Tag) {
	c.t.Helper()
	c.id++
	c.say(&wire.Signal{
		Kind: wire.KindOffer, ID: c.id, To: to, Via: via, Conn: peercrypto.NewID(time.Now()),
		Env: wire.NewEnvelope(&peercrypto.BoxPublicKey{9}, []byte("sealed")),
	})
}

// pair is two good devices that share a tag.
type pair struct {
	a, b         *wsConn
	alice, bobby someone
	tag          peercrypto.Tag
}

func (v *victim) pair(t *testing.T) *pair {
	t.Helper()
	p := &pair{alice: newSomeone(t), bobby: newSomeone(t), tag: freshTag()}
	p.a, p.b = v.connect(t, p.alice), v.connect(t, p.bobby)
	p.a.hold(p.tag)
	p.b.hold(p.tag)
	p.a.stay()
	p.b.stay()
	return p
}

// stay gives a sign of life now and then while nobody reads the server's pings, until the test ends.
func (c *wsConn) stay() {
	ctx, end := c.t.Context(), make(chan struct{})
	go func() {
		defer close(end)
		for {
			select {
			case <-time.After(10 * time.Second):
			case <-ctx.Done():
				return
			}
			if c.frame(0x8a, false, nil) != nil {
				return
			}
		}
	}()
	c.t.Cleanup(func() { <-end })
}

// works sends an offer from a to b.
func (p *pair) works() {
	p.a.t.Helper()
	for _, c := range []*wsConn{p.a, p.b} {
		_ = c.nc.SetDeadline(time.Now().Add(abusePatience))
	}
	p.a.offer(p.bobby.cert.DeviceID, p.tag)
	p.a.result(wire.CodeDelivered)
	if got := expect[*wire.Signal](p.b); got.From != p.alice.cert.DeviceID || got.Via != p.tag {
		p.a.t.Errorf("a good offer arrived as one from %s via %s", got.From, got.Via)
	}
}

// quiet checks that c was sent nothing that contains text before its answer to a
// new request.
func (c *wsConn) quiet(text string) {
	c.t.Helper()
	c.id += 1 << 31
	c.text(`{"type":"topics","id":%d,"del":["AQEBAQEBAQEBAQEBAQEBAQ"]}`, c.id)
	for {
		frame, err := c.next()
		if err != nil {
			c.t.Fatal(err)
		}
		if bytes.Contains(frame, []byte(text)) {
			c.t.Errorf("the server sent %s", frame)
		}
		if bytes.Contains(frame, fmt.Appendf(nil, `"id":%d,`, c.id)) {
			return
		}
	}
}

// page gets a page of the server.
func (v *victim) page(ctx context.Context, path string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+v.host+path, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}
