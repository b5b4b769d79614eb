package daemon_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peersignal/peersignal/internal/daemon"
	"github.com/peersignal/peersignal/internal/daemon/api"
	"github.com/peersignal/peersignal/internal/daemon/client"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer"
	"github.com/peersignal/peersignal/pkg/sync/sqlite"
	"github.com/peersignal/peersignal/test/leak"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("DAEMON_TEST_CALL"); path != "" {
		os.Exit(callAsOther(path))
	}
	leak.Main(m)
}

// world is a daemon without a signaling server.
type world struct {
	t      testing.TB
	socket string
	*client.Client
	ended chan struct{} // Shutdown was called
	stop  func()
	log   *bytes.Buffer
}

// shortDir is a folder for a socket, whose path must be short.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pd-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func start(t testing.TB, change ...func(*daemon.Config)) *world {
	t.Helper()
	dir := shortDir(t)
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	id, _, err := peercrypto.NewIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.Open(filepath.Join(dir, "peerd.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := peer.Open(context.Background(), peer.Config{Identity: id, Store: store, Name: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, socket: filepath.Join(dir, "s", "api.sock"), ended: make(chan struct{}), log: &bytes.Buffer{}}
	cfg := daemon.Config{
		Peer: p, Socket: w.socket, Shutdown: sync.OnceFunc(func() { close(w.ended) }), Data: dir, Version: "test",
		ID: api.ID{User: string(p.User())}, Logger: slog.New(slog.NewTextHandler(&lockedWriter{w: w.log}, nil)),
	}
	for _, f := range change {
		f(&cfg)
	}
	s, err := daemon.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	w.Client = client.New(w.socket)
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("Run: %v", err)
		}
		w.Close()
		if err := errors.Join(p.Close(), store.Close()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(w.stop)
	return w
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

func (w *world) do(method, path string, in, out any) {
	w.t.Helper()
	if err := w.Do(w.t.Context(), method, path, in, out); err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
}

func (w *world) group(name string) api.Group {
	w.t.Helper()
	var g api.Group
	w.do("POST", "/groups", api.CreateGroup{Name: name}, &g)
	return g
}

func code(t testing.TB, err error) api.Code {
	t.Helper()
	var e *api.Error
	if !errors.As(err, &e) {
		t.Fatalf("want an API error, got %v", err)
	}
	return e.Code
}

func TestGroupsAndDocuments(t *testing.T) {
	w := start(t)
	g := w.group("garden")
	var st api.Status
	w.do("GET", "/status", nil, &st)
	if len(st.Groups) != 1 || st.Groups[0].ID != g.ID || st.Groups[0].Role != "admin" || st.Name != "alice" || st.Version != "test" || st.PID != os.Getpid() {
		t.Errorf("status: %+v", st)
	}
	var d, again api.Document
	w.do("POST", "/groups/garden/docs?type=Note", client.Raw(` {"text":"hello"} `), &d)
	w.do("GET", "/groups/"+g.ID[:20]+"/docs/"+d.ID, nil, &again)
	if d.Type != "Note" || d.Version == 0 || string(d.Doc) != string(again.Doc) || !strings.Contains(string(d.Doc), `"text":"hello"`) {
		t.Errorf("stored %+v, read %+v", d, again)
	}
	w.do("POST", "/groups/garden/docs?id="+d.ID, client.Raw(`{"type":"Note","text":"edited"}`), &again)
	if again.ID != d.ID || again.Version <= d.Version {
		t.Errorf("edited: %+v", again)
	}
	var members []api.Member
	w.do("GET", "/groups/garden/members", nil, &members)
	if len(members) != 1 || !members[0].Owner || !members[0].Self {
		t.Errorf("members: %+v", members)
	}
	w.do("DELETE", "/groups/garden/docs/"+d.ID, nil, nil)
	err := w.Do(t.Context(), "GET", "/groups/garden/docs/"+d.ID, nil, &d)
	if code(t, err) != api.CodeNotFound {
		t.Errorf("deleted: %v", err)
	}
	var items []api.Quarantined
	w.do("GET", "/quarantine", nil, &items)
	var joins []api.Join
	w.do("GET", "/joins", nil, &joins)
	if items == nil || joins == nil {
		t.Error("empty lists are null")
	}
}

func TestErrors(t *testing.T) {
	w := start(t)
	w.group("garden")
	w.group("twin")
	w.group("twin")
	big := client.Raw(`{"name":"` + strings.Repeat("x", api.MaxBody) + `"}`)
	for _, c := range []struct {
		method, path, body string
		want               api.Code
		says               string
	}{
		{"GET", "/nowhere", "", api.CodeNotFound, "/nowhere"},
		{"PATCH", "/groups", "", api.CodeNotFound, "PATCH"},
		{"POST", "/groups", ``, api.CodeInvalid, ""},
		{"POST", "/groups", `{"name":"x","nome":"y"}`, api.CodeInvalid, ""},
		{"POST", "/groups", `{"name":"x","name":"y"}`, api.CodeInvalid, ""},
		{"POST", "/groups", `{}`, api.CodeInvalid, "name"},
		{"POST", "/groups", string(big), api.CodeTooLarge, "1 MiB"},
		{"GET", "/groups/nobody", "", api.CodeNotFound, "nobody"},
		{"GET", "/groups/twin", "", api.CodeAmbiguous, "twin"},
		{"POST", "/groups/garden/invite", `{"role":"king"}`, api.CodeInvalid, "king"},
		{"POST", "/groups/garden/invite", `{"expires":99999999}`, api.CodeInvalid, "30 days"},
		{"POST", "/groups/garden/invite", `{}`, api.CodeOffline, ""},
		{"POST", "/groups/garden/uninvite", `{"invite":"abcd"}`, api.CodeNotFound, "abcd"},
		{"POST", "/groups/garden/remove", `{"user":"bob"}`, api.CodeNotFound, "bob"},
		{"POST", "/groups/garden/leave", ``, api.CodeNotAllowed, "owner"},
		{"POST", "/join", `{"link":"peers:join#AAAA"}`, api.CodeInvalid, ""},
		{"DELETE", "/joins/garden", "", api.CodeNotFound, ""},
		{"POST", "/groups/garden/docs", `{"text":"no type"}`, api.CodeInvalid, "type"},
		{"POST", "/groups/garden/docs", `[]`, api.CodeInvalid, "object"},
		{"POST", "/groups/garden/docs", `{"type":"User"}`, api.CodeInvalid, ""},
		{"POST", "/groups/garden/docs", `{"type":"N","group":"other"}`, api.CodeInvalid, "group"},
		{"POST", "/groups/garden/docs", "{\"type\":\"N\",\"a\":\"\xff\"}", api.CodeInvalid, ""},
		{"GET", "/groups/garden/docs/00kqn91s56yt2gu3yf5vnbg67", "", api.CodeNotFound, ""},
		{"DELETE", "/groups/garden/docs/00kqn91s56yt2gu3yf5vnbg67", "", api.CodeNotFound, ""},
		{"GET", "/groups/garden/docs?limit=-1", "", api.CodeInvalid, "limit"},
		{"GET", "/groups/garden/watch?after=x", "", api.CodeInvalid, "after"},
	} {
		var in any
		if c.body != "" || c.method == "POST" {
			in = client.Raw(c.body)
		}
		err := w.Do(t.Context(), c.method, c.path, in, nil)
		if err == nil {
			t.Errorf("%s %s: no error", c.method, c.path)
			continue
		}
		if got := code(t, err); got != c.want || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s %s: %s %q, want %s and %q", c.method, c.path, got, err, c.want, c.says)
		}
		if len(err.Error()) > 600 {
			t.Errorf("%s %s: the error has %d bytes", c.method, c.path, len(err.Error()))
		}
	}
}

func TestImportExportList(t *testing.T) {
	w := start(t)
	w.group("garden")
	var text bytes.Buffer
	const n = 2500
	for i := range n {
		fmt.Fprintf(&text, `{"n":%d,"error":{"code":"x","message":"looks like an error line"}}`, i)
	}
	var last api.Import
	lines := 0
	put := func(body io.Reader) error {
		lines, last = 0, api.Import{}
		return w.Lines(t.Context(), "PUT", "/groups/garden/docs?type=Record&key=n", body, func(line []byte) error {
			lines++
			return json.Unmarshal(line, &last)
		})
	}
	if err := put(bytes.NewReader(text.Bytes())); err != nil || last != (api.Import{Read: n, New: n, Done: true}) || lines < 4 {
		t.Fatalf("import: %+v in %d lines, %v", last, lines, err)
	}
	if err := put(bytes.NewReader(text.Bytes())); err != nil || last != (api.Import{Read: n, Unchanged: n, Done: true}) {
		t.Fatalf("again: %+v, %v", last, err)
	}
	err := put(strings.NewReader(`{"n":1} {"n":`))
	if code(t, err) != api.CodeInvalid || last.Done || last.Read != 1 {
		t.Errorf("truncated: %v, %+v", err, last)
	}
	var export bytes.Buffer
	if err := w.Copy(t.Context(), "/groups/garden/export", &export); err != nil {
		t.Fatal(err)
	}
	if got := bytes.Count(export.Bytes(), []byte("\n")); got != n {
		t.Errorf("export has %d lines", got)
	}
	for query, want := range map[string]int{"": n, "?limit=700": 700, "?type=Nothing": 0, "?type=Record&limit=3": 3} {
		got, before := 0, ""
		err := w.Lines(t.Context(), "GET", "/groups/garden/docs"+query, nil, func(line []byte) error {
			var d api.Document
			if err := json.Unmarshal(line, &d); err != nil {
				return err
			}
			if d.ID <= before {
				t.Errorf("%s after %s", d.ID, before)
			}
			got, before = got+1, d.ID
			return nil
		})
		if err != nil || got != want {
			t.Errorf("list%s: %d documents, want %d, %v", query, got, want, err)
		}
	}
}

// TestWatch: nothing between two watches is missed.
func TestWatch(t *testing.T) {
	w := start(t)
	w.group("garden")
	docs := make(chan api.Document)
	follow := func(ctx context.Context, after string) {
		_ = w.Lines(ctx, "GET", "/groups/garden/watch"+after, nil, func(line []byte) error {
			var d api.Document
			if err := json.Unmarshal(line, &d); err != nil {
				return err
			}
			select {
			case docs <- d:
			case <-ctx.Done():
			}
			return nil
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { follow(ctx, "?after=0") })
	var first, second api.Document
	w.do("POST", "/groups/garden/docs", client.Raw(`{"type":"N","n":1}`), &first)
	got := <-docs
	if got.ID != first.ID || string(got.Doc) != string(first.Doc) {
		t.Fatalf("watched %+v, want %+v", got, first)
	}
	cancel()
	wg.Wait()
	w.do("POST", "/groups/garden/docs", client.Raw(`{"type":"N","n":2}`), &second)
	w.do("DELETE", "/groups/garden/docs/"+first.ID, nil, nil)
	ctx, cancel = context.WithCancel(t.Context())
	wg.Go(func() { follow(ctx, fmt.Sprintf("?after=%d", got.Version)) })
	if d := <-docs; d.ID != second.ID {
		t.Errorf("then %+v, want %s", d, second.ID)
	}
	if d := <-docs; d.ID != first.ID || !d.Deleted {
		t.Errorf("then %+v, want the tombstone of %s", d, first.ID)
	}
	cancel()
	wg.Wait()
}

// TestStreamsEndWithTheDaemon: a watch does not keep the daemon from ending.
func TestStreamsEndWithTheDaemon(t *testing.T) {
	w := start(t)
	w.group("garden")
	subscribed, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- w.Lines(context.Background(), "GET", "/events", nil, func(line []byte) error {
			if strings.Contains(string(line), `"subscribed"`) {
				close(subscribed)
			}
			return nil
		})
	}()
	<-subscribed
	answered := make(chan error, 1)
	go func() { answered <- w.Do(context.Background(), "POST", "/shutdown", nil, nil) }()
	<-w.ended
	select {
	case err := <-answered:
		t.Errorf("the request was answered before the end: %v", err)
	default:
	}
	w.stop()
	if err := <-answered; err != nil {
		t.Errorf("the answer at the end: %v", err)
	}
	if err := <-ended; err == nil || code(t, err) != api.CodeShuttingDown || !strings.Contains(err.Error(), "daemon is ending") {
		t.Errorf("the stream ended with %v", err)
	}
	if err := w.Do(context.Background(), "GET", "/status", nil, nil); !errors.Is(err, client.ErrNotRunning) {
		t.Errorf("after the end: %v", err)
	}
}

func TestBusy(t *testing.T) {
	w := start(t, func(c *daemon.Config) { c.MaxRequests = 1 })
	ctx, cancel := context.WithCancel(t.Context())
	subscribed, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		_ = w.Lines(ctx, "GET", "/events", nil, func([]byte) error { close(subscribed); <-ctx.Done(); return nil })
	}()
	<-subscribed
	if err := w.Do(t.Context(), "GET", "/id", nil, nil); code(t, err) != api.CodeBusy {
		t.Errorf("second request: %v", err)
	}
	cancel()
	<-done
}

func TestSocket(t *testing.T) {
	w := start(t)
	for path, want := range map[string]os.FileMode{w.socket: 0o600, filepath.Dir(w.socket): 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	cfg := daemon.Config{Peer: new(peer.Peer), Shutdown: func() {}}
	open := func(path string) error {
		cfg.Socket = path
		s, err := daemon.New(cfg)
		if err == nil {
			_ = s.Close()
		}
		return err
	}
	if err := open(w.socket); !errors.Is(err, daemon.ErrSocketInUse) {
		t.Errorf("a second daemon: %v", err)
	}
	dir := t.TempDir()
	loose := filepath.Join(dir, "loose")
	if err := os.Mkdir(loose, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := open(filepath.Join(loose, "api.sock")); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("a folder that is open to others: %v", err)
	}
	tight := filepath.Join(dir, "tight")
	if err := open(filepath.Join(tight, strings.Repeat("x", 200))); err == nil || !strings.Contains(err.Error(), "--api") {
		t.Errorf("a long path: %v", err)
	}
	file := filepath.Join(tight, "file")
	if err := errors.Join(os.MkdirAll(tight, 0o700), os.WriteFile(file, []byte("precious"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := open(file); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file in the way: %v", err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "precious" {
		t.Errorf("the file is %q, %v", text, err)
	}
	stale := filepath.Join(tight, "stale.sock")
	lis, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	lis.SetUnlinkOnClose(false)
	_ = lis.Close()
	if err := open(stale); err != nil {
		t.Errorf("a dead daemon's socket: %v", err)
	}
}

// TestRawHTTP sends what no proper client sends.
func TestRawHTTP(t *testing.T) {
	w := start(t)
	for name, text := range map[string]string{
		"garbage":        "\x00\x01\x02\r\n\r\n",
		"huge header":    "GET /v1/id HTTP/1.1\r\nHost: peerd\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n",
		"bad length":     "POST /v1/groups HTTP/1.1\r\nHost: peerd\r\nContent-Length: -1\r\n\r\n",
		"traversal":      "GET /v1/groups/..%2f..%2fetc/docs/x HTTP/1.1\r\nHost: peerd\r\n\r\n",
		"short body":     "POST /v1/groups HTTP/1.1\r\nHost: peerd\r\nContent-Length: 5\r\nConnection: close\r\n\r\nabcde",
		"unknown prefix": "GET /v2/id HTTP/1.1\r\nHost: peerd\r\n\r\n",
	} {
		conn, err := net.Dial("unix", w.socket)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, text)
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err == nil {
			if res.StatusCode < 400 {
				t.Errorf("%s: %s", name, res.Status)
			}
			_ = res.Body.Close()
		}
		_ = conn.Close()
	}
	w.do("GET", "/id", nil, nil)
}
