package turn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawAddr is a socket address as the kernel writes it. Two of one socket are
// equal when they are the same address, so that it can be a key.
type rawAddr struct {
	size  uint32
	bytes [unix.SizeofSockaddrInet6]byte
}

// newRawAddr returns the address for a socket of the domain, AF_INET or
// AF_INET6; IPv4 in an AF_INET6 socket is mapped. Zones are not carried over.
func newRawAddr(domain int, a netip.AddrPort) rawAddr {
	var r rawAddr
	binary.NativeEndian.PutUint16(r.bytes[:], uint16(domain))
	binary.BigEndian.PutUint16(r.bytes[2:], a.Port())
	if domain == unix.AF_INET {
		r.size = unix.SizeofSockaddrInet4
		ip := a.Addr().As4()
		copy(r.bytes[4:], ip[:])
		return r
	}
	r.size = unix.SizeofSockaddrInet6
	ip := a.Addr().As16()
	copy(r.bytes[8:], ip[:])
	return r
}

func (r *rawAddr) port() uint16 { return binary.BigEndian.Uint16(r.bytes[2:]) }

// addrPort returns the address, unmapped; a link-local one has its interface
// number as its zone.
func (r *rawAddr) addrPort() netip.AddrPort {
	if r.size == unix.SizeofSockaddrInet4 {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(r.bytes[4:8])), r.port())
	}
	ip := netip.AddrFrom16([16]byte(r.bytes[8:24])).Unmap()
	if scope := binary.NativeEndian.Uint32(r.bytes[24:]); scope != 0 && ip.Is6() {
		ip = ip.WithZone(strconv.FormatUint(uint64(scope), 10))
	}
	return netip.AddrPortFrom(ip, r.port())
}

// rawSocket is a non-blocking UDP socket that the Go runtime does not poll: a
// shard does. The mutex is held during each system call, so that Close can come
// from any goroutine at any time, at once, without another socket's getting the
// descriptor under a call.
type rawSocket struct {
	domain int
	local  netip.AddrPort

	mu     sync.Mutex
	fd     int
	closed bool
}

// adoptConn takes the socket of conn away from the Go runtime.
func adoptConn(conn *net.UDPConn) (*rawSocket, error) {
	defer func() { _ = conn.Close() }()
	control, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("taking a UDP socket over: %w", err)
	}
	s := &rawSocket{local: addrPortOf(conn.LocalAddr())}
	var failed error
	err = control.Control(func(fd uintptr) {
		if s.domain, failed = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN); failed == nil {
			s.fd, failed = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
		}
	})
	if err = errors.Join(err, failed); err != nil {
		return nil, fmt.Errorf("taking a UDP socket over: %w", err)
	}
	return s, nil
}

// bindRaw returns a new socket that is bound to the address.
func bindRaw(at netip.AddrPort) (*rawSocket, error) {
	s := &rawSocket{domain: unix.AF_INET6, local: at}
	var sa unix.Sockaddr = &unix.SockaddrInet6{Addr: at.Addr().As16(), Port: int(at.Port())}
	if at.Addr().Is4() {
		s.domain = unix.AF_INET
		sa = &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}
	}
	var err error
	s.fd, err = unix.Socket(s.domain, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if s.domain == unix.AF_INET6 {
		err = unix.SetsockoptInt(s.fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err == nil {
		err = unix.Bind(s.fd, sa)
	}
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("bind", err), s.Close())
	}
	return s, nil
}

// call does recvmmsg or sendmmsg. The count is of messages that are done.
func (s *rawSocket) call(trap uintptr, batch []unix.Mmsghdr) (int, unix.Errno) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, unix.EBADF
	}
	n, _, errno := unix.RawSyscall6(trap, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(batch))),
		uintptr(len(batch)), unix.MSG_DONTWAIT, 0, 0)
	runtime.KeepAlive(batch)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// receive fills what it can of the batch.
func (s *rawSocket) receive(batch []unix.Mmsghdr) (int, unix.Errno) {
	return s.call(unix.SYS_RECVMMSG, batch)
}

// sendTo sends one packet.
func (s *rawSocket) sendTo(p []byte, to *rawAddr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	_, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))),
		uintptr(len(p)), unix.MSG_DONTWAIT, uintptr(unsafe.Pointer(&to.bytes)), uintptr(to.size))
	if errno != 0 {
		return os.NewSyscallError("sendto", errno)
	}
	return nil
}

// WriteToUDPAddrPort implements relaySocket.
func (s *rawSocket) WriteToUDPAddrPort(p []byte, to netip.AddrPort) (int, error) {
	raw := newRawAddr(s.domain, to)
	if err := s.sendTo(p, &raw); err != nil {
		return 0, err
	}
	return len(p), nil
}

// grow asks for large buffers and returns the size that the kernel gave.
func (s *rawSocket) grow() (got int, ok bool) {
	_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, socketBuffer)
	_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, socketBuffer)
	got, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	return got / 2, err == nil // Linux reports twice what was asked for
}

// LocalAddr returns the bound address.
func (s *rawSocket) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(s.local) }

// Close closes the socket at once. It is idempotent.
func (s *rawSocket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return os.NewSyscallError("close", unix.Close(s.fd))
}

// packets is the memory of received packets, and the headers to receive them.
type packets struct {
	headers []unix.Mmsghdr
	vectors []unix.Iovec
	names   []rawAddr
	memory  []byte
	head    int // bytes left free before each packet
}

const slot = 2048

func newPackets(n, head int) *packets {
	p := &packets{
		headers: make([]unix.Mmsghdr, n), vectors: make([]unix.Iovec, n), names: make([]rawAddr, n),
		memory: make([]byte, n*slot), head: head,
	}
	for i := range n {
		p.vectors[i].Base = &p.memory[i*slot+head]
		p.vectors[i].SetLen(maxPacket + 1)
		p.headers[i].Hdr.Iov = &p.vectors[i]
		p.headers[i].Hdr.SetIovlen(1)
		p.headers[i].Hdr.Name = &p.names[i].bytes[0]
	}
	return p
}

// receive fills up to n packets from the first one on.
func (p *packets) receive(s *rawSocket, first, n int) (int, unix.Errno) {
	batch := p.headers[first : first+n]
	for i := range batch {
		batch[i].Hdr.Namelen = unix.SizeofSockaddrInet6
	}
	got, errno := s.receive(batch)
	for i := first; i < first+got; i++ {
		size := min(p.headers[i].Hdr.Namelen, unix.SizeofSockaddrInet6)
		p.names[i].size = size
		// The last packet here may have come over IPv6.
		clear(p.names[i].bytes[size:])
	}
	return got, errno
}

// packet returns the i-th packet; one longer than maxPacket was cut.
func (p *packets) packet(i int) []byte {
	return p.withHead(i)[p.head:]
}

// withHead returns the i-th packet behind its free bytes.
func (p *packets) withHead(i int) []byte {
	return p.memory[i*slot : i*slot+p.head+int(p.headers[i].Len)]
}
