//go:build unix

package ws

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"time"
)

// pollable gives access to the socket, if there is just one beneath nc.
func pollable(nc net.Conn) syscall.RawConn {
	if _, secure := nc.(*tls.Conn); secure {
		return nil
	}
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// readable reads until there is nothing more, and handles it; true ends the
// read. It is called whenever the socket has become readable.
func (c *Conn) readable(fd uintptr) bool {
	for {
		c.lend()
		n, err := recv(fd, c.buf[c.end_:])
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			c.readErr = c.settle()
			return c.readErr != nil
		case err != nil:
			c.readErr, c.over = os.NewSyscallError("read", err), true
			return true
		case n == 0:
			c.readErr, c.over = io.EOF, true
			return true
		}
		c.end_ += n
		drained := drains && c.end_ < len(c.buf)
		if c.readErr = c.consume(); c.readErr != nil {
			return true
		}
		if drained {
			c.unsure.Store(unsureNow)
			c.readErr = c.settle()
			return c.readErr != nil
		}
	}
}

// drains tells whether a read that gave less than there was room for has taken
// all that there was, so that the system will tell of more. It will not tell of
// an end that came together with the data: see Probe.
const drains = runtime.GOOS == "linux"

// The states of Conn.unsure, if it is not 0.
const (
	unsureNow    = 1 // since the last read
	unsureBefore = 2 // since the last but one Probe, or longer
)

// Probe looks whether the peer has closed unnoticed, which can be if it did so
// together with its last message, and has Serve read then. It is to be called
// now and then.
func (c *Conn) Probe() {
	if c.unsure.CompareAndSwap(unsureNow, unsureBefore) || !c.unsure.CompareAndSwap(unsureBefore, 0) {
		return // there is nothing to find out, or it may yet read by itself
	}
	quiet := false
	err := c.raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR)
	})
	if err != nil || quiet {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end == nil && !c.dead {
		c.woken = true
		_ = c.nc.SetReadDeadline(time.Unix(1, 0))
	}
}

// tryWrite writes once.
func (c *Conn) tryWrite(fd uintptr) {
	for {
		n, err := send(fd, c.out)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
		case err != nil:
			c.outErr = err
		default:
			c.outN = n
		}
		return
	}
}
