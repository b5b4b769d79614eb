package fold_test

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/fold"
)

// A plain is a second fold, by the words of the specification: it decodes and
// encodes everything each time.
type plain struct {
	t        testing.TB
	doc      map[string]any // nil is none
	deleted  bool
	modified int64
}

func (p *plain) apply(modified int64, deleted bool, changes []fold.Change) {
	p.modified = max(p.modified, modified)
	if deleted {
		p.doc, p.deleted = nil, true
		return
	}
	before, wasDeleted := p.json(), p.deleted
	for _, c := range changes {
		p.one(c)
	}
	if len(p.json()) > fold.MaxDocument {
		p.deleted, p.doc = wasDeleted, nil
		if before != nil {
			p.doc = p.decode(before).(map[string]any)
		}
	}
}

func (p *plain) decode(b []byte) any {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		p.t.Fatal(err)
	}
	return v
}

func (p *plain) one(c fold.Change) {
	if c.Path == "" {
		p.doc, p.deleted = nil, true
		if !c.Set {
			return
		}
		m := p.decode(c.Value).(map[string]any)
		if m["type"] == "Deleted" {
			return
		}
		delete(m, "signer")
		delete(m, "signature")
		p.doc, p.deleted = m, false
		return
	}
	if p.doc == nil {
		return
	}
	path, err := fold.ParsePath(c.Path)
	if err != nil {
		p.t.Fatal(err)
	}
	if !c.Set {
		p.doc = p.unset(p.doc, path).(map[string]any)
	} else if result, ok := p.set(p.doc, path, p.decode(c.Value)); ok {
		p.doc = result.(map[string]any)
	}
}

// set returns a changed copy of what is at hand, or false if path is impossible.
func (p *plain) set(at any, path []fold.Segment, v any) (any, bool) {
	if len(path) == 0 {
		return v, true
	}
	seg := path[0]
	switch c := at.(type) {
	case map[string]any:
		inner, ok := p.set(c[seg.Key], path[1:], v)
		if !ok {
			return nil, false
		}
		c = maps.Clone(c)
		c[seg.Key] = inner
		return c, true
	case []any:
		if !seg.IsIndex || seg.Index > len(c)+fold.MaxIndexGap {
			return nil, false
		}
		c = slices.Clone(c)
		for len(c) <= seg.Index {
			c = append(c, nil)
		}
		inner, ok := p.set(c[seg.Index], path[1:], v)
		c[seg.Index] = inner
		return c, ok
	}
	if seg.IsIndex {
		return p.set([]any{}, path, v)
	}
	return p.set(map[string]any{}, path, v)
}

func (p *plain) unset(at any, path []fold.Segment) any {
	seg := path[0]
	switch c := at.(type) {
	case map[string]any:
		inner, there := c[seg.Key]
		if !there {
			return at
		}
		c = maps.Clone(c)
		if len(path) == 1 {
			delete(c, seg.Key)
		} else {
			c[seg.Key] = p.unset(inner, path[1:])
		}
		return c
	case []any:
		if !seg.IsIndex || seg.Index >= len(c) {
			return at
		}
		c = slices.Clone(c)
		if len(path) == 1 {
			c[seg.Index] = nil
		} else {
			c[seg.Index] = p.unset(c[seg.Index], path[1:])
		}
		return c
	}
	return at
}

func (p *plain) json() []byte {
	if p.doc == nil {
		return nil
	}
	m := maps.Clone(p.doc)
	m["modified"] = p.modified
	b, err := peercrypto.MarshalCanonical(m)
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}
