package turn_test

import (
	"context"
	"net/netip"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/peersignal/peersignal/internal/turn"
)

var lostPackets = regexp.MustCompile(`Total lost packets (\d+)`)

// The test client of coturn, where its Debian package is installed, exchanges
// data over every transport without losing a packet.
func TestCoturnClient(t *testing.T) {
	needIPv6(t)
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	program, err := exec.LookPath("turnutils_uclient")
	if err != nil {
		t.Skip("turnutils_uclient of the Debian package coturn is not installed")
	}
	for name, args := range map[string][]string{
		"udp":                    {"-y", "-c"},
		"udp, indications":       {"-y", "-c", "-s"},
		"udp, IPv4 asked for":    {"-y", "-c", "-X"},
		"udp, IPv6 asked for":    {"-y", "-c", "-x"},
		"udp, padded, and extra": {"-y", "-c", "-D", "-G"},
		"tcp":                    {"-y", "-c", "-t"},
		"tcp, indications":       {"-y", "-c", "-t", "-s"},
		"tls":                    {"-y", "-c", "-t", "-S"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each takes seconds, in which nothing happens
			r := start(t, func(c *turn.Config) {
				withTLS(c)
				loopbackPeers(c)
				c.RelayIP6 = netip.MustParseAddr("::1")
			})
			at := r.Addrs()[0]
			if name == "tls" {
				at = r.TLSAddrs()[0]
			}
			c := r.credentials("s1", "alice")
			args = append(args, "-m", "2", "-n", "20", "-l", "600", "-z", "10", "-u", c.Username, "-w", c.Password,
				"-p", strconv.Itoa(int(at.Port())), at.Addr().String())
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if m := lostPackets.FindSubmatch(out); m == nil || string(m[1]) != "0" {
				t.Errorf("packets were lost: %s", out)
			}
		})
	}
}
