package group_test

import (
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/group"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// TestCreateWithKeys makes groups of an owner whose key is not the first one any more.
func TestCreateWithKeys(t *testing.T) {
	const now = 1_750_000_000_000
	seed := func(b byte) peercrypto.SigningKey {
		k, err := peercrypto.SigningKeyFromSeed(append(make([]byte, 31), b))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	first, next, thief := seed(1), seed(2), seed(3)
	owner := peercrypto.UserGenesis{V: 1, Created: now - 1000, Key: first.Public()}
	rotated, err := keys.NewRotate(keys.Genesis(owner), keys.Signers{Key: first, New: next}, keys.Rotated, now-500)
	if err != nil {
		t.Fatal(err)
	}
	forged := rotated
	stolen := thief.Public()
	forged.Key = &stolen
	forged.Sigs = append([]keys.Sig(nil), rotated.Sigs...)
	forged.Sigs[1] = keys.Sig{By: "new", Pub: stolen, Sig: rotated.Sigs[1].Sig}
	for name, c := range map[string]struct {
		signer peercrypto.SigningKey
		events []keys.Event
		good   bool
	}{
		"the new key":      {next, []keys.Event{rotated}, true},
		"the first key":    {first, nil, true},
		"the old key":      {first, []keys.Event{rotated}, false},
		"no events":        {next, nil, false},
		"forged event":     {thief, []keys.Event{forged}, false},
		"the wrong signer": {thief, []keys.Event{rotated}, false},
	} {
		create, err := entry.SignCreate(c.signer, entry.CreateDraft{
			ID: peercrypto.NewID(time.UnixMilli(now)), Owner: owner, Dev: owner.ID(), Name: "garden", Modified: now, Keys: c.events,
		})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		l := group.NewLog(create.Group)
		if _, err := l.Add(create); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !c.good {
			continue
		}
		if p, ok := l.State().Principal(create.Hash); !ok || p.Key != c.signer.Public() || !p.Active {
			t.Errorf("%s: %+v", name, p)
		}
	}
}
