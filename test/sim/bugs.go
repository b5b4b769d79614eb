package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// A bug is a change of the source that some history must notice.
type bug struct {
	name string
	file string // in the module
	old  string
	new  string
	why  string // what goes wrong
}

var bugs = []bug{
	{"first arrival wins", "pkg/sync/documents.go",
		"later := !ok || (len(work.added) > 0 && doc.Last.Compare(refOf(work.added[0])) < 0)", "later := true",
		"a change is applied where it arrives, not where (modified, hash) puts it: documents differ"},
	{"a removal keeps everything", "pkg/sync/batch_data.go",
		"if b.state.Free(grant) {", "if true {",
		"changes outside of a removal's frontier count"},
	{"judged once", "pkg/sync/batch.go",
		"b.judged[h] = true", "_ = h",
		"data that was stored before a removal arrived keeps the judgement it had"},
	{"acknowledged before it is stored", "pkg/sync/author.go",
		"if errors.Is(err, errAborted) {\n\t\treturn nil\n\t}\n\treturn err", "_ = errors.Is\n\treturn nil",
		"a write whose transaction failed is acknowledged"},
	{"the store loses its last commit", "test/sim/world/disk.go",
		"if before, after = s.count(); before {\n\t\t\treturn s.crash()\n\t\t}", "if before, after = s.count(); before {\n\t\t\t_ = s.crash()\n\t\t}",
		"a transaction is acknowledged and not there after a crash"},
	{"only what counts travels", "pkg/sync/batch.go",
		"want := flags{b.state.Valid(h), b.state.Shared(h)}", "want := flags{b.state.Valid(h), b.state.Valid(h)}",
		"the past of valid operations and accepts of revoked grants stay behind: others can't place what builds on them"},
	{"who was removed still gets everything", "pkg/sync/engine.go",
		"_, ok := v.state.Member(user)\n\treturn ok", "return true",
		"groups are compared with users who are no members"},
	{"signatures of data are not checked", "pkg/sync/ingest.go",
		"errs[i] = group.CheckData(g.log, it.ent, prevs[it.ent.Prev])", "_ = group.CheckData(g.log, it.ent, prevs[it.ent.Prev])",
		"a forged change is stored"},
	{"the log in memory goes on after a failed transaction", "pkg/sync/batch.go",
		"\t\t\tg.broken = true\n\t\t}\n\t\treturn b, err", "\t\t}\n\t\treturn b, err",
		"operations that the store does not hold are built upon"},
	{"only operations are compared", "pkg/sync/session_loop.go",
		"equal := own.ops == gs.remote.ops && own.data == gs.remote.data", "equal := own.ops == gs.remote.ops",
		"data that one side lacks is not noticed"},
	{"members only by their first device", "pkg/sync/session_loop.go",
		"if unknown && (s.peer.UserID == s.e.userID || back || appeal) && !s.loop.fetching[id] {", "if unknown && (back || appeal) && !s.loop.fetching[id] {",
		"the other devices of a member do not get the group"},
}

// within is how many histories may pass until a bug is found.
const within = 400

// hunt puts one bug after the other in and plays until it is found.
func hunt(ctx context.Context, dir string, o options, only string, out io.Writer) error {
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	o.one, o.shrink = true, 0
	o.seeds = min(o.seeds, within)
	var missed []string
	tried := 0
	plain := o.first
	for i, b := range slices.Concat(bugs, wideBugs) {
		if only != "" && b.name != only || ctx.Err() != nil {
			continue
		}
		tried++
		if o.first = plain; i >= len(bugs) {
			o.first += wideFrom
		}
		sum, err := b.try(ctx, root, dir, o)
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		if len(sum.failed) == 0 {
			missed = append(missed, b.name)
			_, _ = fmt.Fprintf(out, "MISSED  %s: %d histories are clean\n", b.name, sum.ended)
			continue
		}
		if err := cleanWithout(ctx, dir, o, sum.failed[0]); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(out, "found   %s: seed %d, behind %d clean ones (%s)\n", b.name, sum.failed[0], sum.ended, b.why)
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case tried == 0:
		return fmt.Errorf("there is no bug %q", only)
	case len(missed) > 0:
		return fmt.Errorf("%d of %d bugs were not found: %s", len(missed), tried, strings.Join(missed, ", "))
	}
	_, _ = fmt.Fprintf(out, "%d bugs found\n", tried)
	return nil
}

// try builds the simulator with the bug and plays until a history fails.
func (b bug) try(ctx context.Context, root, dir string, o options) (*summary, error) {
	path := filepath.Join(root, filepath.FromSlash(b.file))
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if n := strings.Count(string(raw), b.old); n != 1 {
		return nil, fmt.Errorf("the text to change is %d times in %s: adapt the table to the source", n, b.file)
	}
	changed := filepath.Join(dir, "changed.go")
	if err := os.WriteFile(changed, []byte(strings.Replace(string(raw), b.old, b.new, 1)), 0o600); err != nil {
		return nil, err
	}
	binary, err := build(ctx, dir, false, map[string]string{path: changed})
	if err != nil {
		return nil, err
	}
	return play(ctx, binary, o, io.Discard), nil
}

// cleanWithout plays a history without any bug: it must be the bug that was found.
func cleanWithout(ctx context.Context, dir string, o options, seed uint64) error {
	binary, err := build(ctx, dir, false, nil)
	if err != nil {
		return err
	}
	o.first, o.seeds, o.jobs = seed, 1, 1
	if sum := play(ctx, binary, o, io.Discard); sum.ended != 1 {
		return fmt.Errorf("seed %d fails without a bug, too", seed)
	}
	return nil
}

func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("looking for the module: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}
