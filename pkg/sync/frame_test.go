package sync

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// frames has one of each type.
func frames() map[Lane][][]byte {
	id := peercrypto.NewID(time.UnixMilli(1_700_000_000_000))
	h := peercrypto.Sum([]byte("x"))
	d := digest{5, [16]byte{1, 2, 3}}
	scope := Scope{id, entry.Data}
	hashes := hashFrame{id, []peercrypto.Hash{h, h}}
	return map[Lane][][]byte{
		Control: {
			hello{1, 0, [16]byte{9}}.encode(),
			encodeGroups(nil),
			encodeGroups([]element{{id, flagAsk, d, d}, {id, 0, d, d}}),
			reconFrame{scope, 3, []byte{1, 2, 3}}.encode(),
			encodeAck(1 << 40),
			hashes.encode(frameHave), hashes.encode(frameWant), hashes.encode(frameNotFound),
			rawFrame{id, []byte(`{}`)}.encode(frameJoin), rawFrame{id, nil}.encode(frameJoin),
			refusedFrame{id, RefusedUsed, "used"}.encode(),
			rawFrame{id, []byte(`{}`)}.encode(frameAccept),
			encodeNames([]peercrypto.ID{id, id}),
			encodeUsers([][]byte{[]byte("a"), []byte("b")}),
			encodeKnocks(frameKnock, []knock{{1}, {2}}), encodeKnocks(frameOpen, nil),
			ownFrame(`{}`).encode(frameNeed), ownFrame(nil).encode(frameGive),
		},
		Bulk: {
			entriesFrame{id, 0, [][]byte{[]byte("one"), []byte("two")}}.appendTo(nil, frameEntries),
			entriesFrame{id, flagFirst | flagLast, [][]byte{[]byte("one")}}.appendTo(nil, frameLog),
			markFrame{scope, 7, 3, digest{}}.encode(frameMark),
			markFrame{scope, 7, 0, d}.encode(frameMarked),
		},
	}
}

// encodeAgain is the inverse of decodeFrame.
func encodeAgain(t testing.TB, kind frameType, body any) []byte {
	switch f := body.(type) {
	case hello:
		return f.encode()
	case []element:
		return encodeGroups(f)
	case reconFrame:
		return f.encode()
	case int64:
		return encodeAck(f)
	case hashFrame:
		return f.encode(kind)
	case rawFrame:
		return f.encode(kind)
	case ownFrame:
		return f.encode(kind)
	case refusedFrame:
		return f.encode()
	case []peercrypto.ID:
		return encodeNames(f)
	case [][]byte:
		return encodeUsers(f)
	case []knock:
		return encodeKnocks(kind, f)
	case entriesFrame:
		return f.appendTo(nil, kind)
	case markFrame:
		return f.encode(kind)
	}
	t.Fatalf("frame type %#x decoded to %T", byte(kind), body)
	return nil
}

func TestFramesRoundTrip(t *testing.T) {
	for lane, list := range frames() {
		for _, raw := range list {
			kind, body, err := decodeFrame(lane, raw)
			if err != nil {
				t.Errorf("%x: %v", raw, err)
				continue
			}
			if again := encodeAgain(t, kind, body); !bytes.Equal(again, raw) {
				t.Errorf("%x became %x", raw, again)
			}
			for n := range len(raw) {
				if _, _, err := decodeFrame(lane, raw[:n]); !errors.Is(err, errFrame) {
					t.Errorf("%x cut at %d: %v", raw, n, err)
				}
			}
			if _, _, err := decodeFrame(lane, append(bytes.Clone(raw), 0)); !errors.Is(err, errFrame) {
				t.Errorf("%x with a byte more: %v", raw, err)
			}
			if _, body, err := decodeFrame(3-lane, raw); !errors.Is(err, errFrame) && (kind&optional == 0 || body != nil) {
				t.Errorf("%x on the other lane: %v", raw, err)
			}
		}
	}
}

func TestUnknownFrames(t *testing.T) {
	if _, body, err := decodeFrame(Control, []byte{0xff, 1, 2, 3}); err != nil || body != nil {
		t.Errorf("an optional type gave %v, %v", body, err)
	}
	if _, _, err := decodeFrame(Control, []byte{0x7f}); !errors.Is(err, errFrame) {
		t.Errorf("an unknown type gave %v", err)
	}
}

// TestFrameBytes pins the layouts that doc.go specifies.
func TestFrameBytes(t *testing.T) {
	const want = "0b33913baf1058ea"
	sum := sha256.New()
	id := peercrypto.ID("0000000000000000000000001")
	scope := Scope{id, entry.Operation}
	d := digest{300, [16]byte{1}}
	for _, f := range [][]byte{
		hello{1, 2, [16]byte{3}}.encode(),
		encodeGroups([]element{{id, 1, d, d}}),
		reconFrame{scope, 300, []byte{1, 2}}.encode(),
		encodeAck(300),
		hashFrame{id, []peercrypto.Hash{{1}}}.encode(frameHave),
		rawFrame{id, []byte("{}")}.encode(frameJoin),
		refusedFrame{id, 3, "x"}.encode(),
		encodeNames([]peercrypto.ID{id}),
		encodeUsers([][]byte{{1}}),
		encodeKnocks(frameKnock, []knock{{1}}),
		entriesFrame{id, 0, [][]byte{{1}}}.appendTo(nil, frameEntries),
		entriesFrame{id, 3, [][]byte{{1}}}.appendTo(nil, frameLog),
		markFrame{scope, 1, 2, digest{}}.encode(frameMark),
		markFrame{scope, 1, 0, d}.encode(frameMarked),
	} {
		sum.Write(f)
	}
	if got := peercrypto.Hash(sum.Sum(nil)).Hex()[:16]; got != want {
		t.Errorf("the layout of a frame changed: %s, want %s", got, want)
	}
}

func FuzzFrame(f *testing.F) {
	for lane, list := range frames() {
		for _, raw := range list {
			f.Add(byte(lane), raw)
		}
	}
	f.Fuzz(func(t *testing.T, lane byte, raw []byte) {
		kind, body, err := decodeFrame(Lane(1+lane%2), raw)
		if err != nil || body == nil {
			return
		}
		again := encodeAgain(t, kind, body)
		if refused, ok := body.(refusedFrame); ok && refused.code == RefusedUnspecified {
			return // unknown codes become this one
		}
		if !bytes.Equal(again, raw) {
			t.Fatalf("%x became %x", raw, again)
		}
	})
}
