package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Kinds of lines that the log writes about itself.
const (
	KindStarted   = "audit-started"   // a process opened the log
	KindStopped   = "audit-stopped"   // it closed the log in good order
	KindRecovered = "audit-recovered" // what a crash had left of the last lines was cut
	KindLost      = "audit-lost"      // events were lost before this line
)

// maxField bounds each text of an event, in bytes; what is longer is cut.
const maxField = 512

// maxLine bounds a line, in bytes, with its line feed: all texts in their
// longest form and the rest.
const maxLine = 32 << 10

// Event is what happened. Empty texts are left out.
type Event struct {
	Time    time.Time // written in UTC with milliseconds
	Kind    string
	Session string
	Device  string
	User    string
	Address string
	Code    string
	Detail  string
}

// Line is an event in the log. Seq and Prev are its place in the chain.
type Line struct {
	Event
	Seq  uint64 // 1 for the first line
	Prev string // hash of the line before in hexadecimal; zeros for the first one
	Hash string // its own
}

// lineJSON is a line without its hash, in the order of its bytes.
type lineJSON struct {
	Seq     uint64 `json:"seq"`
	Time    string `json:"time"`
	Kind    string `json:"kind"`
	Session string `json:"session,omitempty"`
	Device  string `json:"device,omitempty"`
	User    string `json:"user,omitempty"`
	Address string `json:"address,omitempty"`
	Code    string `json:"code,omitempty"`
	Detail  string `json:"detail,omitempty"`
	Prev    string `json:"prev"`
}

const (
	timeFormat = "2006-01-02T15:04:05.000Z"
	hashChars  = 2 * sha256.Size
	hashKey    = `,"hash":"`
	hashEnd    = `"}`
	// domain keeps hashes of lines apart from those of anything else.
	domain = "peersignal audit 1\n"
)

var zeroHash = strings.Repeat("0", hashChars)

// place is where a chain has got to.
type place struct {
	seq  uint64
	hash string
}

var beginning = place{0, zeroHash}

// appendLine appends an event as the line after p, with its line feed, and
// returns the new place.
func appendLine(to []byte, p place, e Event) ([]byte, place) {
	next := p.seq + 1
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(lineJSON{ // a struct of texts can be encoded
		Seq: next, Time: e.Time.UTC().Format(timeFormat), Kind: cut(e.Kind), Session: cut(e.Session), Device: cut(e.Device),
		User: cut(e.User), Address: cut(e.Address), Code: cut(e.Code), Detail: cut(e.Detail), Prev: p.hash,
	})
	body := bytes.TrimSuffix(b.Bytes(), []byte("}\n"))
	hash := hashOf(body)
	to = append(to, body...)
	to = append(to, hashKey+hash+hashEnd+"\n"...)
	return to, place{next, hash}
}

func cut(s string) string {
	if len(s) > maxField {
		s = s[:maxField]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// hashOf is the hash of a line whose bytes before its hash are body.
func hashOf(body []byte) string {
	h := sha256.New()
	h.Write([]byte(domain))
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil))
}

// Mistakes of a single line.
var (
	errNoLine  = errors.New("it is not a line of an audit log")
	errAltered = errors.New("it was altered: its hash does not fit what it says")
)

// parseLine reads a line without its line feed and checks its own hash.
func parseLine(text []byte) (Line, error) {
	at := len(text) - len(hashKey) - hashChars - len(hashEnd)
	if at < 0 || string(text[at:at+len(hashKey)]) != hashKey || string(text[len(text)-len(hashEnd):]) != hashEnd {
		return Line{}, errNoLine
	}
	body, hash := text[:at], string(text[at+len(hashKey):len(text)-len(hashEnd)])
	if hashOf(body) != hash {
		return Line{}, errAltered
	}
	var j lineJSON
	d := json.NewDecoder(bytes.NewReader(append(append([]byte(nil), body...), '}')))
	d.DisallowUnknownFields()
	if err := d.Decode(&j); err != nil || d.InputOffset() != int64(len(body)+1) {
		return Line{}, errNoLine
	}
	when, err := time.Parse(timeFormat, j.Time)
	if err != nil || j.Seq == 0 || len(j.Prev) != hashChars || j.Kind == "" {
		return Line{}, errNoLine
	}
	return Line{
		Event: Event{
			Time: when, Kind: j.Kind, Session: j.Session, Device: j.Device, User: j.User, Address: j.Address,
			Code: j.Code, Detail: j.Detail,
		},
		Seq: j.Seq, Prev: j.Prev, Hash: hash,
	}, nil
}

// follows checks that a line is the next one after p.
func (l *Line) follows(p place) error {
	switch want := p.seq + 1; {
	case l.Seq == want+1:
		return fmt.Errorf("line %d is missing before it", want)
	case l.Seq > want:
		return fmt.Errorf("lines %d to %d are missing before it", want, l.Seq-1)
	case l.Seq < want:
		return fmt.Errorf("line %d stands where line %d has to be: lines were put in or put elsewhere", l.Seq, want)
	case l.Prev != p.hash:
		return errors.New("it does not follow the line before: that one was replaced")
	}
	return nil
}

func (l *Line) place() place { return place{l.Seq, l.Hash} }
