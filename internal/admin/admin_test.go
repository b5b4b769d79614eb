package admin_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peersignal/peersignal/internal/admin"
	"github.com/peersignal/peersignal/test/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// program is what a server administers: lists in memory.
type program struct {
	mu       sync.Mutex
	sessions []admin.Session
	blocks   map[string]admin.Block
	level    slog.Level
	drained  []time.Duration
	reload   error
	audited  []string
}

func (p *program) Sessions(sel admin.Selector, limit int) ([]admin.Session, error) {
	var out []admin.Session
	for _, s := range p.sessions {
		if len(out) < limit && (sel.Device == "" || sel.Device == s.Device) {
			out = append(out, s)
		}
	}
	return out, nil
}

func (p *program) Kick(sel admin.Selector, _ string) (int, error) {
	found, err := p.Sessions(sel, len(p.sessions))
	return len(found), err
}

func (p *program) Block(b admin.Block) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if b.Target() == "network " {
		return 0, errors.New("name somebody")
	}
	p.blocks[b.Target()] = b
	return 1, nil
}

func (p *program) Unblock(b admin.Block) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.blocks[b.Target()]
	delete(p.blocks, b.Target())
	return ok, nil
}

func (p *program) Blocked() (out []admin.Block) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.blocks {
		out = append(out, b)
	}
	return out
}

func (p *program) SetBlocks(list []admin.Block) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blocks = map[string]admin.Block{}
	for _, b := range list {
		p.blocks[b.Target()] = b
	}
	return len(list), nil
}

func (p *program) Status() admin.Status            { return admin.Status{Version: "test", Ready: true} }
func (p *program) Reload() ([]admin.Change, error) { return nil, p.reload }
func (p *program) LogLevel() slog.Level            { return p.level }
func (p *program) SetLogLevel(l slog.Level)        { p.level = l }

func (p *program) Drain(window time.Duration) error {
	p.drained = append(p.drained, window)
	if len(p.drained) > 1 {
		return errors.New("it is draining already")
	}
	return nil
}

func newProgram() *program {
	p := &program{blocks: map[string]admin.Block{}}
	for i := range 5 {
		p.sessions = append(p.sessions, admin.Session{Session: fmt.Sprint("s", i), Device: fmt.Sprint("d", i%2)})
	}
	return p
}

// over serves a program on a socket, with its blocks in a file.
func over(t *testing.T, p *program, blockFile string) (*admin.Client, *admin.Server) {
	t.Helper()
	blocks, err := admin.NewBlocklist(blockFile, p)
	if err != nil {
		t.Fatal(err)
	}
	s := admin.NewServer(admin.Config{
		Signaling: p, Process: p, Blocks: blocks,
		Audit: func(kind, detail string) { p.audited = append(p.audited, kind+": "+detail) },
	})
	socket := filepath.Join(t.TempDir(), "s")
	l, err := admin.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket has mode %v, %v", info.Mode(), err)
	}
	h := &http.Server{Handler: s.Handler()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = h.Serve(l)
	}()
	t.Cleanup(func() {
		_ = h.Close()
		<-done
	})
	return admin.NewClient(socket), s
}

func TestRequests(t *testing.T) {
	p := newProgram()
	c, _ := over(t, p, "")
	for _, tt := range []struct {
		method, path string
		in           any
		want         string // of the answer, or of the error with its status
	}{
		{"GET", "/v1/status", nil, "Version:test"},
		{"GET", "/v1/sessions", nil, "more:false"},
		{"GET", "/v1/sessions?limit=2&device=d0", nil, "more:true"},
		{"GET", "/v1/sessions?limit=0", nil, "400 limit is no number"},
		{"GET", "/v1/sessions?devise=d0", nil, `400 "devise" is none of`},
		{"POST", "/v1/kick", admin.Kick{}, "400 say whom"},
		{"POST", "/v1/kick", map[string]string{"dev": "d0"}, "400 the request is not what is expected"},
		{"POST", "/v1/kick", admin.Kick{Selector: admin.Selector{Device: "d0"}, Message: strings.Repeat("x", 300)}, "400 the message is longer"},
		{"POST", "/v1/kick", admin.Kick{Selector: admin.Selector{Device: "d0"}}, "ended:3"},
		{"POST", "/v1/block", admin.Block{}, "400 name somebody"},
		{"POST", "/v1/block", admin.Block{Device: "d0"}, "ended:1"},
		{"GET", "/v1/blocked", nil, "kept:false"},
		{"POST", "/v1/unblock", admin.Block{Device: "d0"}, "found:true"},
		{"POST", "/v1/unblock", admin.Block{Device: "d0"}, "found:false"},
		{"POST", "/v1/drain", admin.Drain{Window: "soon"}, "400"},
		{"POST", "/v1/drain", nil, "map[]"},
		{"POST", "/v1/drain", admin.Drain{Window: "3s"}, "409 it is draining"},
		{"POST", "/v1/reload", nil, "changes:[]"},
		{"PUT", "/v1/log-level", admin.LogLevel{Level: "loud"}, "400"},
		{"PUT", "/v1/log-level", admin.LogLevel{Level: "debug"}, "level:debug"},
		{"GET", "/v1/log-level", nil, "level:debug"},
		{"GET", "/v1/nothing", nil, "404 there is no GET /v1/nothing"},
		{"DELETE", "/v1/kick", nil, "404"},
	} {
		var out map[string]any
		err := c.Do(t.Context(), tt.method, tt.path, tt.in, &out)
		got := fmt.Sprint(out)
		if e, ok := errors.AsType[*admin.Error](err); ok {
			got = fmt.Sprint(e.Status, " ", e)
		} else if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.ToLower(got), strings.ToLower(tt.want)) {
			t.Errorf("%s %s: got %s, want %s", tt.method, tt.path, got, tt.want)
		}
	}
	if fmt.Sprint(p.audited) != "[log-level: debug]" {
		t.Errorf("audited %q", p.audited)
	}
	if p.reload = errors.New("broken"); !strings.Contains(fmt.Sprint(c.Do(t.Context(), "POST", "/v1/reload", nil, nil)), "broken") {
		t.Error("a broken configuration is not reported")
	}
}

// Neither a web page nor a stranger gets anything.
func TestStrangers(t *testing.T) {
	const token = "0123456789abcdef"
	_, s := over(t, newProgram(), "")
	srv := httptest.NewServer(s.TokenHandler(func() string { return token }))
	defer srv.Close()
	for _, tt := range []struct {
		path, name, value string
		auth              string
		want              int
	}{
		{"/v1/status", "", "", "Bearer " + token, http.StatusOK},
		{"/debug/pprof/", "", "", "Bearer " + token, http.StatusOK},
		{"/debug/pprof/", "", "", "", http.StatusUnauthorized},
		{"/v1/status", "", "", "", http.StatusUnauthorized},
		{"/v1/status", "", "", "Bearer ", http.StatusUnauthorized},
		{"/v1/status", "", "", "Bearer " + token + "x", http.StatusUnauthorized},
		{"/v1/status", "", "", "Basic " + token, http.StatusUnauthorized},
		{"/v1/nothing", "", "", "", http.StatusUnauthorized},
		{"/v1/status", "Origin", "https://a.example", "Bearer " + token, http.StatusForbidden},
		{"/v1/status", "Origin", "", "Bearer " + token, http.StatusForbidden},
		{"/v1/status", "Sec-Fetch-Site", "same-origin", "Bearer " + token, http.StatusForbidden},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+tt.path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if tt.name != "" {
			req.Header.Set(tt.name, tt.value)
		}
		if tt.auth != "" {
			req.Header.Set("Authorization", tt.auth)
		}
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tt.want || tt.want != http.StatusOK && strings.Contains(string(body), "test") {
			t.Errorf("%+v: got %d %s", tt, resp.StatusCode, body)
		}
	}
	none := httptest.NewServer(s.TokenHandler(func() string { return "" }))
	defer none.Close()
	c, err := admin.NewTokenClient(none.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Do(t.Context(), "GET", "/v1/status", nil, nil); err == nil {
		t.Error("no token is as good as the right one")
	}
}

func TestTokenClient(t *testing.T) {
	for _, base := range []string{"x", "ftp://localhost", "http://a.example:1", "http://192.0.2.1"} {
		if _, err := admin.NewTokenClient(base, "t"); err == nil {
			t.Errorf("%s is accepted", base)
		}
	}
	for _, base := range []string{"http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1", "https://a.example"} {
		if _, err := admin.NewTokenClient(base, "t"); err != nil {
			t.Error(err)
		}
	}
}

// Blocks come back after the process is gone without a word.
func TestBlocksAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "blocks.json")
	c, _ := over(t, newProgram(), path)
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	for _, b := range []admin.Block{{Device: "d0", Reason: "spam"}, {Network: "192.0.2.0/24", Expires: until}, {User: "u"}} {
		if err := c.Do(t.Context(), "POST", "/v1/block", b, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Do(t.Context(), "POST", "/v1/unblock", admin.Block{User: "u"}, nil); err != nil {
		t.Fatal(err)
	}
	again := newProgram()
	if _, err := admin.NewBlocklist(path, again); err != nil {
		t.Fatal(err)
	}
	if len(again.blocks) != 2 || again.blocks["device d0"].Reason != "spam" || !again.blocks["network 192.0.2.0/24"].Expires.Equal(until) {
		t.Errorf("kept %v", again.blocks)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	left, _ := filepath.Glob(path + ".*")
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A file that cannot be read changes nothing, and stops a start.
func TestBrokenBlockFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "blocks.json")
	p := newProgram()
	l, err := admin.NewBlocklist(path, p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Block(admin.Block{Device: "d0"}); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "{", `{"version":2}`, `{"version":1,"blocks":[{"devise":"x"}]}`, `{"version":1} {}`, "[]"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Reload(); err == nil || admin.Check(path) == nil || len(p.blocks) != 1 {
			t.Errorf("%q: %v, %v", text, err, p.blocks)
		}
	}
	folder := filepath.Join(t.TempDir(), "folder")
	gone := filepath.Join(folder, "blocks.json")
	if _, err = admin.NewBlocklist(gone, p); err == nil || admin.Check(gone) == nil {
		t.Error("a file whose folder is missing is accepted")
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if l, err = admin.NewBlocklist(gone, p); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Block(admin.Block{Device: "d1"}); err == nil || !strings.Contains(err.Error(), "could not be kept") {
		t.Errorf("got %v", err)
	}
}

func TestSocket(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	l, err := admin.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Listen(path); err == nil || !strings.Contains(err.Error(), "another server") {
		t.Errorf("got %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as kill -9 does
	_ = l.Close()
	if err := admin.NewClient(path).Do(context.Background(), "GET", "/v1/status", nil, nil); !errors.Is(err, admin.ErrNotServing) {
		t.Errorf("got %v", err)
	}
	if l, err = admin.Listen(path); err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	for _, p := range []string{dir, filepath.Join(dir, strings.Repeat("x", 200)), filepath.Join(dir, "no", "folder", "s")} {
		if _, err := admin.Listen(p); err == nil {
			t.Errorf("%s is accepted", p)
		}
	}
}
