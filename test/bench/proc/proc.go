// Package proc runs the parts of a benchmark in processes of their own, so that their processor time and memory can be told apart: the
// program starts itself again, and asks with lines of JSON.
package proc

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// A Child is this program in another process. Req and Rep are what it is asked and what it answers, as JSON. One goroutine at a time may ask.
type Child[Req, Rep any] struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

type answer[Rep any] struct {
	Reply Rep    `json:"reply"`
	Error string `json:"error,omitempty"`
}

// Start starts this program with arguments that make it call Serve.
func Start[Req, Rep any](args ...string) (*Child[Req, Rep], error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, args...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", strings.Join(args, " "), err)
	}
	return &Child[Req, Rep]{cmd, in, bufio.NewReader(out)}, nil
}

// Do asks the child and waits for the answer.
func (c *Child[Req, Rep]) Do(req Req) (Rep, error) {
	var a answer[Rep]
	err := json.NewEncoder(c.in).Encode(req)
	var line []byte
	if err == nil {
		line, err = c.out.ReadBytes('\n')
	}
	if err == nil {
		err = json.Unmarshal(line, &a)
	}
	if err == nil && a.Error != "" {
		err = errors.New(a.Error)
	}
	if err != nil {
		return a.Reply, fmt.Errorf("asking for %+v: %w", req, err)
	}
	return a.Reply, nil
}

// Stop ends the child, which ends with its input, and waits for that.
func (c *Child[Req, Rep]) Stop() {
	_ = c.in.Close()
	_ = c.cmd.Wait()
}

func (c *Child[Req, Rep]) proc(name string) string {
	return fmt.Sprintf("/proc/%d/%s", c.cmd.Process.Pid, name)
}

// ResetPeak makes VmHWM begin anew.
func (c *Child[Req, Rep]) ResetPeak() error {
	return os.WriteFile(c.proc("clear_refs"), []byte("5"), 0)
}

// Memory returns a figure of /proc/PID/status in bytes, as VmRSS, or VmHWM for the peak.
func (c *Child[Req, Rep]) Memory(what string) (int64, error) {
	b, err := os.ReadFile(c.proc("status"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, what+":"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("the system does not tell %s", what)
}

// CPU returns the child's processor time so far.
func (c *Child[Req, Rep]) CPU() time.Duration { return CPU(strconv.Itoa(c.cmd.Process.Pid)) }

// CPU returns the processor time of a process, or of this one ("self"), in steps of 10 ms; 0 when unknown.
func CPU(pid string) time.Duration {
	b, _ := os.ReadFile("/proc/" + pid + "/stat")
	_, rest, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// Serve answers with handle what comes on the standard input, until it ends.
func Serve[Req, Rep any](handle func(Req) (Rep, error)) error {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var req Req
		if err := in.Decode(&req); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var a answer[Rep]
		var err error
		if a.Reply, err = handle(req); err != nil {
			a.Error = err.Error()
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
}
