package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Names, types, reasons and messages are written by other people, and some reach this device before anything is known about who wrote
// them. A terminal obeys control characters, and characters that turn the direction of writing make one text look like another. So what is
// shown has them as \u….  JSON stays the same JSON by that.

// plain tells whether a terminal shows a character and does nothing else with it. Joiners are part of words and of emoji.
func plain(r rune) bool {
	return unicode.IsPrint(r) || r == '\u200c' || r == '\u200d' || r >= 0xe0020 && r <= 0xe007f // these spell flags
}

// shown returns text as it can be shown: in one line, without what a terminal would obey.
func shown(text string) string { return escape(text, "") }

// shownLines is shown for text of several lines.
func shownLines(text string) string { return escape(text, "\n\t") }

func escape(text, keep string) string {
	clean := func(r rune) bool { return r != utf8.RuneError && plain(r) || strings.ContainsRune(keep, r) }
	if strings.IndexFunc(text, func(r rune) bool { return !clean(r) }) < 0 {
		return text
	}
	var out strings.Builder
	for _, r := range text {
		switch hi, lo := utf16.EncodeRune(r); {
		case clean(r):
			out.WriteRune(r)
		case hi == utf8.RuneError:
			fmt.Fprintf(&out, `\u%04x`, r)
		default:
			fmt.Fprintf(&out, `\u%04x\u%04x`, hi, lo)
		}
	}
	return out.String()
}

// shownArgs makes texts among the values of a format safe to show.
func shownArgs(v []any) []any {
	out := make([]any, len(v))
	for i, arg := range v {
		switch t := arg.(type) {
		case string:
			arg = shown(t)
		case []byte:
			arg = shown(string(t))
		case json.RawMessage:
			arg = shown(string(t))
		case error:
			arg = shown(t.Error())
		case fmt.Stringer:
			arg = shown(t.String())
		}
		out[i] = arg
	}
	return out
}

// printf writes to standard output; a reader that went away is no failure. Values are shown in one line.
func (a *app) printf(format string, v ...any) { _ = a.line(format, v...) }

// line is printf for streams, which end when the reader went away.
func (a *app) line(format string, v ...any) error {
	_, err := fmt.Fprintf(a.out, format, shownArgs(v)...)
	return err
}

// note writes to standard error what is not the result.
func (a *app) note(format string, v ...any) { _, _ = fmt.Fprintf(a.err, format, shownArgs(v)...) }

// exact is standard output for bytes that a program may hash: as they are, unless a terminal would obey them.
func (a *app) exact() io.Writer {
	if isTerminal(a.out) {
		return &shownWriter{out: a.out}
	}
	return a.out
}

// A shownWriter shows text that arrives in pieces. At its end nothing is left of text that is UTF-8.
type shownWriter struct {
	out  io.Writer
	rest []byte // the beginning of a character
}

func (w *shownWriter) Write(b []byte) (int, error) {
	text := append(w.rest, b...)
	end := len(text)
	for back := 1; back < utf8.UTFMax && back <= end; back++ {
		if c := text[end-back]; utf8.RuneStart(c) {
			if !utf8.FullRune(text[end-back:]) {
				end -= back
			}
			break
		}
	}
	w.rest = append([]byte(nil), text[end:]...)
	if _, err := io.WriteString(w.out, shownLines(string(text[:end]))); err != nil {
		return 0, err
	}
	return len(b), nil
}

// print shows a result: as JSON with --json, else by show.
func (a *app) print(v any, show func()) error {
	if !a.cfg.json {
		show()
		return nil
	}
	var text strings.Builder
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(a.out, shownLines(text.String()))
	return err
}
