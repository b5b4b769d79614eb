package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"
)

func TestShown(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"garden", "garden"},
		{"сад 庭 🌱", "сад 庭 🌱"},
		{"क्\u200dष 👩\u200d🌾 🏴\U000e0067\U000e007f", "क्\u200dष 👩\u200d🌾 🏴\U000e0067\U000e007f"},
		{"a\x1b[31mb", `a\u001b[31mb`},
		{"a\nb\tc", `a\u000ab\u0009c`},
		{"a\u009b2Jb\x7f", `a\u009b2Jb\u007f`},
		{"r\u202etxt.exe", `r\u202etxt.exe`},
		{"a\xffb", `a\ufffdb`},
		{"\U000e0001", `\udb40\udc01`},
	} {
		if got := shown(c.in); got != c.want {
			t.Errorf("shown(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

// Text that arrives in any pieces is shown as at once, and JSON stays what it is.
func FuzzShown(f *testing.F) {
	f.Add("a\x1b[31m\u009b\u202e🌱", 3)
	f.Fuzz(func(t *testing.T, text string, cut int) {
		text = strings.ToValidUTF8(text, "")
		for _, r := range shown(text) {
			if unicode.IsControl(r) {
				t.Fatalf("%q is shown with %q", text, r)
			}
		}
		doc, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		var back string
		if err := json.Unmarshal([]byte(shownLines(string(doc))), &back); err != nil || back != text {
			t.Fatalf("%q became %q: %v", text, back, err)
		}
		var out bytes.Buffer
		w := &shownWriter{out: &out}
		for rest := []byte(text); len(rest) > 0; {
			n := min(1+max(cut, 0)%7, len(rest))
			if _, err := w.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if out.String() != shownLines(text) {
			t.Fatalf("in pieces %q, at once %q", out.String(), shownLines(text))
		}
	})
}

// What other people write reaches no terminal as they wrote it.
func TestHostileTexts(t *testing.T) {
	data := initIn(t)
	stop := daemonIn(t, data)
	defer stop()
	do := func(want int, stdin string, args ...string) string {
		t.Helper()
		code, out, errs := run(t, stdin, append([]string{"--data", data}, args...)...)
		if code != want {
			t.Fatalf("%v: exit %d: %s", args, code, errs)
		}
		if at := strings.IndexFunc(out+errs, func(r rune) bool { return r != '\n' && unicode.IsControl(r) || r == '\u202e' }); at >= 0 {
			t.Errorf("%v shows %q", args, (out + errs)[at:])
		}
		return out
	}
	do(exitOK, "", "group", "create", "gar\u202eden")
	do(exitFailed, "", "group", "create", "gar\x1b[31mden")
	do(exitUsage, "", "group", "create", "gar\xffden")
	do(exitUsage, "", "group", "create", "")
	id := strings.TrimSpace(do(exitOK, "", "group", "create", "garden"))
	doc := strings.TrimSpace(do(exitOK, `{"type":"No\u001b[31mte\u202e","text":"\u009b2J"}`, "put", id))
	for _, args := range [][]string{{"ls", id}, {"ls", id, "--json"}, {"find", id}, {"find", id, "--json"}, {"group", "ls"}, {"group", "ls", "--json"}, {"status"}} {
		do(exitOK, "", args...)
	}
	if code, out, _ := run(t, "", "--data", data, "get", id, doc); code != exitOK || !strings.Contains(out, "\u009b2J") {
		t.Errorf("get changes what a program reads: %d %q", code, out)
	}
	do(exitNotFound, "", "ls", "x\x1b[31m")
}
