//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/peersignal/peersignal/internal/load"
)

const (
	serverCPUs = "0,1"
	loadCPUs   = "2,3"
	patience   = 30 * time.Second
)

// A server is one kind of server that is measured.
type server struct {
	name    string
	dialect string
	start   func() (*process, error)
}

// process is a server that runs.
type process struct {
	cmd *exec.Cmd
	url string
}

func (p *process) stop() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// bench knows where the programs are.
type bench struct {
	self string // this program
	bin  string // folder with peersignal
	node string // folder with the Node servers; "": not measured
}

func (b *bench) servers() []server {
	all := []server{
		{"peersignal", "peersignal", b.startOurs},
		{"gws, bare", "bare", func() (*process, error) { return b.startPrinting(b.self, "gws") }},
		{"coder, bare", "bare", func() (*process, error) { return b.startPrinting(b.self, "coder") }},
	}
	if b.node != "" {
		all = append(all,
			server{"Node ws, bare", "bare", func() (*process, error) { return b.startPrinting("node", filepath.Join(b.node, "bare.js")) }},
			server{"stock", "stock", func() (*process, error) { return b.startPrinting("node", filepath.Join(b.node, "stock.js")) }})
	}
	return all
}

// pinned makes a command on some processors, if that can be had here.
func pinned(cpus, name string, args ...string) *exec.Cmd {
	if path, err := exec.LookPath("taskset"); err == nil {
		name, args = path, append([]string{"-c", cpus, name}, args...)
	}
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// startPrinting starts a server that prints its port.
func (b *bench) startPrinting(name string, args ...string) (*process, error) {
	cmd := pinned(serverCPUs, name, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_ = cmd.Process.Kill()
		return nil, fmt.Errorf("starting %s %s: it printed no port: %w", name, strings.Join(args, " "), err)
	}
	return &process{cmd, "http://127.0.0.1:" + strings.TrimSpace(line)}, nil
}

// startOurs starts peersignal as an operator would, with limits that the load
// does not reach.
func (b *bench) startOurs() (*process, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("looking for a port: %w", err)
	}
	address := l.Addr().String()
	_ = l.Close()
	cmd := pinned(serverCPUs, filepath.Join(b.bin, "peersignal"), "--listen", address, "--turn=false", "--log-level", "error",
		"--messages-per-10s", "100000000", "--offers-per-minute", "100000000")
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting peersignal: %w", err)
	}
	p := &process{cmd, "http://" + address}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get(p.url + "/readyz")
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return p, nil
			}
		}
		if time.Now().After(deadline) {
			p.stop()
			return nil, fmt.Errorf("starting peersignal: it is not ready after %s: %w", patience, err)
		}
	}
}

// A task is what the process with the load is told, in JSON on its command line.
type task struct {
	Dialect string
	load.Config
}

// measure runs a load against a server, in a process of its own.
func (b *bench) measure(s server, p *process, cfg load.Config) (*load.Report, error) {
	cfg.ServerPID, cfg.URL = p.cmd.Process.Pid, p.url
	arg, err := json.Marshal(task{Dialect: s.dialect, Config: cfg})
	if err != nil {
		return nil, fmt.Errorf("measuring %s: %w", s.name, err)
	}
	out, err := pinned(loadCPUs, b.self, "load", string(arg)).Output()
	if err != nil {
		return nil, fmt.Errorf("measuring %s, %s: %w", s.name, cfg.Scenario, err)
	}
	var r load.Report
	if err := json.Unmarshal(out, &r); err != nil {
		return nil, fmt.Errorf("measuring %s, %s: %w", s.name, cfg.Scenario, err)
	}
	if r.Errors > 0 {
		fmt.Printf("%s, %s: %d errors: refused %v, failed %v\n", s.name, cfg.Scenario, r.Errors, r.Refused, r.Failed)
	}
	return &r, nil
}

// runLoad is the process with the load.
func runLoad(arg string) error {
	var t task
	if err := json.Unmarshal([]byte(arg), &t); err != nil {
		return fmt.Errorf("reading the task: %w", err)
	}
	cfg := t.Config
	var err error
	if cfg.Dialect, err = dialectOf(t.Dialect, strings.TrimPrefix(t.URL, "http://")); err != nil {
		return err
	}
	report, err := load.Run(context.Background(), cfg)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

// nodeServers installs what the Node servers need, at the first time; "" and a
// reason if that cannot be.
func nodeServers(dir string) (folder, why string) {
	if dir == "" {
		return "", "not asked for"
	}
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			return "", program + " is not installed"
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "ws")); err == nil {
		return dir, ""
	}
	cmd := exec.Command("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	if err := cmd.Run(); err != nil {
		return "", "npm ci failed: " + err.Error()
	}
	return dir, ""
}
