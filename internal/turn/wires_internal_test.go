package turn

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// The deadlines of a stream take half a minute of real time; here the clock is
// the bubble's.
func TestStreamDeadlines(t *testing.T) {
	frame := append([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 12)...)
	for name, c := range map[string]struct {
		live func(elapsed time.Duration) bool // whether the client has an allocation
		send []byte
		want error
		at   time.Duration
	}{
		"idle":        {func(time.Duration) bool { return false }, nil, errIdle, idleTimeout},
		"in a header": {func(time.Duration) bool { return true }, frame[:3], errMidFrame, idleTimeout},
		"in a frame":  {func(time.Duration) bool { return true }, frame[:12], errMidFrame, idleTimeout},
		"allocation that ends": {func(d time.Duration) bool { return d < 5*time.Minute }, nil, errIdle,
			5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				defer func() { _ = theirs.Close() }()
				defer func() { _ = ours.Close() }()
				ended := ""
				w := newStreamWire(ours, func(reason string) { ended = reason })
				begin := time.Now()
				go func() { _, _ = theirs.Write(c.send) }()
				_, _, err := w.read(make([]byte, 1600), func(netip.AddrPort) bool { return c.live(time.Since(begin)) })
				if !errors.Is(err, c.want) || ended != connIdle {
					t.Errorf("got %v (%s), want %v", err, ended, c.want)
				}
				if got := time.Since(begin); got != c.at {
					t.Errorf("it ended after %v, want %v", got, c.at)
				}
			})
		})
	}
}

// A client that does not read is disconnected.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		ended := ""
		w := newStreamWire(ours, func(reason string) { ended = reason })
		begin := time.Now()
		if _, err := w.write([]byte("data"), nil); err == nil {
			t.Error("the write succeeded")
		}
		if got := time.Since(begin); got != writeTimeout || ended != connSlow {
			t.Errorf("ended as %q after %v, want %q after %v", ended, got, connSlow, writeTimeout)
		}
		if _, err := theirs.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the client sees %v, want the connection closed", err)
		}
	})
}
