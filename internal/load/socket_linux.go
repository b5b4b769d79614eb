package load

import (
	"fmt"
	"io"
	"net"
	"syscall"
)

// eachRaw is each with one system call for what arrives at a time. net.Conn needs
// two: it waits only after a read that found nothing. Here one call of RawConn.Read
// lasts as long as the connection: it does not forget that something arrived
// while messages were used, so that after a short read, which has taken all there
// was, it can wait at once.
func (s *socket) eachRaw(tcp *net.TCPConn, use func(message []byte) error) (err error, done bool) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, false
	}
	if err := s.useAll(use); err != nil {
		return err, true
	}
	var ended error
	err = raw.Read(func(fd uintptr) bool {
		for {
			space := s.buf[s.to:]
			n, err := syscall.Read(int(fd), space)
			switch {
			case err == syscall.EINTR:
				continue
			case err == syscall.EAGAIN:
				return false
			case err != nil:
				ended = fmt.Errorf("reading: %w", err)
				return true
			case n == 0:
				ended = fmt.Errorf("reading: %w", io.EOF)
				return true
			}
			s.to += n
			if ended = s.useAll(use); ended != nil {
				return true
			}
			if n < len(space) {
				return false
			}
		}
	})
	if ended != nil {
		return ended, true
	}
	return fmt.Errorf("reading: %w", err), true
}
