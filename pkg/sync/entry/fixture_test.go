package entry_test

import (
	"encoding/json"
	"slices"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/fold"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// The fixture: everything is derived from seeds that count up.
const start = 1_750_000_000_000

func seed(first byte) []byte {
	s := make([]byte, 32)
	for i := range s {
		s[i] = first + byte(i)
	}
	return s
}

func signingKey(first byte) peercrypto.SigningKey {
	key, err := peercrypto.SigningKeyFromSeed(seed(first))
	if err != nil {
		panic(err)
	}
	return key
}

func hashOf(first byte) peercrypto.Hash { return peercrypto.Hash(seed(first)) }

var (
	owner        = signingKey(0x00)
	joiner       = signingKey(0x20)
	secret       = [32]byte(seed(0x40))
	inviteKey    = peercrypto.InviteSigningKey(secret)
	rotated      = signingKey(0xc0)
	ownerBody    = peercrypto.UserGenesis{V: 1, Created: start - 2000, Key: owner.Public()}
	recoveryHash = hashOf(0x60)
	joinerBody   = peercrypto.UserGenesis{V: 1, Created: start - 1000, Key: joiner.Public(), Recovery: &recoveryHash}
)

const (
	changeID = peercrypto.ID("00mbx2yqo0000000000000001")
	deviceID = peercrypto.ID("00mbx2yqo0000000000000002")
	subject  = peercrypto.ID("00mbx2yqo0000000000000003")
)

func makeCreate(t testing.TB) *entry.Entry {
	t.Helper()
	e, err := entry.SignCreate(owner, entry.CreateDraft{ID: changeID, Owner: ownerBody, Dev: deviceID, Name: "crew \"ä\" €", Modified: start})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func makeClaim(t testing.TB, create *entry.Entry) entry.Claim {
	t.Helper()
	c, err := entry.SignClaim(inviteKey, joiner, entry.Claim{
		Group: create.Group, Create: create.Hash, UserID: joinerBody.ID(), Genesis: joinerBody.Hash(),
		DeviceID: deviceID, Role: entry.Write, Time: start + 5,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// someOps has an operation of each kind but create.
func someOps(t testing.TB, create *entry.Entry) map[string]entry.Op {
	claim := makeClaim(t, create)
	invite := hashOf(0x80)
	frontier := []peercrypto.Hash{hashOf(0x81), hashOf(0x82)}
	name, admit, stock := "renamed", "admin", false
	return map[string]entry.Op{
		"add":         entry.Add{UserID: joinerBody.ID(), User: joinerBody, Role: entry.Admin},
		"add claimed": entry.Add{UserID: joinerBody.ID(), User: joinerBody, Role: entry.Write, Invite: &invite, Claim: &claim},
		"accept":      entry.Accept{},
		"remove":      entry.Remove{Grant: hashOf(0x83), Frontier: frontier, Reason: "left us"},
		"remove bare": entry.Remove{Grant: hashOf(0x83)},
		"leave":       entry.Leave{Frontier: frontier},
		"role":        entry.RoleChange{Grant: hashOf(0x83), Role: entry.Read, Key: joiner.Public(), Frontier: frontier},
		"block":       entry.Block{UserID: joinerBody.ID(), Frontier: frontier},
		"policy":      entry.Policy{Name: &name, Admit: &admit, Stock: &stock},
		"policy name": entry.Policy{Name: &name},
		"invite":      entry.Invite{IPK: inviteKey.Public(), Role: entry.Write, Uses: 3, Expires: start + 86_400_000},
		"uninvite":    entry.Uninvite{Invite: invite, Frontier: frontier},
		"rvkey":       entry.RVKey{Epoch: 7, Key: entry.TopicKey(seed(0x84))},
		"merge":       entry.Merge{},
		"checkpoint":  entry.Checkpoint{Frontier: frontier},
		"adopt":       entry.Adopt{Entries: frontier},
		"delete":      entry.Delete{},
		"add rotated": entry.Add{UserID: joinerBody.ID(), User: joinerBody, Role: entry.Read, Keys: []keys.Event{rotation(t, joiner, joinerBody, rotated)}},
		"rekey":       entry.Rekey{Events: []keys.Event{rotation(t, owner, ownerBody, rotated)}, Frontier: frontier},
	}
}

// rotation is the first key event of a user.
func rotation(t testing.TB, key peercrypto.SigningKey, body peercrypto.UserGenesis, next peercrypto.SigningKey) keys.Event {
	t.Helper()
	e, err := keys.NewRotate(keys.Genesis(body), keys.Signers{Key: key, New: next}, keys.Rotated, start)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func opDraft(create *entry.Entry, op entry.Op) entry.OpDraft {
	d := entry.OpDraft{
		ID: changeID, Group: create.Group, Signer: create.Signer, Modified: start + 10,
		As: create.Hash, Deps: []peercrypto.Hash{create.Hash}, Dev: deviceID, Op: op,
	}
	if op.Kind() != entry.KindAccept && op.Kind() != entry.KindRekey {
		d.Deps = append(d.Deps, hashOf(0x90))
		slices.SortFunc(d.Deps, peercrypto.Hash.Compare)
		d.Seq, d.Prev, d.Dev = 4, hashOf(0x90), ""
	}
	return d
}

func set(path, value string) fold.Change {
	return fold.Change{Path: path, Set: true, Value: json.RawMessage(value)}
}

func dataDraft(create *entry.Entry, changes ...fold.Change) entry.DataDraft {
	return entry.DataDraft{
		ID: changeID, Group: create.Group, Subject: subject, Signer: create.Signer, Modified: start + 20,
		As: create.Hash, Seq: 1, Prev: hashOf(0xa0), Changes: changes,
	}
}

func someData(create *entry.Entry) map[string]entry.DataDraft {
	first := dataDraft(create, set("", `{"group":"`+string(create.Group)+`","id":"`+string(subject)+`","type":"Note"}`))
	first.Seq, first.Prev, first.Dev = 0, peercrypto.Hash{}, deviceID
	deleted := dataDraft(create)
	deleted.SubjectDeleted = true
	return map[string]entry.DataDraft{
		"root":   first,
		"set":    dataDraft(create, set("a.b[0]", `{"x":[1,null,"é"]}`), set(`c["d e"]`, "null")),
		"unset":  dataDraft(create, fold.Change{Path: "a.b"}),
		"delete": deleted,
		"empty":  dataDraft(create),
	}
}
