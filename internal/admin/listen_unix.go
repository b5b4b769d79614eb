//go:build unix

package admin

import (
	"net"

	"golang.org/x/sys/unix"
)

// listenPrivate never has the socket open to others, not even for a moment. The
// umask is the process's, which is why the socket is opened at the start.
func listenPrivate(path string) (net.Listener, error) {
	old := unix.Umask(0o177)
	defer unix.Umask(old)
	return net.Listen("unix", path)
}
