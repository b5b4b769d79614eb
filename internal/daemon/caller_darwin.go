package daemon

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// callerOf asks the kernel who connected.
func callerOf(c net.Conn) caller {
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return caller{uid: -1, err: errors.New("not a Unix socket")}
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return caller{uid: -1, err: err}
	}
	var cred *unix.Xucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	})
	if err = errors.Join(err, credErr); err != nil {
		return caller{uid: -1, err: err}
	}
	return caller{uid: int(cred.Uid), known: true}
}
