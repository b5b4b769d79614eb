package wire

import (
	"strconv"
	"strings"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// Relaying a signal is what a server does most, and general JSON decoding would
// cost more than all the rest of it. scanSignal therefore reads the form that
// appendFrame writes (any order of members, no white space, no escapes) in one
// pass and leaves everything else to the plain decoder. What it accepts, the
// plain decoder accepts with the same result; a fuzz test holds both to it.

type direction bool

const (
	fromClient direction = true
	fromServer direction = false
)

// scanSignal gives the signal in frame, or false when the plain decoder has to
// decide. The signal does not refer to frame.
func scanSignal(frame []byte, dir direction) (*Signal, bool) {
	if len(frame) > MaxFrame || len(frame) < 2 || frame[0] != '{' {
		return nil, false
	}
	s := scanner{text: string(frame)}
	m := &Signal{}
	var seen members
	s.pos = 1
	for {
		if !s.member(m, dir, &seen) {
			return nil, false
		}
		if s.take('}') {
			break
		}
		if !s.take(',') {
			return nil, false
		}
	}
	want := members(hasType | hasVia | hasConn | hasEnv | hasFrom)
	if dir == fromClient {
		want = hasType | hasVia | hasConn | hasEnv | hasID | hasTo
	}
	if s.pos != len(s.text) || seen != want || m.validate() != nil {
		return nil, false
	}
	return m, true
}

type members uint8

const (
	hasType = 1 << iota
	hasID
	hasTo
	hasFrom
	hasVia
	hasConn
	hasEnv
)

// add notes a member and refuses the second of the same name.
func (m *members) add(bit members) bool {
	if *m&bit != 0 {
		return false
	}
	*m |= bit
	return true
}

// scanner reads compact JSON without escapes.
type scanner struct {
	text string
	pos  int
}

func (s *scanner) take(c byte) bool {
	if s.pos < len(s.text) && s.text[s.pos] == c {
		s.pos++
		return true
	}
	return false
}

// str reads up to the next quote. Whether there is an escape or a byte that has
// to be escaped in it need not be asked: the alphabets of all names and values
// are without them, and each is checked against its own.
func (s *scanner) str() (string, bool) {
	if !s.take('"') {
		return "", false
	}
	n := strings.IndexByte(s.text[s.pos:], '"')
	if n < 0 {
		return "", false
	}
	value := s.text[s.pos : s.pos+n]
	s.pos += n + 1
	return value, true
}

// number reads a request id.
func (s *scanner) number() (uint64, bool) {
	start := s.pos
	for s.pos < len(s.text) && s.text[s.pos] >= '0' && s.text[s.pos] <= '9' {
		s.pos++
	}
	digits := s.text[start:s.pos]
	if digits == "" || digits[0] == '0' || len(digits) > 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil && n <= MaxID
}

func (s *scanner) member(m *Signal, dir direction, seen *members) bool {
	name, ok := s.str()
	if !ok || !s.take(':') {
		return false
	}
	if name == "env" {
		return seen.add(hasEnv) && s.envelope(&m.Env)
	}
	if name == "id" {
		m.ID, ok = s.number()
		return ok && dir == fromClient && seen.add(hasID)
	}
	value, ok := s.str()
	if !ok {
		return false
	}
	switch name {
	case "type":
		m.Kind = Kind(value)
		return seen.add(hasType)
	case "to":
		m.To = peercrypto.ID(value)
		return dir == fromClient && seen.add(hasTo)
	case "from":
		m.From = peercrypto.ID(value)
		return dir == fromServer && value != "" && seen.add(hasFrom)
	case "conn":
		m.Conn = peercrypto.ID(value)
		return seen.add(hasConn)
	case "via":
		if value != "" {
			m.Via, ok = parseTag(value)
		}
		return ok && seen.add(hasVia)
	default:
		return false
	}
}

func (s *scanner) envelope(e *Envelope) bool {
	if !s.take('{') {
		return false
	}
	var eph, ct bool
	for {
		name, ok := s.str()
		if !ok || !s.take(':') {
			return false
		}
		value, ok := s.str()
		if !ok {
			return false
		}
		switch {
		case name == "eph" && !eph:
			e.Eph, eph = value, true
		case name == "ct" && !ct:
			e.CT, ct = value, true
		default:
			return false
		}
		if s.take('}') {
			return true
		}
		if !s.take(',') {
			return false
		}
	}
}
