//go:build !unix

package admin

import "net"

// listenPrivate leaves it to the folder who can open the socket.
func listenPrivate(path string) (net.Listener, error) { return net.Listen("unix", path) }
