package signaling

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// Kinds of messages on the bus. Those marked * are numbered and go to all.
const (
	busBeat  = "beat" // I live, and have numbered this many
	busLeave = "leave"
	busUp    = "up"   // * a session began
	busTags  = "tags" // * its tags changed
	busDown  = "down" // * it ended
	busWant  = "want" // send me your whole state
	busSnap  = "snap" // a part of it
	busSig   = "sig"  // a signal for a session of yours
	busAck   = "ack"  // what became of it
)

const (
	busVersion = 1
	// busPart is about how large one message gets; a bus has to carry it.
	busPart = 256 << 10
	// busTagsPart is how many tags one message holds; about 100 KiB.
	busTagsPart = 4096
	// busMost is the longest message that is taken from the bus.
	busMost = 1 << 20
)

// busMsg is a message on the bus: this as one line of JSON, then the frame of a
// signal.
type busMsg struct {
	V    int    `json:"v"`
	Kind string `json:"k"`
	From string `json:"n"` // node
	Inc  uint64 `json:"i"` // incarnation of that node, random at its start
	Seq  uint64 `json:"s,omitempty"`

	Sessions []busSession `json:"ss,omitempty"` // up: one; snap
	Part     int          `json:"p,omitempty"`  // of a snap, from 0
	Last     bool         `json:"l,omitempty"`

	Session *peercrypto.Nonce `json:"id,omitempty"` // tags, down
	Add     []peercrypto.Tag  `json:"a,omitempty"`
	Del     []peercrypto.Tag  `json:"d,omitempty"`

	Ref  uint64     `json:"r,omitempty"` // sig, ack
	Code wire.Code  `json:"c,omitempty"` // ack
	Sig  *busSignal `json:"sig,omitempty"`

	frame []byte
}

// busSession is a session as other nodes know it.
type busSession struct {
	Session peercrypto.Nonce       `json:"id"`
	Started int64                  `json:"t"`
	Cert    *peercrypto.DeviceCert `json:"cert,omitempty"` // absent in further parts of its tags
	Tags    []peercrypto.Tag       `json:"tags,omitempty"`
}

// busSignal is what the target's node needs to authorize a signal again.
type busSignal struct {
	Kind     wire.Kind            `json:"kind"`
	To       peercrypto.ID        `json:"to"`
	From     peercrypto.ID        `json:"from"`
	FromUser peercrypto.PublicKey `json:"user"`
	Via      *peercrypto.Tag      `json:"via,omitempty"`
	Conn     peercrypto.ID        `json:"conn"`
}

func (m *busMsg) encode() ([]byte, error) {
	head, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encoding bus message: %w", err)
	}
	return append(append(head, '\n'), m.frame...), nil
}

// decodeBus reads a message; its frame refers to payload.
func decodeBus(payload []byte) (*busMsg, error) {
	if len(payload) > busMost {
		return nil, errors.New("decoding bus message: too long")
	}
	head, frame, ok := bytes.Cut(payload, []byte{'\n'})
	if !ok {
		return nil, errors.New("decoding bus message: no end of head")
	}
	m := &busMsg{frame: frame}
	if err := json.Unmarshal(head, m); err != nil {
		return nil, fmt.Errorf("decoding bus message: %w", err)
	}
	return m, m.validate()
}

func (m *busMsg) validate() error {
	bad := func(what string) error { return errors.New("decoding bus message: " + what) }
	if m.V != busVersion {
		return bad("another version")
	}
	if !validNode(m.From) {
		return bad("no node")
	}
	switch m.Kind {
	case busUp:
		if len(m.Sessions) != 1 || m.Sessions[0].Cert == nil {
			return bad("up without a session")
		}
	case busTags, busDown:
		if m.Session == nil {
			return bad("no session")
		}
	case busSig:
		if m.Sig == nil || len(m.frame) == 0 || len(m.frame) > wire.MaxFrame {
			return bad("no signal")
		}
	}
	return nil
}
