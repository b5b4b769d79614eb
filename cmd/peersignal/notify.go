package main

import (
	"fmt"
	"net"
	"os"
	"strings"
)

// States that systemd is told of.
const (
	notifyReady     = "READY=1"
	notifyReloading = "RELOADING=1"
	notifyStopping  = "STOPPING=1"
)

// notify tells systemd a state, if it wants to know: a datagram to the socket
// in NOTIFY_SOCKET, see sd_notify(3). A name that begins with @ is abstract.
func notify(states ...string) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("telling systemd: %w", err)
	}
	defer func() { _ = c.Close() }()
	if _, err = c.Write([]byte(strings.Join(states, "\n"))); err != nil {
		return fmt.Errorf("telling systemd: %w", err)
	}
	return nil
}

// tell is notify for what need not be told.
func (a *app) tell(states ...string) {
	if err := notify(states...); err != nil {
		a.log.Warn("systemd could not be told", "error", err)
	}
}
