//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/peersignal/peersignal/internal/turn"
)

const (
	serverCPUs = "0,1"
	loadCPUs   = "2,3"
	ticks      = 100 // of processor time a second, in /proc
)

// runServer is the main function of our server's process. Quotas, policy and
// metrics are on, as in production, with limits that the load does not reach.
func runServer(out io.Writer) error {
	s, err := turn.New(turn.Config{
		Listen: []string{"127.0.0.1:0"}, RelayIP: loopback,
		AllowPeers:            []string{"127.0.0.0/8"},
		AllocationsPerSession: 1 << 14, AllocationsPerUser: 1 << 14, AllocationsTotal: 1 << 14,
		BytesPerSecond: 1 << 40, BytesPerDay: 1 << 60, UnauthenticatedPerSecond: 1 << 20,
		Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		return err
	}
	c, err := s.Credentials("bench", "bench")
	if err != nil {
		return err
	}
	t := target{s.Addrs()[0], account{c.Username, c.Password, turn.DefaultRealm}}
	if err := json.NewEncoder(out).Encode(t); err != nil {
		return fmt.Errorf("writing the target: %w", err)
	}
	return s.Run(context.Background())
}

// process is a server or a load in a process of its own.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func launch(cpus, name string, args ...string) (*process, error) {
	cmd := exec.Command("taskset", append([]string{"-c", cpus, name}, args...)...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return &process{cmd, in, bufio.NewReader(out)}, nil
}

func (p *process) stop() {
	_ = p.in.Close()
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// cpu returns the processor time that the process has used.
func (p *process) cpu() (float64, error) {
	fields, err := p.stat()
	if err != nil {
		return 0, err
	}
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, fmt.Errorf("reading processor time: %w", err)
	}
	system, err := strconv.Atoi(fields[12])
	if err != nil {
		return 0, fmt.Errorf("reading processor time: %w", err)
	}
	return float64(user+system) / ticks, nil
}

// memory returns the resident bytes of the process.
func (p *process) memory() (int, error) {
	fields, err := p.stat()
	if err != nil {
		return 0, err
	}
	pages, err := strconv.Atoi(fields[21])
	if err != nil {
		return 0, fmt.Errorf("reading resident memory: %w", err)
	}
	return pages * os.Getpagesize(), nil
}

// stat returns the fields of /proc/PID/stat after the name of the command.
func (p *process) stat() ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return nil, fmt.Errorf("reading about a process: %w", err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 22 {
		return nil, fmt.Errorf("reading about a process: %d fields", len(fields))
	}
	return fields, nil
}

// launchOurs starts this program again as a server.
func launchOurs(self string) (*process, target, error) {
	p, err := launch(serverCPUs, self, "server")
	if err != nil {
		return nil, target{}, err
	}
	var t target
	if err := json.NewDecoder(p.out).Decode(&t); err != nil {
		p.stop()
		return nil, target{}, fmt.Errorf("starting our server: %w", err)
	}
	return p, t, nil
}

// launchCoturn starts coturn with as many relay threads as it has processors.
func launchCoturn() (*process, target, error) {
	port, err := freePort()
	if err != nil {
		return nil, target{}, err
	}
	t := target{netip.AddrPortFrom(loopback, port), account{"bench", "bench", "bench"}}
	p, err := launch(serverCPUs, "turnserver", "-n", "--no-cli", "--no-tls", "--no-dtls", "--relay-threads=2",
		"--listening-ip=127.0.0.1", "--listening-port="+strconv.Itoa(int(port)), "--relay-ip=127.0.0.1",
		"--min-port=10000", "--max-port=32000", "--allow-loopback-peers", "--lt-cred-mech", "--user=bench:bench",
		"--realm=bench", "--log-file=/dev/null", "--simple-log", "--pidfile=/dev/null")
	if err != nil {
		return nil, target{}, err
	}
	go func() { _, _ = io.Copy(io.Discard, p.out) }()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		conn, err := net.Dial("tcp", t.Server.String())
		if err == nil {
			_ = conn.Close()
			return p, t, nil
		}
		if time.Now().After(deadline) {
			p.stop()
			return nil, target{}, fmt.Errorf("starting coturn: %w", err)
		}
	}
}

func freePort() (uint16, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("looking for a port: %w", err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).AddrPort().Port(), nil
}
