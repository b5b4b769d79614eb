//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	bufferSize = 4 << 20
	readBatch  = 64
)

// socket is a connected UDP socket that is used without the Go runtime's
// poller, so that the load costs little.
type socket int

// dial binds to a port of the address from.
func dial(from netip.Addr, to netip.AddrPort) (socket, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("making a socket: %w", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, bufferSize)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, bufferSize)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2})
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()}); err != nil {
		return 0, fmt.Errorf("binding a socket: %w", err)
	}
	return socket(fd), socket(fd).connect(to)
}

func (s socket) connect(to netip.AddrPort) error {
	if !to.IsValid() {
		return nil
	}
	if err := unix.Connect(int(s), &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil {
		return fmt.Errorf("connecting to %s: %w", to, err)
	}
	return nil
}

func (s socket) addr() (netip.AddrPort, error) {
	sa, err := unix.Getsockname(int(s))
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("reading a socket's name: %w", err)
	}
	in, ok := sa.(*unix.SockaddrInet4)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("a %T is no IPv4 address", sa)
	}
	return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port)), nil
}

func (s socket) close() { _ = unix.Close(int(s)) }

// batch holds the headers of one system call.
type batch struct {
	headers []unix.Mmsghdr
	vectors []unix.Iovec
	memory  []byte
}

// sending returns a batch of n equal packets.
func sending(packet []byte, n int) *batch {
	b := &batch{headers: make([]unix.Mmsghdr, n), vectors: make([]unix.Iovec, n), memory: packet}
	for i := range b.headers {
		b.vectors[i].Base = &packet[0]
		b.vectors[i].SetLen(len(packet))
		b.headers[i].Hdr.Iov = &b.vectors[i]
		b.headers[i].Hdr.SetIovlen(1)
	}
	return b
}

// receiving returns a batch that keeps the first bytes of packets only: what
// is counted need not be copied.
func receiving() *batch {
	const keep = 8
	b := &batch{
		headers: make([]unix.Mmsghdr, readBatch), vectors: make([]unix.Iovec, readBatch), memory: make([]byte, keep*readBatch),
	}
	for i := range b.headers {
		b.vectors[i].Base = &b.memory[i*keep]
		b.vectors[i].SetLen(keep)
		b.headers[i].Hdr.Iov = &b.vectors[i]
		b.headers[i].Hdr.SetIovlen(1)
	}
	return b
}

func (b *batch) call(trap uintptr, s socket) int {
	n, _, errno := unix.Syscall6(trap, uintptr(s), uintptr(unsafe.Pointer(&b.headers[0])), uintptr(len(b.headers)),
		unix.MSG_DONTWAIT, 0, 0)
	runtime.KeepAlive(b)
	if errno != 0 {
		return 0
	}
	return int(n)
}

func (b *batch) send(s socket) int { return b.call(unix.SYS_SENDMMSG, s) }

func (b *batch) receive(s socket) int { return b.call(unix.SYS_RECVMMSG, s) }

// channelData returns a packet on channel 0x4000 with size bytes of data.
func channelData(size int) []byte {
	p := make([]byte, 4+size)
	binary.BigEndian.PutUint16(p, 0x4000)
	binary.BigEndian.PutUint16(p[2:], uint16(size))
	return p
}
