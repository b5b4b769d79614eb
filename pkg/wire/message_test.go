package wire_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

var (
	now   = time.UnixMilli(1_790_000_000_000)
	idA   = peercrypto.ID("aaaaaaaaaaaaaaaaaaaaaaaa1")[:25]
	connA = peercrypto.ID("0mfwhzmt5c1234567890abcde")[:25]
)

func clientMessages(t testing.TB) []wire.Message {
	d := newDevice(t, 1, now)
	return []wire.Message{
		d.auth(t, wire.Nonce{1}, "example.org:443", now),
		&wire.Topics{ID: 1, Add: []peercrypto.Tag{tag(1), tag(2)}},
		&wire.Topics{ID: 2, Del: []peercrypto.Tag{tag(1)}},
		&wire.Signal{
			Kind: wire.KindOffer, ID: 3, To: idA, Via: tag(9), Conn: connA,
			Env: wire.Envelope{Eph: peercrypto.EncodeB64(bytes.Repeat([]byte{9}, 32)), CT: "AAAA"},
		},
		&wire.Signal{Kind: wire.KindAnswer, ID: wire.MaxID, To: idA, Conn: connA, Env: wire.NewEnvelope(nil, []byte("x"))},
		&wire.Signal{Kind: wire.KindAnswer, ID: 7, Ack: wire.MaxID, To: idA, Via: tag(1), Conn: connA, Env: wire.NewEnvelope(nil, []byte("x"))},
		&wire.Signal{Kind: wire.KindCandidate, ID: 5, To: idA, Via: tag(3), Conn: connA, Env: wire.NewEnvelope(nil, []byte("xy"))},
		&wire.ICERequest{ID: 4},
		resuming(d.auth(t, wire.Nonce{1}, "example.org:443", now)),
		&wire.Ack{N: 7},
		&wire.Bye{},
	}
}

func resuming(a *wire.Auth) *wire.Auth {
	a.Resume, a.Got = "token", 12
	return a
}

func serverMessages(t testing.TB) []wire.Message {
	d := newDevice(t, 1, now)
	return []wire.Message{
		&wire.Hello{
			V: 1, Nonce: wire.Nonce{1}, Time: 1, Caps: []string{wire.CapRV1},
			Limits: wire.Limits{Frame: wire.MaxFrame, TopicsFrame: wire.MaxTopicsFrame, Topics: wire.MaxTopics},
		},
		&wire.Ready{
			Session: peercrypto.NewNonce(), You: wire.You{Addr: "127.0.0.1:1"},
			ICE: []wire.ICEServer{{URLs: []string{"turn:127.0.0.1:3478?transport=udp"}, Username: "u", Credential: "c"}},
		},
		&wire.Ready{
			Session: peercrypto.NewNonce(), You: wire.You{Addr: "127.0.0.1:1"}, ICE: []wire.ICEServer{},
			Resume: "token", ResumeExpires: 9, Resumed: true, Topics: 3,
		},
		&wire.Refused{Code: wire.CodeUseName, Message: "dial it", Name: "example.org:443", RetryAfter: 5},
		&wire.Present{Tag: tag(1), Full: true, Join: []wire.PresentPeer{{Cert: d.cert}}},
		&wire.Present{Tag: tag(1), Leave: []peercrypto.ID{idA}},
		&wire.Signal{Kind: wire.KindAnswer, From: idA, Via: tag(1), Conn: connA, Env: wire.NewEnvelope(nil, []byte("x"))},
		&wire.Result{ID: 1, Code: wire.CodeRateLimited, Message: "slower", RetryAfter: 1000},
		&wire.ICE{Servers: []wire.ICEServer{}, Expires: 5},
		&wire.Notice{Code: wire.CodeDraining, Message: "restart", RetryAfter: 100},
	}
}

func TestRoundTrip(t *testing.T) {
	check := func(t *testing.T, m wire.Message, decode func([]byte) (wire.Message, error)) {
		t.Helper()
		frame, err := wire.Encode(m)
		if err != nil {
			t.Fatalf("%s: %v", m.Type(), err)
		}
		if !strings.HasPrefix(string(frame), `{"type":"`+m.Type()+`"`) {
			t.Errorf("type is not first: %s", frame)
		}
		back, err := decode(frame)
		if err != nil {
			t.Fatalf("%s: %v\n%s", m.Type(), err, frame)
		}
		if !reflect.DeepEqual(m, back) {
			t.Errorf("%s: got %+v, want %+v", m.Type(), back, m)
		}
		// The order of members and white space do not matter.
		var v any
		if err := json.Unmarshal(frame, &v); err != nil {
			t.Fatal(err)
		}
		spaced, _ := json.MarshalIndent(v, "", "  ")
		if back, err = decode(spaced); err != nil || !reflect.DeepEqual(m, back) {
			t.Errorf("%s: other spelling: %v, %+v", m.Type(), err, back)
		}
	}
	for _, m := range clientMessages(t) {
		check(t, m, wire.DecodeFromClient)
	}
	for _, m := range serverMessages(t) {
		check(t, m, wire.DecodeFromServer)
	}
}

func TestClientsIgnoreWhatIsNew(t *testing.T) {
	for _, m := range serverMessages(t) {
		frame, err := wire.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		grown := append(bytes.TrimSuffix(frame, []byte("}")), `,"new":{"deep":[1]}}`...)
		back, err := wire.DecodeFromServer(grown)
		if err != nil || !reflect.DeepEqual(m, back) {
			t.Errorf("%s: %v", m.Type(), err)
		}
	}
	if _, err := wire.DecodeFromServer([]byte(`{"type":"later","x":1}`)); !errors.Is(err, wire.ErrUnknownType) {
		t.Errorf("unknown type: %v", err)
	}
}

func TestAppendResult(t *testing.T) {
	for _, r := range []wire.Result{{ID: 1, Code: wire.CodeOK}, {ID: wire.MaxID, Code: wire.CodeNotAllowed}} {
		fast, err := wire.Encode(&r)
		if err != nil {
			t.Fatal(err)
		}
		back, err := wire.DecodeFromServer(fast)
		if got, ok := back.(*wire.Result); err != nil || !ok || *got != r || string(wire.AppendResult(nil, r.ID, r.Code)) != string(fast) {
			t.Errorf("%s: got %+v, %v, want %+v", fast, back, err, r)
		}
	}
}

func TestScanAck(t *testing.T) {
	for _, n := range []uint64{1, 10, wire.MaxID} {
		frame, err := wire.Encode(&wire.Ack{N: n})
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := wire.ScanAck(frame); got != n || !ok {
			t.Errorf("%s: got %d, %v", frame, got, ok)
		}
	}
	for _, bad := range []string{
		"", `{"type":"ack","n":}`, `{"type":"ack","n":0}`, `{"type":"ack","n":01}`, `{"type":"ack","n":1}}`, `{"type":"ack","n":1`,
		`{"type":"ack","n":9007199254740992}`, `{"type":"ack","n":1,"n":2}`, `{"type":"ack","n":1.0}`,
	} {
		if _, ok := wire.ScanAck([]byte(bad)); ok {
			t.Errorf("%s was scanned", bad)
		}
	}
}

// TestAlphabet puts every byte at every place of a ciphertext: only base64url is scanned.
func TestAlphabet(t *testing.T) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	ct := strings.Repeat("A", 20)
	frame, err := wire.Encode(&wire.Signal{Kind: wire.KindAnswer, ID: 1, To: idA, Conn: connA, Env: wire.Envelope{CT: ct}})
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(frame), ct)
	for place := range len(ct) {
		for c := range 256 {
			f := append([]byte(nil), frame...)
			f[at+place] = byte(c)
			var ref wire.SignalRef
			if got, want := ref.Scan(f), strings.IndexByte(alphabet, byte(c)) >= 0; got != want {
				t.Fatalf("byte %#x at %d: scanned is %v", c, place, got)
			}
		}
	}
}
