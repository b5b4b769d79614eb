package wire_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

var update = flag.Bool("update", false, "write golden files; never after a release")

// TestGoldenAuth pins the bytes of an auth message, and with them what is signed.
func TestGoldenAuth(t *testing.T) {
	user, key := seedKey(t, 1), seedKey(t, 101)
	created := now.Add(-day).UnixMilli()
	box, err := peercrypto.BoxSecretKeyFromBytes(bytes.Repeat([]byte{5}, 32))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := peercrypto.SignDeviceCert(user, peercrypto.DeviceCert{
		V: 1, DeviceID: peercrypto.DeviceBody{Created: created, Key: key.Public()}.ID(), DeviceKey: key.Public(),
		BoxKey: box.Public(), UserID: peercrypto.UserGenesis{V: 1, Created: created, Key: user.Public()}.ID(),
		UserKey: user.Public(), Issued: now.UnixMilli(), Expires: now.Add(day).UnixMilli(),
	})
	if err != nil {
		t.Fatal(err)
	}
	m, err := wire.SignAuth(wire.AuthBody{
		Server: "example.org:443", Nonce: wire.Nonce{1, 2, 3}, CNonce: peercrypto.Nonce{4, 5, 6},
		Time: now.UnixMilli(), Caps: []string{wire.CapRV1},
	}, key, cert)
	if err != nil {
		t.Fatal(err)
	}
	frame, err := wire.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "auth.golden.json")
	if *update {
		if err := os.WriteFile(path, append(frame, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(frame) != strings.TrimSpace(string(want)) {
		t.Errorf("the bytes of auth have changed:\n%s\n%s", frame, want)
	}
	back, err := wire.DecodeFromClient(bytes.TrimSpace(want))
	if err != nil {
		t.Fatal(err)
	}
	check := wire.AuthCheck{
		Nonce: wire.Nonce{1, 2, 3}, Issued: now, Now: now, CheckName: func(string) *wire.Refused { return nil },
	}
	if r := back.(*wire.Auth).Verify(check); r != nil {
		t.Errorf("refused: %+v", r)
	}
}

// TestVerifyOrder makes everything wrong at once and repairs one thing after
// the other: the codes come in the order of the specification.
func TestVerifyOrder(t *testing.T) {
	d, other := newDevice(t, 1, now), newDevice(t, 2, now)
	bad := d.auth(t, wire.Nonce{1}, "evil.example:443", now.Add(-time.Hour))
	bad.A.DeviceID = other.cert.DeviceID
	expired := other.cert
	expired.Expires = expired.Issued - 1
	bad.Cert = expired
	check := wire.AuthCheck{Nonce: wire.Nonce{2}, Issued: now.Add(-time.Hour), Now: now, CheckName: func(name string) *wire.Refused {
		if name == "example.org:443" {
			return nil
		}
		return &wire.Refused{Code: wire.CodeUnknownName}
	}}
	for _, step := range []struct {
		want   wire.Code
		repair func()
	}{
		{wire.CodeBadNonce, func() { bad.A.Nonce = wire.Nonce{2} }},
		{wire.CodeNonceExpired, func() { check.Issued = now }},
		{wire.CodeUnknownName, func() { bad.A.Server = "example.org:443" }},
		{wire.CodeBadTime, func() { bad.A.Time = now.UnixMilli() }},
		{wire.CodeBadDeviceID, func() { bad.A.DeviceID = d.cert.DeviceID }},
		{wire.CodeBadCertificate, func() { bad.Cert = other.cert }},
		{wire.CodeCertMismatch, func() { bad.Cert = d.cert }},
		{wire.CodeBadSignature, func() { bad = d.auth(t, wire.Nonce{2}, "example.org:443", now) }},
	} {
		r := bad.Verify(check)
		if r == nil || r.Code != step.want {
			t.Fatalf("got %+v, want %s", r, step.want)
		}
		step.repair()
	}
	if r := bad.Verify(check); r != nil {
		t.Fatalf("refused: %+v", r)
	}
}

func TestSignAuthWithAForeignKey(t *testing.T) {
	d := newDevice(t, 1, now)
	body := wire.AuthBody{Server: "example.org:443", Time: 1}
	if _, err := wire.SignAuth(body, seedKey(t, 9), d.cert); err == nil {
		t.Error("a certificate for another key was taken")
	}
	if _, err := wire.SignAuth(body, peercrypto.SigningKey{}, d.cert); err == nil {
		t.Error("no key was taken")
	}
}

func TestEncodeRefusesWhatIsInvalid(t *testing.T) {
	ok := wire.Signal{Kind: wire.KindAnswer, ID: 1, To: idA, Conn: connA, Env: wire.NewEnvelope(nil, []byte("x"))}
	with := func(change func(*wire.Signal)) *wire.Signal {
		s := ok
		change(&s)
		return &s
	}
	for _, m := range []wire.Message{
		with(func(s *wire.Signal) { s.Kind = "topics" }),
		with(func(s *wire.Signal) { s.ID = 0 }),
		with(func(s *wire.Signal) { s.ID = wire.MaxID + 1 }),
		with(func(s *wire.Signal) { s.To = `","x":"` }),
		with(func(s *wire.Signal) { s.From = idA }),
		with(func(s *wire.Signal) { s.Conn = "" }),
		with(func(s *wire.Signal) { s.Env.CT = "" }),
		with(func(s *wire.Signal) { s.Env.CT = "AB" }),
		with(func(s *wire.Signal) { s.Env.CT = `A"A` }),
		with(func(s *wire.Signal) { s.Env.CT = strings.Repeat("A", wire.MaxCiphertext+4) }),
		with(func(s *wire.Signal) { s.Env.Eph = peercrypto.EncodeB64(make([]byte, 32)) }),
		with(func(s *wire.Signal) { s.Kind = wire.KindOffer }),
		&wire.Topics{ID: 1, Add: make([]peercrypto.Tag, 1)},
		&wire.Topics{ID: 1, Add: make([]peercrypto.Tag, wire.MaxTopics+1)},
		&wire.Topics{},
		&wire.Result{ID: 1},
		&wire.Result{ID: 1, Code: wire.CodeOK, RetryAfter: -1},
		&wire.Refused{Code: wire.CodeUseName},
		&wire.Ready{},
		&wire.ICE{Servers: []wire.ICEServer{{URLs: []string{"http://x"}}}},
		&wire.ICE{Servers: []wire.ICEServer{{}}},
		&wire.Hello{},
		&wire.Present{},
	} {
		if frame, err := wire.Encode(m); err == nil {
			t.Errorf("encoded %s", frame)
		}
	}
}

// TestLargestMessages: what the limits allow fits its frame.
func TestLargestMessages(t *testing.T) {
	tags := make([]peercrypto.Tag, wire.MaxTopics)
	for i := range tags {
		tags[i] = tag(1)
	}
	s := &wire.Signal{
		Kind: wire.KindCandidate, ID: wire.MaxID, To: idA, Via: tag(1), Conn: connA,
		Env: wire.Envelope{CT: strings.Repeat("A", wire.MaxCiphertext)},
	}
	for _, m := range []wire.Message{&wire.Topics{ID: wire.MaxID, Add: tags}, s} {
		frame, err := wire.Encode(m)
		if err != nil {
			t.Fatalf("%s: %v", m.Type(), err)
		}
		if _, err := wire.DecodeFromClient(frame); err != nil {
			t.Errorf("%s: %v", m.Type(), err)
		}
	}
	if frame := s.Stamped(idA); len(frame) > wire.MaxFrame {
		t.Errorf("%d bytes after stamping", len(frame))
	}
}
