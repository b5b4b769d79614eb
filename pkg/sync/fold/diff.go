package fold

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// maxPathBytes is up to where a difference is told by paths even if writing the
// whole document anew were shorter.
const maxPathBytes = 64 << 10

// Diff returns the changes that make newJSON out of oldJSON: folding them gives
// newJSON without "signer" and "signature" and with the change's own
// "modified". Those three members are not compared. oldJSON is what
// [State.JSON] gave, nil for none; newJSON is strict JSON in any form, nil for
// deletion. No difference gives no changes.
//
// Paths are as deep as they can safely be: members that no path of dots can
// name, arrays that shrink or hold arrays or objects, and a change of "type"
// are written as the nearest container that is safe. Errors match
// [ErrChanges] or [peercrypto.ErrJSON].
func Diff(group, subject peercrypto.ID, oldJSON, newJSON []byte) ([]Change, error) {
	if newJSON == nil {
		if oldJSON == nil {
			return nil, nil
		}
		return []Change{{}}, nil
	}
	canonical, err := peercrypto.Canonicalize(newJSON)
	if err != nil {
		return nil, fmt.Errorf("comparing document %s: %w", subject.Short(), err)
	}
	if err := checkRoot(group, subject, canonical); err != nil {
		return nil, fmt.Errorf("comparing document %s: %w", subject.Short(), err)
	}
	to := newRoot(canonical)
	if typeOf(to) == TypeDeleted {
		return Diff(group, subject, oldJSON, nil)
	}
	if to.size+modifiedSize(1<<53) > MaxDocument {
		return nil, fmt.Errorf("comparing document %s: %w: the document has more than %d bytes", subject.Short(), ErrChanges, MaxDocument)
	}
	whole := []Change{{Set: true, Value: to.append(make([]byte, 0, to.size))}}
	if oldJSON == nil {
		return whole, nil
	}
	old, err := Restore(group, subject, oldJSON, false, 0)
	if err != nil {
		return nil, err
	}
	changes, ok := diffObject(nil, old.root, to, nil)
	if !ok || len(changes) > MaxChanges || tooLong(changes, whole[0].size()) {
		return whole, nil
	}
	return changes, nil
}

func tooLong(changes []Change, whole int) bool {
	total := 0
	for _, c := range changes {
		total += c.size() + 1
	}
	return total > maxPathBytes && total > whole
}

// diffObject appends what makes the object to out of from, both open. It
// reports false if a difference is out of reach of paths below this object.
func diffObject(path []string, from, to *node, out []Change) ([]Change, bool) {
	keys := slices.Collect(maps.Keys(to.members))
	for key := range from.members {
		if to.members[key] == nil {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, compareUTF16)
	for _, key := range keys {
		a, b := from.members[key], to.members[key]
		if a != nil && b != nil && same(a, b) {
			continue
		}
		if len(path) == MaxSegments || !plain(key) || len(path) == 0 && reservedMember(key) {
			return nil, false
		}
		out = diffValue(append(slices.Clip(path), key), a, b, out)
	}
	return out, true
}

// diffValue appends what makes to out of from, which differ; nil is missing.
func diffValue(path []string, from, to *node, out []Change) []Change {
	name := strings.Join(path, ".")
	if to == nil {
		return append(out, Change{Path: name})
	}
	set := Change{Path: name, Set: true, Value: to.append(nil)}
	if from == nil || to.size == 2 || !from.open() || !to.open() || from.kind != to.kind {
		return append(out, set)
	}
	if from.kind == object {
		if deeper, ok := diffObject(path, from, to, out); ok {
			return deeper
		}
		return append(out, set)
	}
	if elements, ok := diffArray(path, from, to); ok && (len(elements) == 1 || listSize(elements) < set.size()) {
		return append(out, elements...)
	}
	return append(out, set)
}

// diffArray writes element by element what can be: arrays of scalars that do not shrink.
func diffArray(path []string, from, to *node) ([]Change, bool) {
	if len(path) == MaxSegments || len(to.elems) < len(from.elems) {
		return nil, false
	}
	var out []Change
	for i, b := range to.elems {
		if b.open() || i < len(from.elems) && from.elems[i].open() {
			return nil, false
		}
		if i < len(from.elems) && same(from.elems[i], b) {
			continue
		}
		name := fmt.Sprintf("%s.%d", strings.Join(path, "."), i)
		out = append(out, Change{Path: name, Set: true, Value: b.append(nil)})
	}
	return out, true
}

func listSize(changes []Change) int {
	n := len(changes) - 1
	for _, c := range changes {
		n += c.size()
	}
	return n
}

// same compares by the canonical form.
func same(a, b *node) bool {
	if a.size != b.size {
		return false
	}
	if a.kind == leaf && b.kind == leaf {
		return bytes.Equal(a.raw, b.raw)
	}
	return bytes.Equal(a.append(nil), b.append(nil))
}

// plain tells whether a name can be a segment between dots, and whether every
// reader of paths takes it so.
func plain(key string) bool {
	return key != "" && len(key) <= MaxSegmentBytes && !strings.ContainsAny(key, ".[]\"'\\")
}
