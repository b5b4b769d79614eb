package wire

import (
	"errors"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// Topics changes the tags that the session holds. Del is applied before Add.
type Topics struct {
	ID  uint64           `json:"id"`
	Add []peercrypto.Tag `json:"add,omitempty"`
	Del []peercrypto.Tag `json:"del,omitempty"`
}

type topicsFrame struct {
	T string `json:"type"`
	Topics
}

// Type is "topics".
func (*Topics) Type() string { return typeTopics }

func (m *Topics) frame() any { return topicsFrame{typeTopics, *m} }

func (m *Topics) validate() error {
	if len(m.Add) > MaxTopics || len(m.Del) > MaxTopics {
		return errors.New("too many tags in one message")
	}
	for _, list := range [][]peercrypto.Tag{m.Add, m.Del} {
		for _, tag := range list {
			if tag == (peercrypto.Tag{}) {
				return errors.New("the zero tag is not a topic")
			}
		}
	}
	return checkRequestID(m.ID)
}
