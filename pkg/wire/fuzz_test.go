package wire_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/peersignal/peersignal/pkg/wire"
)

func seeds(f *testing.F, messages []wire.Message) {
	for _, m := range messages {
		frame, err := wire.Encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame)
	}
	for _, s := range []string{
		"", "null", "[]", `{"type":null}`, `{"type":"topics","id":1e3}`, `{"type":"offer","id":1,"env":{}}`,
		`{"type":"topics","id":1,"__proto__":1}`, `{"id":7,"type":"x"}`, "{\"type\":\"\xff\"}", `{"type":"bye"} `,
	} {
		f.Add([]byte(s))
	}
}

// FuzzDecodeFromClient: no panic; errors are DecodeErrors with a code; what is
// accepted can be encoded and decoded again with the same result.
func FuzzDecodeFromClient(f *testing.F) {
	seeds(f, clientMessages(f))
	f.Fuzz(func(t *testing.T, frame []byte) {
		m, err := wire.DecodeFromClient(frame)
		if err != nil {
			var d *wire.DecodeError
			if !errors.As(err, &d) || (d.Code != wire.CodeInvalid && d.Code != wire.CodeTooLarge) || d.ID > wire.MaxID {
				t.Fatalf("got %#v", err)
			}
			return
		}
		again(t, m, wire.DecodeFromClient)
	})
}

// FuzzDecodeFromServer is the same for the other direction.
func FuzzDecodeFromServer(f *testing.F) {
	seeds(f, serverMessages(f))
	f.Fuzz(func(t *testing.T, frame []byte) {
		m, err := wire.DecodeFromServer(frame)
		if err != nil {
			var d *wire.DecodeError
			if !errors.Is(err, wire.ErrUnknownType) && !errors.As(err, &d) {
				t.Fatalf("got %#v", err)
			}
			return
		}
		again(t, m, wire.DecodeFromServer)
	})
}

func again(t *testing.T, m wire.Message, decode func([]byte) (wire.Message, error)) {
	t.Helper()
	one, err := wire.Encode(m)
	if err != nil {
		t.Fatalf("accepted but not encodable: %v: %+v", err, m)
	}
	back, err := decode(one)
	if err != nil {
		t.Fatalf("encoded but not accepted: %v: %s", err, one)
	}
	two, err := wire.Encode(back)
	if err != nil || string(one) != string(two) {
		t.Fatalf("%s became %s (%v)", one, two, err)
	}
}

// FuzzSignalScanner: what the scanner accepts, the plain decoder accepts with
// the same result, and what our encoder writes, the scanner accepts.
func FuzzSignalScanner(f *testing.F) {
	for _, m := range append(clientMessages(f), serverMessages(f)...) {
		if s, ok := m.(*wire.Signal); ok {
			frame, err := wire.Encode(s)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(frame, s.From == "")
		}
	}
	f.Add([]byte(`{"type":"answer","id":1,"to":"aaaaaaaaaaaaaaaaaaaaaaaaa","via":"","conn":"aaaaaaaaaaaaaaaaaaaaaaaaa","env":{"ct":"AB"}}`), true)
	f.Fuzz(func(t *testing.T, frame []byte, client bool) {
		plain, err := wire.PlainSignal(frame, client)
		fast, ok := wire.ScanSignal(frame, client)
		if ok && (err != nil || !reflect.DeepEqual(plain, fast)) {
			t.Fatalf("scanner: %+v, plain: %+v, %v", fast, plain, err)
		}
		if err != nil {
			return
		}
		ours, err := wire.Encode(plain)
		if err != nil {
			t.Fatal(err)
		}
		if fast, ok = wire.ScanSignal(ours, client); !ok || !reflect.DeepEqual(plain, fast) {
			t.Fatalf("the scanner does not take %s", ours)
		}
		var ref wire.SignalRef
		if ref.Scan(ours) != client {
			t.Fatalf("a server scans %s as a client's: %v", ours, !client)
		}
		if stamped := plain.Stamped(idA); client && string(ref.AppendStamped(nil, idA)) != string(stamped) {
			t.Fatalf("%s is not stamped like %s", ours, stamped)
		}
	})
}

// FuzzCanonicalServer: what is accepted is canonical already.
func FuzzCanonicalServer(f *testing.F) {
	for _, s := range []string{
		"https://example.org", "ws://localhost:8080", "https://[::1]:1/", "http://10.0.0.1?insecure=1", "https://a:0", "https://0x7f.1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, url string) {
		name, _, err := wire.CanonicalServer(url)
		if err != nil {
			return
		}
		if again, err := wire.CanonicalName(name); err != nil || again != name {
			t.Fatalf("%q gave %q, which gives %q, %v", url, name, again, err)
		}
	})
}
