package exchange

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/peersignal/peersignal/pkg/sync/files"
)

// kind is the type of a message.
type kind byte

const (
	askOpen  kind = 1
	askTop   kind = 2
	askPage  kind = 3
	askChunk kind = 4
	askHave  kind = 5

	tellHave  kind = 129
	tellTop   kind = 130
	tellPage  kind = 131
	tellChunk kind = 132
	tellLacks kind = 133
	tellNone  kind = 134
	tellBusy  kind = 135
)

const (
	version   = 1
	openLen   = 2 + 32 + 32 + 8
	headerLen = 5 // type and number
)

// ErrProtocol means that the other side broke the rules of this package.
var ErrProtocol = errors.New("the other device broke the rules of the file exchange")

func protocolError(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrProtocol}, args...)...)
}

func encodeOpen(ref files.Ref) []byte {
	b := append(make([]byte, 0, openLen), byte(askOpen), version)
	b = append(b, ref.ID[:]...)
	b = append(b, ref.Root[:]...)
	return binary.BigEndian.AppendUint64(b, uint64(ref.Size))
}

func decodeOpen(b []byte) (files.Ref, error) {
	var ref files.Ref
	if len(b) != openLen || kind(b[0]) != askOpen {
		return ref, protocolError("the first message is no open")
	}
	if b[1] != version {
		return ref, protocolError("version %d is not known", b[1])
	}
	copy(ref.ID[:], b[2:])
	copy(ref.Root[:], b[34:])
	ref.Size = int64(binary.BigEndian.Uint64(b[66:]))
	if err := ref.Validate(); err != nil {
		return ref, protocolError("%w", err)
	}
	return ref, nil
}

// question is an ask with a number, which is 0 for those that have none.
type question struct {
	kind   kind
	number int
}

func (q question) encode() []byte {
	if q.kind == askPage || q.kind == askChunk {
		return appendHeader(nil, q.kind, q.number)
	}
	return []byte{byte(q.kind)}
}

func appendHeader(b []byte, k kind, number int) []byte {
	return binary.BigEndian.AppendUint32(append(b, byte(k)), uint32(number))
}

// decodeQuestion reads an ask about an open file.
func decodeQuestion(b []byte, ref files.Ref) (question, error) {
	if len(b) == 0 {
		return question{}, protocolError("an empty message")
	}
	q := question{kind: kind(b[0])}
	switch q.kind {
	case askTop, askHave:
		if len(b) != 1 {
			return q, protocolError("%d bytes too many", len(b)-1)
		}
		return q, nil
	case askPage, askChunk:
		if len(b) != headerLen {
			return q, protocolError("a question of %d bytes", len(b))
		}
		q.number = int(binary.BigEndian.Uint32(b[1:]))
	default:
		return q, protocolError("unknown question %d", b[0])
	}
	most := ref.Chunks()
	if q.kind == askPage {
		most = ref.Pages()
	}
	if q.number >= most {
		return q, protocolError("number %d of %d", q.number, most)
	}
	return q, nil
}

// answer is a tell; body is a part of the message that it was read from.
type answer struct {
	kind   kind
	number int
	about  kind // of tellLacks
	body   []byte
}

func decodeAnswer(b []byte) (answer, error) {
	if len(b) == 0 {
		return answer{}, protocolError("an empty message")
	}
	a := answer{kind: kind(b[0])}
	switch a.kind {
	case tellNone, tellBusy:
		if len(b) != 1 {
			return a, protocolError("%d bytes too many", len(b)-1)
		}
	case tellHave, tellTop:
		a.body = b[1:]
	case tellPage, tellChunk:
		if len(b) < headerLen {
			return a, protocolError("an answer of %d bytes", len(b))
		}
		a.number, a.body = int(binary.BigEndian.Uint32(b[1:])), b[headerLen:]
	case tellLacks:
		if len(b) != headerLen+1 {
			return a, protocolError("an answer of %d bytes", len(b))
		}
		a.about, a.number = kind(b[1]), int(binary.BigEndian.Uint32(b[2:]))
	default:
		return a, protocolError("unknown answer %d", b[0])
	}
	return a, nil
}

// answers reports whether a can be the answer to q.
func (a answer) answers(q question) bool {
	switch a.kind {
	case tellHave:
		return q.kind == askHave
	case tellTop:
		return q.kind == askTop
	case tellPage:
		return q.kind == askPage && a.number == q.number
	case tellChunk:
		return q.kind == askChunk && a.number == q.number
	case tellLacks:
		return a.about == q.kind && q.kind != askHave && a.number == q.number
	default:
		return false
	}
}

func encodeLacks(q question) []byte {
	return binary.BigEndian.AppendUint32([]byte{byte(tellLacks), byte(q.kind)}, uint32(q.number))
}
