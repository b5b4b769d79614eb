// Package e2e tests the real programs as a user runs them: processes, sockets, data folders, kill -9.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peersignal/peersignal/internal/daemon/api"
	"github.com/peersignal/peersignal/test/harness"
)

var bin harness.Binaries

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "peersignal-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		if bin, err = harness.Build(context.Background(), dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// world starts a server; the test's end stops everything, and on failure prints the ends of the logs.
func world(t *testing.T) (context.Context, *harness.World) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	// The paths of sockets are short, and the folder of a test may have a long one.
	dir, err := os.MkdirTemp("", "ps-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	w, err := harness.NewWorld(dir, bin)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Close()
		cancel()
		if t.Failed() {
			t.Log(w.Logs(40))
		}
	})
	if err := w.StartServer(ctx); err != nil {
		t.Fatal(err)
	}
	return ctx, w
}

func user(t *testing.T, ctx context.Context, w *harness.World, name string, extra ...string) *harness.Daemon {
	t.Helper()
	d, err := w.NewDaemon(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	up(t, ctx, d, extra...)
	return d
}

func up(t *testing.T, ctx context.Context, d *harness.Daemon, extra ...string) {
	t.Helper()
	if err := d.Up(ctx, extra...); err != nil {
		t.Fatal(err)
	}
}

func cli(t *testing.T, ctx context.Context, d *harness.Daemon, args ...string) []byte {
	t.Helper()
	out, err := d.CLI(ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// join lets a create a group if it does not exist and b join it, and waits until they know each other's names.
func join(t *testing.T, ctx context.Context, a, b *harness.Daemon, name string) {
	t.Helper()
	if !has(t, ctx, a, name) {
		cli(t, ctx, a, "group", "create", name)
	}
	cli(t, ctx, b, "join", invite(t, ctx, a, name).Link, "--yes", "--wait")
	for _, side := range [][2]*harness.Daemon{{a, b}, {b, a}} {
		user := status(t, ctx, side[1]).User
		if err := harness.Until(ctx, side[0].Name+" to know "+side[1].Name, func() (bool, error) {
			g, _ := find(status(t, ctx, side[0]), name)
			return slices.ContainsFunc(g.Members, func(m api.Member) bool { return m.User == user && m.Name != "" }), nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func invite(t *testing.T, ctx context.Context, a *harness.Daemon, name string, extra ...string) api.Invitation {
	t.Helper()
	var inv api.Invitation
	if err := a.JSON(ctx, &inv, append([]string{"group", "invite", name}, extra...)...); err != nil {
		t.Fatal(err)
	}
	return inv
}

func status(t *testing.T, ctx context.Context, d *harness.Daemon) api.Status {
	t.Helper()
	var s api.Status
	if err := d.JSON(ctx, &s, "status"); err != nil {
		t.Fatal(err)
	}
	return s
}

func has(t *testing.T, ctx context.Context, d *harness.Daemon, name string) bool {
	t.Helper()
	_, ok := find(status(t, ctx, d), name)
	return ok
}

func find(s api.Status, name string) (api.Group, bool) {
	for _, g := range s.Groups {
		if g.Name == name {
			return g, true
		}
	}
	return api.Group{}, false
}

func group(t *testing.T, ctx context.Context, d *harness.Daemon, name string) api.Group {
	t.Helper()
	g, ok := find(status(t, ctx, d), name)
	if !ok {
		t.Fatalf("%s has no group %s", d.Name, name)
	}
	return g
}

// waitDocs waits until each has that many documents and all fingerprints are equal, then compares the exports.
func waitDocs(t *testing.T, ctx context.Context, name string, docs int64, all ...*harness.Daemon) {
	t.Helper()
	var seen string
	err := harness.Until(ctx, "equal replicas", func() (bool, error) {
		seen = ""
		equal := true
		first := group(t, ctx, all[0], name).Fingerprint
		for _, d := range all {
			g := group(t, ctx, d, name)
			seen += fmt.Sprintf(" %s: %d documents, %s;", d.Name, g.Documents, g.Fingerprint)
			equal = equal && g.Documents == docs && g.Fingerprint == first
		}
		return equal, nil
	})
	if err != nil {
		t.Fatalf("%v: want %d;%s", err, docs, seen)
	}
	want := cli(t, ctx, all[0], "export", name)
	for _, d := range all[1:] {
		if got := cli(t, ctx, d, "export", name); !bytes.Equal(want, got) {
			t.Errorf("exports of %s (%d bytes) and %s (%d bytes) differ", all[0].Name, len(want), d.Name, len(got))
		}
	}
}

// put writes a document and returns its id.
func put(t *testing.T, ctx context.Context, d *harness.Daemon, name, doc string) string {
	t.Helper()
	out, err := d.CLIInput(ctx, strings.NewReader(doc), "put", name, "-", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var stored api.Document
	if err := json.Unmarshal(out, &stored); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return stored.ID
}

// putSoon is put as soon as the group knows the daemon by the key that it has now.
func putSoon(t *testing.T, ctx context.Context, d *harness.Daemon, name, doc string) {
	t.Helper()
	var refused error
	if err := harness.Until(ctx, d.Name+" to write with the new key", func() (bool, error) {
		_, refused = d.CLIInput(ctx, strings.NewReader(doc), "put", name, "-")
		return refused == nil, nil
	}); err != nil {
		t.Fatalf("%v: %v", err, refused)
	}
}

// records writes n documents of about 500 bytes.
func records(t *testing.T, w *harness.World, n int) string {
	t.Helper()
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, `{"type":"Record","key":"r%06d","n":%d,"title":"Record number %d","body":%q}`+"\n", i, i, i,
			strings.Repeat(fmt.Sprintf("line %d of a record. ", i), 18))
	}
	path := filepath.Join(w.Dir, fmt.Sprintf("records-%d.ndjson", n))
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// exitCode returns the CLI's exit code and message, and fails the test if it succeeded.
func exitCode(t *testing.T, err error) (int, string) {
	t.Helper()
	var exit *harness.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("want a failing command, got %v", err)
	}
	return exit.Code, exit.Stderr
}
