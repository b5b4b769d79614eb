package main

import (
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	data := initIn(t)
	stop := daemonIn(t, data)
	defer stop()
	do := func(want int, stdin string, args ...string) (string, string) {
		t.Helper()
		code, out, errs := run(t, stdin, append([]string{"--data", data}, args...)...)
		if code != want {
			t.Fatalf("%v: exit %d: %s", args, code, errs)
		}
		return out, errs
	}
	do(exitOK, "", "group", "create", "garden")
	do(exitOK, `{"k":1,"done":false,"due":"b"}{"k":2,"done":true,"due":"c"}{"k":3,"done":false,"due":"a"}{"k":4,"done":false,"due":"d"}`,
		"import", "garden", "-", "--type", "Task", "--key", "k")
	query := []string{"find", "garden", "--type", "Task", "--where", "done=false", "--order", "due"}
	if _, errs := do(exitFailed, "", query...); !strings.Contains(errs, "peerd index add") {
		t.Errorf("without an index: %s", errs)
	}
	do(exitOK, "", "index", "add", "due", "Task", "done", "due")
	if out, _ := do(exitOK, "", "index", "ls"); !strings.Contains(out, "done, due") {
		t.Errorf("index ls: %s", out)
	}
	if out, _ := do(exitOK, "", query...); strings.Count(out, "\n") != 3 || strings.Index(out, `"k":3`) > strings.Index(out, `"k":1`) {
		t.Errorf("find: %s", out)
	}
	if out, _ := do(exitOK, "", append(query, "--where", `due>="b"`, "--desc", "--json")...); strings.Count(out, "\n") != 2 || strings.Index(out, `"k":4`) > strings.Index(out, `"k":1`) {
		t.Errorf("find from b: %s", out)
	}
	noOrder := []string{"find", "garden", "--type", "Task", "--where", "done=false", "--where", `due<"d"`}
	if out, _ := do(exitOK, "", noOrder...); strings.Count(out, "\n") != 2 || strings.Index(out, `"k":3`) > strings.Index(out, `"k":1`) {
		t.Errorf("find before d, without an order: %s", out)
	}
	if _, errs := do(exitFailed, "", "find", "garden", "--type", "Task", "--where", "done=true", "--where", "k>1"); !strings.Contains(errs, "peerd index add NAME Task done k") {
		t.Errorf("which index: %s", errs)
	}
	if _, errs := do(exitFailed, "", "find", "garden", "--where", "done=true"); !strings.Contains(errs, "--type") {
		t.Errorf("without a type: %s", errs)
	}
	out, errs := do(exitOK, "", append(query, "--limit", "2")...)
	_, after, found := strings.Cut(strings.TrimSpace(errs), "--after ")
	if strings.Count(out, "\n") != 2 || !found {
		t.Fatalf("find two: %s%s", out, errs)
	}
	if out, _ := do(exitOK, "", append(query, "--limit", "2", "--after", after)...); strings.Count(out, "\n") != 1 || !strings.Contains(out, `"k":4`) {
		t.Errorf("find the rest: %s", out)
	}
	do(exitUsage, "", append(query, "--watch", "--limit", "2")...)
	do(exitFailed, "", "find", "garden", "--where", "done")
	do(exitOK, "", "index", "rm", "due")
	do(exitNotFound, "", "index", "rm", "due")
}
