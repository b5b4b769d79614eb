package ws_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/peersignal/peersignal/internal/signaling/ws"
)

// TestFrames sends bytes and looks at the messages that they are, the frames
// that are answered, and the close code.
func TestFrames(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 5000)
	for _, c := range []struct {
		name     string
		send     []byte
		messages []string
		code     int // of the server's close frame; 0: it only echoes
	}{
		{"text", frame(0x81, "hello"), []string{"hello"}, 0},
		{"empty text", frame(0x81, ""), []string{""}, 0},
		{"every form of length", join(frame(0x81, long[:125]), frame(0x81, long[:126]), frame(0x81, long[:65535]), frame(0x81, long[:65536])),
			[]string{long[:125], long[:126], long[:65535], long[:65536]}, 0},
		{"many in one packet", bytes.Repeat(frame(0x81, "x"), 3000), slices.Repeat([]string{"x"}, 3000), 0},
		{"fragments", join(frame(0x01, "a"), frame(0x00, ""), frame(0x00, "b"), frame(0x80, "c")), []string{"abc"}, 0},
		{"control frames between fragments", join(frame(0x01, "a"), frame(0x89, "p"), frame(0x8a, "q"), frame(0x80, "b")), []string{"ab"}, 0},
		{"UTF-8 over fragments", join(frame(0x01, "\xe2\x82"), frame(0x80, "\xac")), []string{"€"}, 0},
		{"not UTF-8", join(frame(0x81, "ok"), frame(0x81, "\xff")), []string{"ok"}, 1007},
		{"a surrogate", frame(0x81, "\xed\xa0\x80"), nil, 1007},
		{"binary", frame(0x82, "x"), nil, 1003},
		{"reserved bit", frame(0xc1, "x"), nil, 1002},
		{"reserved opcode", frame(0x83, "x"), nil, 1002},
		{"reserved control opcode", frame(0x8b, "x"), nil, 1002},
		{"not masked", []byte{0x81, 1, 'x'}, nil, 1002},
		{"length not shortest, 16 bits", []byte{0x81, 0x80 | 126, 0, 125, 0, 0, 0, 0}, nil, 1002},
		{"length not shortest, 64 bits", []byte{0x81, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0}, nil, 1002},
		{"length negative", []byte{0x81, 0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, nil, 1002},
		{"long ping", frame(0x89, long[:126]), nil, 1002},
		{"fragmented ping", frame(0x09, "x"), nil, 1002},
		{"continuation of nothing", frame(0x80, "x"), nil, 1002},
		{"text within a message", join(frame(0x01, "x"), frame(0x81, "y")), nil, 1002},
		{"over the limit", frame(0x81, strings.Repeat("x", 1<<20+1)), nil, 1009},
		{"over the limit in fragments", join(frame(0x01, strings.Repeat("x", 1<<20)), frame(0x80, "x")), nil, 1009},
		{"over the limit, announced", []byte{0x81, 0x80 | 127, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4}, nil, 1009},
		{"close", frame(0x88, "\x03\xe8bye"), nil, 1000},
		{"close of an application", frame(0x88, "\x0f\xa1"), nil, 4001},
		{"close with one byte", frame(0x88, "\x03"), nil, 1002},
		{"close with a code that is never sent", frame(0x88, "\x03\xed"), nil, 1002},
		{"close with a reason that is not UTF-8", frame(0x88, "\x03\xe8\xff"), nil, 1002},
		{"message behind a close", join(frame(0x88, "\x03\xe8"), frame(0x81, "late")), nil, 1000},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, early := range []bool{true, false} {
				testFrames(t, early, c.send, c.messages, c.code)
			}
		})
	}
}

// testFrames sends together with the upgrade, or behind it in pieces.
func testFrames(t *testing.T, early bool, send []byte, messages []string, code int) {
	s := newServer(t, false, func(s *server) { s.onMessage = echo })
	var first []byte
	if early {
		first, send = send, nil
	}
	c, p := dialRaw(t, s, first)
	go func() {
		for piece := range slices.Chunk(send, max(1, len(send)/50)) {
			_, _ = c.Write(piece)
		}
		if code == 0 {
			_, _ = c.Write(frame(0x88, ""))
		}
	}()

	var echoed []string
	for {
		op, payload, err := c.read()
		if err != nil {
			t.Fatalf("reading: %v", err)
		}
		if op == 1 {
			echoed = append(echoed, string(payload))
		}
		if op != 8 {
			continue
		}
		got := 0
		if len(payload) >= 2 {
			got = int(binary.BigEndian.Uint16(payload))
		}
		if got != code {
			t.Errorf("closed with %d, want %d", got, code)
		}
		break
	}
	if code != 0 {
		_, _ = c.Write(frame(0x88, ""))
	}
	if _, err := io.Copy(io.Discard, c.r); errors.Is(err, os.ErrDeadlineExceeded) { // a reset is one end, too
		t.Errorf("after the close: %v", err)
	}
	err := p.ended(t)
	if !slices.Equal(echoed, messages) || !slices.Equal(p.got(), messages) {
		t.Errorf("%d messages, %d echoed, want %d", len(p.got()), len(echoed), len(messages))
	}
	var bad *ws.ProtocolError
	if isBad := errors.As(err, &bad); isBad && bad.Code != code {
		t.Errorf("Serve gave %v", err)
	}
}

// FuzzFrames compares what arbitrary bytes are with a plain reading of RFC 6455.
func FuzzFrames(f *testing.F) {
	f.Add(frame(0x81, "hello"), 1)
	f.Add(join(frame(0x01, "a"), frame(0x89, "p"), frame(0x80, "b")), 3)
	f.Add(frame(0x88, "\x03\xe8bye"), 2)
	f.Add(join(frame(0x81, strings.Repeat("x", 70000)), frame(0x82, "x")), 4000)
	f.Add([]byte{0x81, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0}, 5)
	s := newServer(f, false, func(s *server) { s.limit = 100_000 })
	f.Fuzz(func(t *testing.T, data []byte, piece int) {
		want, code := plain(data, s.limit)
		c, p := dialRaw(t, s, nil)
		for part := range slices.Chunk(data, max(1, min(piece, len(data)), len(data)/20)) {
			if _, err := c.Write(part); err != nil {
				break
			}
		}
		_ = c.Conn.(interface{ CloseWrite() error }).CloseWrite()
		p.probe(t)
		_, _ = io.Copy(io.Discard, c.r)
		_ = c.Close()
		err := p.ended(t)
		var bad *ws.ProtocolError
		var closed *ws.CloseError
		got := -1 // ended by the client
		switch {
		case errors.As(err, &bad):
			got = bad.Code
		case errors.As(err, &closed):
			got = closed.Code
		case errors.Is(err, ws.ErrTooLong):
			got = 1009
		}
		if got != code || !slices.Equal(p.got(), want) {
			t.Fatalf("code %d (%v), want %d; messages %q, want %q", got, err, code, p.got(), want)
		}
	})
}

// plain reads all of data: the messages, and the code of the end, -1 when there
// is none.
func plain(data []byte, limit int) (messages []string, code int) {
	var message []byte
	inside := false
	for {
		if len(data) < 2 {
			return messages, -1
		}
		first, n, at := data[0], uint64(data[1]&0x7f), 2
		op := first & 0x0f
		if first&0x70 != 0 || op > 2 && op < 8 || op > 10 || data[1] < 0x80 || op >= 8 && (n > 125 || first < 0x80) {
			return messages, 1002
		}
		if wide := map[uint64]int{126: 2, 127: 8}[n]; wide > 0 {
			if len(data) < at+wide {
				return messages, -1
			}
			n = 0
			for _, b := range data[at : at+wide] {
				n = n<<8 | uint64(b)
			}
			if at += wide; n < 126 || wide == 8 && n < 1<<16 || n >= 1<<63 {
				return messages, 1002
			}
		}
		if len(data) < at+4 {
			return messages, -1
		}
		if op < 8 && uint64(len(message))+n > uint64(limit) {
			return messages, 1009
		}
		if uint64(len(data)-at-4) < n {
			return messages, -1
		}
		key, payload := data[at:at+4], append([]byte(nil), data[at+4:at+4+int(n)]...)
		for i := range payload {
			payload[i] ^= key[i%4]
		}
		data = data[at+4+int(n):]
		switch {
		case op == 8:
			return messages, plainClose(payload)
		case op > 8:
			continue
		case op == 2:
			return messages, 1003
		case (op == 1) == inside:
			return messages, 1002
		}
		message, inside = append(message, payload...), first < 0x80
		if inside {
			continue
		}
		if strings.ToValidUTF8(string(message), "\x00\x00") != string(message) {
			return messages, 1007
		}
		messages, message = append(messages, string(message)), nil
	}
}

func plainClose(payload []byte) int {
	if len(payload) == 0 {
		return ws.CodeNoStatus
	}
	if len(payload) == 1 || strings.ToValidUTF8(string(payload[2:]), "\x00\x00") != string(payload[2:]) {
		return 1002
	}
	code := int(payload[0])<<8 | int(payload[1])
	if code < 1000 || code > 4999 || code > 1014 && code < 3000 || code == 1004 || code == 1005 || code == 1006 {
		return 1002
	}
	return code
}
