package fold

import (
	"encoding/json"
	"errors"
	"fmt"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// Limits. They decide what a document is and are frozen.
const (
	MaxDocument  = 1 << 20 // bytes of a document in canonical form
	MaxChanges   = 10_000  // entries of one change
	MaxIndexGap  = 64      // how far behind the end of an array an index may be
	MaxTypeBytes = 64      // bytes of a document's type
)

// TypeDeleted is the type of a root value that deletes.
const TypeDeleted = "Deleted"

// ErrChanges is matched by every refusal of a path or of changes. The texts
// contain nothing of what was refused.
var ErrChanges = errors.New("unsound changes")

// A Change is one entry of a change's list: it sets or unsets what is at Path.
// Its JSON is [path] or [path,value].
type Change struct {
	Path string
	// Set is false when the member at Path is to be deleted.
	Set bool
	// Value is canonical JSON when Set, nil otherwise. It is never modified.
	Value json.RawMessage
}

// MarshalJSON returns the canonical form. Value must be canonical already.
func (c Change) MarshalJSON() ([]byte, error) {
	if c.Set && len(c.Value) == 0 {
		return nil, fmt.Errorf("encoding a change: %w: it sets no value", ErrChanges)
	}
	return c.append(make([]byte, 0, c.size())), nil
}

func (c Change) append(b []byte) []byte {
	b = appendQuoted(append(b, '['), c.Path)
	if c.Set {
		b = append(append(b, ','), c.Value...)
	}
	return append(b, ']')
}

// size is the length of the JSON.
func (c Change) size() int {
	n := quotedSize(c.Path) + 2
	if c.Set {
		n += 1 + len(c.Value)
	}
	return n
}

// UnmarshalJSON reads strict JSON; it keeps a copy of the value in canonical
// form. [ParseChanges] is the faster way for what is known to be canonical.
func (c *Change) UnmarshalJSON(raw []byte) error {
	canonical, err := peercrypto.Canonicalize(raw)
	if err != nil {
		return fmt.Errorf("decoding a change: %w", err)
	}
	d, err := parseChange(canonical)
	if err != nil {
		return fmt.Errorf("decoding a change: %w", err)
	}
	*c = d
	return nil
}

// ParseChanges reads the JSON array of a change's entries, at most
// [MaxChanges]. The input must have passed [peercrypto.CheckCanonical] (by
// itself or as a part of something larger), which is not done again here: other
// input gives an error or other entries, never a panic. The values share memory with it.
func ParseChanges(canonical []byte) ([]Change, error) {
	var changes []Change
	ok := eachElement(canonical, func(raw []byte) error {
		if len(changes) == MaxChanges {
			return unsound("more than %d entries", MaxChanges)
		}
		c, err := parseChange(raw)
		if err != nil {
			return err
		}
		changes = append(changes, c)
		return nil
	})
	if ok != nil {
		return nil, fmt.Errorf("decoding changes: %w", ok)
	}
	return changes, nil
}

// parseChange reads one canonical entry.
func parseChange(raw []byte) (Change, error) {
	var c Change
	n := 0
	err := eachElement(raw, func(part []byte) error {
		switch n++; {
		case n == 1 && part[0] == '"':
			c.Path = unquote(part)
		case n == 2:
			c.Set, c.Value = true, part
		default:
			return unsound("an entry is not [path] or [path,value]")
		}
		return nil
	})
	if err == nil && n == 0 {
		err = unsound("an entry is not [path] or [path,value]")
	}
	if err != nil {
		return Change{}, err
	}
	return c, nil
}

// CheckChanges tells whether the entries are sound for a change of that subject
// in that group: their number, their paths and their root values. Values must
// be canonical. Errors match [ErrChanges].
func CheckChanges(group, subject peercrypto.ID, changes []Change) error {
	if len(changes) > MaxChanges {
		return unsound("more than %d entries", MaxChanges)
	}
	for _, c := range changes {
		if c.Set != (len(c.Value) > 0) {
			return unsound("an entry's value and Set differ")
		}
		if c.Path == "" && c.Set {
			if err := checkRoot(group, subject, c.Value); err != nil {
				return err
			}
			continue
		}
		path, err := ParsePath(c.Path)
		if err != nil {
			return err
		}
		if len(path)+depth(c.Value) > peercrypto.MaxDepth {
			return unsound("the document would nest more than %d levels", peercrypto.MaxDepth)
		}
	}
	return nil
}

// depth is how many levels of containers a value has. What a path leads to stands as many levels below the document as
// the path has segments, whatever is there before; so the depth of documents is a matter of soundness and needs no fold.
func depth(value []byte) int {
	deepest, open := 0, 0
	for i := 0; i < len(value); i++ {
		switch value[i] {
		case '"':
			i = stringEnd(value, i) - 1
		case '{', '[':
			open++
			deepest = max(deepest, open)
		case '}', ']':
			open--
		}
	}
	return deepest
}

// checkRoot tells whether a value may stand at path "".
func checkRoot(group, subject peercrypto.ID, value []byte) error {
	var id, of, typ string
	err := eachMember(value, func(key string, v []byte) error {
		if v[0] != '"' {
			return nil
		}
		switch key {
		case "id":
			id = unquote(v)
		case "group":
			of = unquote(v)
		case "type":
			typ = unquote(v)
		}
		return nil
	})
	switch {
	case err != nil:
		return unsound("the value at the root is not an object")
	case typ == TypeDeleted:
		return nil
	case id != string(subject):
		return unsound(`"id" of the root is not the subject`)
	case of != string(group):
		return unsound(`"group" of the root is not the group`)
	}
	return CheckType(typ)
}

// CheckType tells whether a document may have that type: a text of 1 to
// [MaxTypeBytes] bytes that is not reserved. Errors match [ErrChanges].
func CheckType(typ string) error {
	switch typ {
	case "":
		return unsound(`"type" is missing or not a text`)
	case "User", "Group", "KeyEvent", "Index", TypeDeleted:
		return unsound(`"type" is reserved`)
	}
	if len(typ) > MaxTypeBytes {
		return unsound(`"type" has more than %d bytes`, MaxTypeBytes)
	}
	return nil
}
