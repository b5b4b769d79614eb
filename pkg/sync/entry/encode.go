package entry

import (
	"crypto/sha256"
	"strconv"

	"github.com/go-json-experiment/json"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/fold"
)

// encoding is an entry in three parts: the hash covers the first and the last.
// The members' order is that of canonical JSON.
type encoding struct{ head, signature, tail []byte }

// encode writes e with the given JSON of changes and op, which is empty for data.
func (e *Entry) encode(changes, op []byte) encoding {
	b := make([]byte, 0, 320+len(changes)+len(op)+46*len(e.Deps))
	b = append(b, `{"auth":{"as":`...)
	if e.As.IsZero() {
		b = append(b, "null"...)
	} else {
		b = appendHash(b, e.As)
	}
	if e.Kind == Operation {
		b = append(b, `,"deps":[`...)
		for i, d := range e.Deps {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendHash(b, d)
		}
		b = append(b, ']')
	}
	if e.Seq == 0 {
		b = appendID(append(b, `,"dev":`...), e.Dev)
	} else {
		b = appendHash(append(b, `,"prev":`...), e.Prev)
	}
	b = strconv.AppendInt(append(b, `,"seq":`...), e.Seq, 10)
	if e.Kind == Operation {
		b = append(b, `,"v":2`...)
	}
	b = append(append(b, `},"changes":`...), changes...)
	b = appendID(append(b, `,"group":`...), e.Group)
	b = appendID(append(b, `,"id":`...), e.ID)
	b = strconv.AppendInt(append(b, `,"modified":`...), e.Modified, 10)
	if e.Kind == Operation {
		b = append(append(b, `,"op":`...), op...)
	}
	headEnd := len(b)
	b = append(append(append(b, `,"signature":"`...), e.Signature.String()...), '"')
	signatureEnd := len(b)
	b = appendID(append(b, `,"signer":`...), e.Signer)
	b = appendID(append(b, `,"subject":`...), e.Subject)
	if e.SubjectDeleted {
		b = append(b, `,"subjectDeleted":true`...)
	}
	b = append(b, '}')
	return encoding{b[:headEnd], b[headEnd:signatureEnd], b[signatureEnd:]}
}

func (p encoding) hash() peercrypto.Hash {
	h := sha256.New()
	h.Write(p.head)
	h.Write(p.tail)
	var sum peercrypto.Hash
	h.Sum(sum[:0])
	return sum
}

// equals tells whether raw is the three parts one after the other.
func (p encoding) equals(raw []byte) bool {
	h, s := len(p.head), len(p.signature)
	return len(raw) == h+s+len(p.tail) &&
		string(raw[:h]) == string(p.head) &&
		string(raw[h:h+s]) == string(p.signature) &&
		string(raw[h+s:]) == string(p.tail)
}

func appendHash(b []byte, h peercrypto.Hash) []byte {
	return append(append(append(b, '"'), h.String()...), '"')
}

// appendID is for ids that are checked: they need no escapes. Others make bytes
// that differ from what was read or are refused when they are read again.
func appendID(b []byte, id peercrypto.ID) []byte {
	return append(append(append(b, '"'), id...), '"')
}

func encodeChanges(changes []fold.Change) ([]byte, error) {
	b := []byte{'['}
	for i, c := range changes {
		if i > 0 {
			b = append(b, ',')
		}
		one, err := c.MarshalJSON()
		if err != nil {
			return nil, err
		}
		b = append(b, one...)
	}
	return append(b, ']'), nil
}

// tagged is an operation with its kind.
type tagged[T Op] struct {
	Name string `json:"kind"`
	Body T      `json:",embed"`
}

// codec reads and writes one kind of operation.
type codec struct {
	decode func(raw []byte) (Op, error)
	encode func(op Op) ([]byte, error)
}

func newCodec[T Op]() codec {
	return codec{
		decode: func(raw []byte) (Op, error) {
			var t tagged[T]
			err := json.Unmarshal(raw, &t, json.RejectUnknownMembers(true))
			return t.Body, err
		},
		encode: func(op Op) ([]byte, error) {
			return peercrypto.MarshalCanonical(tagged[T]{op.Kind(), op.(T)})
		},
	}
}

// codecs has every kind.
var codecs = map[string]codec{
	KindCreate:     newCodec[Create](),
	KindAdd:        newCodec[Add](),
	KindAccept:     newCodec[Accept](),
	KindRemove:     newCodec[Remove](),
	KindLeave:      newCodec[Leave](),
	KindRole:       newCodec[RoleChange](),
	KindBlock:      newCodec[Block](),
	KindPolicy:     newCodec[Policy](),
	KindInvite:     newCodec[Invite](),
	KindUninvite:   newCodec[Uninvite](),
	KindRVKey:      newCodec[RVKey](),
	KindMerge:      newCodec[Merge](),
	KindCheckpoint: newCodec[Checkpoint](),
	KindAdopt:      newCodec[Adopt](),
	KindRekey:      newCodec[Rekey](),
	KindDelete:     newCodec[Delete](),
}
