package entry_test

import (
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

var update = flag.Bool("update", false, "rewrite testdata/golden.json")

const goldenFile = "testdata/golden.json"

// golden returns every byte string of this package that is hashed or signed.
func golden(t *testing.T) map[string]string {
	t.Helper()
	create := makeCreate(t)
	out := map[string]string{"create": string(create.Raw), "hash of create": create.Hash.String()}
	for name, op := range someOps(t, create) {
		e, err := entry.SignOperation(owner, opDraft(create, op))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out[name] = string(e.Raw)
		out["hash of "+name] = e.Hash.String()
	}
	for name, d := range someData(create) {
		e, err := entry.SignData(owner, d)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out["data "+name] = string(e.Raw)
		out["hash of data "+name] = e.Hash.String()
	}
	claim := makeClaim(t, create)
	raw, err := claim.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	out["claim"] = string(raw)
	out["hash of claim"] = claim.Hash().String()
	out["invitation"] = goldenInvitation(create).Link()
	return out
}

func goldenInvitation(create *entry.Entry) entry.Invitation {
	return entry.Invitation{
		Group: create.Group, Create: create.Hash, OwnerGenesis: ownerBody.Hash(), Secret: secret,
		Servers: []string{"wss://signal.example.org", "ws://localhost:8080/ws"},
		Expires: start + 86_400_000, Role: entry.Write, Name: "crew",
	}
}

func TestGolden(t *testing.T) {
	got := golden(t)
	if *update {
		raw, err := json.MarshalIndent(got, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(goldenFile, append(raw, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]string
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s is\n%s\nwant\n%s", name, got[name], want[name])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d vectors, want %d", len(got), len(want))
	}
}

// TestRoundTrip decodes what was signed: the values, the hash and the signature
// are those of the draft.
func TestRoundTrip(t *testing.T) {
	create := makeCreate(t)
	for name, op := range someOps(t, create) {
		d := opDraft(create, op)
		signed, err := entry.SignOperation(owner, d)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		e := checkRaw(t, name, signed.Raw)
		if e.Kind != entry.Operation || e.Op.Kind() != op.Kind() || e.Seq != d.Seq || e.Prev != d.Prev || e.Dev != d.Dev || e.As != d.As ||
			!reflect.DeepEqual(e.Deps, d.Deps) || e.Modified != d.Modified || e.Signer != d.Signer || e.Subject != d.Group {
			t.Errorf("%s: %+v", name, e)
		}
		if len(entry.Frontier(op)) > 0 && !reflect.DeepEqual(e.Op, op) {
			t.Errorf("%s: %+v, want %+v", name, e.Op, op)
		}
	}
	for name, d := range someData(create) {
		signed, err := entry.SignData(owner, d)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		e := checkRaw(t, name, signed.Raw)
		if e.Kind != entry.Data || e.Op != nil || e.Subject != d.Subject || e.SubjectDeleted != d.SubjectDeleted ||
			len(e.Changes) != len(d.Changes) || e.Prev != d.Prev || e.Dev != d.Dev {
			t.Errorf("%s: %+v", name, e)
		}
		for i := range e.Changes {
			if !reflect.DeepEqual(e.Changes[i], d.Changes[i]) {
				t.Errorf("%s: change %d is %+v", name, i, e.Changes[i])
			}
		}
	}
}

func checkRaw(t *testing.T, name string, raw []byte) *entry.Entry {
	t.Helper()
	e, err := entry.Decode(raw)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if h, err := peercrypto.SumObject(raw); err != nil || h != e.Hash {
		t.Errorf("%s: the hash is not that of the object", name)
	}
	if !e.VerifySignature(owner.Public()) || e.VerifySignature(joiner.Public()) {
		t.Errorf("%s: the signature is not the owner's", name)
	}
	return e
}
