package entry_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/fold"
)

// change replaces a part of an entry's text; the part must be there.
func change(t *testing.T, raw []byte, from, to string) []byte {
	t.Helper()
	if !bytes.Contains(raw, []byte(from)) {
		t.Fatalf("%s is not in %s", from, raw)
	}
	out, err := peercrypto.Canonicalize(bytes.Replace(raw, []byte(from), []byte(to), 1))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func signOp(t testing.TB, create *entry.Entry, op entry.Op) []byte {
	t.Helper()
	e, err := entry.SignOperation(owner, opDraft(create, op))
	if err != nil {
		t.Fatal(err)
	}
	return e.Raw
}

// TestDecodeRefusesOtherShapes takes a sound entry and changes one thing.
func TestDecodeRefusesOtherShapes(t *testing.T) {
	create := makeCreate(t)
	ops := someOps(t, create)
	d, err := entry.SignData(owner, someData(create)["set"])
	if err != nil {
		t.Fatal(err)
	}
	one := func(e *entry.Entry) string { return `"group":"` + string(e.Group) + `"` }
	for _, c := range []struct{ name, in, from, to string }{
		{"unknown member", "data", `"changes":`, `"color":1,"changes":`},
		{"type of a document", "data", `"changes":`, `"type":"Note","changes":`},
		{"unknown member of auth", "data", `"auth":{`, `"auth":{"x":1,`},
		{"null for a member", "data", `"seq":1`, `"seq":null`},
		{"null for an optional member", "data", `"subject":`, `"subjectDeleted":null,"subject":`},
		{"not deleted", "data", `"subject":`, `"subjectDeleted":false,"subject":`},
		{"no changes", "data", `"changes":`, `"chances":`},
		{"changes null", "merge", `"changes":[]`, `"changes":null`},
		{"an operation with changes", "merge", `"changes":[]`, `"changes":[["a"]]`},
		{"data with deps", "data", `"auth":{`, `"auth":{"deps":[],`},
		{"data with version", "data", `"seq":1`, `"seq":1,"v":2`},
		{"no version", "merge", `,"v":2`, ``},
		{"both dev and prev", "data", `"prev":`, `"dev":"` + string(deviceID) + `","prev":`},
		{"dev at a later seq", "data", `"prev":"` + hashOf(0xa0).String() + `"`, `"dev":"` + string(deviceID) + `"`},
		{"seq of 1.5", "data", `"seq":1`, `"seq":1.5`},
		{"negative seq", "data", `"seq":1`, `"seq":-1`},
		{"seq too high", "merge", `"seq":4`, `"seq":100000`},
		{"modified as text", "data", fmt.Sprintf(`"modified":%d`, start+20), `"modified":"5"`},
		{"modified too old", "data", fmt.Sprintf(`"modified":%d`, start+20), `"modified":1420070399999`},
		{"modified too far", "data", fmt.Sprintf(`"modified":%d`, start+20), `"modified":9007199254740992`},
		{"no signature", "data", `"signature":"` + d.Signature.String() + `",`, ``},
		{"short signature", "data", d.Signature.String(), d.Signature.String()[4:]},
		{"data about the group", "data", `"subject":"` + string(subject), `"subject":"` + string(create.Group)},
		{"an operation about a document", "merge", `"subject":"` + string(create.Group), `"subject":"` + string(subject)},
		{"upper case id", "data", `"id":"00m`, `"id":"00M`},
		{"id of an escape", "data", one(create), `"group":"a\u0022b"`},
		{"no grant", "data", `"as":"` + create.Hash.String() + `"`, `"as":null`},
		{"zero grant", "data", create.Hash.String(), strings.Repeat("A", 43)},
		{"operation without grant", "merge", `"as":"` + create.Hash.String() + `"`, `"as":null`},
		{"unknown kind", "merge", `"kind":"merge"`, `"kind":"marge"`},
		{"kind null", "merge", `"kind":"merge"`, `"kind":null`},
		{"member of another kind", "merge", `"kind":"merge"`, `"kind":"merge","frontier":[]`},
		{"op null", "merge", `{"kind":"merge"}`, `null`},
		{"op a list", "merge", `{"kind":"merge"}`, `[]`},
		{"frontier null", "remove bare", `"frontier":[]`, `"frontier":null`},
		{"no frontier", "remove bare", `"frontier":[],`, ``},
		{"empty reason", "remove bare", `"kind":"remove"`, `"kind":"remove","reason":""`},
		{"control in reason", "remove", `left us`, `left\u001bus`},
		{"unknown role", "role", `"role":"read"`, `"role":"owner"`},
		{"claim without invite", "add claimed", `"invite":"` + hashOf(0x80).String() + `",`, ``},
		{"invite null", "add", `"kind":"add"`, `"invite":null,"kind":"add"`},
		{"claim of another role", "add claimed", `"kind":"add","role":"write"`, `"kind":"add","role":"read"`},
		{"no uses", "invite", `"uses":3`, `"uses":0`},
		{"too many uses", "invite", `"uses":3`, `"uses":1001`},
		{"expired at once", "invite", fmt.Sprint(start + 86_400_000), fmt.Sprint(start + 10)},
		{"open too long", "invite", fmt.Sprint(start + 86_400_000), fmt.Sprint(start + 10 + 30*86_400_000 + 1)},
		{"negative epoch", "rvkey", `"epoch":7`, `"epoch":-1`},
		{"other admission", "policy", `"admit":"admin"`, `"admit":"member"`},
		{"stock", "policy", `"stock":false`, `"stock":true`},
		{"empty name", "policy name", `"name":"renamed"`, `"name":""`},
		{"control in name", "policy name", `"name":"renamed"`, `"name":"a\u0000"`},
		{"C1 control in name", "policy name", `"name":"renamed"`, "\"name\":\"a\u009b\""},
		{"rekey of nothing", "rekey", `"events":[` + string(eventText(t, ops["rekey"])) + `]`, `"events":[]`},
		{"rekey of another", "rekey", `"signer":"` + string(create.Signer), `"signer":"` + string(joinerBody.ID())},
		{"event with two signatures of one", "rekey", `"sigs":[`, `"sigs":[` + sigText(ops["rekey"]) + `,`},
		{"event without a reason", "rekey", `"reason":"rotated",`, ``},
		{"event of no class", "rekey", `"by":"key","group"`, `"by":"chance","group"`},
		{"event that adds nothing", "rekey", `"op":"rotate"`, `"op":"addDevice"`},
		{"keys that do not follow", "add rotated", `:k1"`, `:k2"`},
		{"keys of another", "add rotated", `"userId":"` + string(joinerBody.ID()) + `"}]`, `"userId":"` + string(ownerBody.ID()) + `"}]`},
		{"nothing in policy", "policy name", `,"name":"renamed"`, ``},
		{"other create name", "create", `crew `, `crow `},
		{"other create dev", "create", string(deviceID), string(subject)},
		{"create later", "create", fmt.Sprintf(`"modified":%d`, start), fmt.Sprintf(`"modified":%d`, start+1)},
		{"create of another", "create", `"signer":"00m`, `"signer":"01m`},
		{"create with stock", "create", `"stock":false`, `"stock":true`},
	} {
		raw := d.Raw
		if c.in == "create" {
			raw = create.Raw
		} else if c.in != "data" {
			raw = signOp(t, create, ops[c.in])
		}
		_, err := entry.Decode(change(t, raw, c.from, c.to))
		var unsound *entry.UnsoundError
		if !errors.Is(err, entry.ErrUnsound) || !errors.As(err, &unsound) || unsound.Reason == "" {
			t.Errorf("%s: got %v", c.name, err)
		}
	}
}

func eventText(t *testing.T, op entry.Op) []byte {
	t.Helper()
	raw, err := op.(entry.Rekey).Events[0].Canonical()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func sigText(op entry.Op) string {
	s := op.(entry.Rekey).Events[0].Sigs[0]
	return fmt.Sprintf(`{"by":%q,"pub":%q,"sig":%q}`, s.By, s.Pub, s.Sig)
}

func TestDecodeRefusesOtherTexts(t *testing.T) {
	raw := makeCreate(t).Raw
	for name, text := range map[string][]byte{
		"empty": nil, "space": append([]byte(" "), raw...), "trailing": append(slices.Clone(raw), '\n'),
		"array": []byte("[]"), "number": []byte("1"), "object": []byte("{}"), "null": []byte("null"),
		"cut": raw[:len(raw)-1], "twice": append(slices.Clone(raw), raw...),
		"escaped": bytes.Replace(raw, []byte("crew"), []byte(`cr\u0065w`), 1),
		"double":  bytes.Replace(raw, []byte(`"changes":[]`), []byte(`"changes":[],"changes":[]`), 1),
	} {
		if _, err := entry.Decode(text); !errors.Is(err, entry.ErrUnsound) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := entry.Decode(make([]byte, entry.MaxSize+1)); !errors.Is(err, entry.ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}

func TestUnknownVersionsAreNotUnsound(t *testing.T) {
	create := makeCreate(t)
	merge := signOp(t, create, entry.Merge{})
	data, err := entry.SignData(owner, dataDraft(create))
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{
		"version 3":              change(t, merge, `"v":2`, `"v":3`),
		"version 3 with members": change(t, merge, `"v":2`, `"v":3,"new":{"x":[]}`),
		"version as text":        change(t, merge, `"v":2`, `"v":"2b"`),
		"version 3 of a kind":    change(t, change(t, merge, `"v":2`, `"v":3`), `"kind":"merge"`, `"kind":"split","x":1`),
		"data of version 3":      change(t, data.Raw, `"seq":1`, `"seq":1,"v":3`),
		"data of version 3, new": change(t, data.Raw, `"seq":1`, `"seq":1,"v":3,"x":1`),
	} {
		if _, err := entry.Decode(raw); !errors.Is(err, entry.ErrUnknownVersion) || errors.Is(err, entry.ErrUnsound) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestLimits(t *testing.T) {
	create := makeCreate(t)
	many := func(n int) []peercrypto.Hash {
		out := make([]peercrypto.Hash, n)
		for i := range out {
			out[i] = peercrypto.Sum(fmt.Append(nil, i))
		}
		slices.SortFunc(out, peercrypto.Hash.Compare)
		return out
	}
	sound := func(name string, want bool, d entry.OpDraft) {
		t.Helper()
		if _, err := entry.SignOperation(owner, d); (err == nil) != want || !want && !errors.Is(err, entry.ErrUnsound) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	withDeps := func(deps []peercrypto.Hash) entry.OpDraft {
		d := opDraft(create, entry.Merge{})
		d.Deps = deps
		return d
	}
	sound("most deps", true, withDeps(many(entry.MaxDeps)))
	sound("too many deps", false, withDeps(many(entry.MaxDeps+1)))
	sound("double deps", false, withDeps([]peercrypto.Hash{{1}, {1}}))
	sound("unsorted deps", false, withDeps([]peercrypto.Hash{{2}, {1}}))
	sound("zero dep", false, withDeps([]peercrypto.Hash{{}}))
	sound("longest frontier", true, opDraft(create, entry.Leave{Frontier: many(entry.MaxFrontier)}))
	sound("longer frontier", false, opDraft(create, entry.Leave{Frontier: many(entry.MaxFrontier + 1)}))
	sound("unsorted frontier", false, opDraft(create, entry.Adopt{Entries: []peercrypto.Hash{{2}, {1}}}))
	long := strings.Repeat("é", entry.MaxName/2)
	sound("longest name", true, opDraft(create, entry.Policy{Name: &long}))
	longer := long + "e"
	sound("longer name", false, opDraft(create, entry.Policy{Name: &longer}))
	sound("longest reason", true, opDraft(create, entry.Remove{Grant: hashOf(1), Reason: strings.Repeat("r", entry.MaxReason)}))
	sound("longer reason", false, opDraft(create, entry.Remove{Grant: hashOf(1), Reason: strings.Repeat("r", entry.MaxReason+1)}))
	latest := opDraft(create, entry.Merge{})
	latest.Modified, latest.Seq = entry.MaxModified, entry.MaxChain-1
	sound("latest", true, latest)

	if err := entry.CheckName("crew"); err != nil {
		t.Error(err)
	}
	if err := entry.CheckName("a\nb"); !errors.Is(err, entry.ErrUnsound) {
		t.Errorf("got %v", err)
	}
	d := dataDraft(create, set("a", `"`+strings.Repeat("x", entry.MaxSize)+`"`))
	if _, err := entry.SignData(owner, d); !errors.Is(err, entry.ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}

func TestUnsoundDataDrafts(t *testing.T) {
	create := makeCreate(t)
	for name, c := range map[string]fold.Change{
		"reserved member":  set("id", `"x"`),
		"bracket id":       set(`["id"]`, `"x"`),
		"prototype":        set("__proto__.x", `1`),
		"foreign root":     set("", `{"group":"`+string(create.Group)+`","id":"`+string(deviceID)+`","type":"Note"}`),
		"other group":      set("", `{"group":"`+string(subject)+`","id":"`+string(subject)+`","type":"Note"}`),
		"reserved type":    set("", `{"group":"`+string(create.Group)+`","id":"`+string(subject)+`","type":"Group"}`),
		"no value":         {Path: "a", Set: true},
		"not canonical":    set("a", `{"b":1, "a":2}`),
		"prototype inside": set("a", `{"constructor":1}`),
	} {
		if _, err := entry.SignData(owner, dataDraft(create, c)); err == nil {
			t.Errorf("%s was signed", name)
		}
	}
	if _, err := entry.SignData(peercrypto.SigningKey{}, dataDraft(create)); !errors.Is(err, peercrypto.ErrKey) {
		t.Errorf("got %v", err)
	}
	if _, err := entry.SignOperation(owner, entry.OpDraft{}); err == nil {
		t.Error("nothing was signed")
	}
}

func TestRoles(t *testing.T) {
	if !entry.Admin.AtLeast(entry.Write) || !entry.Write.AtLeast(entry.Write) || entry.Read.AtLeast(entry.Write) {
		t.Error("roles do not rise")
	}
	if entry.Role("owner").Valid() || entry.Admin.AtLeast("") || entry.Role("").AtLeast("") || !entry.Read.Valid() {
		t.Error("an unknown role is one")
	}
	if entry.Operation.String() != "operation" || entry.Data.String() != "data" || entry.Kind(9).String() != "kind 9" {
		t.Error("kinds have other names")
	}
}

func FuzzDecode(f *testing.F) {
	create := makeCreate(f)
	f.Add(create.Raw)
	for _, op := range someOps(f, create) {
		f.Add(signOp(f, create, op))
	}
	for _, d := range someData(create) {
		e, err := entry.SignData(owner, d)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(e.Raw)
	}
	f.Add([]byte(`{"auth":{"v":3}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := entry.Decode(raw)
		if err != nil {
			if !errors.Is(err, entry.ErrUnsound) && !errors.Is(err, entry.ErrUnknownVersion) && !errors.Is(err, entry.ErrTooLarge) {
				t.Errorf("unknown error %v", err)
			}
			return
		}
		if peercrypto.CheckCanonical(raw) != nil {
			t.Error("not canonical")
		}
		if h, err := peercrypto.SumObject(raw); err != nil || h != e.Hash {
			t.Error("the hash is not that of the object")
		}
		if (e.Kind == entry.Operation) != (e.Op != nil) || !bytes.Equal(e.Raw, raw) {
			t.Error("the kind does not fit")
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	create := makeCreate(b)
	d := dataDraft(create, set("", `{"body":"`+strings.Repeat("lorem ipsum ", 20)+`","group":"`+string(create.Group)+`","id":"`+
		string(subject)+`","tags":["a","b"],"title":"a note","type":"Note"}`))
	e, err := entry.SignData(owner, d)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(e.Raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := entry.Decode(e.Raw); err != nil {
			b.Fatal(err)
		}
	}
}
