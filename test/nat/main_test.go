//go:build linux

package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestChoose(t *testing.T) {
	all := scenarios()
	seen := map[string]bool{}
	quick := 0
	for _, s := range all {
		if seen[s.name] || s.about == "" || (s.path != "direct" && s.path != "relay") {
			t.Errorf("case %q is twice there, or not described", s.name)
		}
		seen[s.name] = true
		if s.short {
			quick++
		}
	}
	for _, tt := range []struct {
		o    options
		want int
	}{
		{options{}, len(all)},
		{options{short: true}, quick},
		{options{cases: "symmetric, tcp-443", short: true}, 2},
	} {
		if got, err := choose(all, tt.o); err != nil || len(got) != tt.want {
			t.Errorf("%+v: %d cases, %v", tt.o, len(got), err)
		}
	}
	if _, err := choose(all, options{cases: "no-such-case"}); err == nil || !strings.Contains(err.Error(), "no-such-case") {
		t.Errorf("a case that is not there: %v", err)
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	late := result{s: scenario{name: "late"}, connect: 1500 * time.Millisecond}
	late.complain("connected after %s", seconds(40*time.Second))
	late.err = late.verdict()
	printTable(&out, []result{
		late, {s: scenario{name: "fine"}, connect: 40 * time.Millisecond},
		{s: scenario{name: "limit"}, known: true}, {s: scenario{name: "old"}, skipped: errNotOffered.Error()},
	})
	lines := strings.Split(out.String(), "\n")
	for i, want := range [][]string{{"CASE", "VERDICT"}, {"late", "1.5 s", "FAILED"}, {"fine", "40 ms", "ok"}, {"limit", "known"}, {"old", "skipped"}} {
		for _, w := range want {
			if !strings.Contains(lines[i], w) {
				t.Errorf("line %d is %q, without %q", i, lines[i], w)
			}
		}
	}
	if !strings.Contains(late.line(), "connected after 40.0 s") || errors.Is(late.err, errNotOffered) {
		t.Errorf("the line of a failure is %q", late.line())
	}
}
