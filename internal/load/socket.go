package load

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// A socket is the client's end of a WebSocket (RFC 6455) without extensions.
// One goroutine reads; writes are one system call under mu, whoever makes them.
//
// Frames are masked with the key 0, which saves the client the work. The mask
// protects intermediaries from pages that choose what is sent, which a load is
// not; it costs the server what any other key does.
type socket struct {
	nc net.Conn

	// The reader's.
	buf      []byte
	from, to int    // what has been read and not been used
	partial  []byte // of a fragmented message

	mu  sync.Mutex
	out []byte // the frame that is being written
}

const (
	opContinuation = 0
	opText         = 1
	opBinary       = 2
	opClose        = 8
	opPing         = 9
	opPong         = 10

	readBuffer  = 4 << 10
	headroom    = 14 // of the longest header
	maxReceived = 1 << 20
)

// A closedError is the server's close frame.
type closedError struct {
	code   int
	reason string
}

func (e *closedError) Error() string {
	return fmt.Sprintf("the server closed with %d %s", e.code, e.reason)
}

// A statusError is an upgrade that the server refused.
type statusError struct{ status int }

func (e *statusError) Error() string {
	return fmt.Sprintf("the server answered HTTP status %d instead of an upgrade", e.status)
}

// target is where and how sockets are opened.
type target struct {
	address string      // host:port to dial
	host    string      // of the Host header
	tls     *tls.Config // nil: without
	from    []net.Addr  // local addresses in turn; empty: any
}

// Opening says how a device opens its WebSocket.
type Opening struct {
	Path        string // with the query
	Subprotocol string // or ""
}

// open dials as device n and upgrades.
func (t *target) open(ctx context.Context, n int, o Opening) (*socket, error) {
	d := net.Dialer{}
	if len(t.from) > 0 {
		d.LocalAddr = t.from[n%len(t.from)]
	}
	nc, err := d.DialContext(ctx, "tcp", t.address)
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	deadline, ok := ctx.Deadline()
	if ok {
		_ = nc.SetDeadline(deadline) // the caller lifts it, see ready
	}
	if t.tls != nil {
		c := tls.Client(nc, t.tls)
		if err := c.HandshakeContext(ctx); err != nil {
			_ = nc.Close()
			return nil, fmt.Errorf("connecting with TLS: %w", err)
		}
		nc = c
	}
	s := &socket{nc: nc, buf: make([]byte, readBuffer)}
	if err := s.upgrade(t.host, o); err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("upgrading: %w", err)
	}
	return s, nil
}

// ready lifts the deadline for opening. Later there is none: who waits too long
// is seen by the watch of the scenario, and cut ends every wait.
func (s *socket) ready() { _ = s.nc.SetDeadline(time.Time{}) }

func (s *socket) upgrade(host string, o Opening) error {
	var key [16]byte
	binary.LittleEndian.PutUint64(key[:], rand.Uint64())
	b := append(s.out, "GET "...)
	b = append(b, o.Path...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, host...)
	b = append(b, "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "...)
	b = base64.StdEncoding.AppendEncode(b, key[:])
	if o.Subprotocol != "" {
		b = append(b, "\r\nSec-WebSocket-Protocol: "...)
		b = append(b, o.Subprotocol...)
	}
	b = append(b, "\r\n\r\n"...)
	if _, err := s.nc.Write(b); err != nil {
		return err
	}
	s.out = b[:0]
	end := -1
	for end < 0 {
		if s.to == len(s.buf) {
			return errors.New("the header of the response is too long")
		}
		n, err := s.nc.Read(s.buf[s.to:])
		s.to += n
		if end = bytes.Index(s.buf[:s.to], []byte("\r\n\r\n")); end < 0 && err != nil {
			return err
		}
	}
	s.from = end + 4
	return checkResponse(s.buf[:s.from], o)
}

func checkResponse(header []byte, o Opening) error {
	if !bytes.HasPrefix(header, []byte("HTTP/1.1 101 ")) {
		r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(header)), nil)
		if err != nil {
			return fmt.Errorf("the server does not answer in HTTP: %w", err)
		}
		_ = r.Body.Close()
		return &statusError{r.StatusCode}
	}
	if o.Subprotocol != "" && !strings.Contains(strings.ToLower(string(header)), "sec-websocket-protocol: "+o.Subprotocol) {
		return fmt.Errorf("the server does not speak %s", o.Subprotocol)
	}
	return nil
}

// next returns the next text or binary message; it is valid until the next
// call. It answers pings.
func (s *socket) next() ([]byte, error) {
	for {
		op, fin, payload, err := s.frame()
		if err != nil {
			return nil, err
		}
		switch op {
		case opPing:
			if err := s.control(opPong, payload); err != nil {
				return nil, err
			}
		case opPong:
		case opClose:
			c := &closedError{code: 1005}
			if len(payload) >= 2 {
				c.code, c.reason = int(binary.BigEndian.Uint16(payload)), string(payload[2:])
			}
			return nil, c
		case opText, opBinary, opContinuation:
			if fin && len(s.partial) == 0 {
				return payload, nil
			}
			if s.partial = append(s.partial, payload...); len(s.partial) > maxReceived {
				return nil, errors.New("the server sent too long a message")
			}
			if fin {
				whole := s.partial
				s.partial = nil
				return whole, nil
			}
		default:
			return nil, fmt.Errorf("the server sent a frame of unknown type %d", op)
		}
	}
}

// frame reads one frame; its payload is valid until the next call.
func (s *socket) frame() (op byte, fin bool, payload []byte, err error) {
	if err := s.fill(2); err != nil {
		return 0, false, nil, err
	}
	h := s.buf[s.from:]
	size, length := 2, int(h[1]&0x7f)
	if h[0]&0x70 != 0 || h[1]&0x80 != 0 {
		return 0, false, nil, errors.New("the server sent a frame with reserved bits or a mask")
	}
	op, fin = h[0]&0x0f, h[0]&0x80 != 0
	switch length {
	case 126:
		size = 4
	case 127:
		size = 10
	}
	if err := s.fill(size); err != nil {
		return 0, false, nil, err
	}
	switch h = s.buf[s.from:]; size {
	case 4:
		length = int(binary.BigEndian.Uint16(h[2:]))
	case 10:
		long := binary.BigEndian.Uint64(h[2:])
		if long > maxReceived {
			return 0, false, nil, errors.New("the server sent too long a frame")
		}
		length = int(long)
	}
	if err := s.fill(size + length); err != nil {
		return 0, false, nil, err
	}
	payload = s.buf[s.from+size : s.from+size+length]
	s.from += size + length
	return op, fin, payload, nil
}

// fill reads until n bytes are there.
func (s *socket) fill(n int) error {
	if s.to-s.from >= n {
		return nil
	}
	if s.from == s.to {
		s.from, s.to = 0, 0
	}
	if s.from+n > len(s.buf) {
		into := s.buf
		if n > len(into) {
			into = make([]byte, n+readBuffer)
		}
		s.to = copy(into, s.buf[s.from:s.to])
		s.buf, s.from = into, 0
	}
	for s.to-s.from < n {
		k, err := s.nc.Read(s.buf[s.to:])
		s.to += k
		if err != nil && s.to-s.from < n {
			return fmt.Errorf("reading: %w", err)
		}
	}
	return nil
}

// begin locks the writer and returns a buffer to which a text message is
// appended; finish or abandon has to follow.
func (s *socket) begin() []byte {
	s.mu.Lock()
	if cap(s.out) < headroom {
		s.out = make([]byte, 0, 256)
	}
	return s.out[:headroom]
}

func (s *socket) abandon() { s.mu.Unlock() }

// finish writes the message that begins after the headroom of b.
func (s *socket) finish(b []byte) error {
	defer s.mu.Unlock()
	s.out = b[:0]
	return s.writeFrame(opText, b)
}

// writeFrame puts the header into the headroom of b. The caller holds mu.
func (s *socket) writeFrame(op byte, b []byte) error {
	n := len(b) - headroom
	var start int
	switch {
	case n < 126:
		start = headroom - 6
		b[start+1] = 0x80 | byte(n)
	case n < 1<<16:
		start = headroom - 8
		b[start+1] = 0x80 | 126
		binary.BigEndian.PutUint16(b[start+2:], uint16(n))
	default:
		start = headroom - 14
		b[start+1] = 0x80 | 127
		binary.BigEndian.PutUint64(b[start+2:], uint64(n))
	}
	b[start] = 0x80 | op
	clear(b[headroom-4 : headroom]) // the key
	_, err := s.nc.Write(b[start:])
	if err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	return nil
}

func (s *socket) control(op byte, payload []byte) error {
	b := append(s.begin(), payload...)
	defer s.mu.Unlock()
	s.out = b[:0]
	return s.writeFrame(op, b)
}

// cut ends the connection with a reset: nothing is said, no port stays in
// TIME_WAIT.
func (s *socket) cut() {
	nc := s.nc
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	if t, ok := nc.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = nc.Close()
}
