//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/peersignal/peersignal/test/nat/lab"
)

// maxMessage bounds what the browser may say at once.
const maxMessage = 4 << 20

// A chromium is a headless browser inside a node. It is spoken to by the DevTools protocol over two pipes, so that it
// opens no port and its namespace does not matter.
type chromium struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *os.File
	mu      sync.Mutex
	nextID  int
	waiting map[int]chan reply
	ended   chan struct{} // nothing is read any more
	exited  chan struct{}
}

type reply struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// startChromium starts a browser with an empty profile in dir; its log goes to a file there.
func startChromium(n *lab.Node, path, dir string, extra ...string) (*chromium, error) {
	toRead, toWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	fromRead, fromWrite, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, toRead.Close(), toWrite.Close())
	}
	log, err := os.Create(dir + "/chromium.log")
	if err != nil {
		return nil, errors.Join(err, toRead.Close(), toWrite.Close(), fromRead.Close(), fromWrite.Close())
	}
	args := append(n.Command()[1:], path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
		"--user-data-dir="+dir+"/profile", "--remote-debugging-pipe")
	cmd := exec.Command(n.Command()[0], append(append(args, extra...), "about:blank")...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{toRead, fromWrite} // 3 and 4, where the browser looks for them
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Start()
	_, _, _ = toRead.Close(), fromWrite.Close(), log.Close()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting %s: %w", path, err), toWrite.Close(), fromRead.Close())
	}
	c := &chromium{
		cmd: cmd, in: toWrite, out: fromRead, waiting: map[int]chan reply{},
		ended: make(chan struct{}), exited: make(chan struct{}),
	}
	go c.read()
	go func() {
		_ = cmd.Wait()
		close(c.exited)
	}()
	return c, nil
}

// close ends the browser with all its processes.
func (c *chromium) close() {
	_ = c.in.Close() // it ends itself when its controller is gone
	select {
	case <-c.exited:
	case <-time.After(5 * time.Second):
	}
	_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
	<-c.exited
	_ = c.out.Close()
	<-c.ended
}

// read hands answers to those who wait for them. Events are dropped.
func (c *chromium) read() {
	defer close(c.ended)
	scanner := bufio.NewScanner(c.out)
	scanner.Buffer(nil, maxMessage)
	scanner.Split(func(data []byte, _ bool) (int, []byte, error) {
		for i, b := range data {
			if b == 0 {
				return i + 1, data[:i], nil
			}
		}
		return 0, nil, nil
	})
	for scanner.Scan() {
		var r reply
		if json.Unmarshal(scanner.Bytes(), &r) != nil || r.ID == 0 {
			continue
		}
		c.mu.Lock()
		ch := c.waiting[r.ID]
		delete(c.waiting, r.ID)
		c.mu.Unlock()
		if ch != nil {
			ch <- r
		}
	}
}

// call sends a command, in a page's session unless that is empty, and decodes its result into v unless that is nil.
func (c *chromium) call(ctx context.Context, session, method string, params, v any) error {
	ch := make(chan reply, 1)
	c.mu.Lock()
	c.nextID++
	id := c.nextID
	c.waiting[id] = ch
	c.mu.Unlock()
	message := map[string]any{"id": id, "method": method, "params": params}
	if session != "" {
		message["sessionId"] = session
	}
	text, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if _, err := c.in.Write(append(text, 0)); err != nil {
		return fmt.Errorf("chromium: %s: %w", method, err)
	}
	select {
	case r := <-ch:
		if r.Error != nil {
			return fmt.Errorf("chromium: %s: %s", method, r.Error.Message)
		}
		if v == nil {
			return nil
		}
		return json.Unmarshal(r.Result, v)
	case <-c.ended:
		return fmt.Errorf("chromium: %s: it has ended", method)
	case <-ctx.Done():
		return fmt.Errorf("chromium: %s: %w", method, ctx.Err())
	}
}

// open opens a page and waits until its script has run.
func (c *chromium) open(ctx context.Context, url string) (session string, err error) {
	var target struct{ TargetID string }
	if err := c.call(ctx, "", "Target.createTarget", map[string]any{"url": url}, &target); err != nil {
		return "", err
	}
	var attached struct{ SessionID string }
	err = c.call(ctx, "", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	if err != nil {
		return "", err
	}
	for {
		var loaded bool
		if err := c.evaluate(ctx, attached.SessionID, "typeof makeOffer === 'function'", &loaded); err != nil || loaded {
			return attached.SessionID, err
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("loading %s: %w", url, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// evaluate runs an expression in a page, waits for its promise, and decodes its value.
func (c *chromium) evaluate(ctx context.Context, session, expression string, v any) error {
	var out struct {
		Result struct {
			Value json.RawMessage
		}
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	params := map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true}
	if err := c.call(ctx, session, "Runtime.evaluate", params, &out); err != nil {
		return err
	}
	if e := out.ExceptionDetails; e != nil {
		return fmt.Errorf("the page: %s %s", e.Text, e.Exception.Description)
	}
	return json.Unmarshal(out.Result.Value, v)
}
