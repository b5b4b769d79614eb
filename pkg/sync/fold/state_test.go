package fold_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/fold"
)

const (
	group   = peercrypto.ID("00mwrj0xzzgroup0000000001")
	subject = peercrypto.ID("00mwrj0xzzsubject00000001")
)

// doc wraps members in a document of type T, as canonical JSON.
func doc(t testing.TB, members string) []byte {
	t.Helper()
	text := fmt.Sprintf(`{"id":%q,"group":%q,"type":"T"%s}`, subject, group, strings.TrimSuffix(","+members, ","))
	b, err := peercrypto.Canonicalize([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return b
}

// changes reads [[path,value],…].
func changes(t testing.TB, text string) []fold.Change {
	t.Helper()
	canonical, err := peercrypto.Canonicalize([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	cs, err := fold.ParseChanges(canonical)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if err := fold.CheckChanges(group, subject, cs); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return cs
}

func root(value []byte) []fold.Change { return []fold.Change{{Set: true, Value: value}} }

// members returns a document without the members that all have.
func members(t testing.TB, document []byte) string {
	t.Helper()
	if document == nil {
		return "none"
	}
	if err := peercrypto.CheckCanonical(document); err != nil {
		t.Fatalf("%s: %v", document, err)
	}
	b, err := peercrypto.RemoveMember(document, "id", "group", "type", "modified")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestApply(t *testing.T) {
	pad := func(n int) string { return strings.Repeat("null,", n) }
	for _, c := range []struct{ before, changes, want string }{
		{`"a":1`, `[]`, `{"a":1}`},
		{`"a":1`, `[["a",2]]`, `{"a":2}`},
		{`"a":1`, `[["a",null],["b",null]]`, `{"a":null,"b":null}`},
		{`"a":1`, `[["a"]]`, `{}`},
		{`"a":1`, `[["b"],["a.b"],["b.c[0]"]]`, `{"a":1}`},
		{`"a":{"b":1,"c":2}`, `[["a.b"]]`, `{"a":{"c":2}}`},
		// A missing, null or scalar intermediate is replaced.
		{``, `[["a.b.c",1]]`, `{"a":{"b":{"c":1}}}`},
		{`"a":null`, `[["a.b",1]]`, `{"a":{"b":1}}`},
		{`"a":"text"`, `[["a.b.0",1]]`, `{"a":{"b":[1]}}`},
		{`"a":5`, `[["a[1]",1]]`, `{"a":[null,1]}`},
		// Existing containers stay what they are.
		{`"a":{"0":"x"}`, `[["a[1]","y"]]`, `{"a":{"0":"x","1":"y"}}`},
		{`"a":[1]`, `[["a.b",1]]`, `{"a":[1]}`},
		{`"a":[1]`, `[["a.length",0],["a.-1",0]]`, `{"a":[1]}`},
		{`"a":[1]`, `[["a.01",1],["a.1000000000",1],["z",1]]`, `{"a":[1],"z":1}`},
		{`"a":[[1]]`, `[["a.0.b",1],["a.0.b.c",1]]`, `{"a":[[1]]}`},
		// Arrays.
		{`"a":[1,2,3]`, `[["a[1]"]]`, `{"a":[1,null,3]}`},
		{`"a":[1,2,3]`, `[["a[3]"],["a[2].b"],["a.b"]]`, `{"a":[1,2,3]}`},
		{`"a":[1]`, `[["a[3].b",1]]`, `{"a":[1,null,null,{"b":1}]}`},
		{`"a":[1]`, `[["a[65]",2]]`, `{"a":[1,` + pad(64) + `2]}`},
		{`"a":[1]`, `[["a[66]",2]]`, `{"a":[1]}`},
		{``, `[["a[64]",2]]`, `{"a":[` + pad(64) + `2]}`},
		{``, `[["a[65]",2],["b[0].c[65].d",2],["c",3]]`, `{"c":3}`},
		{`"a":[1]`, `[["a[66].b",2],["a[1].b[65]",2]]`, `{"a":[1]}`},
		// Order: a later ancestor erases, a later descendant lands inside.
		{`"a":{"b":1}`, `[["a.b",2],["a",{"c":3}]]`, `{"a":{"c":3}}`},
		{`"a":{"b":1}`, `[["a",{"c":3}],["a.b",2]]`, `{"a":{"b":2,"c":3}}`},
		{`"nameSuffix":1`, `[["name",2]]`, `{"name":2,"nameSuffix":1}`},
		// Names.
		{``, `[["[\"a.b\"]['c d']",1]]`, `{"a.b":{"c d":1}}`},
		{``, `[["😀",1],["\uffff",2],["é",3],["\u0001\"\\",4]]`, `{"\u0001\"\\":4,"é":3,"😀":1,"` + "\uffff" + `":2}`},
		{`"a":{"id":1}`, `[["a.id",2],["a.type",3]]`, `{"a":{"id":2,"type":3}}`},
		// Roots.
		{`"a":1`, `[[""]]`, `none`},
		{`"a":1`, `[[""],["a",1]]`, `none`},
		{`"a":1`, `[["",{"type":"Deleted"}],["a",1]]`, `none`},
	} {
		s := fold.NewState(group, subject)
		s.Apply(1, false, root(doc(t, c.before)))
		s.Apply(2, false, changes(t, c.changes))
		if got := members(t, s.JSON()); got != c.want {
			t.Errorf("{%s} with %s is\n%s, want\n%s", c.before, c.changes, got, c.want)
		}
	}
}

func TestLife(t *testing.T) {
	s := fold.NewState(group, subject)
	want := func(exists, deleted bool, modified int64, typ, json string) {
		t.Helper()
		if s.Exists() != exists || s.Deleted() != deleted || s.Modified() != modified || s.Type() != typ {
			t.Errorf("exists %v, deleted %v, modified %d, type %q", s.Exists(), s.Deleted(), s.Modified(), s.Type())
		}
		if string(s.JSON()) != json {
			t.Errorf("it is %s, want %s", s.JSON(), json)
		}
		again, err := fold.Restore(group, subject, s.JSON(), s.Deleted(), s.Modified())
		if err != nil || !bytes.Equal(again.JSON(), s.JSON()) || again.Type() != typ {
			t.Errorf("restored it is %v, %v", again, err)
		}
	}
	want(false, false, 0, "", "")
	s.Apply(10, false, changes(t, `[["a",1]]`)) // nothing to set it in
	want(false, false, 10, "", "")
	value := doc(t, `"a":1,"modified":"mine","signer":"me","signature":"mine too"`)
	s.Apply(11, false, root(value))
	const with = `{"a":1,"group":"00mwrj0xzzgroup0000000001","id":"00mwrj0xzzsubject00000001","modified":%d,"type":%q}`
	want(true, false, 11, "T", fmt.Sprintf(with, 11, "T"))
	s.Apply(12, false, nil)
	want(true, false, 12, "T", fmt.Sprintf(with, 12, "T"))
	s.Apply(12, true, changes(t, `[["a",5]]`)) // the rest is ignored
	want(false, true, 12, "", "")
	s.Apply(13, false, changes(t, `[["a",5]]`))
	want(false, true, 13, "", "")
	s.Apply(14, false, root(bytes.Replace(doc(t, `"a":1`), []byte(`"T"`), []byte(`"U"`), 1)))
	want(true, false, 14, "U", fmt.Sprintf(with, 14, "U"))
	s.Apply(15, false, append(changes(t, `[[""]]`), root(doc(t, `"a":1`))...))
	want(true, false, 15, "T", fmt.Sprintf(with, 15, "T"))
	s.Apply(16, false, changes(t, `[["",{"type":"Deleted","id":"any"}]]`))
	want(false, true, 16, "", "")
}

// A change that makes the document too large has no effect but on modified,
// whatever it does.
func TestSizeLimit(t *testing.T) {
	const ms = 1_700_000_000_000
	s := fold.NewState(group, subject)
	s.Apply(ms, false, root(doc(t, `"a":{"b":[1]},"text":""`)))
	room := fold.MaxDocument - len(s.JSON())
	text := func(n int) string { return `"` + strings.Repeat("x", n) + `"` }
	fits := []fold.Change{{Path: "text", Set: true, Value: []byte(text(room))}}
	s.Apply(ms+1, false, fits)
	full := s.JSON()
	if len(full) != fold.MaxDocument {
		t.Fatalf("the document has %d bytes, want %d", len(full), fold.MaxDocument)
	}
	for name, cs := range map[string][]fold.Change{
		"one byte more":       {{Path: "text", Set: true, Value: []byte(text(room + 1))}},
		"a new root":          root(doc(t, `"text":`+text(fold.MaxDocument))),
		"a deletion before":   append([]fold.Change{{}}, root(doc(t, `"text":`+text(fold.MaxDocument)))...),
		"many places":         changes(t, `[["a.b.3.c",1],["a.b[0]"],["x.y.z",1],["a"],["text"],["a.q",2],["b",3],["text",`+text(room+1)+`]]`),
		"a longer name":       changes(t, `[["bb",1]]`),
		"an array that grows": changes(t, `[["a.b[1]",1]]`),
	} {
		s.Apply(ms+2, false, cs)
		if want := bytes.Replace(full, []byte(fmt.Sprint(ms+1)), []byte(fmt.Sprint(ms+2)), 1); !bytes.Equal(s.JSON(), want) || s.Modified() != ms+2 {
			t.Errorf("%s had an effect", name)
		}
	}
	// In between it may be too large.
	s.Apply(ms+3, false, changes(t, `[["big",`+text(room)+`],["text"],["a"]]`))
	if got := members(t, s.JSON()); got != `{"big":`+text(room)+`}` {
		t.Errorf("it has %d bytes", len(got))
	}
	if _, err := fold.Diff(group, subject, nil, doc(t, `"text":`+text(fold.MaxDocument-100))); !errors.Is(err, fold.ErrChanges) {
		t.Errorf("Diff to a document that is too large: %v", err)
	}
}

// TestDepth builds the deepest document from two sound changes: strict readers must take it.
func TestDepth(t *testing.T) {
	path := strings.Repeat("a.", 19) + "a"
	deep := []fold.Change{{Path: path, Set: true, Value: []byte(strings.Repeat("[", 44) + `"]["` + strings.Repeat("]", 44))}}
	if err := fold.CheckChanges(group, subject, deep); err != nil {
		t.Fatal(err)
	}
	s := fold.NewState(group, subject)
	s.Apply(1_700_000_000_000, false, root(doc(t, `"b":1`)))
	s.Apply(1_700_000_000_001, false, deep)
	if err := peercrypto.CheckCanonical(s.JSON()); err != nil {
		t.Error(err)
	}
}

func TestCheckChanges(t *testing.T) {
	value := func(id, group, typ string) []fold.Change {
		return root(fmt.Appendf(nil, `{"group":%q,"id":%q,"type":%s}`, group, id, typ))
	}
	many := make([]fold.Change, fold.MaxChanges+1)
	for name, cs := range map[string][]fold.Change{
		"too many":            many,
		"a bad path":          {{Path: "a."}},
		"too deep":            {{Path: strings.Repeat("a.", 20) + "a", Set: true, Value: []byte(strings.Repeat("[", 44) + strings.Repeat("]", 44))}},
		"a reserved path":     {{Path: "id", Set: true, Value: []byte("1")}},
		"a text":              root([]byte(`"text"`)),
		"an array":            root([]byte(`[]`)),
		"null":                root([]byte(`null`)),
		"no members":          root([]byte(`{}`)),
		"another id":          value("00mwrj0xzzsubject00000002", string(group), `"T"`),
		"another group":       value(string(subject), "00mwrj0xzzgroup0000000002", `"T"`),
		"an empty type":       value(string(subject), string(group), `""`),
		"a long type":         value(string(subject), string(group), `"`+strings.Repeat("x", 65)+`"`),
		"a number as type":    value(string(subject), string(group), `5`),
		"User":                value(string(subject), string(group), `"User"`),
		"Group":               value(string(subject), string(group), `"Group"`),
		"KeyEvent":            value(string(subject), string(group), `"KeyEvent"`),
		"Index":               value(string(subject), string(group), `"Index"`),
		"User in escapes":     value(string(subject), string(group), `"\u0055ser"`),
		"set without a value": {{Path: "a", Set: true}},
		"a value without set": {{Path: "a", Value: []byte("1")}},
	} {
		if err := fold.CheckChanges(group, subject, cs); !errors.Is(err, fold.ErrChanges) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, cs := range map[string][]fold.Change{
		"none":        nil,
		"many":        many[:fold.MaxChanges],
		"a long type": value(string(subject), string(group), `"`+strings.Repeat("x", 64)+`"`),
		"deleted":     root([]byte(`{"type":"Deleted"}`)),
	} {
		if err := fold.CheckChanges(group, subject, cs); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestChangeJSON(t *testing.T) {
	for text, want := range map[string]string{
		`["a"]`:                      `["a"]`,
		` [ "a.b" , {"b":1,"a":2} ]`: `["a.b",{"a":2,"b":1}]`,
		`["",null]`:                  `["",null]`,
		`["\u00e9\n\"",1.0]`:         `["é\n\"",1]`,
	} {
		var c fold.Change
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		b, err := c.MarshalJSON()
		if err != nil || string(b) != want {
			t.Errorf("%s is %s, %v", text, b, err)
		}
		list, err := fold.ParseChanges([]byte("[" + want + "," + want + "]"))
		if err != nil || len(list) != 2 || list[1].Path != c.Path || list[1].Set != c.Set || !bytes.Equal(list[1].Value, c.Value) {
			t.Errorf("%s in a list is %v, %v", want, list, err)
		}
	}
	for _, text := range []string{`[]`, `[1]`, `["a",1,2]`, `"a"`, `{}`, `null`, `[null]`, `["a",{"__proto__":1}]`, `["a",1e400]`, `["a",{"b":1,"b":2}]`, `[["a"]]`} {
		var c fold.Change
		if err := c.UnmarshalJSON([]byte(text)); err == nil {
			t.Errorf("%s was taken", text)
		}
		if _, err := fold.ParseChanges([]byte("[" + text + "]")); err == nil && !strings.Contains(text, ":") && !strings.Contains(text, "e400") {
			t.Errorf("%s was taken in a list", text)
		}
	}
	for _, text := range []string{``, `1`, `[`, `]`, `[[`, `[["a"]`, `["a"]]`, `[["a"],]]`, `[,]`, `{"a":1}`} {
		if _, err := fold.ParseChanges([]byte(text)); !errors.Is(err, fold.ErrChanges) {
			t.Errorf("the list %s: %v", text, err)
		}
	}
	if _, err := (fold.Change{Set: true}).MarshalJSON(); err == nil {
		t.Error("a change without its value was encoded")
	}
}

// What peerstack does with paths, where we do the same.
func TestPeerstackVectors(t *testing.T) {
	b, err := os.ReadFile("testdata/peerstack-paths.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		GetChanges []struct {
			From, To, Applied, Changes json.RawMessage
			RoundTrips                 bool
		}
		ApplyChanges []struct{ Obj, Changes, Result json.RawMessage }
	}
	if err := json.Unmarshal(b, &vectors); err != nil {
		t.Fatal(err)
	}
	inside := func(object json.RawMessage) []byte {
		return doc(t, strings.TrimSuffix(strings.TrimPrefix(string(object), "{"), "}"))
	}
	canonical := func(raw json.RawMessage) string {
		b, err := peercrypto.Canonicalize(raw)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, v := range vectors.GetChanges {
		// peerstack takes a whole path for a name if there is a member of that name.
		whole := strings.Contains(string(v.From), `"k.d"`) || strings.Contains(string(v.From), `"b[0]"`)
		s := fold.NewState(group, subject)
		s.Apply(1, false, root(inside(v.From)))
		before := s.JSON()
		s.Apply(2, false, changes(t, string(v.Changes)))
		if got := members(t, s.JSON()); !whole && got != canonical(v.Applied) {
			t.Errorf("%s with %s is %s, want %s", v.From, v.Changes, got, v.Applied)
		}
		cs, err := fold.Diff(group, subject, before, inside(v.To))
		if err != nil {
			t.Fatal(err)
		}
		if v.RoundTrips && !whole {
			if b, err := json.Marshal(cs); err != nil || string(b) != canonical(v.Changes) {
				t.Errorf("from %s to %s is %s, want %s", v.From, v.To, b, v.Changes)
			}
		}
		s, err = fold.Restore(group, subject, before, false, 1)
		if err != nil {
			t.Fatal(err)
		}
		s.Apply(3, false, cs)
		if got := members(t, s.JSON()); got != canonical(v.To) {
			t.Errorf("from %s with our changes is %s, want %s", v.From, got, v.To)
		}
	}
	for _, v := range vectors.ApplyChanges {
		if strings.Contains(string(v.Changes), `[""`) {
			continue // roots are different: there a document without content is {}
		}
		s := fold.NewState(group, subject)
		s.Apply(1, false, root(inside(v.Obj)))
		s.Apply(2, false, changes(t, string(v.Changes)))
		if got := members(t, s.JSON()); got != canonical(v.Result) {
			t.Errorf("%s with %s is %s, want %s", v.Obj, v.Changes, got, v.Result)
		}
	}
}

func TestRestoreRefuses(t *testing.T) {
	for _, text := range []string{``, `{`, `[]`, `{"id":1}`, `{"a"}`, `{"a":}`, string(doc(t, ``)) + "}", strings.Replace(string(doc(t, ``)), "T", "User", 1)} {
		if _, err := fold.Restore(group, subject, []byte(text), false, 1); err == nil {
			t.Errorf("%s was restored", text)
		}
	}
	if _, err := fold.Restore(group, subject, doc(t, ``), true, 1); err == nil {
		t.Error("a deleted document with content was restored")
	}
}
