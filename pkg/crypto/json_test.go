package crypto_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

func TestCanonicalize(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"white space", " { \"b\" : [ 1 , 2 ] ,\n\t\"a\" : null } ", `{"a":null,"b":[1,2]}`},
		{"escapes", `{"s":"\u00e9\/\ud83d\ude00\u0000\u001f\b\f\n\r\t\"\\\u007f\u2028"}`, "{\"s\":\"é/😀\\u0000\\u001f\\b\\f\\n\\r\\t\\\"\\\\\u007f\u2028\"}"},
		{"names by UTF-16", `{"\ufb33":1,"\ud83d\ude00":2,"é":3,"z":4,"":5}`, "{\"\":5,\"z\":4,\"é\":3,\"😀\":2,\"\ufb33\":1}"},
		{"numbers", `[-0,0.0,1.0,1e2,1E+2,1e21,1e20,0.000001,1e-7,5e-324,1e-400,-1.50]`, `[0,0,1,100,100,1e+21,100000000000000000000,0.000001,1e-7,5e-324,0,-1.5]`},
		{"integers", `[9007199254740991,-9007199254740992,9007199254740994,123456789012345680000]`, `[9007199254740991,-9007199254740992,9007199254740994,123456789012345680000]`},
		{"scalar", `"a"`, `"a"`},
		{"innocent names", `{"__proto":1,"proto__":2,"x":"__proto__","y":["constructor"]}`, `{"__proto":1,"proto__":2,"x":"__proto__","y":["constructor"]}`},
		{"depth 64", strings.Repeat("[", 64) + strings.Repeat("]", 64), strings.Repeat("[", 64) + strings.Repeat("]", 64)},
		{"brackets in strings", `["` + strings.Repeat("[{", 100) + `"]`, `["` + strings.Repeat("[{", 100) + `"]`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			in := []byte(test.in)
			got, err := peercrypto.Canonicalize(in)
			if err != nil || string(got) != test.want {
				t.Fatalf("got %s, %v; want %s", got, err, test.want)
			}
			if string(in) != test.in {
				t.Error("the input was changed")
			}
			if err := peercrypto.CheckCanonical(got); err != nil {
				t.Errorf("canonical form refused: %v", err)
			}
			if err := peercrypto.CheckCanonical(in); (err == nil) != (test.in == test.want) {
				t.Errorf("CheckCanonical(input) = %v", err)
			}
		})
	}
}

var notStrict = map[string]string{
	"empty":                "",
	"space":                "  ",
	"trailing value":       `{} {}`,
	"trailing byte":        `{}x`,
	"unfinished":           `{"secret":[1,`,
	"unfinished string":    `"secret`,
	"unfinished escape":    `"secret\`,
	"invalid UTF-8":        "\"secret\xff\"",
	"overlong UTF-8":       "\"\xc0\x80\"",
	"encoded surrogate":    "\"\xed\xa0\x80\"",
	"high surrogate":       `"\ud800"`,
	"low surrogate":        `"a\udc00b"`,
	"surrogate in name":    `{"\ud800":1}`,
	"duplicate":            `{"secret":1,"secret":2}`,
	"escaped duplicate":    `{"a":1,"\u0061":2}`,
	"deep duplicate":       `[{"a":{"b":1,"b":1}}]`,
	"proto":                `{"__proto__":{}}`,
	"spaced proto":         "{\"__proto__\" \n:{}}",
	"escaped proto":        `{"__pr\u006fto__":{}}`,
	"deep constructor":     `[{"a":{"constructor":1}}]`,
	"prototype":            `{"prototype":1}`,
	"depth 65":             strings.Repeat("[", 65) + strings.Repeat("]", 65),
	"deep objects":         strings.Repeat(`{"a":`, 65) + "1" + strings.Repeat("}", 65),
	"huge depth":           strings.Repeat("[", 1_000_000),
	"overflow":             `1e400`,
	"negative overflow":    `[-1e400]`,
	"long overflow":        strings.Repeat("9", 400),
	"2^53+1":               `9007199254740993`,
	"-(2^53+1)":            `{"a":-9007199254740993}`,
	"1e22 in digits":       `10000000000000000000000`,
	"leading zero":         `01`,
	"plus":                 `+1`,
	"NaN":                  `NaN`,
	"comma":                `[1,]`,
	"byte order mark":      "\xef\xbb\xbf{}",
	"comment":              `{}//`,
	"control in string":    "\"\x01\"",
	"single quotes":        `'a'`,
	"number without digit": `-`,
}

func TestStrictRefuses(t *testing.T) {
	for name, in := range notStrict {
		t.Run(name, func(t *testing.T) {
			_, err := peercrypto.Canonicalize([]byte(in))
			var concrete *peercrypto.JSONError
			if !errors.Is(err, peercrypto.ErrJSON) || !errors.As(err, &concrete) {
				t.Fatalf("got %v, want ErrJSON", err)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("error quotes the input: %v", err)
			}
			var v any
			if err := peercrypto.UnmarshalStrict([]byte(in), &v); !errors.Is(err, peercrypto.ErrJSON) {
				t.Errorf("UnmarshalStrict: %v", err)
			}
			if err := peercrypto.CheckCanonical([]byte(in)); !errors.Is(err, peercrypto.ErrJSON) {
				t.Errorf("CheckCanonical: %v", err)
			}
		})
	}
}

func TestMarshalCanonical(t *testing.T) {
	type value struct {
		B []int          `json:"b"`
		A map[string]any `json:"a"`
		H peercrypto.Hash
	}
	got, err := peercrypto.MarshalCanonical(value{A: map[string]any{"z": 1.0, "y": "<é>"}})
	want := `{"H":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","a":{"y":"<é>","z":1},"b":[]}`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
	for name, v := range map[string]any{
		"NaN": math.NaN(), "infinity": math.Inf(1), "not UTF-8": "\xff", "channel": make(chan int),
		"reserved name": map[string]int{"__proto__": 1}, "integer": int64(1<<53 + 1),
	} {
		if got, err := peercrypto.MarshalCanonical(v); err == nil {
			t.Errorf("%s: got %s, want an error", name, got)
		}
	}
}

func TestUnmarshal(t *testing.T) {
	type value struct {
		A   int                  `json:"a"`
		Key peercrypto.PublicKey `json:"key"`
	}
	var v value
	if err := peercrypto.UnmarshalStrict([]byte(`{"a":1,"secret":2}`), &v); !errors.Is(err, peercrypto.ErrJSON) || strings.Contains(err.Error(), "secret") {
		t.Errorf("unknown member: %v", err)
	}
	if err := peercrypto.UnmarshalLenientFields([]byte(`{"a":7,"other":2}`), &v); err != nil || v.A != 7 {
		t.Errorf("lenient: %v, a = %d", err, v.A)
	}
	if err := peercrypto.UnmarshalStrict([]byte(`{"A":1}`), &v); err == nil {
		t.Error("a name in another case was accepted")
	}
	for _, in := range []string{`{"a":"secret"}`, `{"a":1.5}`, `{"key":"secret"}`, `{"key":5}`, `[]`} {
		if err := peercrypto.UnmarshalStrict([]byte(in), &v); !errors.Is(err, peercrypto.ErrJSON) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", in, err)
		}
	}
	err := peercrypto.UnmarshalStrict([]byte(`{"key":"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`), &v)
	if !errors.Is(err, peercrypto.ErrKey) {
		t.Errorf("small-order key in an object: %v, want ErrKey", err)
	}
}

func TestRemoveMember(t *testing.T) {
	tests := []struct {
		in    string
		names []string
		want  string
	}{
		{`{}`, []string{"a"}, `{}`},
		{`{"a":1}`, []string{"a"}, `{}`},
		{`{"a":1,"b":2,"c":3}`, []string{"a"}, `{"b":2,"c":3}`},
		{`{"a":1,"b":2,"c":3}`, []string{"b"}, `{"a":1,"c":3}`},
		{`{"a":1,"b":2,"c":3}`, []string{"c", "a"}, `{"b":2}`},
		{`{"a":{"b":1,"x":"},{\"b\":"},"b":[{"b":2},"]"],"c":"\\"}`, []string{"b"}, `{"a":{"b":1,"x":"},{\"b\":"},"c":"\\"}`},
		{`{"\n":1,"\\n":2}`, []string{"\n"}, `{"\\n":2}`},
		{`{"\"a":1,"a":2}`, []string{`"a`}, `{"a":2}`},
		{`{"é":1,"😀":2}`, []string{"😀"}, `{"é":1}`},
		{`{"a":1}`, nil, `{"a":1}`},
	}
	for _, test := range tests {
		if err := peercrypto.CheckCanonical([]byte(test.in)); err != nil {
			t.Fatalf("%s: %v", test.in, err)
		}
		got, err := peercrypto.RemoveMember([]byte(test.in), test.names...)
		if err != nil || string(got) != test.want {
			t.Errorf("%s without %q: got %s, %v; want %s", test.in, test.names, got, err, test.want)
		}
		if err := peercrypto.CheckCanonical(got); err != nil {
			t.Errorf("%s without %q: %v", test.in, test.names, err)
		}
	}
	for _, in := range []string{"", "[]", "1", "{", `{"a}`, `{"a"}`, `{a:1}`, `{"a":[1}`, `{"a":"}`, `{"a\`, "{]}", `{,}`} {
		if got, err := peercrypto.RemoveMember([]byte(in), "a"); err == nil && in != `{"a":[1}` {
			t.Errorf("%q: got %q, want an error", in, got)
		}
	}
}
