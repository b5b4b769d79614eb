package files

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// maxMark is the longest mark, in bytes.
const maxMark = 128

// marks are notes of the caller about a file: each a line in a file beside its
// content, which goes where the folder goes. The store's mutex guards them.
type marks map[string]struct{}

// readMarks reads what add wrote. A line that was cut off by a crash is a mark
// that nobody asks for.
func readMarks(dir string) marks {
	text, err := os.ReadFile(filepath.Join(dir, nameMarks))
	if err != nil {
		return nil
	}
	m := marks{}
	for line := range strings.Lines(string(text)) {
		m[strings.TrimSuffix(line, "\n")] = struct{}{}
	}
	return m
}

func (m *marks) add(dir, mark string) error {
	if _, ok := (*m)[mark]; ok {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(dir, nameMarks), os.O_CREATE|os.O_APPEND|os.O_WRONLY, fileMode)
	if err != nil {
		return err
	}
	_, err = f.WriteString(mark + "\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if *m == nil {
		*m = marks{}
	}
	(*m)[mark] = struct{}{}
	return nil
}

func (m *marks) addAll(dir string, more marks) error {
	for mark := range more {
		if err := m.add(dir, mark); err != nil {
			return err
		}
	}
	return nil
}

// Mark notes something about a file, complete or partial, for as long as it is
// here: one line of at most 128 bytes. Marks say for what the caller has a file,
// because what is asked about it from outside can't.
func (s *Store) Mark(ref Ref, mark string) error {
	if mark == "" || len(mark) > maxMark || strings.ContainsAny(mark, "\r\n") {
		return fmt.Errorf("marking file %s: %q is no mark", ref.ID.Short(), mark)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err := ErrNotFound
	if c := s.complete[ref.ID]; c != nil && c.ref == ref {
		err = c.marks.add(s.contentDir(ref.ID), mark)
	} else if e := s.partial[keyOf(ref)]; e != nil && e.ref == ref {
		err = e.marks.add(s.partialDir(ref), mark)
	}
	if err != nil {
		return fmt.Errorf("marking file %s: %w", ref.ID.Short(), classify(err))
	}
	return nil
}

// Marked tells whether a file has a mark.
func (s *Store) Marked(ref Ref, mark string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	var m marks
	if c := s.complete[ref.ID]; c != nil && c.ref == ref {
		m = c.marks
	} else if e := s.partial[keyOf(ref)]; e != nil && e.ref == ref {
		m = e.marks
	}
	_, ok := m[mark]
	return ok
}
