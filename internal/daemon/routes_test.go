package daemon_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/peersignal/peersignal/internal/daemon/api"
)

var parameter = regexp.MustCompile(`\{[^}]*\}`)

// route is a route without the names of its parameters.
func route(method, path string) string {
	path, _, _ = strings.Cut(path, "?")
	return method + " " + parameter.ReplaceAllString(path, "{}")
}

// TestRoutesAreDocumented: docs/api.md lists each route once, and none that is not there.
func TestRoutesAreDocumented(t *testing.T) {
	code := map[string]bool{}
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	registered := regexp.MustCompile(`\b(?:add|stream)\("([A-Z]+) (/[^"]*)"`)
	for _, source := range sources {
		text, err := os.ReadFile(source) //nolint:gosec // the package's own files
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range registered.FindAllStringSubmatch(string(text), -1) {
			code[route(m[1], m[2])] = true
		}
	}
	text, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| ([A-Z]+) `(/[^`]*)` \\|").FindAllStringSubmatch(string(text), -1) {
		r := route(m[1], m[2])
		if documented[r] {
			t.Errorf("%s is there twice", r)
		}
		documented[r] = true
	}
	if len(code) < 50 {
		t.Fatalf("only %d routes were found in the code", len(code))
	}
	for _, r := range slices.Sorted(maps.Keys(code)) {
		if !documented[r] {
			t.Errorf("docs/api.md does not have %s", r)
		}
	}
	for _, r := range slices.Sorted(maps.Keys(documented)) {
		if !code[r] {
			t.Errorf("there is no route %s", r)
		}
	}
}

// TestBeginsOfIDs: what messages and lists show of an id names the thing.
func TestBeginsOfIDs(t *testing.T) {
	w := start(t)
	g := w.group("garden")
	var d api.Document
	w.do("POST", "/groups/garden/docs", map[string]any{"type": "Note"}, &d)
	for _, text := range []string{g.ID, g.ID[:12], g.ID[10:16]} {
		w.do("GET", "/groups/"+text, nil, nil)
	}
	for _, text := range []string{d.ID, d.ID[:14]} {
		var got api.Document
		if w.do("GET", "/groups/garden/docs/"+text, nil, &got); got.ID != d.ID {
			t.Errorf("%s is %+v", text, got)
		}
	}
	for text, code := range map[string]api.Code{"0000": api.CodeNotFound, "zzzzz": api.CodeNotFound, "0": api.CodeInvalid} {
		var failed *api.Error
		if err := w.Do(t.Context(), "GET", "/groups/garden/docs/"+text, nil, nil); !errors.As(err, &failed) || failed.Code != code {
			t.Errorf("%s: %v", text, err)
		}
	}
	w.do("DELETE", "/groups/garden/docs/"+d.ID[:14], nil, nil)
}

// TestOwnDevices: a device alone, what is refused, and a new key, with which the daemon would begin anew.
func TestOwnDevices(t *testing.T) {
	w := start(t)
	var list []api.OwnDevice
	if w.do("GET", "/devices", nil, &list); len(list) != 1 || !list[0].Self || list[0].Listed {
		t.Errorf("%+v", list)
	}
	var proposals []api.Proposal
	if w.do("GET", "/proposals", nil, &proposals); len(proposals) != 0 {
		t.Errorf("%+v", proposals)
	}
	for _, c := range []struct {
		path string
		body any
		code api.Code
	}{
		{"/devices", api.AddDevice{Request: "peers:device#AAAA"}, api.CodeInvalid},
		{"/rotate", api.Rotate{Reason: "boredom"}, api.CodeInvalid},
		{"/rotate", api.Rotate{Without: []string{"abcdef"}}, api.CodeNotFound},
		{"/proposals", api.Propose{Reason: "boredom"}, api.CodeInvalid},
		{"/proposals", api.Propose{}, api.CodeConflict},
		{"/proposals/abcdef/approve", nil, api.CodeNotFound},
	} {
		var failed *api.Error
		if err := w.Do(t.Context(), "POST", c.path, c.body, nil); !errors.As(err, &failed) || failed.Code != c.code {
			t.Errorf("%s %+v: %v", c.path, c.body, err)
		}
	}
	w.do("POST", "/rotate", api.Rotate{}, nil)
}
