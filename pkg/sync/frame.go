package sync

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/recon"
)

// A frameType is the first byte of a frame; doc.go specifies them.
type frameType byte

const (
	frameHello    frameType = 0x01
	frameGroups   frameType = 0x02
	frameRecon    frameType = 0x03
	frameAck      frameType = 0x04
	frameHave     frameType = 0x05
	frameWant     frameType = 0x06
	frameNotFound frameType = 0x07
	frameJoin     frameType = 0x08
	frameRefused  frameType = 0x09
	frameAccept   frameType = 0x0a
	frameNames    frameType = 0x0b
	frameUsers    frameType = 0x0c
	frameKnock    frameType = 0x0d
	frameOpen     frameType = 0x0e

	frameEntries frameType = 0x10
	frameLog     frameType = 0x11
	frameMark    frameType = 0x12
	frameMarked  frameType = 0x13
	framePacked  frameType = 0x14

	optional frameType = 0x80
)

// Limits of frames.
const (
	protocolVersion = 1
	softFrame       = 60 << 10 // what this device packs into one frame
	maxSmallFrame   = 64 << 10 // every frame but one with a single entry
	maxHashes       = 1_000    // of HAVE, WANT, NOTFOUND
	maxGroups       = 600      // of one GROUPS frame
	maxKnocks       = maxJoins
	maxUsers        = 256 // of NAMES and USERS
	maxClaim        = 4 << 10
	maxText         = 512
	maxID           = 128
)

// Flags of an element of GROUPS and of LOG frames.
const (
	flagAsk = 1

	flagFirst = 1
	flagLast  = 2
	flagOffer = 4
)

var errFrame = errors.New("malformed frame")

// A cursor reads fields; after the first error it reads zeros.
type cursor struct {
	in  []byte
	err error
}

func (c *cursor) fail(what string) {
	if c.err == nil {
		c.err = fmt.Errorf("%w: %s", errFrame, what)
	}
	c.in = nil
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.in)
	if n <= 0 || v > math.MaxInt64 || (n > 1 && c.in[n-1] == 0) {
		c.fail("bad integer")
		return 0
	}
	c.in = c.in[n:]
	return v
}

// count reads how many elements follow, each of at least size bytes.
func (c *cursor) count(limit, size int) int {
	n := c.uvarint()
	if n > uint64(limit) || n*uint64(size) > uint64(len(c.in)) {
		c.fail("bad count")
		return 0
	}
	return int(n)
}

func (c *cursor) fixed(dst []byte) {
	if len(dst) > len(c.in) {
		c.fail("cut off")
		return
	}
	copy(dst, c.in)
	c.in = c.in[len(dst):]
}

// bytes returns a part of the frame.
func (c *cursor) bytes(limit int) []byte {
	n := c.uvarint()
	if n > uint64(limit) || n > uint64(len(c.in)) {
		c.fail("bad length")
		return nil
	}
	b := c.in[:n:n]
	c.in = c.in[n:]
	return b
}

func (c *cursor) id() peercrypto.ID {
	b := c.bytes(maxID)
	if c.err != nil {
		return ""
	}
	id, err := peercrypto.ParseID(string(b))
	if err != nil {
		c.fail("bad id")
	}
	return id
}

func (c *cursor) kind() entry.Kind {
	k := c.uvarint()
	if k != uint64(entry.Operation) && k != uint64(entry.Data) { // before it is cut to a byte
		c.fail("bad kind")
	}
	return entry.Kind(k)
}

func (c *cursor) hashes() []peercrypto.Hash {
	out := make([]peercrypto.Hash, c.count(maxHashes, 32))
	for i := range out {
		c.fixed(out[i][:])
	}
	return out
}

// done tells whether exactly the whole frame was read.
func (c *cursor) done() error {
	if c.err == nil && len(c.in) > 0 {
		c.fail("bytes behind the fields")
	}
	return c.err
}

func appendBytes[T ~string | ~[]byte](b []byte, v T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

type hello struct {
	version, features uint64
	salt              [16]byte
}

func (f hello) encode() []byte {
	b := binary.AppendUvarint([]byte{byte(frameHello)}, f.version)
	return append(binary.AppendUvarint(b, f.features), f.salt[:]...)
}

func decodeHello(c *cursor) hello {
	f := hello{version: c.uvarint(), features: c.uvarint()}
	c.fixed(f.salt[:])
	return f
}

// A digest is what GROUPS tells of a scope.
type digest struct {
	count int64
	fp    [16]byte
}

func appendDigest(b []byte, d digest) []byte {
	return append(binary.AppendUvarint(b, uint64(d.count)), d.fp[:]...)
}

func (c *cursor) digest() digest {
	d := digest{count: int64(c.uvarint())}
	c.fixed(d.fp[:])
	return d
}

type element struct {
	group     peercrypto.ID
	flags     uint64
	ops, data digest
}

func encodeGroups(elements []element) []byte {
	b := binary.AppendUvarint([]byte{byte(frameGroups)}, uint64(len(elements)))
	for _, e := range elements {
		b = binary.AppendUvarint(appendBytes(b, e.group), e.flags)
		b = appendDigest(appendDigest(b, e.ops), e.data)
	}
	return b
}

func decodeGroups(c *cursor) []element {
	out := make([]element, c.count(maxGroups, 30))
	for i := range out {
		out[i] = element{group: c.id(), flags: c.uvarint(), ops: c.digest(), data: c.digest()}
	}
	return out
}

type reconFrame struct {
	scope  Scope
	round  uint64
	ranges []byte
}

func (f reconFrame) encode() []byte {
	b := appendBytes([]byte{byte(frameRecon)}, f.scope.Group)
	b = binary.AppendUvarint(append(b, byte(f.scope.Kind)), f.round)
	return appendBytes(b, f.ranges)
}

func decodeRecon(c *cursor) reconFrame {
	return reconFrame{scope: Scope{c.id(), c.kind()}, round: c.uvarint(), ranges: c.bytes(recon.MaxMessage + 8<<10)}
}

func encodeAck(total int64) []byte {
	return binary.AppendUvarint([]byte{byte(frameAck)}, uint64(total))
}

// hashFrame is HAVE, WANT or NOTFOUND.
type hashFrame struct {
	group  peercrypto.ID
	hashes []peercrypto.Hash
}

func (f hashFrame) encode(t frameType) []byte {
	b := binary.AppendUvarint(appendBytes([]byte{byte(t)}, f.group), uint64(len(f.hashes)))
	for _, h := range f.hashes {
		b = append(b, h[:]...)
	}
	return b
}

func decodeHashes(c *cursor) hashFrame { return hashFrame{c.id(), c.hashes()} }

// rawFrame is JOIN or ACCEPT.
type rawFrame struct {
	group peercrypto.ID
	raw   []byte
}

func (f rawFrame) encode(t frameType) []byte {
	return appendBytes(appendBytes([]byte{byte(t)}, f.group), f.raw)
}

func decodeRaw(c *cursor, limit int) rawFrame { return rawFrame{c.id(), c.bytes(limit)} }

type refusedFrame struct {
	group peercrypto.ID
	code  RefusalCode
	text  string
}

func (f refusedFrame) encode() []byte {
	b := append(appendBytes([]byte{byte(frameRefused)}, f.group), byte(f.code))
	return appendBytes(b, f.text[:min(len(f.text), maxText)])
}

func decodeRefused(c *cursor) refusedFrame {
	f := refusedFrame{group: c.id()}
	code := c.uvarint()
	if code == 0 || code >= 100 {
		code = uint64(RefusedUnspecified)
	}
	f.code, f.text = RefusalCode(code), string(c.bytes(maxText))
	return f
}

func encodeNames(users []peercrypto.ID) []byte {
	b := binary.AppendUvarint([]byte{byte(frameNames)}, uint64(len(users)))
	for _, u := range users {
		b = appendBytes(b, u)
	}
	return b
}

func decodeNames(c *cursor) []peercrypto.ID {
	out := make([]peercrypto.ID, c.count(maxUsers, 2))
	for i := range out {
		out[i] = c.id()
	}
	return out
}

func encodeUsers(docs [][]byte) []byte {
	b := binary.AppendUvarint([]byte{byte(frameUsers)}, uint64(len(docs)))
	for _, d := range docs {
		b = appendBytes(b, d)
	}
	return b
}

func decodeUsers(c *cursor) [][]byte {
	out := make([][]byte, c.count(maxUsers, 2))
	for i := range out {
		out[i] = c.bytes(maxUserDoc)
	}
	return out
}

// A knock tells that its sender knows an invitation, to who knows it too and to nobody else.
type knock [16]byte

func encodeKnocks(t frameType, ks []knock) []byte {
	b := binary.AppendUvarint([]byte{byte(t)}, uint64(len(ks)))
	for _, k := range ks {
		b = append(b, k[:]...)
	}
	return b
}

func decodeKnocks(c *cursor) []knock {
	out := make([]knock, c.count(maxKnocks, 16))
	for i := range out {
		c.fixed(out[i][:])
	}
	return out
}

// entriesFrame is ENTRIES or, with flags, LOG.
type entriesFrame struct {
	group peercrypto.ID
	flags uint64
	raws  [][]byte
}

func (f entriesFrame) appendTo(b []byte, t frameType) []byte {
	b = appendBytes(append(b, byte(t)), f.group)
	if t == frameLog {
		b = binary.AppendUvarint(b, f.flags)
	}
	b = binary.AppendUvarint(b, uint64(len(f.raws)))
	for _, r := range f.raws {
		b = appendBytes(b, r)
	}
	return b
}

func decodeEntries(c *cursor, t frameType) entriesFrame {
	f := entriesFrame{group: c.id()}
	if t == frameLog {
		f.flags = c.uvarint()
	}
	f.raws = make([][]byte, c.count(maxSmallFrame, 2))
	for i := range f.raws {
		f.raws[i] = c.bytes(entry.MaxSize)
	}
	return f
}

// markFrame is MARK (with the number of RECON frames before it) or MARKED (with the sender's digest).
type markFrame struct {
	scope    Scope
	round    uint64
	messages uint64
	digest   digest
}

func (f markFrame) encode(t frameType) []byte {
	b := append(appendBytes([]byte{byte(t)}, f.scope.Group), byte(f.scope.Kind))
	b = binary.AppendUvarint(b, f.round)
	if t == frameMark {
		return binary.AppendUvarint(b, f.messages)
	}
	return appendDigest(b, f.digest)
}

func decodeMark(c *cursor, t frameType) markFrame {
	f := markFrame{scope: Scope{c.id(), c.kind()}, round: c.uvarint()}
	if t == frameMark {
		f.messages = c.uvarint()
	} else {
		f.digest = c.digest()
	}
	return f
}

// decodeFrame reads a frame of a lane. Unknown optional frames give nil.
func decodeFrame(lane Lane, raw []byte) (frameType, any, error) {
	if len(raw) == 0 {
		return 0, nil, fmt.Errorf("%w: empty", errFrame)
	}
	t := frameType(raw[0])
	c := &cursor{in: raw[1:]}
	var out any
	if lane == Bulk {
		out = decodeBulk(t, c)
	} else {
		out = decodeControl(t, c)
	}
	switch {
	case out == nil && t&optional != 0:
		return t, nil, nil
	case out == nil:
		return t, nil, fmt.Errorf("%w: type %#x on lane %d", errFrame, byte(t), lane)
	}
	if err := c.done(); err != nil {
		return t, nil, err
	}
	limit := maxSmallFrame
	if f, ok := out.(entriesFrame); ok && len(f.raws) == 1 {
		limit = MaxFrame
	}
	if len(raw) > limit {
		return t, nil, fmt.Errorf("%w: %d bytes", errFrame, len(raw))
	}
	return t, out, nil
}

func decodeBulk(t frameType, c *cursor) any {
	switch t {
	case frameEntries, frameLog:
		return decodeEntries(c, t)
	case frameMark, frameMarked:
		return decodeMark(c, t)
	}
	return nil
}

func decodeControl(t frameType, c *cursor) any {
	switch t {
	case frameHello:
		return decodeHello(c)
	case frameGroups:
		return decodeGroups(c)
	case frameRecon:
		return decodeRecon(c)
	case frameAck:
		return int64(c.uvarint())
	case frameHave, frameWant, frameNotFound:
		return decodeHashes(c)
	case frameJoin:
		return decodeRaw(c, maxClaim)
	case frameRefused:
		return decodeRefused(c)
	case frameAccept:
		return decodeRaw(c, maxSmallFrame)
	case frameNames:
		return decodeNames(c)
	case frameUsers:
		return decodeUsers(c)
	case frameKnock, frameOpen:
		return decodeKnocks(c)
	case frameNeed, frameGive, frameChain:
		return decodeOwn(c)
	}
	return nil
}
