//go:build unix

package turn

import (
	"net"
	"runtime"
	"syscall"
)

// readBuffer returns the size of the socket's receive buffer as the caller of
// SetReadBuffer means it: Linux reports twice that.
func readBuffer(c *net.UDPConn) (int, bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, false
	}
	size, sockErr := 0, error(nil)
	err = raw.Control(func(fd uintptr) {
		size, sockErr = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF)
	})
	if err != nil || sockErr != nil {
		return 0, false
	}
	if runtime.GOOS == "linux" {
		size /= 2
	}
	return size, true
}
