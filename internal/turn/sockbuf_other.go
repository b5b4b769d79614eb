//go:build !unix

package turn

import "net"

// readBuffer does not know on this system.
func readBuffer(*net.UDPConn) (int, bool) { return 0, false }
