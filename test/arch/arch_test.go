// Package arch asserts the rules of the house: which package may depend on which, and why.
package arch

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/peersignal/peersignal/"

// A rule says what a package and everything below it must not import, directly or through others.
type rule struct {
	pkg    string   // path in the module; a trailing /... means its sub-packages too
	never  []string // prefixes of import paths; those of the module without its path
	direct bool     // only direct imports count
	reason string
}

var rules = []rule{
	{pkg: "pkg/crypto", never: []string{"pkg/", "internal/", "cmd/", "net/http", "database/sql", "github.com/pion/", "modernc.org/"},
		reason: "keys and formats are the lowest floor: everybody stands on it"},
	{pkg: "pkg/wire", never: []string{"pkg/sync", "pkg/peer", "internal/", "cmd/", "github.com/pion/", "github.com/coder/", "net/http", "database/sql"},
		reason: "the signaling protocol is a codec: it can be implemented elsewhere from this package alone"},
	{pkg: "pkg/sync", never: []string{"pkg/peer", "pkg/wire", "internal/", "cmd/", "github.com/pion/", "github.com/coder/", "database/sql", "modernc.org/", "net/http"},
		reason: "the engine runs over any transport and any store, also in a simulator"},
	{pkg: "pkg/sync/entry", never: []string{"pkg/sync$", "pkg/sync/group", "pkg/sync/recon", "pkg/sync/sqlite", "database/sql", "net/http"},
		reason: "formats know nothing about evaluation or storage"},
	{pkg: "pkg/sync/keys", never: []string{"pkg/sync", "database/sql", "net/http"},
		reason: "a user's key history is independent of groups, which embed its events"},
	{pkg: "pkg/sync/group", never: []string{"pkg/sync$", "pkg/sync/recon", "pkg/sync/sqlite", "database/sql", "net/http"},
		reason: "a group's state is a pure function of a set of operations"},
	{pkg: "pkg/sync/fold", never: []string{"pkg/sync$", "pkg/sync/entry", "pkg/sync/group", "database/sql", "net/http"},
		reason: "a document is a pure function of its changes"},
	{pkg: "pkg/sync/recon", never: []string{"pkg/sync$", "database/sql", "net/http"},
		reason: "reconciliation is an algorithm over a small source"},
	{pkg: "pkg/sync/files", never: []string{"pkg/sync$", "pkg/sync/entry", "pkg/sync/group", "pkg/peer", "pkg/wire", "internal/", "net$", "net/http", "database/sql", "github.com/pion/"},
		reason: "files are kept by their content; who may have them is decided above"},
	{pkg: "pkg/sync/files/exchange", never: []string{"pkg/sync$", "pkg/peer", "pkg/wire", "internal/", "net/http", "database/sql", "github.com/pion/"},
		reason: "chunks are exchanged over any stream of messages, also one in memory"},
	{pkg: "pkg/sync/sqlite", never: []string{"pkg/peer", "pkg/wire", "internal/", "github.com/pion/", "net/http"},
		reason: "a store stores"},
	{pkg: "test/sim/world", never: []string{"pkg/peer", "pkg/wire", "internal/", "cmd/", "github.com/pion/"},
		reason: "a simulation knows the engine and its stores; the network is its own"},
	{pkg: "pkg/sync/storetest", never: []string{"pkg/sync/sqlite", "pkg/peer", "pkg/wire", "internal/"},
		reason: "the conformance suite must not know an implementation"},
	{pkg: "pkg/peer", never: []string{"internal/", "cmd/", "github.com/spf13/", "github.com/prometheus/"},
		reason: "apps embed the library: it brings no CLI, no metrics registry, nothing private"},
	{pkg: "pkg/peer/link", never: []string{"pkg/sync", "internal/", "database/sql$", "modernc.org/"},
		reason: "a link carries opaque frames"},
	{pkg: "internal/signaling", never: []string{"internal/ice", "internal/turn", "pkg/peer", "pkg/sync", "github.com/nats-io/", "github.com/spf13/", "github.com/pion/"},
		reason: "the server's parts meet in cmd only, so that each can be replaced"},
	{pkg: "internal/signaling/ws", never: []string{"internal/", "pkg/", "cmd/", "github.com/"},
		reason: "framing knows nothing about the messages, and needs no library"},
	{pkg: "internal/load", never: []string{"internal/signaling", "internal/turn", "internal/ice", "pkg/peer", "pkg/sync", "github.com/spf13/"},
		reason: "a load is a client of any server, and shares only the protocol with ours"},
	{pkg: "internal/throwaway", never: []string{"internal/", "pkg/wire", "pkg/peer", "pkg/sync"},
		reason: "keys and a certificate are all that it makes"},
	{pkg: "internal/suggest", never: []string{"internal/", "pkg/", "github.com/"},
		reason: "words are all that it knows"},
	{pkg: "internal/ice", never: []string{"internal/turn", "internal/signaling", "pkg/", "github.com/spf13/"},
		reason: "where ICE servers come from is independent of who relays"},
	{pkg: "internal/turn", never: []string{"internal/ice", "internal/signaling", "pkg/", "github.com/spf13/"},
		reason: "the relay can run without signaling"},
	{pkg: "internal/audit", never: []string{"internal/signaling", "internal/admin", "pkg/", "cmd/", "github.com/spf13/"},
		reason: "a log writes what it is told; who tells it is wired in cmd"},
	{pkg: "internal/admin", never: []string{"internal/signaling", "internal/turn", "internal/ice", "internal/audit", "pkg/", "github.com/spf13/"},
		reason: "the operator's interface is written against what it needs, and wired in cmd"},
	{pkg: "internal/daemon", never: []string{"internal/signaling", "internal/turn", "internal/ice", "github.com/spf13/"},
		reason: "the daemon is no server, and configuration belongs to cmd"},
	{pkg: "cmd/peersignal", never: []string{"pkg/peer", "pkg/sync", "modernc.org/"},
		reason: "the server never sees group data"},
	{pkg: "cmd/peerd", never: []string{"internal/signaling", "internal/turn", "internal/ice"},
		reason: "the daemon is a client of the server"},
}

type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string
	Dir        string
	GoFiles    []string
}

func packages(t *testing.T) map[string]listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Deps,Dir,GoFiles", module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	all := map[string]listed{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimPrefix(p.ImportPath, module)] = p
	}
}

func TestDependenciesPointDown(t *testing.T) {
	all := packages(t)
	for _, r := range rules {
		p, ok := all[r.pkg]
		if !ok {
			t.Errorf("%s: no such package; the rule that names it is stale", r.pkg)
			continue
		}
		deps := p.Deps
		if r.direct {
			deps = p.Imports
		}
		for _, dep := range deps {
			if bad := forbidden(dep, r.never); bad != "" {
				t.Errorf("%s must not depend on %s: %s", r.pkg, dep, r.reason)
			}
		}
	}
}

// forbidden returns the prefix that dep matches. A prefix that ends in $ must match whole; those of this module
// do not match packages of others that have the same name, as the standard library's internal ones.
func forbidden(dep string, never []string) string {
	local, ours := strings.CutPrefix(dep, module)
	for _, prefix := range never {
		if room, _, _ := strings.Cut(prefix, "/"); (room == "pkg" || room == "internal" || room == "cmd") && !ours {
			continue
		}
		if whole, ok := strings.CutSuffix(prefix, "$"); ok {
			if local == whole {
				return prefix
			}
		} else if strings.HasPrefix(local, prefix) {
			return prefix
		}
	}
	return ""
}

func TestForbiddenMatches(t *testing.T) {
	for _, c := range []struct {
		dep   string
		never string
		want  bool
	}{
		{module + "pkg/sync", "pkg/sync$", true},
		{module + "pkg/sync/entry", "pkg/sync$", false},
		{module + "pkg/sync/entry", "pkg/sync", true},
		{"github.com/pion/webrtc/v4", "github.com/pion/", true},
		{"net/netip", "net/http", false},
		{"internal/cpu", "internal/", false},
		{module + "internal/turn", "internal/", true},
	} {
		if got := forbidden(c.dep, []string{c.never}) != ""; got != c.want {
			t.Errorf("forbidden(%q, %q) = %v, want %v", c.dep, c.never, got, c.want)
		}
	}
}

func TestNobodyImportsTests(t *testing.T) {
	for path, p := range packages(t) {
		if strings.HasPrefix(path, "test/") {
			continue
		}
		for _, dep := range p.Deps {
			if strings.HasPrefix(dep, module+"test/") {
				t.Errorf("%s imports %s: test code stays out of the product", path, dep)
			}
		}
	}
}

func TestEveryPackageHasADoc(t *testing.T) {
	for path, p := range packages(t) {
		documented := false
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), p.Dir+"/"+name, nil, parser.ParseComments|parser.PackageClauseOnly)
			if err != nil {
				t.Fatal(err)
			}
			documented = documented || hasDoc(file)
		}
		if len(p.GoFiles) > 0 && !documented {
			t.Errorf("%s has no package comment: say what it owns", path)
		}
	}
}

func hasDoc(f *ast.File) bool { return f.Doc != nil && strings.TrimSpace(f.Doc.Text()) != "" }
