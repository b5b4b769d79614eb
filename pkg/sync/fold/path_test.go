package fold_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/peersignal/peersignal/pkg/sync/fold"
)

func TestParsePath(t *testing.T) {
	long := strings.Repeat("k", fold.MaxSegmentBytes)
	deep := strings.Repeat("a.", fold.MaxSegments-1) + "a"
	for _, c := range []struct{ path, want string }{ // segments joined by |, indexes as #n
		{"", ""},
		{"a", "a"},
		{"a.b.c", "a|b|c"},
		{"a.0", "a|#0"},
		{"a[0]", "a|#0"},
		{`a["0"]`, "a|#0"},
		{"a[10].b", "a|#10|b"},
		{"[3]", "#3"},
		{"0", "#0"},
		{"a.999999999", "a|#999999999"},
		{"a.1000000000", "a|1000000000"},
		{"a.01", "a|01"},
		{"a.-1", "a|-1"},
		{"a.1e3", "a|1e3"},
		{`["x y"]`, "x y"},
		{`['x"y']`, `x"y`},
		{`["x'y"]['z']`, "x'y|z"},
		{`a["b.c"].d`, "a|b.c|d"},
		{`a["b[0]"]`, "a|b[0]"},
		{`a["]"]`, "a|]"},
		{`a'b"c`, `a'b"c`},
		{`a\b`, `a\b`},
		{"a b.é.😀\n", "a b|é|😀\n"},
		{"a.id", "a|id"},
		{"ids.type", "ids|type"},
		{"toString.call", "toString|call"},
		{long, long},
		{deep, strings.ReplaceAll(deep, ".", "|")},
	} {
		segments, err := fold.ParsePath(c.path)
		if err != nil {
			t.Errorf("%q: %v", c.path, err)
			continue
		}
		var parts []string
		for _, s := range segments {
			if s.IsIndex {
				s.Key = "#" + s.Key
			}
			parts = append(parts, s.Key)
		}
		if got := strings.Join(parts, "|"); got != c.want {
			t.Errorf("%q is %s, want %s", c.path, got, c.want)
		}
	}
}

func TestParsePathRefuses(t *testing.T) {
	for _, path := range []string{
		".", "a.", ".a", "a..b", "a.[0]", "a[", "a]", "a[]", "a[0", "a[0]]", "a[0]b", `a["b"]c`, "[", "]", "[0", "a[0].",
		"[id]", "a[b]", "a[-1]", "a[01]", "a[1.5]", "a[ 0]", "a[1000000000]",
		`a[""]`, `a["b]`, `a["b'`, `a['b"]`, `a["b\""]`, `a["b\\"]`, `a["`, `["`, `["a`, `["a"`,
		"id", "group", "type", "modified", "signer", "signature", "id.x", "type[0]", `["id"]`, `['type'].x`,
		"__proto__", "a.__proto__", `a["constructor"]`, "a.prototype.b", "constructor.prototype.x",
		"\xff", "a.\xed\xa0\x80",
		strings.Repeat("k", fold.MaxSegmentBytes+1), strings.Repeat("a.", fold.MaxSegments) + "a", strings.Repeat("[0]", fold.MaxSegments+1),
	} {
		if segments, err := fold.ParsePath(path); !errors.Is(err, fold.ErrChanges) {
			t.Errorf("%.40q gave %d segments, %v", path, len(segments), err)
		} else if len(path) > 3 && strings.Contains(err.Error(), path) {
			t.Errorf("the error quotes %.40q", path)
		}
	}
}

func FuzzParsePath(f *testing.F) {
	for _, path := range []string{"", "a.b[0]['c'].d", `["id"]`, "a..b", "[0][1]", `a["\"]`, strings.Repeat("a.", 40)} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		segments, err := fold.ParsePath(path)
		if err != nil {
			if !errors.Is(err, fold.ErrChanges) {
				t.Fatal(err)
			}
			return
		}
		if len(segments) > fold.MaxSegments || (len(segments) == 0) != (path == "") {
			t.Fatalf("%d segments", len(segments))
		}
		// Spelling each segment in brackets gives the same path.
		var again strings.Builder
		for i, s := range segments {
			switch {
			case s.Key == "__proto__" || s.Key == "constructor" || s.Key == "prototype" || i == 0 && reserved(s.Key):
				t.Fatalf("segment %q", s.Key)
			case s.Key == "" || len(s.Key) > fold.MaxSegmentBytes:
				t.Fatalf("a segment of %d bytes", len(s.Key))
			}
			quote := `"`
			if strings.Contains(s.Key, quote) {
				quote = "'"
			}
			if strings.Contains(s.Key, quote) || strings.Contains(s.Key, `\`) {
				return // no brackets can hold it
			}
			again.WriteString("[" + quote + s.Key + quote + "]")
		}
		other, err := fold.ParsePath(again.String())
		if err != nil || len(other) != len(segments) {
			t.Fatalf("%q is not %q: %v", path, again.String(), err)
		}
		for i := range other {
			if other[i] != segments[i] {
				t.Fatalf("%q is not %q", path, again.String())
			}
		}
	})
}

func reserved(key string) bool {
	switch key {
	case "id", "group", "type", "modified", "signer", "signature":
		return true
	}
	return false
}
