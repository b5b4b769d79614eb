package turn_test

import (
	"bytes"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/peersignal/peersignal/internal/turn"
)

func TestQuotas(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*turn.Config)
		who    func(i int) (session, user string)
		want   int
		reason string
	}{
		"session": {func(c *turn.Config) { c.AllocationsPerSession = 3 },
			func(int) (string, string) { return "s", "alice" }, 3, "session_quota"},
		"user": {func(c *turn.Config) { c.AllocationsPerUser = 3 },
			func(i int) (string, string) { return fmt.Sprint("s", i), "alice" }, 3, "user_quota"},
		"total": {func(c *turn.Config) { c.AllocationsTotal = 3 },
			func(i int) (string, string) { return fmt.Sprint("s", i), fmt.Sprint("u", i) }, 3, "total_quota"},
		"ports": {func(c *turn.Config) { c.RelayPorts = [2]uint16{21001, 21003} },
			func(i int) (string, string) { return fmt.Sprint("s", i), fmt.Sprint("u", i) }, 3, "no_port"},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, c.change)
			var relays []net.PacketConn
			for i := range 5 {
				relay, err := r.dial("udp", r.credentials(c.who(i))).Allocate()
				if err == nil {
					relays = append(relays, relay)
				}
			}
			if len(relays) != c.want {
				t.Errorf("%d allocations were made, want %d", len(relays), c.want)
			}
			if got := r.metric("allocations_refused_total", "reason", c.reason); got != 2 {
				t.Errorf("%v refusals counted, want 2", got)
			}
			// A place that is given back can be taken.
			_ = relays[0].Close()
			eventually(t, "one ended", func() bool { return r.metric("allocations", "transport", "udp") == float64(c.want-1) })
			relay, err := r.dial("udp", r.credentials(c.who(0))).Allocate()
			if err != nil {
				t.Fatalf("after one ended: %v", err)
			}
			for _, other := range append(relays[1:], relay) {
				_ = other.Close()
			}
			eventually(t, "all ended", func() bool { return r.metric("allocations", "transport", "udp") == 0 })
		})
	}
}

// Requests at the same time cannot exceed a limit together.
func TestQuotaUnderConcurrency(t *testing.T) {
	r := start(t, func(c *turn.Config) { c.AllocationsPerSession = 5 })
	c := r.credentials("s", "alice")
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for i := range 12 {
		client := r.dial([]string{"udp", "tcp"}[i%2], c)
		wg.Go(func() {
			relay, err := client.Allocate()
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			made++
			t.Cleanup(func() { _ = relay.Close() })
		})
	}
	wg.Wait()
	if made != 5 {
		t.Errorf("%d allocations were made, want 5", made)
	}
}

func TestBytesPerSecond(t *testing.T) {
	r := start(t, func(c *turn.Config) { c.BytesPerSecond = 1000 })
	_, a := r.allocate("udp", "s1", "alice")
	_, b := r.allocate("udp", "s2", "bob")
	meet(t, a, b)
	// The burst is 64 KiB: the rest of a hundred packets is dropped.
	for range 100 {
		if _, err := a.WriteTo(bytes.Repeat([]byte{'x'}, 1000), b.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "packets were dropped", func() bool {
		return r.metric("relayed_packets_dropped_total", "direction", "to_peer", "reason", "rate") > 20
	})
	// A minute later the session may send again.
	r.advance(time.Minute)
	if _, err := a.WriteTo([]byte("again"), b.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	for {
		if got, _ := receive(t, b); got == "again" {
			break
		}
	}
}

func TestBytesPerDay(t *testing.T) {
	r := start(t, func(c *turn.Config) { c.BytesPerDay = 10_000 })
	_, a := r.allocate("udp", "s1", "alice")
	r.allocate("udp", "s3", "alice")
	_, b := r.allocate("udp", "s2", "bob")
	meet(t, a, b)
	for range 20 {
		if _, err := a.WriteTo(bytes.Repeat([]byte{'x'}, 1000), b.LocalAddr()); err != nil {
			break
		}
	}
	// Both of alice's end; bob received what she sent, so his may end as well.
	eventually(t, "the user's allocations ended", func() bool {
		return r.metric("allocations_ended_total", "reason", "bytes_per_day") >= 2
	})
	if relay, err := r.dial("udp", r.credentials("s4", "alice")).Allocate(); err == nil {
		_ = relay.Close()
		t.Error("an allocation was made after the day's bytes were used up")
	}
	if got := r.metric("allocations_refused_total", "reason", "bytes_per_day"); got == 0 {
		t.Error("the refusal was not counted")
	}
	r.advance(24 * time.Hour)
	r.allocate("udp", "s5", "alice")
}
