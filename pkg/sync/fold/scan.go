package fold

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// This file reads canonical JSON lexically: the texts were checked before, so
// nothing is validated beyond what keeps the reader inside of the slice.

// eachMember calls fn for each member of an object in the order of the text.
// Values are not empty and share memory with raw.
func eachMember(raw []byte, fn func(key string, value []byte) error) error {
	if len(raw) < 2 || raw[0] != '{' || raw[len(raw)-1] != '}' {
		return unsound("not an object")
	}
	end := len(raw) - 1
	for i := 1; i < end; {
		colon := valueEnd(raw, i)
		if raw[i] != '"' || colon+1 >= end || raw[colon] != ':' {
			return unsound("not a canonical object")
		}
		next := valueEnd(raw, colon+1)
		if next > end || next == colon+1 || next < end && raw[next] != ',' {
			return unsound("not a canonical object")
		}
		if err := fn(unquote(raw[i:colon]), raw[colon+1:next]); err != nil {
			return err
		}
		i = next + 1
	}
	return nil
}

// eachElement is eachMember for arrays.
func eachElement(raw []byte, fn func(value []byte) error) error {
	if len(raw) < 2 || raw[0] != '[' || raw[len(raw)-1] != ']' {
		return unsound("not an array")
	}
	end := len(raw) - 1
	for i := 1; i < end; {
		next := valueEnd(raw, i)
		if next > end || next == i || next < end && raw[next] != ',' {
			return unsound("not a canonical array")
		}
		if err := fn(raw[i:next]); err != nil {
			return err
		}
		i = next + 1
	}
	return nil
}

// valueEnd returns the index behind the value at i, at most len(raw).
func valueEnd(raw []byte, i int) int {
	for depth := 0; i < len(raw); {
		switch raw[i] {
		case '"':
			if i = stringEnd(raw, i); depth == 0 {
				return i
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth <= 0 {
				return i + 1 + min(depth, 0)
			}
		case ',', ':':
			if depth == 0 {
				return i
			}
		}
		i++
	}
	return len(raw)
}

func stringEnd(raw []byte, i int) int {
	for i++; i < len(raw); i++ {
		switch raw[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(raw)
}

// unquote returns the text of a JSON string.
func unquote(quoted []byte) string {
	if bytes.IndexByte(quoted, '\\') < 0 {
		if len(quoted) < 2 {
			return ""
		}
		return string(quoted[1 : len(quoted)-1])
	}
	var s string
	_ = json.Unmarshal(quoted, &s) // canonical input has only valid escapes
	return s
}

// appendQuoted writes a string as RFC 8785 has it.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := range len(s) {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		b = append(append(b, s[start:i]...), escape(c)...)
		start = i + 1
	}
	return append(append(b, s[start:]...), '"')
}

func quotedSize(s string) int {
	n := len(s) + 2
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' {
			n += len(escape(c)) - 1
		}
	}
	return n
}

func escape(c byte) string {
	switch c {
	case '"':
		return `\"`
	case '\\':
		return `\\`
	case '\b':
		return `\b`
	case '\t':
		return `\t`
	case '\n':
		return `\n`
	case '\f':
		return `\f`
	case '\r':
		return `\r`
	}
	const hex = "0123456789abcdef"
	return `\u00` + string([]byte{hex[c>>4], hex[c&15]})
}

// compareUTF16 orders names as canonical JSON does: by UTF-16 code unit, in
// which the characters above U+FFFF come before U+E000.
func compareUTF16(a, b string) int {
	for a != "" && b != "" {
		x, n := utf8.DecodeRuneInString(a)
		y, m := utf8.DecodeRuneInString(b)
		if x != y {
			return unitOrder(x) - unitOrder(y)
		}
		a, b = a[n:], b[m:]
	}
	return len(a) - len(b)
}

// unitOrder maps a rune to a number with the order of its UTF-16 form.
func unitOrder(r rune) int {
	if r >= 0xE000 && r <= 0xFFFF {
		return int(r) + 0x110000
	}
	return int(r)
}
