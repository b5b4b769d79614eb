package world

import (
	"encoding/binary"

	"github.com/klauspost/compress/zstd"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// Frame types, as pkg/sync/doc.go specifies them.
const (
	frameHello   = 0x01
	frameGroups  = 0x02
	frameRecon   = 0x03
	frameAck     = 0x04
	frameHave    = 0x05
	frameUsers   = 0x0c
	frameEntries = 0x10
	frameLog     = 0x11
	frameMark    = 0x12
	frameMarked  = 0x13
	framePacked  = 0x14

	flagOffer = 4
)

// unpacker is made outside of any bubble, in which its channels must not be made.
var unpacker, errUnpacker = zstd.NewReader(nil, zstd.WithDecoderMaxMemory(groupsync.MaxFrame))

// unpack returns what a PACKED frame holds; anything else, and what can't be unpacked, as it is.
func unpack(raw []byte) []byte {
	if raw[0] != framePacked || errUnpacker != nil {
		return raw
	}
	c := &cursor{in: raw[1:]}
	c.uvarint() // length
	if out, err := unpacker.DecodeAll(c.in, nil); err == nil && len(out) > 0 {
		return out
	}
	return raw
}

// moves tells whether a frame of an honest device shows that a group is still being synced that both sides count each other into. To offer a group again, in
// each session until it is answered, does not.
func (e *endpoint) moves(raw []byte) bool {
	switch raw[0] {
	case frameLog:
		if _, flags, _ := entriesOf(raw); flags&flagOffer != 0 {
			return false
		}
	case frameGroups, frameRecon, frameHave, frameEntries, frameMark:
	default:
		return false
	}
	for _, g := range groupsOf(raw) {
		if e.dev.members[g][e.peer.dev.user.id] && e.peer.dev.members[g][e.dev.user.id] {
			return true
		}
	}
	return false
}

// named tells which frames begin with a group's id.
func named(kind byte) bool {
	return kind == frameRecon || kind >= frameHave && kind <= 0x0a || kind >= frameEntries && kind <= frameMarked
}

// groupOf reads the group that a frame is about; "" if it is about none, or several.
func groupOf(raw []byte) peercrypto.ID {
	if len(raw) < 2 || !named(raw[0]) || int(raw[1]) > len(raw)-2 {
		return ""
	}
	return peercrypto.ID(raw[2 : 2+int(raw[1])])
}

// A cursor reads fields; behind the first fault it reads zeros.
type cursor struct {
	in  []byte
	bad bool
}

func (c *cursor) uvarint() uint64 {
	n, size := binary.Uvarint(c.in)
	if size <= 0 {
		c.bad, c.in = true, nil
		return 0
	}
	c.in = c.in[size:]
	return n
}

func (c *cursor) take(n uint64) []byte {
	if n > uint64(len(c.in)) {
		c.bad, c.in = true, nil
		return nil
	}
	out := c.in[:n]
	c.in = c.in[n:]
	return out
}

// groupsOf reads all groups that a frame of an honest device names.
func groupsOf(raw []byte) (out []peercrypto.ID) {
	if raw[0] != frameGroups {
		if g := groupOf(raw); g != "" {
			out = append(out, g)
		}
		return out
	}
	c := &cursor{in: raw[1:]}
	for n := c.uvarint(); n > 0 && !c.bad; n-- {
		out = append(out, peercrypto.ID(c.take(c.uvarint())))
		c.uvarint() // flags
		for range 2 {
			c.uvarint() // count
			c.take(16)  // fingerprint
		}
	}
	return out
}

// entriesOf decodes the entries of an ENTRIES or LOG frame of an honest device, and the flags of the latter. It reports false for a frame that
// it does not understand: then this file does not follow pkg/sync/doc.go.
func entriesOf(raw []byte) (out []*entry.Entry, flags uint64, ok bool) {
	c := &cursor{in: raw[1:]}
	c.take(c.uvarint()) // group
	if raw[0] == frameLog {
		flags = c.uvarint()
	}
	for n := c.uvarint(); n > 0 && !c.bad; n-- {
		ent, err := entry.Decode(c.take(c.uvarint()))
		if err != nil {
			return nil, 0, false
		}
		out = append(out, ent)
	}
	return out, flags, !c.bad && len(c.in) == 0
}

// entriesFrame is the other way round.
func entriesFrame(group peercrypto.ID, raws ...[]byte) []byte {
	f := append([]byte{frameEntries, byte(len(group))}, group...)
	f = binary.AppendUvarint(f, uint64(len(raws)))
	for _, raw := range raws {
		f = append(binary.AppendUvarint(f, uint64(len(raw))), raw...)
	}
	return f
}
