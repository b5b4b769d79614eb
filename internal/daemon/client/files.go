package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
)

// Upload sends body as it is with PUT and decodes the answer into out. size is
// its length, -1 when that is not known. Nothing is sent before peerd has agreed.
func (c *Client) Upload(ctx context.Context, path string, body io.Reader, size int64, out any) error {
	answer, err := c.do(ctx, http.MethodPut, path, io.NopCloser(body), func(req *http.Request) {
		req.ContentLength = size
		req.Header.Set("Content-Type", "application/octet-stream")
		req.Header.Set("Expect", "100-continue")
	})
	if err != nil {
		return err
	}
	defer func() { _ = answer.Close() }()
	if err := json.NewDecoder(answer).Decode(out); err != nil {
		return readError(err)
	}
	return nil
}

// Download copies the answer of a GET to w as it is. An answer that ends early
// is an error.
func (c *Client) Download(ctx context.Context, path string, w io.Writer) error {
	answer, err := c.send(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Close() }()
	if _, err := io.Copy(w, answer); err != nil {
		if _, ok := errors.AsType[*fs.PathError](err); ok {
			return err // of w
		}
		return readError(err)
	}
	return nil
}
