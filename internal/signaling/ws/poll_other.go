//go:build !unix

package ws

import (
	"net"
	"syscall"
)

func pollable(net.Conn) syscall.RawConn { return nil }

func (c *Conn) readable(uintptr) bool { return true }

func (c *Conn) tryWrite(uintptr) {}

// Probe has nothing to do where reads wait in the usual way.
func (c *Conn) Probe() {}
