package main

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

// request is one line to a child, reply its answer.
type request struct {
	Op     string `json:"op"`
	Server string `json:"server,omitempty"`
	Text   string `json:"text,omitempty"`
	N      int    `json:"n,omitempty"`
}

type reply struct {
	Text  string    `json:"text,omitempty"`
	Times []float64 `json:"times,omitempty"` // seconds
	Error string    `json:"error,omitempty"`
}

// child is a device: this program in another process.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startChild starts a device that keeps its data in dir.
func startChild(name, dir string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "-profile", *profile, name, dir)
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
		return nil, fmt.Errorf("starting a device: %w", err)
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

// peak returns the most memory that the child had resident, in bytes.
func (c *child) peak() (int64, error) {
	b, err := os.ReadFile(c.proc("status"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("the system does not tell the memory of a process")
}

// cpu returns the processor time so far.
func (c *child) cpu() time.Duration { return cpuOf(strconv.Itoa(c.cmd.Process.Pid)) }

// cpuOf returns the processor time of a process, 0 when unknown.
func cpuOf(pid string) time.Duration {
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

// serveChild answers requests until its input ends.
func serveChild(name, dir string) error {
	d := &device{name: name, dir: dir}
	defer func() { _ = d.close() }()
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var req request
		if err := in.Decode(&req); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		r, err := d.handle(req)
		if err != nil {
			r.Error = err.Error()
		}
		if err := out.Encode(r); err != nil {
			return err
		}
	}
}
