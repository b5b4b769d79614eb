package crypto_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

func TestDeviceCert(t *testing.T) {
	cert := goldenCert(t)
	now := time.UnixMilli(cert.Issued)
	if err := cert.Verify(now); err != nil {
		t.Fatal(err)
	}
	parsed, err := peercrypto.ParseDeviceCert(cert.Canonical())
	if err != nil || parsed != cert {
		t.Errorf("ParseDeviceCert = %+v, %v", parsed, err)
	}
	if err := peercrypto.CheckCanonical(cert.Canonical()); err != nil {
		t.Error(err)
	}
	for at, ok := range map[time.Time]bool{
		now.Add(-5 * time.Minute):                           true,
		now.Add(-5*time.Minute - time.Millisecond):          false,
		now.Add(24*time.Hour + 5*time.Minute):               true,
		now.Add(24*time.Hour + 5*time.Minute + time.Second): false,
		{}:                   false,
		time.UnixMilli(1e15): false,
	} {
		if err := cert.Verify(at); (err == nil) != ok || err != nil && !errors.Is(err, peercrypto.ErrCert) {
			t.Errorf("at %v: %v", at, err)
		}
	}
}

func TestDeviceCertRefusals(t *testing.T) {
	good := goldenCert(t)
	now := time.UnixMilli(good.Issued)
	other := seedKey(t, 0x77)
	changes := map[string]func(*peercrypto.DeviceCert){
		"version":        func(c *peercrypto.DeviceCert) { c.V = 2 },
		"device id":      func(c *peercrypto.DeviceCert) { c.DeviceID = c.DeviceID[:24] + "0" },
		"device suffix":  func(c *peercrypto.DeviceCert) { c.DeviceID += ":a" },
		"no device id":   func(c *peercrypto.DeviceCert) { c.DeviceID = "" },
		"device key":     func(c *peercrypto.DeviceCert) { c.DeviceKey = other.Public() },
		"no device key":  func(c *peercrypto.DeviceCert) { c.DeviceKey = peercrypto.PublicKey{} },
		"box key":        func(c *peercrypto.DeviceCert) { c.BoxKey = other.StockBoxKey().Public() },
		"small box key":  func(c *peercrypto.DeviceCert) { c.BoxKey = peercrypto.BoxPublicKey{1} },
		"user id":        func(c *peercrypto.DeviceCert) { c.UserID = c.DeviceID },
		"bad user id":    func(c *peercrypto.DeviceCert) { c.UserID = "x" },
		"user key":       func(c *peercrypto.DeviceCert) { c.UserKey = other.Public() },
		"small user key": func(c *peercrypto.DeviceCert) { c.UserKey = peercrypto.PublicKey{1} },
		"issued":         func(c *peercrypto.DeviceCert) { c.Issued++ },
		"expires":        func(c *peercrypto.DeviceCert) { c.Expires++ },
		"no time":        func(c *peercrypto.DeviceCert) { c.Expires = c.Issued },
		"too long":       func(c *peercrypto.DeviceCert) { c.Expires = c.Issued + peercrypto.MaxCertAge.Milliseconds() + 1 },
		"negative":       func(c *peercrypto.DeviceCert) { c.Issued = -1 },
		"extreme":        func(c *peercrypto.DeviceCert) { c.Issued, c.Expires = -1<<63, 1<<63-1 },
		"signature":      func(c *peercrypto.DeviceCert) { c.Sig[0] ^= 1 },
		"no signature":   func(c *peercrypto.DeviceCert) { c.Sig = peercrypto.Signature{} },
	}
	for name, change := range changes {
		bad := good
		change(&bad)
		if err := bad.Verify(now); !errors.Is(err, peercrypto.ErrCert) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A signature for another purpose by the right key.
	body, err := peercrypto.RemoveMember(good.Canonical(), "sig")
	if err != nil {
		t.Fatal(err)
	}
	bad := good
	bad.Sig = seedKey(t, goldenUserSeed).SignPurpose(peercrypto.PurposeKeyEvent, body)
	if err := bad.Verify(now); !errors.Is(err, peercrypto.ErrSignature) {
		t.Errorf("another purpose: %v", err)
	}
	for _, raw := range []string{"", "{}x", `{"v":1,"x":2}`, strings.Replace(string(good.Canonical()), `"v":1`, `"v":1,"v":1`, 1)} {
		if _, err := peercrypto.ParseDeviceCert([]byte(raw)); !errors.Is(err, peercrypto.ErrCert) {
			t.Errorf("ParseDeviceCert(%.30s): %v", raw, err)
		}
	}
}

func TestIdentityCert(t *testing.T) {
	id := goldenIdentity(t)
	now := time.UnixMilli(goldenTime)
	cert, err := id.Cert(now, peercrypto.MaxCertAge)
	if err != nil || cert.Verify(now) != nil || cert.UserID != id.UserID() || cert.DeviceID != id.DeviceID() {
		t.Errorf("Cert = %+v, %v", cert, err)
	}
	for _, validFor := range []time.Duration{0, -time.Hour, peercrypto.MaxCertAge + time.Millisecond} {
		if _, err := id.Cert(now, validFor); !errors.Is(err, peercrypto.ErrCert) {
			t.Errorf("valid for %v: %v", validFor, err)
		}
	}
	if _, err := (peercrypto.Identity{}).Cert(now, time.Hour); !errors.Is(err, peercrypto.ErrCert) {
		t.Errorf("no identity: %v", err)
	}
}

func TestUserDoc(t *testing.T) {
	k := seedKey(t, goldenUserSeed)
	genesis, _, _ := goldenBodies()
	raw, err := peercrypto.SignUserDoc(k, genesis, "Zoë 👩‍🚀", goldenTime)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := peercrypto.ParseUserDoc(raw)
	if err != nil || doc.ID != genesis.ID() || doc.Name != "Zoë 👩‍🚀" || doc.PublicKey != k.Public() ||
		doc.PublicBoxKey != k.StockBoxKey().Public() || doc.Modified != goldenTime || doc.Auth != 2 || string(doc.Canonical) != string(raw) {
		t.Errorf("ParseUserDoc = %+v, %v", doc, err)
	}
	if err := peercrypto.VerifyStockObject(raw, k.Public()); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]string{"long": strings.Repeat("a", 129), "line end": "a\n", "not UTF-8": "\xff", "direction": "a\u202eb"} {
		if _, err := peercrypto.SignUserDoc(k, genesis, bad, goldenTime); !errors.Is(err, peercrypto.ErrUserDoc) {
			t.Errorf("%s name: %v", name, err)
		}
	}
	if _, err := peercrypto.SignUserDoc(k, peercrypto.UserGenesis{}, "a", goldenTime); !errors.Is(err, peercrypto.ErrGenesis) {
		t.Errorf("no genesis: %v", err)
	}
	if _, err := peercrypto.SignUserDoc(peercrypto.SigningKey{}, genesis, "a", goldenTime); !errors.Is(err, peercrypto.ErrKey) {
		t.Errorf("no key: %v", err)
	}
}

// TestUserDocSigned alters members and signs again, so that only the checks
// other than the signature can refuse.
func TestUserDocSigned(t *testing.T) {
	k := seedKey(t, goldenUserSeed)
	genesis, _, _ := goldenBodies()
	raw, err := peercrypto.SignUserDoc(k, genesis, "a", goldenTime)
	if err != nil {
		t.Fatal(err)
	}
	id := string(genesis.ID())
	for name, test := range map[string]struct {
		from, to string
		ok       bool
	}{
		"same":          {`"a"`, `"a"`, true},
		"unknown":       {`"name":"a"`, `"name":"a","devices":{"x":[1]}`, true},
		"other peers":   {`{"auth":2}`, `[1,2]`, true},
		"future peers":  {`{"auth":2}`, `{"auth":3,"x":1}`, true},
		"no name":       {`"name":"a",`, ``, true},
		"type":          {`"type":"User"`, `"type":"Group"`, false},
		"group":         {`"group":"users"`, `"group":"user"`, false},
		"id":            {`"id":"` + id, `"id":"` + id[1:], false},
		"other id":      {`"id":"` + id, `"id":"` + id[:24] + "_", false},
		"name":          {`"name":"a"`, `"name":"\u0000"`, false},
		"modified":      {`1800000000000`, `-1`, false},
		"float":         {`1800000000000`, `1.5`, false},
		"no box key":    {`"publicBoxKey":`, `"publicBoxKeys":`, false},
		"null box key":  {k.StockBoxKey().Public().String() + `"`, `"`, false},
		"no public key": {`"publicKey":`, `"publicKeys":`, false},
		"reserved":      {`"name":"a"`, `"constructor":"a"`, false},
	} {
		altered := strings.Replace(string(raw), test.from, test.to, 1)
		signed, err := peercrypto.SignStockObject(k, genesis.ID(), []byte(altered))
		if err == nil {
			_, err = peercrypto.ParseUserDoc(signed)
		}
		if (err == nil) != test.ok || err != nil && name != "reserved" && !errors.Is(err, peercrypto.ErrUserDoc) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := peercrypto.ParseUserDoc([]byte(altered)); (err == nil) != (name == "same") {
			t.Errorf("%s, not signed again: %v", name, err)
		}
	}
	signed, err := peercrypto.SignStockObject(k, peercrypto.ID(id[:24]+"x"), raw)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := peercrypto.ParseUserDoc(signed); !errors.Is(err, peercrypto.ErrUserDoc) {
		t.Errorf("another signer: %v", err)
	}
}
