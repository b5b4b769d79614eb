package turn

import (
	"context"
	"errors"
	"net"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// listenUDP binds sockets that share the address, between which the kernel
// distributes the clients. The first try is for an exclusive one: sharing would
// let a second server take half of the clients of the first.
func (s *Server) listenUDP(address string) ([]udpListener, error) {
	conn, err := listenOne(address)
	if err != nil {
		return nil, err
	}
	if s.cfg.portable {
		return []udpListener{portableListener{conn}}, nil
	}
	sockets := s.cfg.UDPSockets
	if sockets == 0 {
		sockets = min(runtime.GOMAXPROCS(0), maxUDPSockets)
	}
	if sockets == 1 {
		sock, err := adoptConn(conn)
		if err != nil {
			return nil, err
		}
		return []udpListener{shardListener{sock}}, nil
	}
	at := conn.LocalAddr().String()
	if err := conn.Close(); err != nil {
		return nil, err
	}
	var out []udpListener
	for range sockets {
		sock, err := listenShared(at)
		if err != nil {
			for _, l := range out {
				err = errors.Join(err, l.Close())
			}
			return nil, err
		}
		out = append(out, shardListener{sock})
	}
	return out, nil
}

func listenShared(address string) (*rawSocket, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		})
		return errors.Join(err, failed)
	}}
	pc, err := lc.ListenPacket(context.Background(), "udp", address)
	if err != nil {
		return nil, err
	}
	conn, err := asUDP(pc)
	if err != nil {
		return nil, err
	}
	return adoptConn(conn)
}

// shardListener is a socket that becomes a shard.
type shardListener struct{ *rawSocket }

func (l shardListener) wire(s *Server) (wire, error) {
	got, ok := l.grow()
	s.checkBuffer(got, ok)
	return newShard(s, l.rawSocket)
}
