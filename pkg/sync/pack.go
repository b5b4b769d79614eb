package sync

import (
	"encoding/binary"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

const (
	// featurePacked in HELLO tells that PACKED frames are understood.
	featurePacked = 1
	// packFrom is the length from which frames are compressed.
	packFrom = 1 << 10
)

// Both are safe for concurrent use, and bounded in memory: 64 KiB of window for each core, and no frame above MaxFrame. They are made when
// the program starts: the channels in them would otherwise belong to the first synctest bubble that sends something, and end the next one.
var (
	packer   = newPacker()
	unpacker = newUnpacker()
)

func newPacker() *zstd.Encoder {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(64<<10),
		zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
	if err != nil {
		panic(err) // the options are constant
	}
	enc.EncodeAll(nil, nil) // makes its channel
	return enc
}

func newUnpacker() *zstd.Decoder {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(MaxFrame), zstd.WithDecoderMaxWindow(2<<20), zstd.WithDecoderLowmem(true))
	if err != nil {
		panic(err) // the options are constant
	}
	return dec
}

// pack appends the PACKED form of an ENTRIES or LOG frame to b, or nothing if it saves less than an eighth.
func pack(b, frame []byte) []byte {
	if len(frame) < packFrom {
		return b
	}
	out := binary.AppendUvarint(append(b, byte(framePacked)), uint64(len(frame)))
	if out = packer.EncodeAll(frame, out); len(out)-len(b) > len(frame)-len(frame)/8 {
		return b
	}
	return out
}

// unpack returns what a PACKED frame holds, and any other frame as it is.
func unpack(raw []byte) ([]byte, error) {
	if len(raw) == 0 || frameType(raw[0]) != framePacked {
		return raw, nil
	}
	c := &cursor{in: raw[1:]}
	size := c.uvarint()
	if c.err == nil && (size < packFrom || size > MaxFrame) {
		c.fail("bad length of a packed frame")
	}
	if c.err != nil {
		return nil, c.err
	}
	out, err := unpacker.DecodeAll(c.in, make([]byte, 0, size))
	if err != nil {
		return nil, fmt.Errorf("%w: it can't be unpacked: %w", errFrame, err)
	}
	if uint64(len(out)) != size || (frameType(out[0]) != frameEntries && frameType(out[0]) != frameLog) {
		return nil, fmt.Errorf("%w: it is packed and not what it says", errFrame)
	}
	return out, nil
}
