package wire

import (
	"bytes"
	"strconv"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// Relaying a signal is what a server does most, and general JSON decoding would
// cost more than all the rest of it. SignalRef.Scan therefore reads the form that
// appendFrame writes (any order of members, no white space, no escapes) in one
// pass and leaves everything else to the plain decoder. What it accepts, the
// plain decoder accepts with the same result; a fuzz test holds both to it.

type direction bool

const (
	fromClient direction = true
	fromServer direction = false
)

// SignalRef is a signal that still stands in its frame: what a server needs to
// relay it. It is valid as long as the frame does not change.
type SignalRef struct {
	Kind Kind
	ID   uint64
	Ack  uint64 // 0: none
	// Via is the text of a tag; empty: both are of the same user. To and Conn
	// are the text of ids.
	Via, To, Conn []byte

	from, eph, ct []byte
}

// Scan reads a client's signal from frame. False means that DecodeFromClient
// has to decide what it is.
func (r *SignalRef) Scan(frame []byte) bool { return r.scan(frame, fromClient) }

func (r *SignalRef) scan(frame []byte, dir direction) bool {
	if len(frame) > MaxFrame || len(frame) < 2 || frame[0] != '{' {
		return false
	}
	*r = SignalRef{}
	s := scanner{text: frame, pos: 1}
	var seen members
	for {
		if !s.member(r, dir, &seen) {
			return false
		}
		if s.take('}') {
			break
		}
		if !s.take(',') {
			return false
		}
	}
	want := members(hasType | hasVia | hasConn | hasEnv | hasFrom)
	if dir == fromClient {
		seen &^= hasAck // or not
		want = hasType | hasVia | hasConn | hasEnv | hasID | hasTo
	}
	return s.pos == len(s.text) && seen == want && r.valid(dir)
}

// valid is what Signal.validate asks for.
func (r *SignalRef) valid(dir direction) bool {
	who := r.from
	if dir == fromClient {
		who = r.To
	}
	if r.Kind == "" || !isID(who) || !isID(r.Conn) {
		return false
	}
	if r.Kind.begins() != (len(r.eph) > 0) || len(r.eph) > 0 && !isKeyText(r.eph) {
		return false
	}
	return len(r.ct) > 0 && len(r.ct) <= r.Kind.maxCiphertext() && len(r.ct)%4 != 1 && allB64u(r.ct) && endsClean(r.ct)
}

// AppendStamped appends the frame that the target receives: without id and to,
// with from as the server knows it.
func (r *SignalRef) AppendStamped(dst []byte, from peercrypto.ID) []byte {
	dst = append(dst, `{"type":"`...)
	dst = append(dst, r.Kind...)
	dst = append(dst, `","from":"`...)
	dst = append(dst, from...)
	dst = append(dst, `","via":"`...)
	dst = append(dst, r.Via...)
	dst = append(dst, `","conn":"`...)
	dst = append(dst, r.Conn...)
	dst = append(dst, `","env":{`...)
	if len(r.eph) > 0 {
		dst = append(dst, `"eph":"`...)
		dst = append(dst, r.eph...)
		dst = append(dst, `",`...)
	}
	dst = append(dst, `"ct":"`...)
	dst = append(dst, r.ct...)
	return append(dst, `"}}`...)
}

// StampedSize is at least the length of what AppendStamped appends.
func (r *SignalRef) StampedSize() int { return 192 + len(r.eph) + len(r.ct) }

// Tag is what Via says; zero when it is empty.
func (r *SignalRef) Tag() peercrypto.Tag {
	tag, _ := parseTag(r.Via) // valid, or Scan would have failed
	return tag
}

// Signal copies it.
func (r *SignalRef) Signal() *Signal {
	return &Signal{
		Kind: r.Kind, ID: r.ID, To: peercrypto.ID(r.To), From: peercrypto.ID(r.from), Via: r.Tag(),
		Conn: peercrypto.ID(r.Conn), Env: Envelope{Eph: string(r.eph), CT: string(r.ct)}, Ack: r.Ack,
	}
}

// scanSignal gives the signal in frame, or false when the plain decoder has to
// decide. The signal does not refer to frame.
func scanSignal(frame []byte, dir direction) (*Signal, bool) {
	var r SignalRef
	if !r.scan(frame, dir) {
		return nil, false
	}
	return r.Signal(), true
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
	hasAck
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
	text []byte
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
func (s *scanner) str() ([]byte, bool) {
	if !s.take('"') {
		return nil, false
	}
	n := bytes.IndexByte(s.text[s.pos:], '"')
	if n < 0 {
		return nil, false
	}
	value := s.text[s.pos : s.pos+n]
	s.pos += n + 1
	return value, true
}

// number reads a number from 1 to MaxID.
func (s *scanner) number() (uint64, bool) {
	start := s.pos
	n := uint64(0)
	for s.pos < len(s.text) && s.text[s.pos] >= '0' && s.text[s.pos] <= '9' {
		n = 10*n + uint64(s.text[s.pos]-'0')
		if s.pos++; s.pos-start > 16 {
			return 0, false
		}
	}
	return n, s.pos > start && s.text[start] != '0' && n <= MaxID
}

func (s *scanner) member(r *SignalRef, dir direction, seen *members) bool {
	name, ok := s.str()
	if !ok || !s.take(':') {
		return false
	}
	if string(name) == "env" {
		return seen.add(hasEnv) && s.envelope(r)
	}
	if string(name) == "id" {
		r.ID, ok = s.number()
		return ok && dir == fromClient && seen.add(hasID)
	}
	if string(name) == "ack" {
		r.Ack, ok = s.number()
		return ok && dir == fromClient && seen.add(hasAck)
	}
	value, ok := s.str()
	if !ok {
		return false
	}
	switch string(name) {
	case "type":
		r.Kind = kindOf(value)
		return seen.add(hasType)
	case "to":
		r.To = value
		return dir == fromClient && seen.add(hasTo)
	case "from":
		r.from = value
		return dir == fromServer && seen.add(hasFrom)
	case "conn":
		r.Conn = value
		return seen.add(hasConn)
	case "via":
		r.Via = value
		return (len(value) == 0 || isTagText(value)) && seen.add(hasVia)
	default:
		return false
	}
}

// kindOf is "" for what is none.
func kindOf(name []byte) Kind {
	switch string(name) {
	case string(KindOffer):
		return KindOffer
	case string(KindAnswer):
		return KindAnswer
	case string(KindCandidate):
		return KindCandidate
	case string(KindNotify):
		return KindNotify
	default:
		return ""
	}
}

func (s *scanner) envelope(r *SignalRef) bool {
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
		case string(name) == "eph" && !eph:
			r.eph, eph = value, true
		case string(name) == "ct" && !ct:
			r.ct, ct = value, true
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

// ScanAck reads an Ack that is spelled as Encode does. False means that
// DecodeFromClient has to decide what it is.
func ScanAck(frame []byte) (n uint64, ok bool) {
	rest, ok := bytes.CutPrefix(frame, []byte(`{"type":"ack","n":`))
	if !ok {
		return 0, false
	}
	s := scanner{text: rest}
	n, ok = s.number()
	return n, ok && string(rest[s.pos:]) == "}"
}

// AppendResult appends the frame of a Result without message, of a valid id and
// code.
func AppendResult(dst []byte, id uint64, code Code) []byte {
	dst = append(dst, `{"type":"result","id":`...)
	dst = strconv.AppendUint(dst, id, 10)
	dst = append(dst, `,"code":"`...)
	dst = append(dst, code...)
	return append(dst, `"}`...)
}

// allB64u is inAlphabet(b, inB64u), eight bytes at a time: as fast as arithmetic
// on whole words is here, and half as fast again as byte by byte.
func allB64u(b []byte) bool {
	all := uint8(inB64u)
	for len(b) >= 8 {
		w := (*[8]byte)(b)
		all &= alphabets[w[0]] & alphabets[w[1]] & alphabets[w[2]] & alphabets[w[3]] &
			alphabets[w[4]] & alphabets[w[5]] & alphabets[w[6]] & alphabets[w[7]]
		b = b[8:]
	}
	return all != 0 && inAlphabet(b, inB64u)
}
