package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// Message is one of the messages of this package, always as a pointer:
// *Hello, *Auth, *Ready, *Refused, *Topics, *Present, *Signal, *Result,
// *ICERequest, *ICE, *Ack, *Bye, *Notice.
type Message interface {
	// Type is the value of the member "type".
	Type() string
	// validate checks everything that the Go types do not.
	validate() error
	// frame is the value whose JSON form goes on the wire.
	frame() any
}

// ErrUnknownType is what DecodeFromServer gives for a message that this
// version does not know: ignore it.
var ErrUnknownType = errors.New("wire: message of unknown type")

// DecodeError says why a frame is not a message. It never repeats input.
type DecodeError struct {
	// Code is what to answer: CodeInvalid or CodeTooLarge.
	Code Code
	// ID is the request id of the frame if it could be read, else 0. With an
	// id the sender is answered, without one the connection is closed.
	ID uint64
	// Reason is for people.
	Reason string

	cause error
}

func (e *DecodeError) Error() string { return "wire: decoding message: " + e.Reason }

// Unwrap gives the cause, e.g. a peercrypto JSON error.
func (e *DecodeError) Unwrap() error { return e.cause }

// Encode validates m and gives its frame. The result is the caller's.
// A Signal is encoded for the direction that its fields say: with From set it
// is the server's form.
func Encode(m Message) ([]byte, error) {
	if err := m.validate(); err != nil {
		return nil, fmt.Errorf("wire: encoding %s: %w", m.Type(), err)
	}
	switch m := m.(type) {
	case *Signal:
		return m.appendFrame(make([]byte, 0, m.frameSize())), nil
	case *Result:
		if m.Message == "" && m.RetryAfter == 0 {
			return AppendResult(make([]byte, 0, 64), m.ID, m.Code), nil
		}
	}
	b, err := json.Marshal(m.frame())
	if err != nil {
		return nil, fmt.Errorf("wire: encoding %s: %w", m.Type(), err)
	}
	if limit := maxFrameOf(m.Type()); len(b) > limit {
		return nil, fmt.Errorf("wire: encoding %s: %d bytes, limit is %d", m.Type(), len(b), limit)
	}
	return b, nil
}

func maxFrameOf(typ string) int {
	if typ == typeTopics {
		return MaxTopicsFrame
	}
	return MaxFrame
}

const (
	typeHello   = "hello"
	typeAuth    = "auth"
	typeReady   = "ready"
	typeRefused = "refused"
	typeTopics  = "topics"
	typePresent = "present"
	typeResult  = "result"
	typeICE     = "ice"
	typeAck     = "ack"
	typePush    = "push"
	typeWake    = "wake"
	typeBye     = "bye"
	typeNotice  = "notice"
)

// DecodeFromClient decodes and validates what a server received. Errors are
// *DecodeError. The message does not refer to frame.
func DecodeFromClient(frame []byte) (Message, error) {
	if len(frame) > MaxTopicsFrame {
		return nil, &DecodeError{Code: CodeTooLarge, Reason: "frame is longer than any message"}
	}
	if s, ok := scanSignal(frame, fromClient); ok {
		return s, nil
	}
	typ, err := typeOf(frame)
	if err != nil {
		return nil, err
	}
	if len(frame) > maxFrameOf(typ) {
		return nil, &DecodeError{Code: CodeTooLarge, ID: idOf(frame), Reason: "frame is over the limit of its type"}
	}
	m, err := decodeClient(typ, frame)
	if err == nil {
		err = m.validate()
	}
	if err != nil {
		return nil, &DecodeError{Code: CodeInvalid, ID: idOf(frame), Reason: reason(err), cause: err}
	}
	return m, nil
}

func decodeClient(typ string, frame []byte) (Message, error) {
	switch typ {
	case typeAuth:
		var f authFrame
		err := peercrypto.UnmarshalStrict(frame, &f)
		return &f.Auth, err
	case typeTopics:
		var f topicsFrame
		err := peercrypto.UnmarshalStrict(frame, &f)
		return &f.Topics, err
	case string(KindOffer), string(KindAnswer), string(KindCandidate), string(KindNotify):
		return decodeClientSignal(frame)
	case typeICE:
		var f iceRequestFrame
		err := peercrypto.UnmarshalStrict(frame, &f)
		return &f.ICERequest, err
	case typePush:
		var f pushRequestFrame
		err := peercrypto.UnmarshalStrict(frame, &f)
		return &f.PushRequest, err
	case typeWake:
		var f wakeFrame
		err := peercrypto.UnmarshalStrict(frame, &f)
		return &f.Wake, err
	case typeAck:
		var f ackFrame
		err := peercrypto.UnmarshalStrict(frame, &f)
		return &f.Ack, err
	case typeBye:
		var f byeFrame
		err := peercrypto.UnmarshalStrict(frame, &f)
		return &f.Bye, err
	default:
		return nil, errors.New("unknown type")
	}
}

// DecodeFromServer decodes and validates what a client received. Unknown
// members are ignored. Errors are ErrUnknownType or *DecodeError. The message
// does not refer to frame.
func DecodeFromServer(frame []byte) (Message, error) {
	if len(frame) > MaxFrame {
		return nil, &DecodeError{Code: CodeTooLarge, Reason: "frame is longer than any message"}
	}
	if s, ok := scanSignal(frame, fromServer); ok {
		return s, nil
	}
	typ, err := typeOf(frame)
	if err != nil {
		return nil, err
	}
	m, err := decodeServer(typ, frame)
	if errors.Is(err, ErrUnknownType) {
		return nil, err
	}
	if err == nil {
		err = m.validate()
	}
	if err != nil {
		return nil, &DecodeError{Code: CodeInvalid, ID: idOf(frame), Reason: reason(err), cause: err}
	}
	return m, nil
}

func decodeServer(typ string, frame []byte) (Message, error) {
	switch typ {
	case typeHello:
		var f helloFrame
		err := peercrypto.UnmarshalLenientFields(frame, &f)
		return &f.Hello, err
	case typeReady:
		var f readyFrame
		err := peercrypto.UnmarshalLenientFields(frame, &f)
		return &f.Ready, err
	case typeRefused:
		var f refusedFrame
		err := peercrypto.UnmarshalLenientFields(frame, &f)
		return &f.Refused, err
	case typePresent:
		var f presentFrame
		err := peercrypto.UnmarshalLenientFields(frame, &f)
		return &f.Present, err
	case string(KindOffer), string(KindAnswer), string(KindCandidate), string(KindNotify):
		return decodeServerSignal(frame)
	case typeResult:
		var f resultFrame
		err := peercrypto.UnmarshalLenientFields(frame, &f)
		return &f.Result, err
	case typeICE:
		var f iceFrame
		err := peercrypto.UnmarshalLenientFields(frame, &f)
		return &f.ICE, err
	case typePush:
		var f pushGrantFrame
		err := peercrypto.UnmarshalLenientFields(frame, &f)
		return &f.PushGrant, err
	case typeNotice:
		var f noticeFrame
		err := peercrypto.UnmarshalLenientFields(frame, &f)
		return &f.Notice, err
	default:
		return nil, ErrUnknownType
	}
}

// typeOf reads the type of a frame. Our own encoders put it first, where it can
// be read without decoding; that the rest is in order is for the decoder to say.
func typeOf(frame []byte) (string, error) {
	const prefix = `{"type":"`
	if rest, ok := bytes.CutPrefix(frame, []byte(prefix)); ok {
		if n := bytes.IndexByte(rest, '"'); n > 0 && n <= maxCapLen && isCap(string(rest[:n])) {
			return string(rest[:n]), nil
		}
	}
	var h struct {
		Type string `json:"type"`
	}
	if err := peercrypto.UnmarshalLenientFields(frame, &h); err != nil {
		return "", &DecodeError{Code: CodeInvalid, Reason: reason(err), cause: err}
	}
	return h.Type, nil
}

// idOf is the request id of a frame, or 0 when there is none that can be
// answered: not strict JSON, no id, or not an integer in range.
func idOf(frame []byte) uint64 {
	var h struct {
		ID any `json:"id"`
	}
	if err := peercrypto.UnmarshalLenientFields(frame, &h); err != nil {
		return 0
	}
	n, ok := h.ID.(float64)
	if !ok || n < 1 || n > MaxID || n != math.Trunc(n) {
		return 0
	}
	return uint64(n)
}

// reason gives a text without the input for an error of this package or of the
// strict decoder.
func reason(err error) string {
	const most = 200
	s := err.Error()
	if len(s) > most {
		s = s[:most]
	}
	return s
}
