package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 20

// Client asks a running server.
type Client struct {
	http  *http.Client
	base  string
	token string
	where string
}

// NewClient asks over the Unix socket at a path.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return &Client{
		http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}},
		base: "http://localhost", where: socket,
	}
}

// NewTokenClient asks a listener. The token goes over plain HTTP only to this
// machine.
func NewTokenClient(base, token string) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is no address of an admin listener: it begins with http:// or https://", base)
	}
	if u.Scheme == "http" && u.Hostname() != "localhost" && !net.ParseIP(u.Hostname()).IsLoopback() {
		return nil, fmt.Errorf("%s is another machine, and http:// would show it the token to everybody between: use https:// or a tunnel", u.Host)
	}
	c := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &Client{http: c, base: strings.TrimSuffix(u.Scheme+"://"+u.Host, "/"), token: token, where: base}, nil
}

// Do sends in as JSON (nil: nothing) and reads the answer into out (nil: it is
// dropped). What the server answers instead is an *Error.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader = http.NoBody
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("asking the server: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return fmt.Errorf("asking the server: %w", err)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
			return fmt.Errorf("asking the server at %s: %w: %w", c.where, ErrNotServing, op.Err)
		}
		return fmt.Errorf("asking the server at %s: %w", c.where, err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("asking the server at %s: %w", c.where, err)
	}
	if resp.StatusCode != http.StatusOK {
		return failure(resp, answer)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("the answer of %s is not that of a peersignal server: %w", c.where, err)
	}
	return nil
}

func failure(resp *http.Response, answer []byte) error {
	f := Failure{}
	if err := json.Unmarshal(answer, &f); err != nil || f.Error == "" {
		f.Error = "the server answers " + resp.Status
	}
	return &Error{Status: resp.StatusCode, Text: f.Error}
}
