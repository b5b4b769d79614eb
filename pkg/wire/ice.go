package wire

import "errors"

// ICERequest asks for ICE servers with fresh credentials.
type ICERequest struct {
	ID uint64 `json:"id"`
}

type iceRequestFrame struct {
	T string `json:"type"`
	ICERequest
}

// Type is "ice".
func (*ICERequest) Type() string { return typeICE }

func (m *ICERequest) frame() any { return iceRequestFrame{typeICE, *m} }

func (m *ICERequest) validate() error { return checkRequestID(m.ID) }

// ICE replaces the ICE servers of Ready. ID is 0 when the server sends it
// unasked.
type ICE struct {
	ID      uint64      `json:"id"`
	Servers []ICEServer `json:"ice"`
	Expires int64       `json:"iceExpires"` // ms, 0: never
}

type iceFrame struct {
	T string `json:"type"`
	ICE
}

// Type is "ice".
func (*ICE) Type() string { return typeICE }

func (m *ICE) frame() any {
	f := iceFrame{typeICE, *m}
	if f.Servers == nil {
		f.Servers = []ICEServer{}
	}
	return f
}

func (m *ICE) validate() error {
	if m.ID > MaxID {
		return errors.New("id is not a request id")
	}
	return checkICE(m.Servers, m.Expires)
}
