package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/test/harness"
)

const (
	rollingPairs  = 30
	rollingWindow = 3 * time.Second
)

// TestRollingRestart replaces one server by another behind a TCP switch, twice,
// while pairs of devices exchange numbered offers, and breaks all connections
// once: no offer that was called delivered is lost, everybody is back, and the
// reconnects are spread over the window.
func TestRollingRestart(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	sw := newTCPSwitch(t)
	server := startBehind(t, ctx, sw, 0)
	devices := rollingDevices(t, sw.addr())
	quit := make(chan struct{})
	runCtx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, d := range devices {
		wg.Go(func() { d.run(runCtx, quit) })
	}
	defer wg.Wait()
	defer stop()
	exchange(t, ctx, devices)

	sw.cut()
	allBack(t, ctx, devices, 2)
	resumed := 0
	for _, d := range devices {
		_, n, _ := d.state()
		resumed += n
	}
	if resumed != len(devices) {
		t.Errorf("%d of %d sessions went on over another connection", resumed, len(devices))
	}
	for round := range 2 {
		next := startBehind(t, ctx, sw, round+1)
		if err := server.Stop(time.Minute); err != nil {
			t.Fatalf("%s: %v", server.Name, err)
		}
		server = next
		allBack(t, ctx, devices, round+3)
		exchange(t, ctx, devices)
	}
	close(quit)
	settled(t, ctx, devices)
	nothingLost(t, devices)
	spread(t, devices, 2)
}

// startBehind starts a server under the switch's name and leads new connections
// to it.
func startBehind(t *testing.T, ctx context.Context, sw *tcpSwitch, n int) *harness.Process {
	t.Helper()
	name := fmt.Sprintf("peersignal-%d", n)
	p, err := harness.Start(name, filepath.Join(t.TempDir(), name+".log"), nil, nil, bin.Peersignal,
		"--listen", "127.0.0.1:0", "--name", sw.addr(), "--turn=false", "--drain-window", rollingWindow.String(),
		"--messages-per-10s", "1000000", "--offers-per-minute", "1000000", "--offers-at-once", "1000000",
		"--max-sessions-per-address=-1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Stop(30 * time.Second)
		if log := p.Log(); t.Failed() || strings.Contains(log, "panic") {
			t.Errorf("%s:\n%s", name, log)
		}
	})
	found, err := p.WaitLog(ctx, `clients use .* \(on ([0-9.:]+)\)`)
	if err != nil {
		t.Fatal(err)
	}
	sw.turn(found[1])
	return p
}

func rollingDevices(t *testing.T, host string) (all []*rolling) {
	t.Helper()
	for i := range rollingPairs {
		a, b := newSomeone(t), newSomeone(t)
		tag := peercrypto.Tag{1, byte(i)}
		all = append(all,
			newRolling(t, host, a, b.cert.DeviceID, tag), newRolling(t, host, b, a.cert.DeviceID, tag))
	}
	return all
}

// exchange waits until some more offers of each device were delivered.
func exchange(t *testing.T, ctx context.Context, devices []*rolling) {
	t.Helper()
	const more = 20
	count := func(d *rolling) int {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.delivered)
	}
	var want []int
	for _, d := range devices {
		want = append(want, count(d)+more)
	}
	for i, d := range devices {
		err := harness.Until(ctx, "offers", func() (bool, error) { return count(d) >= want[i], nil })
		if err != nil {
			t.Fatal(err)
		}
	}
}

// allBack waits until each device has made so many connections and has one.
func allBack(t *testing.T, ctx context.Context, devices []*rolling, ups int) {
	t.Helper()
	for i, d := range devices {
		err := harness.Until(ctx, fmt.Sprintf("device %d to be back", i), func() (bool, error) {
			n, _, up := d.state()
			return n >= ups && up, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// settled waits until nobody offers any more and what was delivered has arrived.
func settled(t *testing.T, ctx context.Context, devices []*rolling) {
	t.Helper()
	for i, d := range devices {
		if err := harness.Until(ctx, fmt.Sprintf("device %d to be quiet", i), func() (bool, error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.quiet, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	wait, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	_ = harness.Until(wait, "the last offers", func() (bool, error) {
		for i := range devices {
			if len(lost(devices[i], devices[i^1])) > 0 {
				return false, nil
			}
		}
		return true, nil
	})
}

// lost gives the numbers that were delivered and did not arrive.
func lost(from, to *rolling) (numbers []uint64) {
	from.mu.Lock()
	defer from.mu.Unlock()
	to.mu.Lock()
	defer to.mu.Unlock()
	for n := range from.delivered {
		if to.received[n] == 0 {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

func nothingLost(t *testing.T, devices []*rolling) {
	t.Helper()
	delivered, twice := 0, 0
	for i, d := range devices {
		if n := lost(d, devices[i^1]); len(n) > 0 {
			t.Errorf("device %d: delivered, but not received: %v of %d", i, n, len(d.delivered))
		}
		delivered += len(d.delivered)
		for _, n := range devices[i^1].received {
			if n > 1 {
				twice++
			}
		}
	}
	t.Logf("%d offers were delivered; %d were received twice, after they had got no result", delivered, twice)
}

// spread checks when the devices were told to come back: within the window, and
// not all at once.
func spread(t *testing.T, devices []*rolling, rounds int) {
	t.Helper()
	for round := range rounds {
		var quarter [4]int
		for i, d := range devices {
			if len(d.told) != rounds {
				t.Fatalf("device %d was told %d times to come back", i, len(d.told))
			}
			if d.told[round] >= rollingWindow {
				t.Fatalf("device %d was told to wait for %v", i, d.told[round])
			}
			quarter[d.told[round]*4/rollingWindow]++
		}
		for i, n := range quarter { // none of 60 happens once in 10^7 runs
			if n == 0 || n > len(devices)*3/4 {
				t.Errorf("round %d: %d of %d devices in quarter %d of the window", round, n, len(devices), i)
			}
		}
		t.Logf("round %d: reconnects by quarter of the window: %v", round, quarter)
	}
}
