package turn

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

const (
	// maxPacket is the largest packet of a client that is handled; pion reads
	// into a buffer that is one byte longer.
	maxPacket = 1599

	idleTimeout      = 30 * time.Second // a stream without an allocation, or within a frame
	handshakeTimeout = 10 * time.Second // of TLS
	writeTimeout     = 10 * time.Second
)

var (
	errBadFrame = errors.New("neither STUN nor channel data")
	errIdle     = errors.New("the connection has no allocation and is idle")
	errMidFrame = errors.New("the connection stalled within a frame")
	errTooLarge = errors.New("the packet is too large")
	errTLS      = errors.New("the TLS handshake failed")
)

// udpWire is a UDP listener.
type udpWire struct {
	*net.UDPConn
	retry func(error) bool

	// Owned by the reading goroutine.
	last     netip.AddrPort
	lastAddr *net.UDPAddr
}

func (w *udpWire) read(p []byte, _ func(netip.AddrPort) bool) (int, net.Addr, error) {
	for {
		n, from, err := w.ReadFromUDPAddrPort(p)
		if err != nil {
			if w.retry(err) {
				continue
			}
			return 0, nil, err
		}
		if n > maxPacket {
			return 0, nil, errTooLarge
		}
		if w.lastAddr == nil || w.last != from {
			w.last, w.lastAddr = from, net.UDPAddrFromAddrPort(netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
		}
		return n, w.lastAddr, nil
	}
}

func (w *udpWire) write(p []byte, addr net.Addr) (int, error) { return w.WriteTo(p, addr) }

// streamWire cuts a stream into frames: STUN messages and padded channel data
// (RFC 8656 section 12.5). A client that stalls within a frame, idles without
// an allocation, does not read what it is sent, or sends something else is
// disconnected.
type streamWire struct {
	conn   net.Conn
	secure *tls.Conn // conn until its handshake is done, then nil; owned by the reading goroutine
	client *net.TCPAddr
	r      *bufio.Reader
	// ended is told the cause of the end, once.
	ended   func(reason string)
	endOnce sync.Once
}

func newStreamWire(conn net.Conn, ended func(string)) *streamWire {
	client := &net.TCPAddr{}
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		client = net.TCPAddrFromAddrPort(unmapped(a.AddrPort()))
	}
	secure, _ := conn.(*tls.Conn)
	return &streamWire{conn: conn, secure: secure, client: client, r: bufio.NewReaderSize(conn, 4096), ended: ended}
}

func (w *streamWire) read(p []byte, live func(netip.AddrPort) bool) (int, net.Addr, error) {
	if err := w.handshake(); err != nil {
		w.end(connHandshake)
		return 0, nil, err
	}
	for {
		n, err := w.frame(p)
		switch {
		case err == nil:
			return n, w.client, nil
		case errors.Is(err, errTooLarge):
			return 0, nil, err
		case errors.Is(err, errIdle) && live(w.client.AddrPort()):
			// Allocations have timers of their own.
		default:
			w.end(reasonOf(err))
			return 0, nil, err
		}
	}
}

func (w *streamWire) handshake() error {
	if w.secure == nil {
		return nil
	}
	secure := w.secure
	w.secure = nil
	if err := secure.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return errors.Join(errTLS, err)
	}
	if err := secure.Handshake(); err != nil {
		return errors.Join(errTLS, err)
	}
	return nil
}

// frame reads one frame into p.
func (w *streamWire) frame(p []byte) (int, error) {
	if err := w.conn.SetReadDeadline(time.Now().Add(idleTimeout)); err != nil {
		return 0, err
	}
	head, err := w.r.Peek(channelHeader)
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if len(head) > 0 {
				return 0, errMidFrame
			}
			return 0, errIdle
		}
		return 0, err
	}
	size := int(head[2])<<8 | int(head[3])
	switch head[0] >> 6 {
	case 0:
		if size%4 != 0 {
			return 0, errBadFrame
		}
		size += stunHeader
	case 1:
		size = channelHeader + (size+3)&^3
	default:
		return 0, errBadFrame
	}
	if size > min(maxPacket, len(p)) {
		if _, err = w.r.Discard(size); err == nil {
			return 0, errTooLarge
		}
	} else if _, err = io.ReadFull(w.r, p[:size]); err == nil {
		return size, nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, errMidFrame
	}
	return 0, err
}

func reasonOf(err error) string {
	switch {
	case errors.Is(err, errBadFrame):
		return connMalformed
	case errors.Is(err, errIdle), errors.Is(err, errMidFrame):
		return connIdle
	default:
		return connClosed
	}
}

// write sends one frame whole or closes the connection. Two goroutines of pion
// write to a stream, answers and relayed data; net.Conn keeps each write whole.
func (w *streamWire) write(p []byte, _ net.Addr) (int, error) {
	if err := w.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	n, err := w.conn.Write(p)
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			w.end(connSlow)
		}
		_ = w.conn.Close()
	}
	return n, err
}

func (w *streamWire) end(reason string) { w.endOnce.Do(func() { w.ended(reason) }) }

func (w *streamWire) LocalAddr() net.Addr {
	if a, ok := w.conn.LocalAddr().(*net.TCPAddr); ok {
		return net.TCPAddrFromAddrPort(unmapped(a.AddrPort()))
	}
	return w.conn.LocalAddr()
}

func (w *streamWire) Close() error { return w.conn.Close() }
