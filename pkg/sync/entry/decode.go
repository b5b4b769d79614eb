package entry

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/fold"
)

// wire is an entry of either kind as JSON. What it takes leniently (null, a
// missing member) is found by encoding the entry again.
type wire struct {
	Auth struct {
		As   *peercrypto.Hash  `json:"as"`
		Deps []peercrypto.Hash `json:"deps"`
		Dev  peercrypto.ID     `json:"dev"`
		Prev peercrypto.Hash   `json:"prev"`
		Seq  int64             `json:"seq"`
		V    jsontext.Value    `json:"v"`
	} `json:"auth"`
	Changes        jsontext.Value       `json:"changes"`
	Group          peercrypto.ID        `json:"group"`
	ID             peercrypto.ID        `json:"id"`
	Modified       int64                `json:"modified"`
	Op             jsontext.Value       `json:"op"`
	Signature      peercrypto.Signature `json:"signature"`
	Signer         peercrypto.ID        `json:"signer"`
	Subject        peercrypto.ID        `json:"subject"`
	SubjectDeleted bool                 `json:"subjectDeleted"`
}

// peek is what tells the version of an entry with members that wire lacks.
type peek struct {
	Auth struct {
		V jsontext.Value `json:"v"`
	} `json:"auth"`
}

// checked says that the text went through the strict reader before.
var checked = json.JoinOptions(
	json.RejectUnknownMembers(true),
	jsontext.AllowDuplicateNames(true),
	jsontext.AllowInvalidUTF8(true),
)

// Decode reads an entry and checks everything that its own bytes can tell: the
// size, the canonical form, the shape. It does not verify the signature, derive
// ids or look at the clock. The result keeps raw, which must not be changed
// afterwards. Errors match [ErrUnsound], [ErrUnknownVersion] or [ErrTooLarge].
func Decode(raw []byte) (*Entry, error) {
	if len(raw) > MaxSize {
		return nil, ErrTooLarge
	}
	if err := peercrypto.CheckCanonical(raw); err != nil {
		return nil, Unsound(err.Error())
	}
	var w wire
	if err := json.Unmarshal(raw, &w, checked); err != nil {
		if newer(raw) {
			return nil, ErrUnknownVersion
		}
		return nil, Unsound("a member is unknown or has the wrong type")
	}
	if w.Auth.V != nil && string(w.Auth.V) != "2" {
		return nil, ErrUnknownVersion
	}
	e := w.entry(raw)
	op, err := e.decodeParts(&w)
	if err != nil {
		return nil, err
	}
	parts := e.encode(w.Changes, op)
	if !parts.equals(raw) {
		return nil, Unsound("a member is missing, null or out of place")
	}
	if reason := e.check(); reason != "" {
		return nil, Unsound(reason)
	}
	e.Hash = parts.hash()
	return e, nil
}

// newer tells whether raw may be an entry of a newer release.
func newer(raw []byte) bool {
	var p peek
	if json.Unmarshal(raw, &p) != nil {
		return false
	}
	return p.Auth.V != nil && string(p.Auth.V) != "2"
}

// entry copies what needs no second look.
func (w *wire) entry(raw []byte) *Entry {
	e := &Entry{
		Raw: raw, Kind: Data,
		ID: w.ID, Group: w.Group, Subject: w.Subject, Signer: w.Signer,
		Modified: w.Modified, Signature: w.Signature,
		Deps: w.Auth.Deps, Seq: w.Auth.Seq, Prev: w.Auth.Prev, Dev: w.Auth.Dev,
		SubjectDeleted: w.SubjectDeleted,
	}
	if w.Auth.As != nil {
		e.As = *w.Auth.As
	}
	if w.Op != nil {
		e.Kind = Operation
	}
	return e
}

// decodeParts reads the operation or the changes and returns the canonical JSON
// of the operation that was read.
func (e *Entry) decodeParts(w *wire) ([]byte, error) {
	if e.Kind == Data {
		changes, err := fold.ParseChanges(w.Changes)
		if err != nil {
			return nil, Unsound(err.Error())
		}
		e.Changes = changes
		return nil, nil
	}
	if string(w.Changes) != "[]" {
		return nil, Unsound("an operation with changes")
	}
	var kind struct {
		Kind string `json:"kind"`
	}
	if json.Unmarshal(w.Op, &kind) != nil {
		return nil, Unsound("the operation is not an object with a kind")
	}
	c, ok := codecs[kind.Kind]
	if !ok {
		return nil, Unsound("the operation's kind is unknown")
	}
	op, err := c.decode(w.Op)
	if err != nil {
		return nil, Unsound("a member of the operation is unknown or has the wrong type")
	}
	e.Op = op
	canonical, err := c.encode(op)
	if err != nil {
		return nil, Unsound("a member of the operation has the wrong value")
	}
	return canonical, nil
}
