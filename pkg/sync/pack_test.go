package sync

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// packable is an ENTRIES frame that can be packed.
func packable(n int) []byte {
	raws := make([][]byte, n)
	for i := range raws {
		raws[i] = bytes.Repeat([]byte(`{"member":"value"}`), 20)
	}
	return entriesFrame{group: peercrypto.ID("0000000000000000000000001"), raws: raws}.appendTo(nil, frameEntries)
}

func TestPack(t *testing.T) {
	plain := packable(100)
	packed := pack(nil, plain)
	if len(packed) == 0 || len(packed) > len(plain)/4 {
		t.Errorf("%d bytes became %d", len(plain), len(packed))
	}
	if got, err := unpack(packed); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("unpacked is not what was packed: %v", err)
	}
	if got, err := unpack(plain); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("a plain frame changed: %v", err)
	}
	if got := pack(nil, packable(1)); len(got) != 0 {
		t.Error("a small frame was packed")
	}
	noise := make([]byte, 4_096)
	for i := range noise {
		noise[i] = byte(rand.Int())
	}
	if got := pack(nil, noise); len(got) != 0 {
		t.Error("what can't be compressed was packed")
	}
}

// TestUnpackRefuses: what unpacks to more than it says, or to anything but entries, costs no more than its frame.
func TestUnpackRefuses(t *testing.T) {
	plain := packable(100)
	packed := pack(nil, plain)
	head := 1 + 3 // type, length
	mark := append(markFrame{}.encode(frameMark), make([]byte, 2_000)...)
	for name, raw := range map[string][]byte{
		"nothing in it":    {byte(framePacked)},
		"no bytes":         packed[:head],
		"cut off":          packed[:len(packed)-3],
		"another length":   append([]byte{byte(framePacked), 0x80, 0x80, 0x01}, packed[head:]...),
		"a huge length":    append([]byte{byte(framePacked), 0xff, 0xff, 0xff, 0x7f}, packed[head:]...),
		"a short length":   append([]byte{byte(framePacked), 0x01}, packed[head:]...),
		"a bomb":           pack(nil, make([]byte, 64<<20)),
		"another frame":    pack(nil, mark),
		"packed in packed": pack(nil, append(pack(nil, plain), make([]byte, 5_000)...)),
	} {
		if _, err := unpack(raw); !errors.Is(err, errFrame) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(pack(nil, packable(10)))
	f.Add(packable(1))
	f.Add([]byte{byte(framePacked)})
	f.Fuzz(func(t *testing.T, raw []byte) {
		out, err := unpack(raw)
		if err == nil && len(out) > max(len(raw), MaxFrame) {
			t.Fatalf("%d bytes became %d", len(raw), len(out))
		}
	})
}
