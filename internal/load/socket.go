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
		message, missing, err := s.take()
		if err != nil || missing == 0 {
			return message, err
		}
		s.room(missing)
		n, err := s.nc.Read(s.buf[s.to:])
		if s.to += n; err != nil && n == 0 {
			return nil, fmt.Errorf("reading: %w", err)
		}
	}
}

// take returns the next message that has been read, or how many bytes it needs
// more.
func (s *socket) take() (message []byte, missing int, err error) {
	for {
		op, fin, payload, missing, err := s.frame()
		if err != nil || missing > 0 {
			return nil, missing, err
		}
		switch op {
		case opPing:
			if err := s.control(opPong, payload); err != nil {
				return nil, 0, err
			}
		case opPong:
		case opClose:
			c := &closedError{code: 1005}
			if len(payload) >= 2 {
				c.code, c.reason = int(binary.BigEndian.Uint16(payload)), string(payload[2:])
			}
			return nil, 0, c
		case opText, opBinary, opContinuation:
			if fin && len(s.partial) == 0 {
				return payload, 0, nil
			}
			if s.partial = append(s.partial, payload...); len(s.partial) > maxReceived {
				return nil, 0, errors.New("the server sent too long a message")
			}
			if fin {
				whole := s.partial
				s.partial = nil
				return whole, 0, nil
			}
		default:
			return nil, 0, fmt.Errorf("the server sent a frame of unknown type %d", op)
		}
	}
}

// frame returns the next frame that has been read, or how many bytes it needs
// more.
func (s *socket) frame() (op byte, fin bool, payload []byte, missing int, err error) {
	h := s.buf[s.from:s.to]
	if len(h) < 2 {
		return 0, false, nil, 2 - len(h), nil
	}
	size, length := 2, uint64(h[1]&0x7f)
	if h[0]&0x70 != 0 || h[1]&0x80 != 0 {
		return 0, false, nil, 0, errors.New("the server sent a frame with reserved bits or a mask")
	}
	switch length {
	case 126:
		if size = 4; len(h) >= size {
			length = uint64(binary.BigEndian.Uint16(h[2:]))
		}
	case 127:
		if size = 10; len(h) >= size {
			length = binary.BigEndian.Uint64(h[2:])
		}
	}
	if length > maxReceived {
		return 0, false, nil, 0, errors.New("the server sent too long a frame")
	}
	whole := size + int(length)
	if len(h) < size || len(h) < whole {
		return 0, false, nil, whole - len(h), nil
	}
	s.from += whole
	return h[0] & 0x0f, h[0]&0x80 != 0, h[size:whole], 0, nil
}

// room makes room for at least n bytes behind what has been read and not used.
func (s *socket) room(n int) {
	if s.from == s.to {
		s.from, s.to = 0, 0
	}
	if s.to+n <= len(s.buf) {
		return
	}
	into := s.buf
	if s.to-s.from+n > len(into) {
		into = make([]byte, s.to-s.from+n+readBuffer)
	}
	s.to = copy(into, s.buf[s.from:s.to])
	s.buf, s.from = into, 0
}

// each hands every message to use until it or the connection fails, and says
// why.
func (s *socket) each(use func(message []byte) error) error {
	if tcp, ok := s.nc.(*net.TCPConn); ok {
		if err, done := s.eachRaw(tcp, use); done {
			return err
		}
	}
	for {
		message, err := s.next()
		if err == nil {
			err = use(message)
		}
		if err != nil {
			return err
		}
	}
}

// useAll uses all messages that have been read, and makes room for more.
func (s *socket) useAll(use func(message []byte) error) error {
	for {
		message, missing, err := s.take()
		if err != nil {
			return err
		}
		if missing > 0 {
			s.room(missing)
			return nil
		}
		if err := use(message); err != nil {
			return err
		}
	}
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
