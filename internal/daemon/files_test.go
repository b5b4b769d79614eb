package daemon_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/peersignal/peersignal/internal/daemon"
	"github.com/peersignal/peersignal/internal/daemon/api"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer"
	"github.com/peersignal/peersignal/pkg/sync/files"
	"github.com/peersignal/peersignal/pkg/sync/storetest"
)

// withFiles replaces the daemon's peer by one that keeps files.
func withFiles(t *testing.T) func(*daemon.Config) {
	return func(cfg *daemon.Config) {
		id, _, err := peercrypto.NewIdentity(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		kept, err := files.Open(filepath.Join(t.TempDir(), "files"), files.Options{Quota: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		store := storetest.NewMemory()
		p, err := peer.Open(context.Background(), peer.Config{Identity: id, Store: store, Files: kept})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = errors.Join(p.Close(), kept.Close(), store.Close()) })
		cfg.Peer = p
	}
}

// raw sends a request whose answer is no JSON.
func (w *world) raw(method, path string, header http.Header, body io.Reader) (*http.Response, []byte) {
	w.t.Helper()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", w.socket)
	}
	c := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(w.t.Context(), method, "http://peerd/v1"+path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	res, err := c.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return res, b
}

func TestFiles(t *testing.T) {
	w := start(t, withFiles(t))
	g := w.group("garden")
	content := bytes.Repeat([]byte("0123456789"), 30_000)
	sum := sha256.Sum256(content)
	id := hex.EncodeToString(sum[:])
	var f api.File
	if err := w.Upload(t.Context(), "/groups/garden/files?name=plan.html&type=text/html", bytes.NewReader(content), -1, &f); err != nil {
		t.Fatal(err)
	}
	if f.File != id || f.Size != 300_000 || !f.Complete || f.Name != "plan.html" || f.Group != g.ID || f.Document == "" || f.Modified == 0 {
		t.Errorf("%+v", f)
	}
	for _, name := range []string{id, id[:6], "plan.html"} {
		var got api.File
		w.do("GET", "/groups/garden/files/"+name, nil, &got)
		if got.File != id {
			t.Errorf("%s: %+v", name, got)
		}
	}
	res, body := w.raw("GET", "/groups/garden/files/plan.html/content", nil, nil)
	if res.StatusCode != http.StatusOK || !bytes.Equal(body, content) || res.Header.Get("ETag") != `"`+id+`"` {
		t.Errorf("%s, %d bytes, %v", res.Status, len(body), res.Header)
	}
	if d := res.Header.Get("Content-Disposition"); !strings.HasPrefix(d, "attachment") || res.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%v", res.Header)
	}
	for header, want := range map[string]string{"bytes=3-5": "345", "bytes=-2": "89", "bytes=299999-": "9"} {
		res, body = w.raw("GET", "/files/"+id[:8]+"/content", http.Header{"Range": {header}}, nil)
		if res.StatusCode != http.StatusPartialContent || string(body) != want {
			t.Errorf("%s: %s, %q", header, res.Status, body)
		}
	}
	if res, _ = w.raw("GET", "/files/"+id+"/content", http.Header{"Range": {"bytes=300000-"}}, nil); res.StatusCode != http.StatusRequestedRangeNotSatisfiable {
		t.Errorf("behind the end: %s", res.Status)
	}
	var lines int
	err := w.Lines(t.Context(), "POST", "/groups/garden/files/plan.html/fetch", nil, func(line []byte) error {
		lines++
		if !strings.Contains(string(line), `"complete":true`) {
			t.Errorf("%s", line)
		}
		return nil
	})
	if err != nil || lines != 1 {
		t.Errorf("%d lines, %v", lines, err)
	}
}

func TestFileStates(t *testing.T) {
	w := start(t, withFiles(t))
	w.group("garden")
	var f api.File
	if err := w.Upload(t.Context(), "/groups/garden/files?name=a&public=1", strings.NewReader("hello"), 5, &f); err != nil {
		t.Fatal(err)
	}
	if !f.Public {
		t.Errorf("%+v", f)
	}
	stranger := peercrypto.NewID(time.Now())
	var shared api.File
	w.do("POST", "/groups/garden/files/a/share", api.ShareFile{Users: []string{string(stranger)}}, &shared)
	if shared.Public || len(shared.Users) != 1 || shared.Users[0] != string(stranger) {
		t.Errorf("%+v", shared)
	}
	w.do("POST", "/groups/garden/files/a/pin", api.PinFile{Pinned: true}, nil)
	var local api.LocalFiles
	w.do("GET", "/files", nil, &local)
	if len(local.Files) != 1 || local.Used != 5 || local.Quota != 1<<20 || !local.Files[0].Pinned || local.Files[0].Name != "a" {
		t.Errorf("%+v", local)
	}
	w.do("DELETE", "/groups/garden/files/a", nil, nil)
	var list []api.File
	w.do("GET", "/groups/garden/files", nil, &list)
	if len(list) != 1 || list[0].Complete {
		t.Errorf("%+v", list)
	}
	w.do("DELETE", "/groups/garden/files/a?document=1", nil, nil)
	w.do("GET", "/groups/garden/files", nil, &list)
	if len(list) != 0 {
		t.Errorf("%+v", list)
	}
}

func TestFileErrors(t *testing.T) {
	w := start(t, withFiles(t))
	w.group("garden")
	var f api.File
	if err := w.Upload(t.Context(), "/groups/garden/files?name=a", strings.NewReader("hello"), 5, &f); err != nil {
		t.Fatal(err)
	}
	w.do("DELETE", "/groups/garden/files/a", nil, nil)
	absent := fmt.Sprintf("%064d", 0)
	for _, c := range []struct {
		method, path, body string
		want               api.Code
	}{
		{"GET", "/groups/garden/files/a/content", "", api.CodeConflict},
		{"GET", "/groups/garden/files/nosuch", "", api.CodeNotFound},
		{"GET", "/groups/garden/files/" + absent, "", api.CodeNotFound},
		{"GET", "/files/nosuch/content", "", api.CodeNotFound},
		{"DELETE", "/files/" + absent, "", api.CodeNotFound},
		{"POST", "/files/fetch", `{"ref":"peers:file#"}`, api.CodeInvalid},
		{"POST", "/files/fetch", `{"reff":"x"}`, api.CodeInvalid},
		{"POST", "/groups/garden/files/a/share", `{"users":["nobody"]}`, api.CodeNotFound},
		{"PUT", "/groups/garden/files?name=a%0Ab", "x", api.CodeInvalid},
		{"PUT", "/groups/garden/files?name=a&user=nobody", "x", api.CodeNotFound},
		{"PUT", "/groups/nosuch/files?name=a", "x", api.CodeNotFound},
		{"PUT", "/groups/garden/files?name=big", strings.Repeat("x", 2<<20), api.CodeStoreFull},
	} {
		_, body := w.raw(c.method, c.path, nil, strings.NewReader(c.body))
		if !strings.Contains(string(body), `"code":"`+string(c.want)+`"`) {
			t.Errorf("%s %s: %s, want %s", c.method, c.path, body, c.want)
		}
	}
	var refused *api.Error
	err := w.Upload(t.Context(), "/groups/garden/files?name=big", bytes.NewReader(make([]byte, 64<<20)), 64<<20, &f)
	if !errors.As(err, &refused) || refused.Code != api.CodeStoreFull {
		t.Errorf("a large file: %v", err)
	}
	none := start(t)
	none.group("garden")
	if _, body := none.raw("GET", "/files", nil, nil); !strings.Contains(string(body), `"conflict"`) {
		t.Errorf("without files: %s", body)
	}
}
