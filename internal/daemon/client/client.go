// Package client talks to a running peerd over its local socket.
package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"time"

	"github.com/peersignal/peersignal/internal/daemon/api"
)

// Errors of a daemon that is not there.
var (
	// ErrNotRunning means that no daemon listens on the socket.
	ErrNotRunning = errors.New("peerd is not running")
	// ErrEnded means that the daemon ended while it answered.
	ErrEnded = errors.New("peerd ended before it had answered")
)

// maxLine is the longest line of a stream: a document of 1 MiB and its frame.
const maxLine = 4 << 20

// agreeTimeout is how long peerd may take to agree to an upload until it is
// begun nevertheless.
const agreeTimeout = 10 * time.Second

// A Client talks to one daemon. It is safe for concurrent use.
type Client struct {
	socket string
	http   *http.Client
}

// New returns a client of the daemon on a socket. It does not connect yet.
func New(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableCompression: true, ExpectContinueTimeout: agreeTimeout,
		// An answer that comes before the body was sent leaves a connection that is good for nothing more.
		DisableKeepAlives: true}}}
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Raw is a request body that is sent as it is.
type Raw []byte

// Do sends in as JSON, unless it is nil, and decodes the answer into out, unless
// it is nil. Errors are *api.Error, or wrap ErrNotRunning.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	switch v := in.(type) {
	case nil:
	case Raw:
		body = bytes.NewReader(v)
	default:
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encoding the request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	answer, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Close() }()
	if out == nil {
		_, err = io.Copy(io.Discard, answer)
		return err
	}
	if err := json.NewDecoder(answer).Decode(out); err != nil {
		return readError(err)
	}
	return nil
}

// readError words why an answer could not be read.
func readError(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		return ErrEnded
	}
	return fmt.Errorf("reading peerd's answer: %w", err)
}

// Lines sends body, which may be nil, and calls fn for each line of the answer
// while it arrives. A line that tells an error ends it with that error.
func (c *Client) Lines(ctx context.Context, method, path string, body io.Reader, fn func(line []byte) error) error {
	answer, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Close() }()
	lines := bufio.NewScanner(answer)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	for lines.Scan() {
		if err := errorLine(lines.Bytes()); err != nil {
			return err
		}
		if err := fn(lines.Bytes()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return readError(err)
	}
	return nil
}

// Copy writes the answer of a GET to w, line by line, so that an error line does
// not get into w.
func (c *Client) Copy(ctx context.Context, path string, w io.Writer) error {
	out := bufio.NewWriterSize(w, 64<<10)
	err := c.Lines(ctx, http.MethodGet, path, nil, func(line []byte) error {
		if _, err := out.Write(line); err != nil {
			return err
		}
		return out.WriteByte('\n')
	})
	if err != nil {
		return err
	}
	return out.Flush()
}

// errorLine recognizes api.ErrorBody among lines of a stream.
func errorLine(line []byte) error {
	if !bytes.HasPrefix(line, []byte(`{"error":{`)) {
		return nil
	}
	var body api.ErrorBody
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields() // a document has other members beside
	if err := dec.Decode(&body); err != nil || body.Error == nil || body.Error.Code == "" {
		return nil
	}
	return body.Error
}

func (c *Client) send(ctx context.Context, method, path string, body io.Reader) (io.ReadCloser, error) {
	return c.do(ctx, method, path, body, func(req *http.Request) {
		if body != nil {
			req.Header.Set("Content-Type", "application/json")
		}
	})
}

// do sends a request that prepare completes, and returns the body of a good
// answer.
func (c *Client) do(ctx context.Context, method, path string, body io.Reader, prepare func(*http.Request)) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://peerd"+api.Prefix+path, body)
	if err != nil {
		return nil, fmt.Errorf("making the request: %w", err)
	}
	prepare(req)
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.dialError(err)
	}
	if res.StatusCode < http.StatusBadRequest {
		return res.Body, nil
	}
	defer func() { _ = res.Body.Close() }()
	var failed api.ErrorBody
	if err := json.NewDecoder(io.LimitReader(res.Body, api.MaxBody)).Decode(&failed); err != nil || failed.Error == nil {
		return nil, fmt.Errorf("peerd answered %s without saying why", res.Status)
	}
	return nil, failed.Error
}

func (c *Client) dialError(err error) error {
	var op *net.OpError
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: nobody listens on %s", ErrNotRunning, c.socket)
	case errors.Is(err, os.ErrPermission):
		return &api.Error{Code: api.CodeOtherUser, Message: fmt.Sprintf("the socket %s belongs to another user", c.socket)}
	case errors.As(err, &op) && op.Op == "dial":
		return fmt.Errorf("%w: %w", ErrNotRunning, op)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return ErrEnded
	}
	var at *url.Error
	if errors.As(err, &at) {
		err = at.Err // the URL says nothing to a person
	}
	return fmt.Errorf("talking to peerd: %w", err)
}

// Path joins path segments, escaped.
func Path(segments ...string) string {
	path := ""
	for _, s := range segments {
		path += "/" + url.PathEscape(s)
	}
	return path
}
