package main

import (
	"errors"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	const failed = "ok  \tm/a\t1.0s\n--- FAIL: TestX (0.00s)\nFAIL\nFAIL\tm/b\t0.1s\nFAIL\tm/c\t600.1s\nFAIL\n"
	const all, some = "-race -timeout 30m ./pkg/...", "-race -timeout 30m -p 1 -count=1 m/b m/c"
	for name, c := range map[string]struct {
		tries int
		outs  []string // "": passed
		asked []string
		fails bool
	}{
		"passes":            {2, []string{""}, []string{all}, false},
		"passes later":      {2, []string{failed, ""}, []string{all, some}, false},
		"fails for good":    {2, []string{failed, failed}, []string{all, some}, true},
		"one try":           {1, []string{failed}, []string{all}, true},
		"does not build":    {2, []string{"FAIL\tm/b [build failed]\n"}, []string{all}, true},
		"data race":         {2, []string{"WARNING: DATA RACE\n" + failed}, []string{all}, true},
		"no package failed": {2, []string{"no Go files\n"}, []string{all}, true},
	} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			err := run(c.tries, strings.Fields(all), func(args []string) (string, error) {
				asked = append(asked, strings.Join(args, " "))
				if out := c.outs[len(asked)-1]; out != "" {
					return out, errors.New("exit status 1")
				}
				return "", nil
			})
			if (err != nil) != c.fails || strings.Join(asked, "|") != strings.Join(c.asked, "|") {
				t.Errorf("%v after %q", err, asked)
			}
		})
	}
}
