package ws

import (
	"encoding/binary"
	"errors"
	"fmt"
)

type opcode byte

const (
	opContinuation opcode = 0
	opText         opcode = 1
	opBinary       opcode = 2
	opClose        opcode = 8
	opPing         opcode = 9
	opPong         opcode = 10
)

func (o opcode) control() bool { return o >= opClose }

// Close codes that this package sends by itself.
const (
	CodeNormal     = 1000
	CodeProtocol   = 1002
	CodeNotText    = 1003
	CodeNoStatus   = 1005 // never sent: the peer gave none
	CodeBadText    = 1007
	CodeTryLater   = 1013
	maxControl     = 125
	maxCloseReason = maxControl - 2
)

// ProtocolError says what a peer did that RFC 6455 forbids.
type ProtocolError struct {
	Code   int // close code to answer with
	Reason string
}

func (e *ProtocolError) Error() string { return "websocket: " + e.Reason }

// CloseError is the peer's close frame.
type CloseError struct {
	Code int // CodeNoStatus when there was none
}

func (e *CloseError) Error() string {
	return fmt.Sprintf("websocket: closed by the peer with %d", e.Code)
}

// ErrTooLong says that a message is over the limit.
var ErrTooLong = errors.New("websocket: message is over the limit")

func violation(reason string) error { return &ProtocolError{Code: CodeProtocol, Reason: reason} }

// frameHeader is the head of a frame of a client.
type frameHeader struct {
	fin    bool
	op     opcode
	key    uint32 // as read little endian
	length uint64
}

// parseHeader reads the head of a frame from the beginning of b and gives its
// length, or 0 when b does not hold all of it.
func parseHeader(b []byte) (h frameHeader, n int, err error) {
	if len(b) < 2 {
		return h, 0, nil
	}
	h.fin, h.op = b[0]&0x80 != 0, opcode(b[0]&0x0f)
	switch {
	case b[0]&0x70 != 0:
		return h, 0, violation("a reserved bit is set")
	case h.op > opBinary && h.op < opClose || h.op > opPong:
		return h, 0, violation("unknown opcode")
	case b[1]&0x80 == 0:
		return h, 0, violation("a client's frame is not masked")
	}
	h.length, n = uint64(b[1]&0x7f), 2
	if h.op.control() && (h.length > maxControl || !h.fin) {
		return h, 0, violation("a control frame is long or fragmented")
	}
	switch h.length {
	case 126:
		if len(b) < 4 {
			return h, 0, nil
		}
		h.length, n = uint64(binary.BigEndian.Uint16(b[2:])), 4
		if h.length < 126 {
			return h, 0, violation("a length is not in its shortest form")
		}
	case 127:
		if len(b) < 10 {
			return h, 0, nil
		}
		h.length, n = binary.BigEndian.Uint64(b[2:]), 10
		if h.length < 1<<16 || h.length > 1<<63-1 {
			return h, 0, violation("a length is not in its shortest form")
		}
	}
	if len(b) < n+4 {
		return h, 0, nil
	}
	h.key = binary.LittleEndian.Uint32(b[n:])
	return h, n + 4, nil
}

// unmask takes the mask off b, which begins a frame's payload.
func unmask(b []byte, key uint32) {
	wide := uint64(key)<<32 | uint64(key)
	for len(b) >= 32 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^wide)
		binary.LittleEndian.PutUint64(b[8:], binary.LittleEndian.Uint64(b[8:])^wide)
		binary.LittleEndian.PutUint64(b[16:], binary.LittleEndian.Uint64(b[16:])^wide)
		binary.LittleEndian.PutUint64(b[24:], binary.LittleEndian.Uint64(b[24:])^wide)
		b = b[32:]
	}
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^wide)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= byte(wide >> (8 * i))
	}
}

// Headroom is how many bytes in front of a payload a frame's head takes at
// most, see SendFramed.
const Headroom = 10

// headSize is the length of the head of an unmasked frame.
func headSize(payload int) int {
	switch {
	case payload < 126:
		return 2
	case payload < 1<<16:
		return 4
	default:
		return 10
	}
}

// appendHead appends the head of an unmasked, final frame.
func appendHead(dst []byte, op opcode, payload int) []byte {
	dst = append(dst, 0x80|byte(op))
	switch {
	case payload < 126:
		return append(dst, byte(payload))
	case payload < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, 126), uint16(payload))
	default:
		return binary.BigEndian.AppendUint64(append(dst, 127), uint64(payload))
	}
}

func appendFrame(dst []byte, op opcode, payload []byte) []byte {
	return append(appendHead(dst, op, len(payload)), payload...)
}

// appendClose appends a close frame; code 0 means without one.
func appendClose(dst []byte, code int, reason string) []byte {
	if code == 0 || code == CodeNoStatus {
		return appendHead(dst, opClose, 0)
	}
	reason = reason[:min(len(reason), maxCloseReason)]
	dst = appendHead(dst, opClose, 2+len(reason))
	dst = binary.BigEndian.AppendUint16(dst, uint16(code))
	return append(dst, reason...)
}

// validCloseCode tells which codes may be on the wire.
func validCloseCode(code int) bool {
	switch {
	case code >= 3000 && code < 5000:
		return true
	case code < 1000 || code > 1014:
		return false
	default:
		return code != 1004 && code != CodeNoStatus && code != 1006
	}
}
