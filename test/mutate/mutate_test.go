package main

import (
	"testing"
)

// TestTable checks that each mutation still finds its source.
func TestTable(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, m := range table {
		if names[m.name] || m.rule == "" || m.run == "" || m.old == m.new {
			t.Errorf("%s: not a mutation, or twice", m.name)
		}
		names[m.name] = true
		if _, err := m.apply(root); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
	}
	if len(table) < 24 {
		t.Errorf("%d mutations", len(table))
	}
}

// TestSomeAreCaught tries a few; make mutate tries all.
func TestSomeAreCaught(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	few := map[string]bool{"senior-revokes": true, "old-key-is-cut": true, "array-gap": true}
	for _, m := range table {
		if !few[m.name] {
			continue
		}
		if by, err := m.try(t.Context(), root); err != nil {
			t.Errorf("%s: %v", m.name, err)
		} else {
			t.Logf("%s: caught by %s", m.name, by)
		}
	}
	harmless := mutation{"harmless", "none", groupPkg + "/rank.go", "// Senior reports", "// Senior tells", groupPkg, "^TestEmptyLog$"}
	if _, err := harmless.try(t.Context(), root); err == nil {
		t.Error("a mutation that changes nothing was caught")
	}
}
