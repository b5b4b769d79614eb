package wire

import (
	"errors"
)

// Hello is the server's first message.
type Hello struct {
	V      int      `json:"v"`
	Name   string   `json:"name"`  // canonical name, "" when none is configured
	Nonce  Nonce    `json:"nonce"` // for one auth on this connection
	Time   int64    `json:"time"`  // server's clock, ms
	Caps   []string `json:"caps"`
	Limits Limits   `json:"limits"`
}

// Limits are what the server accepts from this client.
type Limits struct {
	Frame       int `json:"frame"`
	TopicsFrame int `json:"topicsFrame"`
	Topics      int `json:"topics"`
}

type helloFrame struct {
	T string `json:"type"`
	Hello
}

// Type is "hello".
func (*Hello) Type() string { return typeHello }

func (m *Hello) frame() any { return helloFrame{typeHello, *m} }

func (m *Hello) validate() error {
	switch {
	case m.V < 1:
		return errors.New("v is missing")
	case len(m.Name) > maxServerName:
		return errors.New("name is too long")
	case m.Nonce == Nonce{}:
		return errors.New("nonce is missing")
	case m.Time <= 0:
		return errors.New("time is missing")
	case m.Limits.Frame < 0 || m.Limits.TopicsFrame < 0 || m.Limits.Topics < 0:
		return errors.New("a limit is negative")
	}
	return checkCaps(m.Caps)
}
