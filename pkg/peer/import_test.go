package peer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

// The ids of imported documents must never change: an import of today is
// repeated by a release of tomorrow.
func TestImportIDGolden(t *testing.T) {
	for _, c := range []struct{ group, typ, key, want string }{
		{"00kqn91s56yt2gu3yf5vnbg67", "Package", "net/http", "00i4dd91c0hsiay38n66k3mn7"},
		{"00kqn91s56yt2gu3yf5vnbg67", "Record", "1", "00i4dd91c0yd5kiwyedwbj6fs"},
	} {
		got := peer.ImportID(peercrypto.ID(c.group), c.typ, c.key)
		if _, err := peercrypto.ParseID(string(got)); err != nil {
			t.Errorf("%s: %v", got, err)
		}
		if string(got) != c.want {
			t.Errorf("ImportID(%q, %q) = %s, want %s", c.typ, c.key, got, c.want)
		}
		if tm, ok := got.Time(); !ok || tm.UTC().Format("2006-01-02") != "2015-01-01" {
			t.Errorf("time of %s is %v", got, tm)
		}
	}
}

func importText(t *testing.T, u *user, group peercrypto.ID, text string, o peer.ImportOptions) (peer.ImportResult, error) {
	t.Helper()
	return u.Import(deadline(t), group, strings.NewReader(text), o)
}

func TestImport(t *testing.T) {
	alice := newUser(t, "alice").open(nil)
	group := alice.create("garden")
	// Concatenated and indented objects, as go list -json prints them.
	text := `{"ImportPath":"a","Deps":["x"]}{
		"ImportPath": "b"
	}
	{"ImportPath":"c"}`
	o := peer.ImportOptions{Type: "Package", Key: "ImportPath"}
	if r, err := importText(t, alice, group, text, o); err != nil || r != (peer.ImportResult{Read: 3, New: 3}) {
		t.Fatalf("first: %+v, %v", r, err)
	}
	if r, err := importText(t, alice, group, text, o); err != nil || r != (peer.ImportResult{Read: 3, Unchanged: 3}) {
		t.Fatalf("repeated: %+v, %v", r, err)
	}
	if r, err := importText(t, alice, group, strings.ReplaceAll(text, `"x"`, `"y"`), o); err != nil || r != (peer.ImportResult{Read: 3, Changed: 1, Unchanged: 2}) {
		t.Fatalf("changed: %+v, %v", r, err)
	}
	d, err := alice.Get(t.Context(), group, peer.ImportID(group, "Package", "a"))
	if err != nil || !strings.Contains(string(d.JSON), `"Deps":["y"]`) || d.Type != "Package" {
		t.Fatalf("document: %s, %v", d.JSON, err)
	}
	// Without a key the content is the key.
	if r, err := importText(t, alice, group, `{"type":"N","a":1} {"a":1,"type":"N"} {"type":"N","a":2}`, peer.ImportOptions{}); err != nil || r.New != 2 || r.Read != 3 {
		t.Fatalf("by content: %+v, %v", r, err)
	}
	// What was exported comes back unchanged, and into another group as new.
	var out bytes.Buffer
	if err := alice.Export(t.Context(), group, &out); err != nil {
		t.Fatal(err)
	}
	if r, err := importText(t, alice, group, out.String(), peer.ImportOptions{}); err != nil || r != (peer.ImportResult{Read: 5, Unchanged: 5}) {
		t.Fatalf("export imported: %+v, %v", r, err)
	}
	other := alice.create("copy")
	if r, err := importText(t, alice, other, out.String(), peer.ImportOptions{}); err != nil || r.New != 5 {
		t.Fatalf("export into another group: %+v, %v", r, err)
	}
}

func TestImportBatches(t *testing.T) {
	alice := newUser(t, "alice").open(nil)
	group := alice.create("garden")
	var text bytes.Buffer
	for i := range 2500 {
		fmt.Fprintf(&text, `{"n":%d}`+"\n", i)
	}
	var steps []int
	o := peer.ImportOptions{Type: "Record", Key: "n", Progress: func(r peer.ImportResult) { steps = append(steps, r.Read) }}
	r, err := alice.Import(deadline(t), group, &text, o)
	if err != nil || r.New != 2500 {
		t.Fatalf("%+v, %v", r, err)
	}
	if len(steps) < 3 || steps[len(steps)-1] != 2500 {
		t.Errorf("progress: %v", steps)
	}
}

// TestImportPause: what a slow writer wrote is durable before the end.
func TestImportPause(t *testing.T) {
	alice := newUser(t, "alice").open(nil)
	group := alice.create("garden")
	r, w := io.Pipe()
	committed := make(chan int, 8)
	done := make(chan error, 1)
	go func() {
		_, err := alice.Import(deadline(t), group, r, peer.ImportOptions{Type: "Record", Key: "n", Progress: func(p peer.ImportResult) { committed <- p.Read }})
		done <- err
	}()
	if _, err := io.WriteString(w, `{"n":1} {"n":2} `); err != nil {
		t.Fatal(err)
	}
	if n := <-committed; n != 2 {
		t.Errorf("%d documents after a pause, want 2", n)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestImportRefuses(t *testing.T) {
	alice := newUser(t, "alice").open(nil)
	group := alice.create("garden")
	good := `{"type":"N","k":"first"} `
	for _, c := range []struct {
		name, bad, key, says string
	}{
		{"truncated", `{"type":"N"`, "k", "ends in the middle"},
		{"no JSON", `hello`, "k", "not JSON"},
		{"array", `[1]`, "k", "no JSON object"},
		{"null", `null`, "k", "no JSON object"},
		{"duplicate", `{"type":"N","k":"a","k":"b"}`, "k", ""},
		{"bad UTF-8", "{\"type\":\"N\",\"k\":\"\xff\"}", "k", ""},
		{"reserved name", `{"type":"N","k":"a","__proto__":{}}`, "k", ""},
		{"no type", `{"k":"a"}`, "k", "--type"},
		{"type is no string", `{"k":"a","type":1}`, "k", "type"},
		{"reserved type", `{"k":"a","type":"User"}`, "k", ""},
		{"no key", `{"type":"N"}`, "k", `"k"`},
		{"null key", `{"type":"N","k":null}`, "k", `"k"`},
		{"foreign id", `{"type":"N","id":"17"}`, "", "--key id"},
		{"too large", `{"type":"N","k":"` + strings.Repeat("x", 1<<21) + `"}`, "k", "1 MiB"},
		{"endless space", `{"type":"N",` + strings.Repeat(" ", 1<<21), "k", "1 MiB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := good + c.bad
			if c.key == "" {
				text = c.bad
			}
			_, err := importText(t, alice, group, text, peer.ImportOptions{Key: c.key})
			var at *peer.ImportError
			if !errors.As(err, &at) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("error %v, want one that says %q", err, c.says)
			}
			if want := strings.Count(text, good) + 1; at.Document != want {
				t.Errorf("document %d, want %d: %v", at.Document, want, err)
			}
			if len(err.Error()) > 500 {
				t.Errorf("the error repeats the text: %d bytes", len(err.Error()))
			}
		})
	}
	if g, err := alice.Group(t.Context(), group); err != nil || g.Documents != 1 {
		t.Errorf("%d documents, want the good one: %v", g.Documents, err)
	}
}

func TestImportCancelled(t *testing.T) {
	alice := newUser(t, "alice").open(nil)
	group := alice.create("garden")
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	defer func() { _ = w.Close() }()
	done := make(chan error, 1)
	go func() {
		_, err := alice.Import(ctx, group, r, peer.ImportOptions{Type: "N"})
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// FuzzImport: nothing that is read panics, hangs or leaves an invalid document.
func FuzzImport(f *testing.F) {
	for _, seed := range []string{`{"type":"N"}`, `{"k":1}{"k":"2"}`, `[`, `{"id":"00kqn91s56yt2gu3yf5vnbg67","type":"N"}`, "{\"type\":\"\xff\"}", `{"type":"N","a":{"b":[1e400]}}`} {
		f.Add([]byte(seed), "T", "k")
	}
	alice := newUser(f, "alice").open(nil, func(c *peer.Config) { c.Logger = nil })
	group := alice.create("fuzz")
	f.Fuzz(func(t *testing.T, text []byte, typ, key string) {
		_, err := alice.Import(t.Context(), group, bytes.NewReader(text), peer.ImportOptions{Type: typ, Key: key})
		if err != nil {
			return
		}
		q := groupsync.DocumentQuery{Group: group}
		if err := alice.List(t.Context(), q, func(d groupsync.Document) error {
			if !json.Valid(d.JSON) {
				t.Errorf("stored %q", d.JSON)
			}
			return alice.Delete(t.Context(), group, d.Subject)
		}); err != nil {
			t.Error(err)
		}
	})
}
