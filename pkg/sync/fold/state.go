package fold

import (
	"fmt"
	"strconv"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// A State is the document of one subject while changes are folded into it. It
// is not safe for concurrent use.
type State struct {
	group, subject peercrypto.ID

	root     *node // without "modified"; nil when absent or deleted
	deleted  bool
	modified int64

	// undo takes back the change that is being applied, last step first.
	undo []func()
}

// NewState returns the state before any change.
func NewState(group, subject peercrypto.ID) *State {
	return &State{group: group, subject: subject}
}

// Restore returns the state that gave that JSON, deleted and modified, so that
// later changes can be folded in without the earlier ones. canonicalJSON must
// come from [State.JSON], is nil if that was nil, and is not modified.
func Restore(group, subject peercrypto.ID, canonicalJSON []byte, deleted bool, modified int64) (*State, error) {
	s := NewState(group, subject)
	s.deleted, s.modified = deleted, modified
	if canonicalJSON == nil {
		return s, nil
	}
	if deleted {
		return nil, fmt.Errorf("restoring document %s: it has content and is deleted", subject.Short())
	}
	if err := checkRoot(group, subject, canonicalJSON); err != nil {
		return nil, fmt.Errorf("restoring document %s: %w", subject.Short(), err)
	}
	s.root = newRoot(canonicalJSON)
	return s, nil
}

// newRoot opens a root value and leaves out what is not the document's.
func newRoot(value []byte) *node {
	n := newLeaf(value)
	n.open()
	for _, key := range []string{"modified", "signer", "signature"} {
		n.size += n.put(Segment{Key: key}, nil)
	}
	return n
}

// Apply folds in one valid change. Changes come in the order (modified, hash)
// and have passed [CheckChanges]; their values are kept and not modified. A
// change that would make the document too large has no effect but on Modified.
func (s *State) Apply(modified int64, deleted bool, changes []Change) {
	s.modified = max(s.modified, modified)
	if deleted {
		s.root, s.deleted = nil, true
		return
	}
	s.undo = s.undo[:0]
	for _, c := range changes {
		s.applyOne(c)
	}
	if s.size() > MaxDocument {
		for i := len(s.undo) - 1; i >= 0; i-- {
			s.undo[i]()
		}
	}
	clear(s.undo)
}

func (s *State) applyOne(c Change) {
	switch {
	case c.Path == "":
		s.replace(c)
	case s.root == nil:
	default:
		path, err := ParsePath(c.Path)
		if err != nil {
			return
		}
		if c.Set && len(c.Value) > 0 {
			s.set(path, newLeaf(c.Value))
		} else if !c.Set {
			s.unset(path)
		}
	}
}

func (s *State) replace(c Change) {
	root := (*node)(nil)
	if c.Set {
		if checkRoot(s.group, s.subject, c.Value) != nil {
			return
		}
		if n := newRoot(c.Value); typeOf(n) != TypeDeleted {
			root = n
		}
	}
	oldRoot, oldDeleted := s.root, s.deleted
	s.undo = append(s.undo, func() { s.root, s.deleted = oldRoot, oldDeleted })
	s.root, s.deleted = root, root == nil
}

// set walks path, creating what is missing, unless some step is impossible.
func (s *State) set(path []Segment, v *node) {
	parents := make([]*node, 1, len(path))
	parents[0] = s.root
	for i, seg := range path {
		at := parents[i]
		if !at.takes(seg) {
			return
		}
		next := at.child(seg)
		if i == len(path)-1 {
			break
		}
		if next == nil || !next.open() {
			// From here on everything is new: only gaps can be wrong.
			for _, rest := range path[i+1:] {
				if rest.IsIndex && rest.Index > MaxIndexGap {
					return
				}
			}
			v, path = build(path[i+1:], v), path[:i+1]
			break
		}
		parents = append(parents, next)
	}
	s.put(parents, path[len(path)-1], v)
}

// build wraps v in the containers that path asks for.
func build(path []Segment, v *node) *node {
	for i := len(path) - 1; i >= 0; i-- {
		n := newContainer(path[i].IsIndex)
		n.size += n.put(path[i], v)
		v = n
	}
	return v
}

// unset deletes a member or empties an element, if it is there.
func (s *State) unset(path []Segment) {
	parents := make([]*node, 1, len(path))
	parents[0] = s.root
	for i, seg := range path {
		next := parents[i].child(seg)
		if next == nil {
			return
		}
		if i == len(path)-1 {
			break
		}
		if !next.open() {
			return
		}
		parents = append(parents, next)
	}
	v := (*node)(nil)
	if parents[len(parents)-1].kind == array {
		v = null
	}
	s.put(parents, path[len(path)-1], v)
}

// put changes what is at seg of the last parent and remembers how it was.
func (s *State) put(parents []*node, seg Segment, v *node) {
	at := parents[len(parents)-1]
	old, length := at.child(seg), len(at.elems)
	grown := at.put(seg, v)
	for _, p := range parents {
		p.size += grown
	}
	s.undo = append(s.undo, func() {
		if at.kind == array && seg.Index >= length {
			clear(at.elems[length:])
			at.elems = at.elems[:length]
		} else {
			at.put(seg, old)
		}
		for _, p := range parents {
			p.size -= grown
		}
	})
}

// size is the length of JSON.
func (s *State) size() int {
	if s.root == nil {
		return 0
	}
	return s.root.size + modifiedSize(s.modified)
}

// modifiedSize is what the member "modified" adds to an object that is not empty.
func modifiedSize(ms int64) int {
	return len(`"modified":,`) + len(strconv.FormatInt(ms, 10))
}

// JSON returns the document in canonical form in a new slice, or nil when there
// is none. It is at most [MaxDocument] bytes.
func (s *State) JSON() []byte {
	if s.root == nil {
		return nil
	}
	const key = "modified"
	s.root.members[key] = newLeaf(strconv.AppendInt(nil, s.modified, 10))
	b := s.root.append(make([]byte, 0, s.size()))
	delete(s.root.members, key)
	return b
}

// Exists reports whether there is a document.
func (s *State) Exists() bool { return s.root != nil }

// Deleted reports whether the last root write deleted the document.
func (s *State) Deleted() bool { return s.deleted }

// Modified returns the highest modified of the changes so far, in unix ms.
func (s *State) Modified() int64 { return s.modified }

// Type returns the type of the document, or "" when there is none.
func (s *State) Type() string {
	if s.root == nil {
		return ""
	}
	return typeOf(s.root)
}

func typeOf(root *node) string {
	if n := root.members["type"]; n != nil && n.kind == leaf && n.raw[0] == '"' {
		return unquote(n.raw)
	}
	return ""
}
