// Package harness starts the real programs for end-to-end tests and the demo: a peersignal and daemons with folders of
// their own, all on loopback, and runs the real CLI against them.
package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A Process is one running program. Its output goes straight to a file, so that it can outlive the program that
// started it.
type Process struct {
	Name    string
	cmd     *exec.Cmd
	logFile string
	logFrom int64 // where this run begins in the file
	done    chan struct{}
	err     error // valid after done
}

// Start runs a program in a process group of its own and appends what it prints to a file. within, when there is any, is
// the command that starts it, such as ip netns exec NAME; it has to become the program, so that signals reach that.
func Start(name, logFile string, env, within []string, bin string, args ...string) (*Process, error) {
	if len(within) > 0 {
		bin, args = within[0], append(append(slices.Clone(within[1:]), bin), args...)
	}
	return start(name, logFile, env, bin, args...)
}

// start runs a program in a process group of its own.
func start(name, logFile string, env []string, bin string, args ...string) (*Process, error) {
	file, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", name, err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", name, err)
	}
	p := &Process{Name: name, logFile: logFile, logFrom: info.Size(), done: make(chan struct{})}
	p.cmd = exec.Command(bin, args...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = file, file
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Running tells whether the process still runs.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Kill is kill -9: nothing is flushed, nothing is said.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Stop asks with SIGTERM, waits, and returns an error when the process had to be killed or failed.
func (p *Process) Stop(wait time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return p.err
	case <-time.After(wait):
		p.Kill()
		return fmt.Errorf("%s did not end within %s of SIGTERM", p.Name, wait)
	}
}

// WaitExit returns the exit code of a process that ends by itself.
func (p *Process) WaitExit(ctx context.Context) (int, error) {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("%s is still running: %w", p.Name, ctx.Err())
	}
}

// WaitLog waits until the output matches, and fails early when the process ends.
func (p *Process) WaitLog(ctx context.Context, pattern string) ([]string, error) {
	re := regexp.MustCompile(pattern)
	for {
		if m := re.FindStringSubmatch(p.Log()); m != nil {
			return m, nil
		}
		select {
		case <-p.done:
			if m := re.FindStringSubmatch(p.Log()); m != nil { // its last words
				return m, nil
			}
			return nil, fmt.Errorf("%s ended before %q: %w\n%s", p.Name, pattern, errors.Join(errEnded, p.err), p.tail())
		case <-ctx.Done():
			return nil, fmt.Errorf("%s never printed %q: %w\n%s", p.Name, pattern, ctx.Err(), p.tail())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

var errEnded = errors.New("the process ended")

// ErrTaken means that a server ended because somebody else has one of its addresses.
var ErrTaken = errors.New("an address is taken")

// Listening waits until a peersignal says that it serves. The error is [ErrTaken] if that can be tried again.
func (p *Process) Listening(ctx context.Context) error {
	_, err := p.WaitLog(ctx, "clients use")
	if errors.Is(err, errEnded) && strings.Contains(p.Log(), syscall.EADDRINUSE.Error()) {
		return fmt.Errorf("%w: %w", ErrTaken, err)
	}
	return err
}

// Log is everything that this run of the process printed.
func (p *Process) Log() string {
	text, err := os.ReadFile(p.logFile)
	if err != nil || int64(len(text)) < p.logFrom {
		return ""
	}
	return string(text[p.logFrom:])
}

func (p *Process) tail() string {
	return lastLines(p.Log(), 15)
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Binaries holds the paths of the programs under test.
type Binaries struct{ Peersignal, Peerd string }

// Find returns the programs of a folder.
func Find(dir string) (Binaries, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return Binaries{}, err
	}
	b := Binaries{Peersignal: filepath.Join(abs, "peersignal"), Peerd: filepath.Join(abs, "peerd")}
	for _, path := range []string{b.Peersignal, b.Peerd} {
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return b, fmt.Errorf("%s is missing: run make build", path)
		}
	}
	return b, nil
}

// Build compiles the programs into dir, from packages that are compiled as make build does.
func Build(ctx context.Context, dir string) (Binaries, error) {
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-trimpath", "-o", dir+string(os.PathSeparator), "github.com/peersignal/peersignal/cmd/...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return Binaries{}, fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return Find(dir)
}
