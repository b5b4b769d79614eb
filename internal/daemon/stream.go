package daemon

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/peersignal/peersignal/internal/daemon/api"
)

const streamBuffer = 64 << 10

// stream runs a handler whose answer is NDJSON. It ends when the client goes
// away or the daemon does. An error after the begin becomes the last line.
func (s *Server) stream(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancelCause(r.Context())
		defer cancel(nil)
		defer context.AfterFunc(s.ctx, func() { cancel(errEnding) })()
		if err := h(w, r.WithContext(ctx)); err != nil {
			if errors.Is(context.Cause(ctx), errEnding) {
				err = errEnding
			}
			s.fail(w, err)
		}
	})
}

var errEnding = &api.Error{Code: api.CodeShuttingDown, Message: "the daemon is ending"}

// A lineWriter writes NDJSON through a buffer. A client that does not take a
// piece within writeTimeout is cut off.
type lineWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	buf     *bufio.Writer
	begun   bool
}

func newLineWriter(w http.ResponseWriter) *lineWriter {
	l := &lineWriter{w: w, control: http.NewResponseController(w)}
	l.buf = bufio.NewWriterSize(deadlineWriter{l}, streamBuffer)
	return l
}

// A deadlineWriter gives each write a deadline of its own.
type deadlineWriter struct{ l *lineWriter }

func (d deadlineWriter) Write(b []byte) (int, error) {
	d.l.begin()
	_ = d.l.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	return d.l.w.Write(b)
}

func (l *lineWriter) begin() {
	if l.begun {
		return
	}
	l.begun = true
	l.w.Header().Set("Content-Type", "application/x-ndjson")
	l.w.Header().Set("Cache-Control", "no-store")
}

// Write takes whole lines of somebody else.
func (l *lineWriter) Write(b []byte) (int, error) { return l.buf.Write(b) }

// line writes one value.
func (l *lineWriter) line(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = l.buf.Write(append(b, '\n'))
	return err
}

// flush sends what is buffered to the client.
func (l *lineWriter) flush() error {
	l.begin()
	if err := l.buf.Flush(); err != nil {
		return err
	}
	return l.control.Flush()
}

// finish ends the stream: with err as its last line when lines went out before,
// else it returns err for an answer with a status.
func (l *lineWriter) finish(err error) error {
	if err == nil {
		return l.end()
	}
	if !l.begun {
		l.buf.Reset(deadlineWriter{l})
		return err
	}
	_ = l.line(api.ErrorBody{Error: apiError(err)})
	return l.end()
}

// end flushes for the last time; a client that went away is no error.
func (l *lineWriter) end() error {
	_ = l.flush()
	return nil
}
