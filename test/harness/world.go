package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A World is a folder with one server and any number of daemons in it.
type World struct {
	Dir     string
	Bin     Binaries
	Port    int // of the signaling server, on 127.0.0.1
	Server  *Process
	Daemons []*Daemon
	// ServerURL replaces the server on loopback; the caller starts that one.
	ServerURL string
	turn      int
	served    bool // by a server of ours; daemons may know its ports
}

// NewWorld picks ports and starts nothing.
func NewWorld(dir string, bin Binaries) (*World, error) {
	w := &World{Dir: dir, Bin: bin}
	return w, w.pickPorts()
}

func (w *World) pickPorts() (err error) {
	if w.Port, err = freePort(); err == nil {
		w.turn, err = freePort()
	}
	return err
}

// URL is what daemons are given as --server.
func (w *World) URL() string {
	if w.ServerURL != "" {
		return w.ServerURL
	}
	return fmt.Sprintf("http://127.0.0.1:%d", w.Port)
}

// StartServer starts peersignal with STUN and TURN on loopback and waits until it listens. If somebody else has taken a port
// meanwhile, it picks others the first time; later, when daemons know them, it waits until they are free again.
func (w *World) StartServer(ctx context.Context, extra ...string) error {
	for {
		args := append([]string{
			"--listen", fmt.Sprintf("127.0.0.1:%d", w.Port),
			"--turn-listen", fmt.Sprintf("127.0.0.1:%d", w.turn),
			"--turn-relay-ip", "127.0.0.1",
			"--turn-allow-peer", "127.0.0.0/8",
		}, extra...)
		p, err := start("peersignal", filepath.Join(w.Dir, "peersignal.log"), nil, w.Bin.Peersignal, args...)
		if err != nil {
			return err
		}
		w.Server = p
		err = p.Listening(ctx)
		switch {
		case err == nil:
			w.served = true
			return nil
		case !errors.Is(err, ErrTaken):
			return err
		case !w.served:
			if err := w.pickPorts(); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Logs are the last lines that each program printed.
func (w *World) Logs(lines int) string {
	var b strings.Builder
	files, _ := filepath.Glob(filepath.Join(w.Dir, "*.log"))
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			text = []byte(err.Error())
		}
		fmt.Fprintf(&b, "%s:\n%s\n", filepath.Base(path), lastLines(string(text), lines))
	}
	return b.String()
}

// NewDaemon creates a user with a data folder; nothing runs yet.
func (w *World) NewDaemon(ctx context.Context, name string) (*Daemon, error) {
	d := &Daemon{Name: name, Dir: filepath.Join(w.Dir, name), world: w}
	if _, err := d.CLI(ctx, "init", "--name", name, "--insecure-keystore"); err != nil {
		return nil, err
	}
	w.Daemons = append(w.Daemons, d)
	return d, nil
}

// Close ends everything that runs.
func (w *World) Close() {
	for _, d := range w.Daemons {
		if d.Process != nil && d.Process.Running() {
			_ = d.Process.Stop(10 * time.Second)
		}
	}
	if w.Server != nil && w.Server.Running() {
		_ = w.Server.Stop(10 * time.Second)
	}
}

// A Daemon is one peerd with its folder.
type Daemon struct {
	Name    string
	Dir     string
	Process *Process
	// Within is the command that starts the daemon, see [Start]. The CLI needs none: it uses a socket in the folder.
	Within []string
	world  *World
}

// Up starts `peerd up` and waits until its API answers.
func (d *Daemon) Up(ctx context.Context, extra ...string) error {
	args := append([]string{"--data", d.Dir, "up", "--server", d.world.URL()}, extra...)
	if d.world.ServerURL == "" {
		args = append(args, "--allow-loopback")
	}
	p, err := Start("peerd "+d.Name, d.Dir+".log", d.env(), d.Within, d.world.Bin.Peerd, args...)
	if err != nil {
		return err
	}
	d.Process = p
	return Until(ctx, "peerd "+d.Name+" to answer", func() (bool, error) {
		if !p.Running() {
			return false, fmt.Errorf("peerd %s ended:\n%s", d.Name, p.tail())
		}
		_, err := d.CLI(ctx, "status", "--json")
		return err == nil, nil
	})
}

// env keeps daemons of one machine apart: each has its socket in its own folder.
func (d *Daemon) env() []string { return []string{"XDG_RUNTIME_DIR=" + d.Dir} }

// An ExitError is a CLI call that failed.
type ExitError struct {
	Args   []string
	Code   int
	Stderr string
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("peerd %s: exit %d: %s", strings.Join(e.Args, " "), e.Code, strings.TrimSpace(e.Stderr))
}

// CLI runs one peerd command against this daemon and returns its standard output.
func (d *Daemon) CLI(ctx context.Context, args ...string) ([]byte, error) {
	return d.CLIInput(ctx, nil, args...)
}

// CLIInput is CLI with standard input.
func (d *Daemon) CLIInput(ctx context.Context, in io.Reader, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, d.world.Bin.Peerd, append([]string{"--data", d.Dir}, args...)...)
	cmd.Env = append(os.Environ(), d.env()...)
	cmd.Stdin = in
	var stderr strings.Builder
	cmd.Stderr = &stderr
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return out, &ExitError{Args: args, Code: exit.ExitCode(), Stderr: stderr.String()}
	}
	return out, err
}

// JSON runs a command with --json and decodes what it prints.
func (d *Daemon) JSON(ctx context.Context, v any, args ...string) error {
	out, err := d.CLI(ctx, append(args, "--json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, v); err != nil {
		return fmt.Errorf("peerd %s --json: %w in %q", strings.Join(args, " "), err, out)
	}
	return nil
}

// Until polls cond until it holds, fails, or ctx ends.
func Until(ctx context.Context, what string, cond func() (bool, error)) error {
	for {
		ok, err := cond()
		if err != nil {
			return fmt.Errorf("waiting for %s: %w", what, err)
		}
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// freePort returns a port of 127.0.0.1 that is free for TCP and UDP. It is below those that the kernel gives to connections,
// which come and go by the thousand while tests run.
func freePort() (int, error) {
	var err error
	for range 100 {
		port := 16_384 + rand.IntN(16_384)
		if err = tryPort(port); err == nil {
			return port, nil
		}
	}
	return 0, fmt.Errorf("finding a free port: %w", err)
}

func tryPort(port int) error {
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	return c.Close()
}
