// Command mutate breaks the rules of merge and authorization one by one and checks that the tests notice.
//
// Each mutation of the table replaces one piece of source by a wrong one, in a copy that only the compiler sees (go's -overlay), and runs the
// tests that protect the rule: they must fail. It exits 1 when a mutation survives, does not build, or its source is not there any more.
//
//	go run ./test/mutate [-run regexp] [-jobs n] [-list]
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	only := flag.String("run", "", "only mutations whose name matches this regular expression")
	jobs := flag.Int("jobs", 2, "how many to run at the same time")
	list := flag.Bool("list", false, "list the mutations and what they break")
	flag.Parse()
	if err := run(ctx, *only, *jobs, *list); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only string, jobs int, list bool) error {
	pattern, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("reading -run: %w", err)
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	var chosen []mutation
	for _, m := range table {
		if pattern.MatchString(m.name) {
			chosen = append(chosen, m)
		}
	}
	if list {
		for _, m := range chosen {
			fmt.Printf("%-28s %s\n", m.name, m.rule)
		}
		return nil
	}
	if err := baseline(ctx, root, chosen); err != nil {
		return err
	}
	bad := 0
	for r := range results(ctx, root, chosen, jobs) {
		if r.err != nil {
			bad++
			fmt.Printf("NOT CAUGHT  %-28s %v\n", r.name, r.err)
		} else {
			fmt.Printf("caught      %-28s by %s\n", r.name, r.by)
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d mutations were not caught", bad, len(chosen))
	}
	fmt.Printf("%d mutations, each caught\n", len(chosen))
	return nil
}

// moduleRoot returns the directory of go.mod.
func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("looking for the module: %w", err)
	}
	file := strings.TrimSpace(string(out))
	if filepath.Base(file) != "go.mod" {
		return "", fmt.Errorf("no module here: run it inside the repository")
	}
	return filepath.Dir(file), nil
}

// baseline runs the tests of all mutations on the sources as they are: they must pass.
func baseline(ctx context.Context, root string, chosen []mutation) error {
	tests := map[string][]string{}
	for _, m := range chosen {
		tests[m.tests] = append(tests[m.tests], m.run)
	}
	for pkg, names := range tests {
		if out, err := goTest(ctx, root, pkg, strings.Join(names, "|"), ""); err != nil {
			return fmt.Errorf("the tests of %s fail without any mutation: %w\n%s", pkg, err, tail(out))
		}
	}
	return nil
}

type result struct {
	name string
	by   string // the test that failed
	err  error
}

func results(ctx context.Context, root string, chosen []mutation, jobs int) <-chan result {
	work, out := make(chan mutation), make(chan result)
	var wg sync.WaitGroup
	for range max(jobs, 1) {
		wg.Go(func() {
			for m := range work {
				by, err := m.try(ctx, root)
				out <- result{m.name, by, err}
			}
		})
	}
	go func() {
		for _, m := range chosen {
			work <- m
		}
		close(work)
		wg.Wait()
		close(out)
	}()
	return out
}

var failed = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

// try applies the mutation and returns the first test that failed; an error if none did.
func (m mutation) try(ctx context.Context, root string) (by string, err error) {
	text, err := m.apply(root)
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	changed, overlay := filepath.Join(dir, "changed.go"), filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(changed, text, 0o600); err != nil {
		return "", err
	}
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, m.file): changed}})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(overlay, replace, 0o600); err != nil {
		return "", err
	}
	out, err := goTest(ctx, root, m.tests, m.run, overlay)
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err == nil:
		return "", fmt.Errorf("it survived %s in %s: %s", m.run, m.tests, m.rule)
	case strings.Contains(out, "[build failed]") || strings.Contains(out, "[setup failed]"):
		return "", fmt.Errorf("it does not build:\n%s", tail(out))
	}
	if names := failed.FindStringSubmatch(out); names != nil {
		return names[1], nil
	}
	if strings.Contains(out, "panic:") {
		return "a panic or the time limit", nil
	}
	return "", fmt.Errorf("no test ran: %w\n%s", err, tail(out))
}

// apply returns the file with the mutation. The text that it replaces must be there once.
func (m mutation) apply(root string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(root, m.file))
	if err != nil {
		return nil, fmt.Errorf("reading the source: %w", err)
	}
	if n := strings.Count(string(text), m.old); n != 1 {
		return nil, fmt.Errorf("%s has the text %d times, want once: adapt the mutation to the source", m.file, n)
	}
	return []byte(strings.Replace(string(text), m.old, m.new, 1)), nil
}

func goTest(ctx context.Context, root, pkg, run, overlay string) (string, error) {
	args := []string{"test", "-count=1", "-failfast", "-timeout", "5m", "-run", run}
	if overlay != "" {
		args = append(args, "-vet=off", "-overlay", overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./"+pkg)...)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "no tests to run") {
		return string(out), fmt.Errorf("%s matches no test of %s", run, pkg)
	}
	return string(out), err
}

func tail(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}
