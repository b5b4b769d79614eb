package fold

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits of a path.
const (
	MaxSegments     = 32  // segments of a path
	MaxSegmentBytes = 256 // bytes of a segment
)

// maxIndexDigits keeps an index inside of an int32.
const maxIndexDigits = 9

// A Segment is one step of a path.
type Segment struct {
	Key     string // the text, also of an index
	Index   int    // meaningful if IsIndex
	IsIndex bool   // Key is "0" or 1 to 9 digits that don't begin with 0
}

// ParsePath reads a path. The path "" is the document itself and has no
// segments. Errors match [ErrChanges] and do not contain the path.
func ParsePath(p string) ([]Segment, error) {
	if p == "" {
		return nil, nil
	}
	if !utf8.ValidString(p) {
		return nil, unsound("a path is not UTF-8")
	}
	segments := make([]Segment, 0, min(1+strings.Count(p, "."), MaxSegments))
	for i := 0; i < len(p); {
		key, next, err := nextSegment(p, i)
		if err != nil {
			return nil, err
		}
		if len(segments) == MaxSegments {
			return nil, unsound("a path has more than %d segments", MaxSegments)
		}
		s, err := newSegment(key)
		if err != nil {
			return nil, err
		}
		if len(segments) == 0 && reservedMember(key) {
			return nil, unsound("a path begins with a reserved name")
		}
		segments = append(segments, s)
		i = next
	}
	return segments, nil
}

// nextSegment reads the segment at i, which is 0 or where a dot or bracket must stand.
func nextSegment(p string, i int) (key string, next int, err error) {
	switch {
	case p[i] == '[':
		return bracketSegment(p, i)
	case i > 0 && p[i] != '.':
		return "", 0, unsound("a path goes on after ] without a dot or bracket")
	case i > 0:
		i++
	}
	end := len(p)
	if n := strings.IndexAny(p[i:], ".[]"); n >= 0 {
		end = i + n
	}
	if end < len(p) && p[end] == ']' {
		return "", 0, unsound("a path has a ] without its [")
	}
	return p[i:end], end, nil
}

func bracketSegment(p string, i int) (key string, next int, err error) {
	i++
	if i == len(p) {
		return "", 0, unsound("a path ends in a bracket")
	}
	quote := p[i]
	if quote != '"' && quote != '\'' {
		n := strings.IndexByte(p[i:], ']')
		if n < 0 {
			return "", 0, unsound("a path has a [ without its ]")
		}
		if key = p[i : i+n]; !isIndex(key) {
			return "", 0, unsound("a bracket of a path holds neither an index nor a quoted name")
		}
		return key, i + n + 1, nil
	}
	i++
	n := strings.IndexByte(p[i:], quote)
	if n < 0 || i+n+1 >= len(p) || p[i+n+1] != ']' {
		return "", 0, unsound("a quoted name of a path does not end in its quote and ]")
	}
	if key = p[i : i+n]; strings.IndexByte(key, '\\') >= 0 {
		return "", 0, unsound("a quoted name of a path has a backslash")
	}
	return key, i + n + 2, nil
}

func newSegment(key string) (Segment, error) {
	switch {
	case key == "":
		return Segment{}, unsound("a segment of a path is empty")
	case len(key) > MaxSegmentBytes:
		return Segment{}, unsound("a segment of a path has more than %d bytes", MaxSegmentBytes)
	case key == "__proto__" || key == "constructor" || key == "prototype":
		return Segment{}, unsound("a segment of a path is a reserved name")
	}
	s := Segment{Key: key}
	if s.IsIndex = isIndex(key); s.IsIndex {
		for _, c := range []byte(key) {
			s.Index = 10*s.Index + int(c-'0')
		}
	}
	return s, nil
}

func isIndex(key string) bool {
	if key == "" || len(key) > maxIndexDigits || key[0] == '0' && len(key) > 1 {
		return false
	}
	for i := range len(key) {
		if key[i] < '0' || key[i] > '9' {
			return false
		}
	}
	return true
}

// reservedMember tells which members of a document no path may reach.
func reservedMember(key string) bool {
	switch key {
	case "id", "group", "type", "modified", "signer", "signature":
		return true
	}
	return false
}

func unsound(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrChanges}, args...)...)
}
