//go:build unix && (!linux || 386 || s390x)

package ws

import "syscall"

func recv(fd uintptr, b []byte) (int, error) { return syscall.Read(int(fd), b) }

func send(fd uintptr, b []byte) (int, error) { return syscall.Write(int(fd), b) }
