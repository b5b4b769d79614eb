package crypto_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"golang.org/x/crypto/scrypt"
)

func TestNewID(t *testing.T) {
	now := time.UnixMilli(1_795_333_188_383)
	var counts [256]int
	seen := map[peercrypto.ID]bool{}
	for range 2000 {
		id := peercrypto.NewID(now)
		if _, err := peercrypto.ParseID(string(id)); err != nil || len(id) != 25 || seen[id] {
			t.Fatalf("NewID = %q, %v", id, err)
		}
		seen[id] = true
		if at, ok := id.Time(); !ok || !at.Equal(now) {
			t.Fatalf("time of %s: %v, %v", id, at, ok)
		}
		for _, c := range []byte(id[10:]) {
			counts[c]++
		}
		if id.Short() != string(id[10:16]) {
			t.Fatalf("short form %s of %s", id.Short(), id)
		}
	}
	// 30,000 characters, 833 each expected; 8 standard deviations are 228.
	for _, c := range []byte("0123456789abcdefghijklmnopqrstuvwxyz") {
		if counts[c] < 605 || counts[c] > 1061 {
			t.Errorf("character %c appears %d times", c, counts[c])
		}
	}
	if id := peercrypto.NewID(time.Unix(-5, 0)); !strings.HasPrefix(string(id), "0000000000") {
		t.Errorf("before 1970: %s", id)
	}
}

func TestParseID(t *testing.T) {
	const plain = "00kqn91s56yt2gu3yf5vnbg67"
	const old = "7194ee666e4c4ab18f1f7466ec525a43"
	long := plain + ":" + strings.Repeat("a", 102)
	tests := []struct {
		in         string
		now, stock bool
	}{
		{plain, true, true},
		{plain + ":a", true, true},
		{plain + ":a:0z", true, true},
		{long, true, true},
		{long + "a", false, false},
		{plain + ":", false, false},
		{plain + "::a", false, false},
		{plain + ":A", false, false},
		{plain + "a", false, false},
		{plain + "\n", false, false},
		{plain[1:], false, false},
		{strings.ToUpper(plain), false, false},
		{"", false, false},
		{old, false, true},
		{old + ":a", false, true},
		{old + ":", false, false},
		{old + "0", false, false},
		{strings.ToUpper(old), false, false},
		{old[1:] + "g", false, false},
	}
	for _, test := range tests {
		id, err := peercrypto.ParseID(test.in)
		if (err == nil) != test.now || (err == nil && string(id) != test.in) {
			t.Errorf("ParseID(%q) = %q, %v", test.in, id, err)
		}
		if err != nil && !errors.Is(err, peercrypto.ErrID) {
			t.Errorf("ParseID(%q): %v, want ErrID", test.in, err)
		}
		if id, err := peercrypto.ParseStockID(test.in); (err == nil) != test.stock {
			t.Errorf("ParseStockID(%q) = %q, %v", test.in, id, err)
		}
	}
	if _, ok := peercrypto.ID(old).Time(); ok {
		t.Error("an id of the oldest form has a time")
	}
	for _, id := range []peercrypto.ID{"", "a", plain, old, "ééééééééééééééé"} {
		if len(id.Short()) > 6 {
			t.Errorf("short form of %q: %q", id, id.Short())
		}
	}
}

func TestCheckTime(t *testing.T) {
	now := time.UnixMilli(1_795_333_188_383)
	for ahead, ok := range map[time.Duration]bool{
		-time.Hour: true, 0: true, 299_999 * time.Millisecond: true, 5 * time.Minute: false, time.Hour: false,
	} {
		if err := peercrypto.NewID(now.Add(ahead)).CheckTime(now); (err == nil) != ok {
			t.Errorf("%v ahead: %v", ahead, err)
		}
	}
}

// TestDerivedIDs computes the ids again from the definition.
func TestDerivedIDs(t *testing.T) {
	user, group, device := goldenBodies()
	stretched := func(kind string, body []byte) []byte {
		h, err := scrypt.Key(append([]byte("peers/id/1 "+kind+"\n"), body...), []byte("peers/id/1"), 16384, 8, 1, 32)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	deviceHash := peercrypto.Sum(append([]byte("peers/id/1 device\n"), device.Canonical()...))
	for _, test := range []struct {
		created int64
		h       []byte
		id      peercrypto.ID
	}{
		{user.Created, stretched("user", user.Canonical()), user.ID()},
		{group.Created, stretched("group", group.Canonical()), group.ID()},
		{device.Created, deviceHash[:], device.ID()},
	} {
		n := new(big.Int).SetBytes(test.h)
		n.Mod(n, new(big.Int).Exp(big.NewInt(36), big.NewInt(15), nil))
		want := fmt.Sprintf("%010s%015s", big.NewInt(test.created).Text(36), n.Text(36))
		if string(test.id) != want {
			t.Errorf("hash %s: id %s, want %s", hex.EncodeToString(test.h), test.id, want)
		}
		if _, err := peercrypto.ParseID(string(test.id)); err != nil {
			t.Error(err)
		}
	}
}

// TestDerivedIDPadding finds a device id whose derived part begins with zero.
func TestDerivedIDPadding(t *testing.T) {
	key := seedKey(t, 0).Public()
	found := false
	for created := int64(1_795_000_000_000); created < 1_795_000_000_500; created++ {
		id := peercrypto.DeviceBody{Created: created, Key: key}.ID()
		if _, err := peercrypto.ParseID(string(id)); err != nil {
			t.Fatal(err)
		}
		found = found || id[10] == '0'
	}
	if !found {
		t.Error("none of 500 ids needed padding")
	}
}

func TestBodiesAreCanonical(t *testing.T) {
	user, group, device := goldenBodies()
	bare := user
	bare.Recovery = nil
	for _, body := range []interface{ Canonical() []byte }{user, bare, group, device} {
		want, err := peercrypto.MarshalCanonical(body)
		if err != nil || string(body.Canonical()) != string(want) {
			t.Errorf("%T: got %s, want %s, %v", body, body.Canonical(), want, err)
		}
	}
	if user.Hash() != peercrypto.Sum(user.Canonical()) || group.Hash() != peercrypto.Sum(group.Canonical()) {
		t.Error("a genesis hash is not that of the body")
	}
	var again peercrypto.UserGenesis
	if err := peercrypto.UnmarshalStrict(bare.Canonical(), &again); err != nil || again != bare {
		t.Errorf("decoded %+v, %v", again, err)
	}
}

func TestGenesisValidate(t *testing.T) {
	user, group, _ := goldenBodies()
	if err := errors.Join(user.Validate(), group.Validate()); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*peercrypto.UserGenesis){
		"version": func(g *peercrypto.UserGenesis) { g.V = 2 },
		"zero":    func(g *peercrypto.UserGenesis) { g.Created = 0 },
		"late":    func(g *peercrypto.UserGenesis) { g.Created = 3_656_158_440_062_976 },
		"key":     func(g *peercrypto.UserGenesis) { g.Key = peercrypto.PublicKey{1} },
	} {
		bad := user
		change(&bad)
		if err := bad.Validate(); !errors.Is(err, peercrypto.ErrGenesis) {
			t.Errorf("user %s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*peercrypto.GroupGenesis){
		"version": func(g *peercrypto.GroupGenesis) { g.V = 0 },
		"early":   func(g *peercrypto.GroupGenesis) { g.Created = -1 },
		"owner":   func(g *peercrypto.GroupGenesis) { g.Owner += ":a" },
		"genesis": func(g *peercrypto.GroupGenesis) { g.Genesis = peercrypto.Hash{} },
	} {
		bad := group
		change(&bad)
		if err := bad.Validate(); !errors.Is(err, peercrypto.ErrGenesis) {
			t.Errorf("group %s: %v", name, err)
		}
	}
	bad := peercrypto.DeviceBody{Created: -1, Key: user.Key}
	if bad.ID() != "" {
		t.Errorf("id of a body before 1970: %s", bad.ID())
	}
}

func TestIDCache(t *testing.T) {
	c := peercrypto.NewIDCache(2)
	for i := range byte(3) {
		c.Put(peercrypto.Hash{i}, peercrypto.ID(rune('a'+i)))
		c.Get(peercrypto.Hash{0})
	}
	c.Put(peercrypto.Hash{2}, "again")
	for key, want := range map[byte]peercrypto.ID{0: "a", 1: "", 2: "c"} {
		if got, _ := c.Get(peercrypto.Hash{key}); got != want {
			t.Errorf("entry %d = %q, want %q", key, got, want)
		}
	}
	user, _, _ := goldenBodies()
	user.Created++
	ids := make([]peercrypto.ID, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() { ids[i] = user.ID() })
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] || id == "" {
			t.Errorf("concurrent ids %q", ids)
		}
	}
}
