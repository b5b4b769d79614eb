package crypto

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// MaxDepth is the deepest nesting of arrays and objects that the strict reader
// accepts; a scalar has depth 0.
const MaxDepth = 64

// ErrJSON is what every refusal of the strict reader matches with [errors.Is].
// The concrete error is a [*JSONError].
var ErrJSON = errors.New("not strict JSON")

// JSONError says where and why a text was refused. It never contains a part of
// the text, so it may be logged or sent to the other side.
type JSONError struct {
	Offset int64  // in bytes from the start of the text, -1 when not known
	Reason string // a fixed phrase
	cause  error  // of this package, or nil
}

// Error describes the refusal.
func (e *JSONError) Error() string {
	reason := e.Reason
	if e.cause != nil {
		reason += ": " + e.cause.Error()
	}
	if e.Offset < 0 {
		return "not strict JSON: " + reason
	}
	return fmt.Sprintf("not strict JSON at byte %d: %s", e.Offset, reason)
}

// Unwrap returns why this package refused the value of a member, for example
// an error that matches [ErrKey] or [ErrText], or nil.
func (e *JSONError) Unwrap() error { return e.cause }

// Is reports whether target is [ErrJSON].
func (e *JSONError) Is(target error) bool { return target == ErrJSON }

// Canonicalize checks raw strictly and returns its canonical form in a new
// slice. The strict reader refuses invalid UTF-8, lone surrogates, duplicate
// names, the names __proto__, constructor and prototype at any depth, nesting
// deeper than [MaxDepth], numbers that overflow a float64, integers beyond 2^53
// that are not spelled as they would be printed, and anything after the value.
func Canonicalize(raw []byte) ([]byte, error) {
	if err := scan(raw); err != nil {
		return nil, err
	}
	return format(raw)
}

// format prints in the form of RFC 8785. An option list that is made once saves
// an allocation a call.
func format(raw []byte) ([]byte, error) {
	out, err := jsontext.AppendFormat(make([]byte, 0, len(raw)), raw, canonicalForm...)
	if err != nil {
		return nil, jsonError(err)
	}
	return out, nil
}

var canonicalForm = []jsontext.Options{
	jsontext.CanonicalizeRawInts(true),
	jsontext.CanonicalizeRawFloats(true),
	jsontext.ReorderRawObjects(true),
}

// CheckCanonical returns nil if raw is strict JSON in canonical form, which is
// the only form that is stored and sent.
func CheckCanonical(raw []byte) error {
	canonical, err := Canonicalize(raw)
	if err != nil {
		return err
	}
	if bytes.Equal(canonical, raw) {
		return nil
	}
	at := 0
	for at < len(raw) && at < len(canonical) && raw[at] == canonical[at] {
		at++
	}
	return &JSONError{int64(at), "not in canonical form", nil}
}

// MarshalCanonical encodes v under the rules of package json v2 (nil slices are
// [] and nil maps {}, arrays of bytes without a text form are base64) and
// returns the canonical form. It refuses what the strict reader refuses, NaN
// and the infinities, and strings that are not UTF-8.
func MarshalCanonical(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding %T as JSON: %w", v, err)
	}
	if err := scan(raw); err != nil {
		return nil, fmt.Errorf("encoding %T as JSON: %w", v, err)
	}
	canonical, err := format(raw)
	if err != nil {
		return nil, fmt.Errorf("encoding %T as JSON: %w", v, err)
	}
	return canonical, nil
}

// UnmarshalStrict decodes raw into v, which must be a pointer. Names match
// exactly, and a name that v does not have is refused.
func UnmarshalStrict(raw []byte, v any) error {
	return unmarshal(raw, v, json.RejectUnknownMembers(true))
}

// UnmarshalLenientFields is [UnmarshalStrict] but ignores names that v does not
// have.
func UnmarshalLenientFields(raw []byte, v any) error {
	return unmarshal(raw, v, json.RejectUnknownMembers(false))
}

func unmarshal(raw []byte, v any, o json.Options) error {
	if err := scan(raw); err != nil {
		return err
	}
	if err := json.Unmarshal(raw, v, o); err != nil {
		return jsonError(err)
	}
	return nil
}

// jsonError replaces an error of the JSON package, which may quote its input,
// by one that does not.
func jsonError(err error) error {
	if syntactic, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return &JSONError{syntactic.ByteOffset, syntacticReason(syntactic), nil}
	}
	if semantic, ok := errors.AsType[*json.SemanticError](err); ok {
		if errors.Is(err, json.ErrUnknownName) {
			return &JSONError{semantic.ByteOffset, "an unknown member", nil}
		}
		return &JSONError{semantic.ByteOffset, "a member has the wrong type or value", ownCause(semantic.Err)}
	}
	return &JSONError{-1, "malformed", nil}
}

// ownCause returns err if this package made it, which quotes no input.
func ownCause(err error) error {
	if errors.Is(err, ErrKey) || errors.Is(err, ErrText) {
		return err
	}
	return nil
}

func syntacticReason(err *jsontext.SyntacticError) string {
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return "a name appears twice"
	}
	return "a syntax error"
}

// scan enforces what the JSON package does not: depth, names, numbers. It is
// lexical and accepts texts that are not JSON; the caller decodes afterwards.
func scan(raw []byte) error {
	depth := 0
	for i := 0; i < len(raw); {
		switch c := raw[i]; {
		case c == '"':
			end := stringEnd(raw, i)
			if isName(raw, end) && forbiddenName(raw[i:end]) {
				return &JSONError{int64(i), "a reserved name", nil}
			}
			i = end
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return &JSONError{int64(i), "nested too deeply", nil}
			}
			i++
		case c == '}' || c == ']':
			depth--
			i++
		case c == '-' || '0' <= c && c <= '9':
			end := numberEnd(raw, i)
			if reason := numberFault(raw[i:end]); reason != "" {
				return &JSONError{int64(i), reason, nil}
			}
			i = end
		default:
			i++
		}
	}
	return nil
}

// stringEnd returns the index after the closing quote of the string at i, or
// the length of raw.
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

// isName reports whether the string that ends at i is followed by a colon.
func isName(raw []byte, i int) bool {
	for ; i < len(raw); i++ {
		switch raw[i] {
		case ' ', '\t', '\r', '\n':
		default:
			return raw[i] == ':'
		}
	}
	return false
}

// forbiddenName takes a string with its quotes. The three names reach the
// prototype of an object in JavaScript peers.
func forbiddenName(quoted []byte) bool {
	if bytes.IndexByte(quoted, '\\') >= 0 {
		plain, err := jsontext.AppendUnquote(nil, quoted)
		return err == nil && reservedName(string(plain))
	}
	if len(quoted) < 2 {
		return false
	}
	return reservedName(string(quoted[1 : len(quoted)-1]))
}

func reservedName(s string) bool {
	switch s {
	case "__proto__", "constructor", "prototype":
		return true
	}
	return false
}

func numberEnd(raw []byte, i int) int {
	for ; i < len(raw); i++ {
		switch c := raw[i]; {
		case '0' <= c && c <= '9', c == '-', c == '+', c == '.', c == 'e', c == 'E':
		default:
			return i
		}
	}
	return i
}

// numberFault returns why a number token is refused, or "". Tokens that are not
// numbers pass: the decoder refuses them.
func numberFault(token []byte) string {
	integer := !bytes.ContainsAny(token, ".eE")
	if len(token) <= 15 && (integer || !bytes.ContainsAny(token, "eE")) {
		return ""
	}
	f, err := strconv.ParseFloat(string(token), 64)
	if errors.Is(err, strconv.ErrRange) && math.IsInf(f, 0) {
		return "a number out of range"
	}
	if err != nil || !integer || math.Abs(f) < 1<<53 {
		return ""
	}
	if string(jsontext.AppendFloat(nil, f, 64)) == string(token) {
		return ""
	}
	return "an integer beyond 2^53 that is not exact"
}

// RemoveMember returns the object without the named members of its top level,
// in a new slice. The input must be in canonical form, which is not checked
// again; the output then is too. An input that is not an object is refused.
func RemoveMember(canonical []byte, names ...string) ([]byte, error) {
	if len(canonical) < 2 || canonical[0] != '{' || canonical[len(canonical)-1] != '}' {
		return nil, &JSONError{0, "not an object", nil}
	}
	out := make([]byte, 1, len(canonical))
	out[0] = '{'
	end := len(canonical) - 1
	for i := 1; i < end; {
		next, ok := memberEnd(canonical, i)
		if !ok || next > end {
			return nil, &JSONError{int64(i), "not in canonical form", nil}
		}
		if !named(canonical[i:next], names) {
			if len(out) > 1 {
				out = append(out, ',')
			}
			out = append(out, canonical[i:next]...)
		}
		i = next + 1
	}
	return append(out, '}'), nil
}

// memberEnd returns the index of the comma or brace after the member at i.
func memberEnd(canonical []byte, i int) (int, bool) {
	if canonical[i] != '"' {
		return 0, false
	}
	i = stringEnd(canonical, i)
	if i >= len(canonical) || canonical[i] != ':' {
		return 0, false
	}
	for depth := 0; i < len(canonical); i++ {
		switch canonical[i] {
		case '"':
			i = stringEnd(canonical, i) - 1
		case '{', '[':
			depth++
		case ',':
			if depth == 0 {
				return i, true
			}
		case '}', ']':
			if depth == 0 {
				return i, true
			}
			depth--
		}
	}
	return 0, false
}

func named(member []byte, names []string) bool {
	quoted := member[:stringEnd(member, 0)]
	for _, name := range names {
		if string(quoted[1:len(quoted)-1]) == name {
			return true
		}
		if bytes.IndexByte(quoted, '\\') >= 0 {
			plain, err := jsontext.AppendUnquote(nil, quoted)
			if err == nil && string(plain) == name {
				return true
			}
		}
	}
	return false
}
