package crypto_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"sort"
	"strings"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// stockVectors is the part of the stock vectors that concerns this package.
type stockVectors struct {
	IDs struct {
		NewID []stockID `json:"newid"`
		IsID  []stockID `json:"isid"`
	} `json:"ids"`
	HashObject []struct {
		JS         string `json:"js"`
		StableJSON string `json:"stableJson"`
		SHA256     string `json:"sha256"`
	} `json:"hashObject"`
	Keys []struct {
		SeedHex            string `json:"seedHex"`
		ID                 string `json:"id"`
		SecretKey          string `json:"secretKey"`
		PublicKey          string `json:"publicKey"`
		PublicBoxKey       string `json:"publicBoxKey"`
		SecretKeyOldBase36 string `json:"secretKeyOldBase36"`
		PublicKeyOldBase36 string `json:"publicKeyOldBase36"`
	} `json:"keys"`
	SignMessage []struct {
		Msg      string `json:"msg"`
		Signed   string `json:"signed"`
		Detached string `json:"detached"`
	} `json:"signMessage"`
	SignObject []struct {
		Input            json.RawMessage `json:"input"`
		SignerID         string          `json:"signerId"`
		HashSigned       string          `json:"hashSigned"`
		StableJSONSigned string          `json:"stableJsonSigned"`
		Signature        string          `json:"signature"`
	} `json:"signObject"`
	OldStyleSignature struct {
		Object json.RawMessage `json:"object"`
	} `json:"oldStyleSignature"`
	OldBase36Signature struct {
		Object json.RawMessage `json:"object"`
	} `json:"oldBase36Signature"`
	Box []struct {
		Plaintext string          `json:"plaintext"`
		Box       peercrypto.Box  `json:"box"`
		Opened    json.RawMessage `json:"opened"`
	} `json:"box"`
	Stringify []struct {
		Wire  string `json:"wire"`
		Equal bool   `json:"equal"`
	} `json:"stringify"`
	BlockIDs []struct {
		Modified       int64  `json:"modified"`
		ChangesBlockID string `json:"changesBlockId"`
		DataBlockID    string `json:"dataBlockId"`
	} `json:"blockIds"`
	PrefixHashes map[string]struct {
		Tree      map[string]map[string]string       `json:"tree"`
		Details   map[string]string                  `json:"getDetailHashes"`
		BlockInfo map[string][]peercrypto.StockEntry `json:"blockInfo"`
	} `json:"prefixHashes"`
	DataBlocks struct {
		Docs             []peercrypto.StockEntry      `json:"docs"`
		Users            []json.RawMessage            `json:"users"`
		GroupUsersHash   string                       `json:"getGroupUsersHash"`
		Details          map[string]string            `json:"getDetailHashes"`
		Levels           map[string]map[string]string `json:"levels"`
		Level4Recomputed string                       `json:"level4Recomputed"`
	} `json:"dataBlocks"`
	EmptyHashes struct {
		EmptyArray string `json:"hashObjectEmptyArray"`
	} `json:"emptyHashes"`
}

type stockID struct {
	ID   string `json:"id"`
	IsID bool   `json:"isid"`
	IsV1 bool   `json:"isid_v1"`
	Time int64  `json:"idTime"`
}

func loadStock(t testing.TB) stockVectors {
	t.Helper()
	b, err := os.ReadFile("testdata/peerstack-8.0.13.json")
	if err != nil {
		t.Fatal(err)
	}
	var v stockVectors
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func stockKey(t testing.TB, v stockVectors, i int) peercrypto.SigningKey {
	t.Helper()
	k, err := peercrypto.ParseStockSecretKey(v.Keys[i].SecretKey)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestStockIDs(t *testing.T) {
	v := loadStock(t)
	for _, c := range append(v.IDs.NewID, v.IDs.IsID...) {
		id, err := peercrypto.ParseStockID(c.ID)
		// Ours are lower case: an id has one spelling.
		want := (c.IsID || len(c.ID) == 25) && c.ID == strings.ToLower(c.ID)
		if (err == nil) != want {
			t.Errorf("ParseStockID(%q): %v, want valid: %v", c.ID, err, want)
		}
		if at, ok := id.Time(); err == nil && (ok == c.IsV1 || ok && at.UnixMilli() != c.Time) {
			t.Errorf("time of %s: %v, %v; want %d", c.ID, at, ok, c.Time)
		}
		if c.IsV1 && c.IsID {
			if _, err := peercrypto.ParseID(c.ID); err == nil {
				t.Errorf("ParseID(%q) accepts the oldest form", c.ID)
			}
		}
	}
}

func TestStockHashObject(t *testing.T) {
	for _, c := range loadStock(t).HashObject {
		if strings.Contains(c.StableJSON, `\ud`) {
			// A lone surrogate has no UTF-8: refused where stock hashes it.
			if _, err := peercrypto.Canonicalize([]byte(c.StableJSON)); !errors.Is(err, peercrypto.ErrJSON) {
				t.Errorf("%s: %v", c.JS, err)
			}
			continue
		}
		got, err := peercrypto.Canonicalize([]byte(c.StableJSON))
		if err != nil || string(got) != c.StableJSON || peercrypto.Sum(got).Hex() != c.SHA256 {
			t.Errorf("%s: got %s, %v; want %s", c.JS, got, err, c.StableJSON)
		}
	}
	for in, want := range map[string]string{ // as a stock page would send them
		`{"n":1e21}`: `{"n":1e+21}`, `{"n":-0}`: `{"n":0}`, `{"n":0.0000001}`: `{"n":1e-7}`,
		`{"n":100,"m":1.0,"k":-1.50}`: `{"k":-1.5,"m":1,"n":100}`, `{"n":1e16,"m":123456.789e3}`: `{"m":123456789,"n":10000000000000000}`,
	} {
		if got, err := peercrypto.Canonicalize([]byte(in)); err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v; want %s", in, got, err, want)
		}
	}
}

func TestStockKeys(t *testing.T) {
	for _, c := range loadStock(t).Keys {
		seed, err := hex.DecodeString(c.SeedHex)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{c.SecretKey, c.SecretKeyOldBase36} {
			k, err := peercrypto.ParseStockSecretKey(text)
			if err != nil || !bytes.Equal(k.ExportSeed(), seed) || k.Public().String() != c.PublicKey {
				t.Errorf("ParseStockSecretKey(%s): %v", text, err)
			}
			if got := k.StockBoxKey().Public().String(); got != c.PublicBoxKey {
				t.Errorf("box key %s, want %s", got, c.PublicBoxKey)
			}
		}
		for _, text := range []string{c.PublicKey, c.PublicKeyOldBase36} {
			if k, err := peercrypto.ParseStockPublicKey(text); err != nil || k.String() != c.PublicKey {
				t.Errorf("ParseStockPublicKey(%s) = %s, %v", text, k, err)
			}
		}
		if _, err := peercrypto.ParseBoxPublicKey(c.PublicBoxKey); err != nil {
			t.Error(err)
		}
		for _, bad := range []string{
			"", c.PublicKey, c.SecretKey[4:], c.SecretKeyOldBase36[:126] + "zz", c.SecretKeyOldBase36[:126] + "00",
			c.SecretKeyOldBase36[:126] + "-1", strings.ToUpper(c.SecretKeyOldBase36), "AAAA" + c.SecretKey[4:86] + "==",
		} {
			if _, err := peercrypto.ParseStockSecretKey(bad); err == nil {
				t.Errorf("ParseStockSecretKey(%q) succeeded", bad)
			}
		}
	}
}

func TestStockMessages(t *testing.T) {
	v := loadStock(t)
	k := stockKey(t, v, 0)
	for _, c := range v.SignMessage {
		signed, err := peercrypto.SignMessage(k, c.Msg)
		if err != nil || signed != c.Signed {
			t.Errorf("SignMessage(%q) = %s, %v", c.Msg, signed, err)
		}
		opened, err := peercrypto.OpenMessage(k.Public(), c.Signed)
		if err != nil || opened != c.Msg {
			t.Errorf("OpenMessage = %q, %v", opened, err)
		}
		if _, err := peercrypto.OpenMessage(stockKey(t, v, 1).Public(), c.Signed); !errors.Is(err, peercrypto.ErrSignature) {
			t.Errorf("with another key: %v", err)
		}
		if raw, _ := peercrypto.DecodeB64(c.Signed); peercrypto.EncodeB64(raw[:64]) != c.Detached {
			t.Errorf("detached form of %q differs", c.Msg)
		}
	}
	// An oracle for these would sign documents or protocol messages.
	for _, bad := range []string{peercrypto.Sum(nil).Hex(), strings.ToUpper(peercrypto.Sum(nil).Hex()), "peers/1 peer-auth\n{}"} {
		if signed, err := peercrypto.SignMessage(k, bad); err == nil {
			t.Errorf("SignMessage(%q) = %s", bad, signed)
		}
	}
	for _, bad := range []string{"", "AAAA", "!", peercrypto.EncodeB64(make([]byte, 63)), peercrypto.EncodeB64(make([]byte, 64))} {
		if _, err := peercrypto.OpenMessage(k.Public(), bad); !errors.Is(err, peercrypto.ErrSignature) {
			t.Errorf("OpenMessage(%q): %v", bad, err)
		}
	}
}

func TestStockObjects(t *testing.T) {
	v := loadStock(t)
	k := stockKey(t, v, 0)
	for _, c := range v.SignObject {
		signed, err := peercrypto.SignStockObject(k, peercrypto.ID(c.SignerID), c.Input)
		if err != nil {
			t.Fatal(err)
		}
		h, err := peercrypto.SumObject(signed)
		if err != nil || h.Hex() != c.HashSigned || !bytes.Contains(signed, []byte(`"signature":"`+c.Signature+`"`)) {
			t.Errorf("signed %s, %v; want hash %s", signed, err, c.HashSigned)
		}
		if unsigned, _ := peercrypto.RemoveMember(signed, "signature"); string(unsigned) != c.StableJSONSigned {
			t.Errorf("canonical form %s, want %s", unsigned, c.StableJSONSigned)
		}
		if err := peercrypto.VerifyStockObject(signed, k.Public()); err != nil {
			t.Error(err)
		}
		again, err := peercrypto.SignStockObject(k, peercrypto.ID(c.SignerID), signed)
		if err != nil || !bytes.Equal(again, signed) {
			t.Errorf("signed twice: %s, %v", again, err)
		}
		if err := peercrypto.VerifyStockObject(signed, stockKey(t, v, 1).Public()); !errors.Is(err, peercrypto.ErrSignature) {
			t.Errorf("with another key: %v", err)
		}
		tampered := bytes.Replace(signed, []byte(`"group":"`), []byte(`"group":"x`), 1)
		if err := peercrypto.VerifyStockObject(tampered, k.Public()); !errors.Is(err, peercrypto.ErrSignature) {
			t.Errorf("tampered: %v", err)
		}
	}
	for _, bad := range []string{"[]", "{", `"a"`} {
		if _, err := peercrypto.SignStockObject(k, "x", []byte(bad)); !errors.Is(err, peercrypto.ErrJSON) {
			t.Errorf("SignStockObject(%s): %v", bad, err)
		}
	}
	for _, bad := range []string{`{}`, `{"signature":""}`, `{"signature":"x"}`, `{"signature":5}`, `{"signature":null}`} {
		if err := peercrypto.VerifyStockObject([]byte(bad), k.Public()); err == nil {
			t.Errorf("VerifyStockObject(%s) succeeded", bad)
		}
	}
}

func oldBase36(b []byte) string {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	var s strings.Builder
	for _, c := range b {
		s.WriteByte(digits[(int(c)+36)/36])
		s.WriteByte(digits[c%36])
	}
	return s.String()
}

func TestStockOldSignatures(t *testing.T) {
	v := loadStock(t)
	k := stockKey(t, v, 0)
	if err := peercrypto.VerifyStockObject(v.OldStyleSignature.Object, k.Public()); err != nil {
		t.Errorf("attached in base64: %v", err)
	}
	// A detached signature in base36 does not verify in stock peers either.
	if err := peercrypto.VerifyStockObject(v.OldBase36Signature.Object, k.Public()); !errors.Is(err, peercrypto.ErrSignature) {
		t.Errorf("detached in base36: %v", err)
	}
	var old struct {
		Signature string `json:"signature"`
	}
	if err := json.Unmarshal(v.OldStyleSignature.Object, &old); err != nil {
		t.Fatal(err)
	}
	attached, err := peercrypto.DecodeB64(old.Signature)
	if err != nil {
		t.Fatal(err)
	}
	base36 := bytes.Replace(v.OldStyleSignature.Object, []byte(old.Signature), []byte(oldBase36(attached)), 1)
	if err := peercrypto.VerifyStockObject(base36, k.Public()); err != nil {
		t.Errorf("attached in base36: %v", err)
	}
	other := bytes.Replace(v.OldStyleSignature.Object, []byte(`"a": 1`), []byte(`"a": 2`), 1)
	other = bytes.Replace(other, []byte(`"a":1`), []byte(`"a":2`), 1)
	if err := peercrypto.VerifyStockObject(other, k.Public()); !errors.Is(err, peercrypto.ErrSignature) {
		t.Errorf("attached to another object: %v", err)
	}
}

func TestStockBoxes(t *testing.T) {
	v := loadStock(t)
	alice, bob := stockKey(t, v, 0).StockBoxKey(), stockKey(t, v, 1).StockBoxKey()
	for i, c := range v.Box {
		opened, err := peercrypto.OpenBox(bob, alice.Public(), c.Box)
		if i == 2 { // characters beyond Latin-1, which stock damages
			if !errors.Is(err, peercrypto.ErrJSON) {
				t.Errorf("damaged box: %q, %v", opened, err)
			}
			continue
		}
		if err != nil || string(opened) != c.Plaintext {
			t.Errorf("OpenBox = %s, %v; want %s", opened, err, c.Plaintext)
		}
		nonce, err := peercrypto.DecodeB64(c.Box.Nonce)
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := peercrypto.SealBoxWith(alice, c.Box.FromUserID, bob.Public(), []byte(c.Plaintext), [24]byte(nonce))
		if err != nil || sealed != c.Box {
			t.Errorf("SealBox = %+v, %v; want %+v", sealed, err, c.Box)
		}
	}
}

func TestStockStringify(t *testing.T) {
	for _, c := range loadStock(t).Stringify {
		got, err := peercrypto.Canonicalize([]byte(c.Wire))
		if err != nil {
			t.Errorf("%s: %v", c.Wire, err)
		}
		if len(c.Wire) < 60 && string(got) != c.Wire { // the longer one is not sorted
			t.Errorf("%s: canonical form %s", c.Wire, got)
		}
	}
}

func TestStockBlocks(t *testing.T) {
	v := loadStock(t)
	for _, c := range v.BlockIDs {
		if got := peercrypto.ChangeBlockID(c.Modified); got != c.ChangesBlockID {
			t.Errorf("ChangeBlockID(%d) = %s, want %s", c.Modified, got, c.ChangesBlockID)
		}
		if got := peercrypto.DataBlockID(c.Modified); got != c.DataBlockID {
			t.Errorf("DataBlockID(%d) = %s, want %s", c.Modified, got, c.DataBlockID)
		}
	}
	if got := peercrypto.DataBlockID(-1); got != "B-1" {
		t.Errorf("DataBlockID(-1) = %s", got)
	}
	if h, err := peercrypto.HashEntries(nil); err != nil || h.Hex() != v.EmptyHashes.EmptyArray {
		t.Errorf("HashEntries(nil) = %s, %v", h.Hex(), err)
	}
	for name, c := range v.PrefixHashes {
		for block, entries := range c.BlockInfo {
			if name == "boundary" && block == "B00018812" {
				// A range includes its end, so c2 at midnight is in two of them;
				// a walk over all counts it for the first only.
				entries = entries[1:]
			}
			if h, err := peercrypto.HashEntries(entries); err != nil || h.Hex() != c.Details[block] {
				t.Errorf("%s: block %s: %s, %v", name, block, h.Hex(), err)
			}
		}
		for prefix, children := range c.Tree {
			if len(prefix) < 2 {
				continue
			}
			h, err := peercrypto.HashChildren(hashes(t, children))
			if want := c.Tree[prefix[:len(prefix)-1]][prefix]; err != nil || h.Hex() != want {
				t.Errorf("%s: prefix %s: %s, %v; want %s", name, prefix, h.Hex(), err, want)
			}
		}
	}
}

func hashes(t *testing.T, hexes map[string]string) map[string]peercrypto.Hash {
	t.Helper()
	out := map[string]peercrypto.Hash{}
	for name, text := range hexes {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = peercrypto.Hash(b)
	}
	return out
}

func TestStockDataBlocks(t *testing.T) {
	blocks := loadStock(t).DataBlocks
	sort.Slice(blocks.Docs, func(i, j int) bool {
		a, b := blocks.Docs[i], blocks.Docs[j]
		return a.Modified < b.Modified || a.Modified == b.Modified && a.ID < b.ID
	})
	byDay := map[string][]peercrypto.StockEntry{}
	for _, doc := range blocks.Docs {
		byDay[peercrypto.DataBlockID(doc.Modified)] = append(byDay[peercrypto.DataBlockID(doc.Modified)], doc)
	}
	for day, want := range blocks.Details {
		if h, err := peercrypto.HashEntries(byDay[day]); day != "users" && (err != nil || h.Hex() != want) {
			t.Errorf("%s: %s, %v; want %s", day, h.Hex(), err, want)
		}
	}
	users, err := peercrypto.MarshalCanonical(blocks.Users)
	if err != nil || peercrypto.Sum(users).Hex() != blocks.Details["users"] {
		t.Errorf("users: %s, %v", peercrypto.Sum(users).Hex(), err)
	}
	for _, user := range blocks.Users {
		doc, err := peercrypto.ParseUserDoc(user)
		if err != nil || doc.Auth != 0 {
			t.Errorf("ParseUserDoc = %+v, %v", doc, err)
		}
	}
	var entries []peercrypto.StockEntry
	for _, user := range blocks.Users {
		var e peercrypto.StockEntry
		if err := json.Unmarshal(user, &e); err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	if h, err := peercrypto.HashEntries(entries); err != nil || h.Hex() != blocks.GroupUsersHash {
		t.Errorf("hash of a group's users: %s, %v", h.Hex(), err)
	}
	// The order in a level is that of the walk; see the rule in the vectors.
	order := []string{"users", "B20500", "B19511", "B18811", "B18812"}
	level := hashes(t, blocks.Details)
	for k := 4; k >= 0; k-- {
		order, level = levelAbove(t, order, level)
		want := blocks.Levels[string(rune('0'+k))]
		if len(order) != len(want) {
			t.Errorf("level %d has %d entries, want %d", k, len(order), len(want))
		}
		for name, h := range level {
			if h.Hex() != want[name] {
				t.Errorf("level %d: %s is %s, want %s", k, name, h.Hex(), want[name])
			}
		}
	}
}

func levelAbove(t *testing.T, order []string, level map[string]peercrypto.Hash) ([]string, map[string]peercrypto.Hash) {
	t.Helper()
	groups := map[string][]peercrypto.StockBlock{}
	var above []string
	for _, name := range order {
		parent := name[:len(name)-1]
		if parent == "" {
			parent = "u"
		}
		if _, seen := groups[parent]; !seen {
			above = append(above, parent)
		}
		groups[parent] = append(groups[parent], peercrypto.StockBlock{BlockID: name, Hash: level[name]})
	}
	out := map[string]peercrypto.Hash{}
	for parent, blocks := range groups {
		h, err := peercrypto.HashBlocks(blocks)
		if err != nil {
			t.Fatal(err)
		}
		out[parent] = h
	}
	return above, out
}

func TestStockIDTime(t *testing.T) {
	// The limit of stock peers: less than 300,000 ms ahead.
	now := time.UnixMilli(1_795_333_188_383)
	if err := peercrypto.NewID(now.Add(240 * time.Second)).CheckTime(now); err != nil {
		t.Error(err)
	}
	if err := peercrypto.NewID(now.Add(360 * time.Second)).CheckTime(now); !errors.Is(err, peercrypto.ErrID) {
		t.Errorf("6 minutes ahead: %v", err)
	}
}
