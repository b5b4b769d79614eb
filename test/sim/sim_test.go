package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestFindsABug: a bug that is put in is found, by the same way as `make sim-bugs` goes for all of them.
func TestFindsABug(t *testing.T) {
	var out bytes.Buffer
	if err := hunt(t.Context(), t.TempDir(), options{first: 1, seeds: 60, jobs: 2}, "first arrival wins", &out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "found   first arrival wins") {
		t.Error(out.String())
	}
}

// TestSummary: a worker's lines are counted, and a failure comes with its report.
func TestSummary(t *testing.T) {
	var out bytes.Buffer
	w := worker{o: options{first: 1, seeds: 9}, sum: &summary{counts: map[string]int{}}, out: &out}
	var seed uint64
	for line, over := range map[string]bool{
		"seed 4 begins": false,
		"seed 4 ends trace=10 virtual=3m0s frames=7 put=2": true,
		"seed 4 ends trace=1 virtual=2m0s frames=1 put=1":  true,
		"seed 4 fails \x01two\x01lines":                    true,
		"something else":                                   false,
	} {
		if w.heard(line, &seed) != over {
			t.Errorf("%q", line)
		}
	}
	if w.sum.ended != 2 || w.sum.digest != 0x11 || w.sum.counts["put"] != 3 || len(w.sum.failed) != 1 || w.sum.failed[0] != 4 {
		t.Errorf("%+v", w.sum)
	}
	if !strings.Contains(out.String(), "two\nlines") {
		t.Error(out.String())
	}
}
