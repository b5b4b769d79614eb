//go:build unix

package ws

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
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
		n, err := syscall.Read(int(fd), c.buf[c.end_:])
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
		if c.readErr = c.consume(); c.readErr != nil {
			return true
		}
	}
}

// tryWrite writes once.
func (c *Conn) tryWrite(fd uintptr) bool {
	for {
		n, err := syscall.Write(int(fd), c.out)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
		case err != nil:
			c.outErr = err
		default:
			c.outN = n
		}
		return true
	}
}
