package fold_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/fold"
)

// generator makes small documents and changes that meet each other often.
type generator struct {
	*rand.Rand
	t testing.TB
}

func (g generator) value(depth int) any {
	switch n := g.IntN(9); {
	case n < 2 && depth > 0:
		m := map[string]any{}
		for range g.IntN(4) {
			m[g.name()] = g.value(depth - 1)
		}
		return m
	case n < 4 && depth > 0:
		a := []any{}
		for range g.IntN(5) {
			a = append(a, g.value(depth-1))
		}
		return a
	case n == 5:
		return nil
	case n == 6:
		return g.IntN(2) == 0
	case n == 7:
		return float64(g.IntN(5)) * 1.5e-7
	}
	return strings.Repeat("é\"\n", g.IntN(3))
}

func (g generator) name() string {
	names := []string{"a", "b", "c", "0", "1", "2", "01", "x y", "k.d", "b[0]", "q'", `q"`, `s\`, "", "id", "type", "😀", "\uffff", strings.Repeat("n", 257)}
	return names[min(g.IntN(len(names)), g.IntN(len(names)))]
}

func (g generator) json(v any) []byte {
	b, err := peercrypto.MarshalCanonical(v)
	if err != nil {
		g.t.Fatal(err)
	}
	return b
}

func (g generator) document() []byte {
	m := map[string]any{}
	for range g.IntN(5) {
		m[g.name()] = g.value(3)
	}
	m["id"], m["group"], m["type"] = subject, group, fmt.Sprintf("T%d", max(g.IntN(9)-7, 0))
	return g.json(m)
}

func (g generator) path() string {
	var p strings.Builder
	p.WriteString([]string{"a", "b", "c", "0", `["k.d"]`}[g.IntN(5)])
	for range g.IntN(4) {
		p.WriteString([]string{".a", ".b", ".0", "[1]", ".2", "[70]", ".01", "['k.d']"}[g.IntN(8)])
	}
	return p.String()
}

func (g generator) changes() []fold.Change {
	var out []fold.Change
	for range g.IntN(6) {
		c := fold.Change{Path: g.path()}
		switch n := g.IntN(30); {
		case n == 0:
			c.Path = ""
		case n < 3:
			c = fold.Change{Set: true, Value: g.document()}
		case n < 24:
			c.Set, c.Value = true, g.json(g.value(2))
		}
		out = append(out, c)
	}
	if err := fold.CheckChanges(group, subject, out); err != nil {
		g.t.Fatal(err)
	}
	return out
}

// The fold agrees with the specification taken literally, after each change and
// when it is stored and restored in between.
func TestFoldAgreesWithThePlainOne(t *testing.T) {
	seed := rand.Uint64()
	g := generator{rand.New(rand.NewPCG(seed, 0)), t}
	for range 1500 {
		s, p := fold.NewState(group, subject), &plain{t: t}
		for i := range 1 + g.IntN(8) {
			modified, deleted, cs := int64(i), g.IntN(20) == 0, g.changes()
			if i == 0 {
				cs = append(root(g.document()), cs...)
			}
			if g.IntN(400) == 0 {
				large := root(g.json(map[string]any{"id": subject, "group": group, "type": "T", "a": strings.Repeat("x", fold.MaxDocument-g.IntN(300))}))
				cs = slices.Concat(cs, large, g.changes())
			}
			s.Apply(modified, deleted, cs)
			p.apply(modified, deleted, cs)
			if !bytes.Equal(s.JSON(), p.json()) || s.Deleted() != p.deleted || s.Exists() != (p.doc != nil) || s.Modified() != p.modified {
				t.Fatalf("seed %d: after %s\n%.2000s, want\n%.2000s", seed, g.show(cs), s.JSON(), p.json())
			}
			if g.IntN(2) == 0 {
				restored, err := fold.Restore(group, subject, s.JSON(), s.Deleted(), s.Modified())
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				s = restored
			}
		}
	}
}

func (g generator) show(cs []fold.Change) string {
	b, err := json.Marshal(cs)
	if err != nil {
		g.t.Fatal(err)
	}
	return string(b[:min(len(b), 2000)])
}

// A change as the log has it.
type logged struct {
	modified int64
	hash     peercrypto.Hash
	deleted  bool
	changes  []fold.Change
}

func (a logged) compare(b logged) int {
	if a.modified != b.modified {
		return int(a.modified - b.modified)
	}
	return a.hash.Compare(b.hash)
}

// A replica folds a change in if it is the last, and all of them anew if not.
type replica struct {
	log   []logged
	state *fold.State
}

func (r *replica) receive(c logged) {
	at, known := slices.BinarySearchFunc(r.log, c, logged.compare)
	if known {
		return
	}
	r.log = slices.Insert(r.log, at, c)
	if at < len(r.log)-1 {
		r.state, at = fold.NewState(group, subject), 0
	}
	for _, c := range r.log[at:] {
		r.state.Apply(c.modified, c.deleted, c.changes)
	}
}

// Whatever the order in which a set of changes arrives, and how often, the
// document is the same.
func TestDeliveryOrders(t *testing.T) {
	seed := rand.Uint64()
	g := generator{rand.New(rand.NewPCG(seed, 0)), t}
	for range 300 {
		var set []logged
		for i := range 2 + g.IntN(7) {
			c := logged{int64(g.IntN(4)), peercrypto.Sum([]byte{byte(i), byte(g.IntN(256))}), g.IntN(15) == 0, g.changes()}
			if g.IntN(3) == 0 {
				c.changes = append(root(g.document()), c.changes...)
			}
			set = append(set, c)
		}
		var want []byte
		for round := range 6 {
			r := replica{state: fold.NewState(group, subject)}
			g.Shuffle(len(set), func(i, j int) { set[i], set[j] = set[j], set[i] })
			for _, c := range slices.Concat(set, set[:g.IntN(len(set))]) {
				r.receive(c)
			}
			got := fmt.Appendf(nil, "%v %d %s", r.state.Deleted(), r.state.Modified(), r.state.JSON())
			if round == 0 {
				want = got
			} else if !bytes.Equal(got, want) {
				t.Fatalf("seed %d:\n%s, and in another order\n%s", seed, want, got)
			}
		}
	}
}

// Folding the difference between two documents into the one gives the other.
func TestDiffProperty(t *testing.T) {
	seed := rand.Uint64()
	g := generator{rand.New(rand.NewPCG(seed, 0)), t}
	for range 3000 {
		s := fold.NewState(group, subject)
		s.Apply(1, false, root(g.document()))
		if g.IntN(10) == 0 {
			s.Apply(1, true, nil)
		}
		var to []byte
		switch g.IntN(3) {
		case 0:
			to = g.document()
		case 1: // close to it
			other, err := fold.Restore(group, subject, s.JSON(), s.Deleted(), 1)
			if err != nil {
				t.Fatal(err)
			}
			other.Apply(1, false, g.changes())
			to = other.JSON()
		}
		checkDiff(t, fmt.Sprintf("seed %d", seed), s, to)
	}
}

func checkDiff(t testing.TB, what string, s *fold.State, to []byte) []fold.Change {
	t.Helper()
	from := s.JSON()
	cs, err := fold.Diff(group, subject, from, to)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if err := fold.CheckChanges(group, subject, cs); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	s.Apply(2, false, cs)
	var want string
	if to == nil {
		want = "none"
	} else if want = members(t, to); typeOf(t, to) != s.Type() {
		t.Fatalf("%s: from %s to %s: type %s", what, from, to, s.Type())
	}
	if got := members(t, s.JSON()); got != want {
		b, _ := json.Marshal(cs)
		t.Fatalf("%s: from %s with %s:\n%s, want\n%s", what, from, b, got, want)
	}
	if again, err := fold.Diff(group, subject, s.JSON(), to); err != nil || len(again) != 0 {
		t.Fatalf("%s: the difference of equals: %v, %v", what, again, err)
	}
	return cs
}

func typeOf(t testing.TB, document []byte) string {
	t.Helper()
	var d struct{ Type string }
	if err := json.Unmarshal(document, &d); err != nil {
		t.Fatal(err)
	}
	return d.Type
}

func TestDiff(t *testing.T) {
	wide := func(n int, v string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"k%d":%s`, i, v)
		}
		return b.String()[1:]
	}
	deep := func(v string) string { return `"a":` + strings.Repeat(`{"a":`, 40) + v + strings.Repeat("}", 40) }
	for _, c := range []struct{ from, to, want string }{
		{`"a":1,"b":2`, `"b":3,"c":4`, `[["a"],["b",3],["c",4]]`},
		{`"a":{"b":{"c":1,"d":2}}`, `"a":{"b":{"c":1,"d":3}}`, `[["a.b.d",3]]`},
		{`"a":{"b c":1}`, `"a":{"b c":2}`, `[["a.b c",2]]`},
		{`"a":{"k.d":1,"x":1}`, `"a":{"k.d":2,"x":1}`, `[["a",{"k.d":2,"x":1}]]`},
		{`"a":{"k.d":1,"x":1}`, `"a":{"k.d":1,"x":2}`, `[["a.x",2]]`},
		{`"a":{"":1}`, `"a":{"":2}`, `[["a",{"":2}]]`},
		{`"a":{"q\"":{"b":1}}`, `"a":{"q\"":{"b":2}}`, `[["a",{"q\"":{"b":2}}]]`},
		{`"a":[1,2,3]`, `"a":[1,2]`, `[["a",[1,2]]]`},
		{`"a":[{"b":1}]`, `"a":[{"b":2}]`, `[["a",[{"b":2}]]]`},
		{`"a":["long text","x"]`, `"a":["long text","y"]`, `[["a.1","y"]]`},
		{`"a":[1,2,3,4]`, `"a":[5,6,7,8]`, `[["a",[5,6,7,8]]]`},
		{`"a":[1]`, `"a":{"0":1}`, `[["a",{"0":1}]]`},
		{`"modified":5,"signer":"x"`, `"modified":6,"signature":"y"`, `[]`},
		{deep("1"), deep("2"), ``},
		{wide(fold.MaxChanges+1, "1"), wide(fold.MaxChanges+1, "2"), ``},
		{wide(6000, `"x"`), wide(6000, `"y"`), ``},
	} {
		s := fold.NewState(group, subject)
		s.Apply(1, false, root(doc(t, c.from)))
		to := doc(t, c.to)
		cs, err := fold.Diff(group, subject, s.JSON(), to)
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(cs)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Replace(string(b), "null", "[]", 1); c.want != "" && got != c.want {
			t.Errorf("from %s to %s: %s, want %s", c.from, c.to, b, c.want)
		}
		if clean, err := peercrypto.RemoveMember(to, "signer", "signature"); err == nil {
			checkDiff(t, c.want, s, clean)
		}
	}
	for name, to := range map[string][]byte{
		"another id":      []byte(`{"id":"x","group":"` + string(group) + `","type":"T"}`),
		"a reserved type": []byte(strings.Replace(string(doc(t, ``)), `"T"`, `"User"`, 1)),
		"no JSON":         []byte(`{`),
		"a bad name":      []byte(strings.Replace(string(doc(t, ``)), `{`, `{"__proto__":1,`, 1)),
	} {
		if _, err := fold.Diff(group, subject, nil, to); err == nil {
			t.Errorf("a document with %s was taken", name)
		}
	}
	if cs, err := fold.Diff(group, subject, nil, nil); err != nil || cs != nil {
		t.Errorf("from nothing to nothing: %v, %v", cs, err)
	}
}

func FuzzApply(f *testing.F) {
	f.Add([]byte(`[["a.b[3]",{"c":[1,2]}],["a.b"],["",{"type":"Deleted"}]]`), []byte(`[["a[0].c",1]]`))
	f.Add([]byte(`[["a",1],["a.b",2],["a.0",3],["é.😀",null]]`), []byte(`[["a"],[""],["x",1]]`))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		s, p := fold.NewState(group, subject), &plain{t: t}
		before := root(doc(t, `"a":{"b":[1,{"c":2}]}`))
		s.Apply(1, false, before)
		p.apply(1, false, before)
		for i, text := range [][]byte{first, second} {
			canonical, err := peercrypto.Canonicalize(text)
			if err != nil {
				_, _ = fold.ParseChanges(text) // must not panic
				return
			}
			cs, err := fold.ParseChanges(canonical)
			if err != nil || fold.CheckChanges(group, subject, cs) != nil {
				return
			}
			s.Apply(int64(i+2), false, cs)
			if deepest(canonical) > 30 {
				return // with a path on top it may be too deep for the strict reader, by which the test encodes
			}
			p.apply(int64(i+2), false, cs)
			if !bytes.Equal(s.JSON(), p.json()) {
				t.Fatalf("%s, want %s", s.JSON(), p.json())
			}
			if s.Exists() {
				checkOwned(t, s.JSON())
			}
		}
	})
}

func deepest(canonical []byte) int {
	deepest, depth := 0, 0
	for _, c := range canonical {
		switch c {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		deepest = max(deepest, depth)
	}
	return deepest
}

// checkOwned: no change reaches what identifies a document.
func checkOwned(t *testing.T, document []byte) {
	t.Helper()
	if err := peercrypto.CheckCanonical(document); err != nil {
		t.Fatalf("%s: %v", document, err)
	}
	var m map[string]any
	if err := json.Unmarshal(document, &m); err != nil {
		t.Fatal(err)
	}
	if m["id"] != string(subject) || m["group"] != string(group) || fold.CheckType(m["type"].(string)) != nil || m["signer"] != nil || m["signature"] != nil {
		t.Fatalf("%s", document)
	}
}

func FuzzDiff(f *testing.F) {
	f.Add([]byte(`{"a":[1,2,{"b":1}],"c.d":1}`), []byte(`{"a":[1],"c.d":{"e":1}}`))
	f.Add([]byte(`{"a":{"b":{"c":1}}}`), []byte(`{"a":{"b":{"c":2}},"":1}`))
	f.Fuzz(func(t *testing.T, from, to []byte) {
		states := [2][]byte{}
		for i, text := range [][]byte{from, to} {
			canonical, err := peercrypto.Canonicalize(text)
			if err != nil || canonical[0] != '{' {
				return
			}
			if canonical, err = peercrypto.RemoveMember(canonical, "id", "group", "type", "modified", "signer", "signature"); err != nil {
				t.Fatal(err)
			}
			states[i] = doc(t, strings.TrimSuffix(string(canonical[1:]), "}"))
		}
		s := fold.NewState(group, subject)
		s.Apply(1, false, root(states[0]))
		if s.Exists() {
			checkDiff(t, "", s, states[1])
		}
	})
}

func BenchmarkApply(b *testing.B) {
	value := doc(b, `"title":"a title","text":"`+strings.Repeat("text ", 80)+`","tags":["a","b"]`)
	set := changes(b, `[["title","another title"],["tags.2","c"]]`)
	b.Run("Root", func(b *testing.B) {
		for range b.N {
			s := fold.NewState(group, subject)
			s.Apply(1_700_000_000_000, false, root(value))
			_ = s.JSON()
		}
	})
	b.Run("RestoreAndSet", func(b *testing.B) {
		s := fold.NewState(group, subject)
		s.Apply(1_700_000_000_000, false, root(value))
		stored := s.JSON()
		for range b.N {
			s, err := fold.Restore(group, subject, stored, false, 1_700_000_000_000)
			if err != nil {
				b.Fatal(err)
			}
			s.Apply(1_700_000_000_001, false, set)
			_ = s.JSON()
		}
	})
}
