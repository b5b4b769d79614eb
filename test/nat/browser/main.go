//go:build linux

// Command browser shows that a stock browser can use the relay: a plain page in headless Chromium, behind a NAT in a
// network namespace, connects by TURN only, with credentials that peersignal hands out to every client, to a Go peer
// behind another NAT. It prints a table and exits 0 only if every case held.
//
// It needs what test/nat needs, and Chromium; without them it says so and, unless -require is given, exits 0.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/peersignal/peersignal/test/harness"
	"github.com/peersignal/peersignal/test/nat/lab"
)

//go:embed page.html
var page []byte

// A scenario is one way to the relay.
type scenario struct {
	name   string
	router lab.RouterConfig // of the browser's site
	port   string           // of TURN
	by     string           // relayProtocol that the browser has to report
	tls    bool             // TURN over TLS on port 443
}

var scenarios = []scenario{
	{"udp", lab.RouterConfig{Kind: lab.Symmetric}, "3478", "udp", false},
	{"tcp", lab.RouterConfig{Kind: lab.PortRestricted, BlockUDP: true}, "3478", "tcp", false},
	{"tcp-443", lab.RouterConfig{Kind: lab.PortRestricted, OnlyTCP: []uint16{80, 443}}, "443", "tcp", false},
	{"tls-443", lab.RouterConfig{Kind: lab.PortRestricted, OnlyTCP: []uint16{80, 443}}, "3478", "tls", true},
}

func main() {
	bin := flag.String("bin", "bin", "folder with peersignal and peerd")
	require := flag.Bool("require", false, "fail if this machine cannot run it")
	limit := flag.Duration("limit", 4*time.Minute, "give up after this time")
	peer := flag.Bool("peer", false, "be the Go peer (used by this program itself)")
	flag.Parse()
	if *peer {
		if err := runPeer(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	if err := run(ctx, *bin, *require); err != nil {
		fmt.Fprintln(os.Stderr, "browser:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string, require bool) error {
	missing := lab.Missing()
	browser, err := exec.LookPath("chromium")
	if err != nil {
		missing = append(missing, "chromium: install the package chromium")
	}
	if len(missing) > 0 {
		text := "this machine cannot run a browser in a laboratory; it needs " + strings.Join(missing, "; ")
		if require {
			return errors.New(text)
		}
		fmt.Println("skipped:", text)
		return nil
	}
	bin, err := harness.Find(dir)
	if err != nil {
		return err
	}
	if _, err := lab.Sweep(ctx); err != nil {
		return fmt.Errorf("deleting what an earlier run left behind: %w", err)
	}
	version, err := exec.CommandContext(ctx, browser, "--version").Output()
	if err != nil {
		return fmt.Errorf("chromium: %w", err)
	}
	fmt.Println(strings.TrimSpace(string(version)))
	fmt.Printf("%-9s %-44s %-15s %-9s %s\n", "CASE", "RELAY", "PAIR", "CONNECT", "VERDICT")
	failed := false
	for _, s := range scenarios {
		r, err := play(ctx, s, bin, browser)
		if err != nil {
			failed = true
			fmt.Printf("%-9s FAILED: %v\n", s.name, err)
			continue
		}
		fmt.Printf("%-9s %-44s %-15s %-9s ok\n", s.name, r.Path.URL, r.Path.Local+"/"+r.Path.Remote, r.took.Round(10*time.Millisecond))
	}
	if failed {
		return errors.New("not every case held")
	}
	return nil
}
