package files_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/peersignal/peersignal/pkg/sync/files"
)

// TestMarks follows marks from a partial file to the complete one, over a restart, and to the end of the file.
func TestMarks(t *testing.T) {
	from := open(t, filepath.Join(t.TempDir(), "from"), files.Options{})
	content := random(files.ChunkSize, 1)
	ref := add(t, from, content)
	source, err := from.Open(ref.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()

	dir := filepath.Join(t.TempDir(), "to")
	s := open(t, dir, files.Options{})
	if err := s.Mark(ref, "a"); !errors.Is(err, files.ErrNotFound) {
		t.Errorf("of a file that is not here: %v", err)
	}
	p := begin(t, s, source)
	for _, mark := range []string{"a", "b", "a"} {
		if err := s.Mark(ref, mark); err != nil {
			t.Fatal(err)
		}
	}
	for _, mark := range []string{"", "a\nb", strings.Repeat("x", 129)} {
		if err := s.Mark(ref, mark); err == nil {
			t.Errorf("%q is taken", mark)
		}
	}
	put(t, p, content, 0)
	if err := errors.Join(p.Finish(), p.Close()); err != nil {
		t.Fatal(err)
	}
	check := func(s *files.Store, what string, want bool) {
		t.Helper()
		if s.Marked(ref, "a") != want || s.Marked(ref, "b") != want || s.Marked(ref, "c") {
			t.Errorf("%s: a %v, b %v, c %v", what, s.Marked(ref, "a"), s.Marked(ref, "b"), s.Marked(ref, "c"))
		}
	}
	check(s, "complete", true)
	if other := (files.Ref{ID: ref.ID, Size: ref.Size}); s.Marked(other, "a") || s.Mark(other, "c") == nil {
		t.Error("another root is marked")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, files.Options{})
	check(s, "opened again", true)
	if err := s.Demote(&files.DamagedError{ID: ref.ID}, nil); err != nil {
		t.Fatal(err)
	}
	check(s, "given up", true)
	if err := s.Forget(ref.ID); err != nil {
		t.Fatal(err)
	}
	check(s, "forgotten", false)
	if add(t, s, content) != ref {
		t.Fatal("another reference")
	}
	check(s, "added again", false)
}
