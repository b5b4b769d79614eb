package main

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// monotonic is what systemd wants beside RELOADING=1, to tell reloads apart.
func monotonic() string {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) != nil {
		return ""
	}
	return "MONOTONIC_USEC=" + strconv.FormatInt(t.Nano()/1000, 10)
}
