package world

import (
	"encoding/binary"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
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

	flagOffer = 4
)

// moves tells whether a frame of an honest device shows that a group is still being synced that both sides count each other into. To offer a group again, in
// each session until it is answered, does not.
func (e *endpoint) moves(raw []byte) bool {
	switch raw[0] {
	case frameLog:
		if _, flags := entriesOf(raw); flags&flagOffer != 0 {
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

// groupsOf reads all groups that a frame of an honest device names.
func groupsOf(raw []byte) (out []peercrypto.ID) {
	if raw[0] != frameGroups {
		if g := groupOf(raw); g != "" {
			out = append(out, g)
		}
		return out
	}
	n, at := binary.Uvarint(raw[1:])
	rest := raw[1+at:]
	for range n {
		size := int(rest[0])
		out = append(out, peercrypto.ID(rest[1:1+size]))
		rest = rest[1+size:]
		_, k := binary.Uvarint(rest) // flags
		rest = rest[k:]
		for range 2 {
			_, k = binary.Uvarint(rest)
			rest = rest[k+16:]
		}
	}
	return out
}

// entriesOf decodes the entries of an ENTRIES or LOG frame, and the flags of the latter.
func entriesOf(raw []byte) (out []*entry.Entry, flags uint64) {
	rest := raw[2+int(raw[1]):]
	if raw[0] == frameLog {
		f, k := binary.Uvarint(rest)
		flags, rest = f, rest[k:]
	}
	n, k := binary.Uvarint(rest)
	rest = rest[k:]
	for range n {
		size, k := binary.Uvarint(rest)
		if ent, err := entry.Decode(rest[k : k+int(size)]); err == nil {
			out = append(out, ent)
		}
		rest = rest[k+int(size):]
	}
	return out, flags
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
