//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/peersignal/peersignal/pkg/wire"
	"github.com/peersignal/peersignal/test/harness"
	"github.com/peersignal/peersignal/test/nat/lab"
)

const (
	messages  = 50
	signaling = "203.0.113.10:80"
	relay     = "203.0.113.11"
	pageAt    = "203.0.113.12:80"
)

// outcome is what the page tells.
type outcome struct {
	Total int `json:"total"` // bytes echoed
	Path  struct {
		Local, By, URL, Remote string
	} `json:"path"`
	took time.Duration // from having the offer to the end of the exchange
}

// nodes are the three places of a case.
type nodes struct{ server, browser, peer *lab.Node }

func play(ctx context.Context, s scenario, bin harness.Binaries, browser string) (o outcome, err error) {
	dir, err := os.MkdirTemp("", "psnat-browser-")
	if err != nil {
		return o, err
	}
	l := lab.New()
	defer func() {
		if err = errors.Join(err, l.Close()); err != nil {
			err = fmt.Errorf("%w (logs are in %s)", err, dir)
			return
		}
		_ = os.RemoveAll(dir)
	}()
	n, err := build(ctx, l, s)
	if err != nil {
		return o, err
	}
	cert, err := lab.WriteCertificate(dir, netip.MustParseAddr(relay))
	if err != nil {
		return o, err
	}
	server, err := startServer(ctx, n.server, bin, dir, s, cert)
	if err != nil {
		return o, err
	}
	defer func() { _ = server.Stop(10 * time.Second) }()
	stop, err := servePage(n.server)
	if err != nil {
		return o, err
	}
	defer stop()
	// The browser's own list of authorities cannot be added to from outside; it is told this one key, and checks the rest.
	c, err := startChromium(n.browser, browser, dir, "--ignore-certificate-errors-spki-list="+cert.Pin)
	if err != nil {
		return o, err
	}
	defer c.close()
	return connect(ctx, s, n, c)
}

func build(ctx context.Context, l *lab.Lab, s scenario) (n nodes, err error) {
	internet, err := l.Internet(ctx)
	if err != nil {
		return n, err
	}
	gateway := netip.MustParseAddr("203.0.113.1")
	var servers []netip.Addr
	for _, a := range []string{"203.0.113.10", relay, "203.0.113.12"} {
		servers = append(servers, netip.MustParseAddr(a))
	}
	server, err := internet.Host(ctx, "server", gateway, servers...)
	if err != nil {
		return n, err
	}
	n.server = server.Host
	for i, cfg := range []lab.RouterConfig{s.router, {Kind: lab.Symmetric}} {
		cfg.Outside = netip.AddrFrom4([4]byte{203, 0, 113, byte(21 + i)})
		router, err := l.Router(ctx, fmt.Sprintf("nat%d", i), internet, gateway, cfg)
		if err != nil {
			return n, err
		}
		inside := netip.AddrFrom4([4]byte{192, 168, byte(1 + i), 1})
		host, err := router.Host(ctx, fmt.Sprintf("host%d", i), inside, inside.Next())
		if err != nil {
			return n, err
		}
		if i == 0 {
			n.browser = host.Host
		} else {
			n.peer = host.Host
		}
		if err := lab.AwaitTCP(ctx, host.Host, n.server, netip.MustParseAddrPort(signaling)); err != nil {
			return n, err
		}
	}
	return n, nil
}

func startServer(ctx context.Context, n *lab.Node, bin harness.Binaries, dir string, s scenario, cert lab.Certificate) (*harness.Process, error) {
	args := []string{
		"--listen", signaling, "--turn-listen", net.JoinHostPort(relay, s.port), "--turn-host", relay,
		"--turn-relay-ip", relay, "--turn-allow-peer", "203.0.113.0/24",
	}
	if s.tls {
		args = append(args, "--turn-tls-listen", net.JoinHostPort(relay, "443"), "--turn-tls-cert", cert.Cert, "--turn-tls-key", cert.Key)
	}
	p, err := harness.Start("peersignal", filepath.Join(dir, "peersignal.log"), nil, n.Command(), bin.Peersignal, args...)
	if err != nil {
		return nil, err
	}
	_, err = p.WaitLog(ctx, "clients use")
	return p, err
}

// servePage serves the page in the server's node; what it returns ends that.
func servePage(n *lab.Node) (func(), error) {
	var listener net.Listener
	err := n.Do(func() (err error) {
		listener, err = net.Listen("tcp", pageAt)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("serving the page: %w", err)
	}
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = w.Write(page)
		}),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	return func() {
		_ = server.Close()
		<-done
	}, nil
}

// connect opens the page and lets it exchange messages with a peer.
func connect(ctx context.Context, s scenario, n nodes, c *chromium) (o outcome, err error) {
	own, err := openSession(ctx, n.browser, signaling)
	if err != nil {
		return o, err
	}
	defer own.close()
	others, err := openSession(ctx, n.peer, signaling)
	if err != nil {
		return o, err
	}
	defer others.close()
	tab, err := c.open(ctx, "http://"+pageAt+"/")
	if err != nil {
		return o, err
	}
	servers, err := json.Marshal(own.ice)
	if err != nil {
		return o, err
	}
	var offer string
	if err := c.evaluate(ctx, tab, fmt.Sprintf("makeOffer(%s)", servers), &offer); err != nil {
		return o, err
	}
	begin := time.Now()
	answer, stop, err := startPeer(ctx, n.peer, others.ice, offer)
	if err != nil {
		return o, err
	}
	defer stop()
	quoted, err := json.Marshal(answer)
	if err != nil {
		return o, err
	}
	if err := c.evaluate(ctx, tab, fmt.Sprintf("exchange(%s, %d)", quoted, messages), &o); err != nil {
		return o, err
	}
	o.took = time.Since(begin)
	if o.Path.Local != "relay" || o.Path.By != s.by || o.Total < 100_000 {
		return o, fmt.Errorf("the page tells %+v, want a relay by %s", o, s.by)
	}
	return o, nil
}

// startPeer starts the Go peer in its node and returns its answer and what ends it.
func startPeer(ctx context.Context, n *lab.Node, servers []wire.ICEServer, offer string) (string, func(), error) {
	t := task{Offer: offer}
	for _, s := range servers {
		t.ICE = append(t.ICE, webrtc.ICEServer{URLs: s.URLs, Username: s.Username, Credential: s.Credential})
	}
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, n.Command()[0], append(n.Command()[1:], self, "-peer")...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	in, err := cmd.StdinPipe()
	if err != nil {
		cancel()
		return "", nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		cancel()
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		cancel()
		return "", nil, fmt.Errorf("starting the peer: %w", err)
	}
	stop := func() {
		_ = in.Close()
		cancel()
		_ = cmd.Wait()
	}
	var a taskAnswer
	if err := errors.Join(json.NewEncoder(in).Encode(t), json.NewDecoder(out).Decode(&a)); err != nil {
		stop()
		return "", nil, fmt.Errorf("asking the peer: %w: %s", err, complaints.String())
	}
	return a.Answer, stop, nil
}
