package load

import "bytes"

// members yields the members of the JSON object in frame, without looking into
// nested values: the name without quotes, and the value as it stands. It stops
// at what it does not understand.
func members(frame []byte, yield func(name, value []byte) bool) {
	rest := skip(frame)
	if len(rest) == 0 || rest[0] != '{' {
		return
	}
	rest = rest[1:]
	for {
		rest = skip(rest)
		end := valueEnd(rest)
		if end < 2 || rest[0] != '"' {
			return
		}
		name := rest[1 : end-1]
		rest = skip(rest[end:])
		if end = valueEnd(rest); end == 0 {
			return
		}
		if !yield(name, rest[:end]) {
			return
		}
		rest = rest[end:]
	}
}

// skip skips what stands between names and values.
func skip(b []byte) []byte {
	for len(b) > 0 {
		switch b[0] {
		case ' ', '\t', '\r', '\n', ',', ':':
			b = b[1:]
		default:
			return b
		}
	}
	return b
}

// valueEnd is the length of the JSON value at the begin of b, 0 if it is not
// complete.
func valueEnd(b []byte) int {
	depth := 0
	for i := 0; i < len(b); {
		switch b[i] {
		case '"':
			n := stringEnd(b[i:])
			if n == 0 {
				return 0
			}
			i += n
		case '{', '[':
			depth++
			i++
			continue
		case '}', ']':
			if depth == 0 {
				return i
			}
			depth--
			i++
		case ',', ':', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
			i++
			continue
		default:
			i++
			continue
		}
		if depth == 0 {
			return i
		}
	}
	return 0
}

// stringEnd is the length of the JSON string at the begin of b, with its quotes.
func stringEnd(b []byte) int {
	i := 1
	for {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return 0
		}
		i += n + 1
		escapes := 0
		for j := i - 2; j > 0 && b[j] == '\\'; j-- {
			escapes++
		}
		if escapes%2 == 0 {
			return i
		}
	}
}

// text is a string value without its quotes; escapes stay.
func text(value []byte) []byte {
	if len(value) < 2 || value[0] != '"' {
		return nil
	}
	return value[1 : len(value)-1]
}

// number is a value of digits, else 0.
func number(value []byte) (n uint64) {
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0
		}
		n = n*10 + uint64(c-'0')
	}
	return n
}
