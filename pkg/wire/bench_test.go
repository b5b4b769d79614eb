package wire_test

import (
	"bytes"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

func benchSignal(b *testing.B) []byte {
	frame, err := wire.Encode(&wire.Signal{
		Kind: wire.KindOffer, ID: 12, To: idA, Via: tag(7), Conn: connA,
		Env: wire.NewEnvelope(&peercrypto.BoxPublicKey{9}, bytes.Repeat([]byte{1}, 1200)),
	})
	if err != nil {
		b.Fatal(err)
	}
	return frame
}

// BenchmarkRelay is what a server does with a signal: scan and stamp.
func BenchmarkRelay(b *testing.B) {
	frame := benchSignal(b)
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	dst := make([]byte, 0, wire.MaxFrame)
	for b.Loop() {
		var ref wire.SignalRef
		if !ref.Scan(frame) {
			b.Fatal("not scanned")
		}
		dst = ref.AppendStamped(dst[:0], idA)
	}
}

// BenchmarkPlainDecode is the decoder that the scanner spares.
func BenchmarkPlainDecode(b *testing.B) {
	frame := benchSignal(b)
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := wire.PlainSignal(frame, true); err != nil {
			b.Fatal(err)
		}
	}
}
