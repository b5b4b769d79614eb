package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
)

// request is one line to a child, reply its answer.
type request struct {
	Op     string `json:"op"`
	Server string `json:"server,omitempty"`
	Dir    string `json:"dir,omitempty"`
	Text   string `json:"text,omitempty"`
	Size   int64  `json:"size,omitempty"`
}

type reply struct {
	Text  string `json:"text,omitempty"`
	Error string `json:"error,omitempty"`
}

// child is this program in another process.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startChild(role string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, role)
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
		return nil, fmt.Errorf("starting %s: %w", role, err)
	}
	return &child{cmd, in, bufio.NewReader(out)}, nil
}

// do asks the child, one request after the other.
func (c *child) do(req request) (reply, error) {
	var r reply
	if err := json.NewEncoder(c.in).Encode(req); err != nil {
		return r, fmt.Errorf("asking for %s: %w", req.Op, err)
	}
	line, err := c.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &r)
	}
	if err == nil && r.Error != "" {
		err = errors.New(r.Error)
	}
	if err != nil {
		return r, fmt.Errorf("%s: %w", req.Op, err)
	}
	return r, nil
}

// stop ends the child, which ends with its input.
func (c *child) stop() {
	_ = c.in.Close()
	_ = c.cmd.Wait()
}

func (c *child) proc(name string) string {
	return fmt.Sprintf("/proc/%d/%s", c.cmd.Process.Pid, name)
}

// resetPeak makes VmHWM begin anew.
func (c *child) resetPeak() error { return os.WriteFile(c.proc("clear_refs"), []byte("5"), 0) }

// memory returns a figure of /proc/PID/status in bytes.
func (c *child) memory(what string) (int64, error) {
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

// cpu returns the seconds of processor time so far, 0 when unknown.
func (c *child) cpu() float64 {
	b, _ := os.ReadFile(c.proc("stat"))
	_, rest, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return float64(user+system) / 100
}

// serveChild answers requests until its input ends.
func serveChild(role string) error {
	var handle func(request) (string, error)
	switch role {
	case "peer":
		d := &device{}
		defer d.close()
		handle = d.handle
	default:
		c := &channel{}
		defer c.close()
		handle = c.handle
	}
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var req request
		if err := in.Decode(&req); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var r reply
		if req.Op == "idle" { // give back what came and went before
			debug.FreeOSMemory()
			req.Op = ""
		}
		var text string
		var err error
		if req.Op != "" {
			text, err = handle(req)
		}
		if r.Text = text; err != nil {
			r.Error = err.Error()
		}
		if err := out.Encode(r); err != nil {
			return err
		}
	}
}
