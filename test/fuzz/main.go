// Command fuzz runs every native fuzz target of the module for a short time, one after the other.
//
// FUZZTIME is the time for each target (default 3s). It exits 1 when a target fails; the failing input is
// then under testdata/fuzz of its package, as `go test -fuzz` leaves it.
package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

var target = regexp.MustCompile(`(?m)^func (Fuzz[A-Z0-9]\w*)\(f \*testing\.F\)`)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(1)
	}
}

func run() error {
	duration := os.Getenv("FUZZTIME")
	if duration == "" {
		duration = "3s"
	}
	targets, err := find(".")
	if err != nil {
		return fmt.Errorf("looking for fuzz targets: %w", err)
	}
	if len(targets) == 0 {
		return fmt.Errorf("no fuzz target found: run it from the root of the module")
	}
	slices.SortStableFunc(targets, func(a, b fuzzTarget) int { return strings.Compare(a.dir, b.dir) })
	dir, err := os.MkdirTemp("", "fuzz")
	if err != nil {
		return fmt.Errorf("making a folder for test binaries: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary := ""
	for i, t := range targets {
		if i == 0 || targets[i-1].dir != t.dir {
			binary = filepath.Join(dir, fmt.Sprintf("%d.test", i))
			if err := t.build(binary); err != nil {
				return err
			}
		}
		fmt.Printf("fuzz %s %s for %s\n", t.dir, t.name, duration)
		if err := t.run(binary, duration); err != nil {
			return err
		}
	}
	fmt.Printf("%d fuzz targets clean\n", len(targets))
	return nil
}

type fuzzTarget struct{ dir, name string }

// build makes the instrumented test binary of a package, once for all of its targets.
func (t fuzzTarget) build(binary string) error {
	out, err := exec.Command("go", "test", "-c", "-fuzz", "^"+t.name+"$", "-o", binary, "./"+t.dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("building the fuzz targets of %s: %w\n%s", t.dir, err, out)
	}
	return nil
}

// run fuzzes one target. Go's fuzzing engine may fail without an input when its time ends while a worker is still
// asked for something ("context deadline exceeded"): that run says nothing and is repeated, twice at most.
func (t fuzzTarget) run(binary, duration string) error {
	for try := 1; ; try++ {
		cmd := exec.Command(binary, "-test.run", "^$", "-test.fuzz", "^"+t.name+"$", "-test.fuzztime", duration,
			"-test.fuzzcachedir", binary+".cache")
		cmd.Dir = t.dir // failing inputs are written to its testdata
		out, err := cmd.CombinedOutput()
		if err == nil {
			return nil
		}
		timeUp := strings.Contains(string(out), "    context deadline exceeded\n") && !strings.Contains(string(out), "Failing input written")
		if !timeUp || try == 3 {
			return fmt.Errorf("%s in %s: %w\n%s", t.name, t.dir, err, out)
		}
		fmt.Printf("fuzz %s %s: the engine ran out of time without a finding; again\n", t.dir, t.name)
	}
}

func find(root string) ([]fuzzTarget, error) {
	var found []fuzzTarget
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range target.FindAllSubmatch(text, -1) {
			found = append(found, fuzzTarget{dir: filepath.Dir(path), name: string(m[1])})
		}
		return nil
	})
	return found, err
}
