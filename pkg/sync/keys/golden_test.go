package keys_test

import (
	"encoding/json"
	"flag"
	"os"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

var update = flag.Bool("update", false, "rewrite testdata/golden.json")

const goldenFile = "testdata/golden.json"

// golden returns every byte string of this package that is hashed, signed or compared.
func golden(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	s := genesis
	note := func(name string, e keys.Event, err error) {
		e, s = then(t, s, e, err)
		raw, err := e.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		out[name], out["hash of "+name] = string(raw), e.Hash().String()
	}
	for i, p := range phones {
		e, err := keys.NewAddDevice(s, keys.Signers{Key: first, New: p.Key}, p.ID, start+int64(i))
		note([]string{"addDevice 1", "addDevice 2", "addDevice 3"}[i], e, err)
	}
	e, err := keys.NewRotate(s, keys.Signers{Key: first, New: second}, keys.Rotated, start+10)
	note("rotate by key", e, err)
	e, err = keys.NewRotate(s, keys.Signers{Devices: phones[1:], New: third}, keys.Lost, start+11)
	note("rotate by quorum", e, err)
	e, err = keys.NewRevokeDevice(s, keys.Signers{Key: third}, phones[0].ID, start+12)
	note("revokeDevice", e, err)
	e, err = keys.NewRevoke(s, keys.Signers{Key: third}, keys.Compromised, start+13)
	note("revoke", e, err)
	e, err = keys.NewRotate(s, keys.Signers{Recovery: rescue, New: first}, keys.Compromised, start+14)
	note("rotate by recovery", e, err)
	e, err = keys.NewSetRecovery(s, keys.Signers{Key: first, Recovery: rescue, New: secret(0x50)}, start+15)
	note("setRecovery", e, err)

	other := peercrypto.UserGenesis{V: 1, Created: start, Key: third.Public()}
	a, b := keys.IdentityOf(body, s), keys.IdentityOf(other, keys.Genesis(other))
	out["safety number"], out["code"] = keys.SafetyNumber(a, b), keys.Code(a, b)
	return out
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
	for name, text := range want {
		if text[0] != '{' {
			continue
		}
		if e, err := keys.Parse([]byte(text)); err != nil || e.Hash().String() != want["hash of "+name] {
			t.Errorf("%s: %v", name, err)
		}
	}
}
