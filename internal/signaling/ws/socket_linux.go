//go:build linux && !386 && !s390x

// The other two have one call for all of sockets.

package ws

import (
	"syscall"
	"unsafe"
)

// recv and send are read(2) and write(2) for sockets: they go to the socket at
// once, without the checks and the accounting for files, which are a twentieth
// of what relaying a message costs. Neither of them waits.

func recv(fd uintptr, b []byte) (int, error) {
	return transfer(syscall.SYS_RECVFROM, fd, b)
}

func send(fd uintptr, b []byte) (int, error) {
	return transfer(syscall.SYS_SENDTO, fd, b)
}

func transfer(call, fd uintptr, b []byte) (int, error) {
	const flags = syscall.MSG_DONTWAIT | syscall.MSG_NOSIGNAL
	n, _, errno := syscall.Syscall6(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
