package wire

import "errors"

// Result answers a client message.
type Result struct {
	ID         uint64 `json:"id"`
	Code       Code   `json:"code"`
	Message    string `json:"message,omitempty"`
	RetryAfter int64  `json:"retryAfter,omitempty"` // ms
}

type resultFrame struct {
	T string `json:"type"`
	Result
}

// Type is "result".
func (*Result) Type() string { return typeResult }

func (m *Result) frame() any { return resultFrame{typeResult, *m} }

func (m *Result) validate() error {
	if !m.Code.valid() {
		return errors.New("code is malformed")
	}
	if m.RetryAfter < 0 {
		return errors.New("retryAfter is negative")
	}
	if err := checkText("message", m.Message); err != nil {
		return err
	}
	return checkRequestID(m.ID)
}

// Ack says how many counted frames of the session the client has received.
// There is no answer.
type Ack struct {
	N uint64 `json:"n"`
}

type ackFrame struct {
	T string `json:"type"`
	Ack
}

// Type is "ack".
func (*Ack) Type() string { return typeAck }

func (m *Ack) frame() any { return ackFrame{typeAck, *m} }

func (m *Ack) validate() error {
	if m.N == 0 || m.N > MaxID {
		return errors.New("n is out of range")
	}
	return nil
}

// Bye says that the client goes; the server closes when it has
// sent what it had for the client.
type Bye struct{}

type byeFrame struct {
	T string `json:"type"`
	Bye
}

// Type is "bye".
func (*Bye) Type() string { return typeBye }

func (m *Bye) frame() any { return byeFrame{typeBye, *m} }

func (*Bye) validate() error { return nil }

// Notice says why the server is about to close, or with CodeDraining that it
// will.
type Notice struct {
	Code       Code   `json:"code"`
	Message    string `json:"message"`
	RetryAfter int64  `json:"retryAfter,omitempty"` // ms
}

type noticeFrame struct {
	T string `json:"type"`
	Notice
}

// Type is "notice".
func (*Notice) Type() string { return typeNotice }

func (m *Notice) frame() any { return noticeFrame{typeNotice, *m} }

func (m *Notice) validate() error {
	if !m.Code.valid() {
		return errors.New("code is malformed")
	}
	if m.RetryAfter < 0 {
		return errors.New("retryAfter is negative")
	}
	return checkText("message", m.Message)
}
