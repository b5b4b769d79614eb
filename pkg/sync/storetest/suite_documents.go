package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

func document(n int) groupsync.Document {
	d := groupsync.Document{
		Group:    id("group", 1),
		Subject:  id("subject", n),
		Modified: int64(1000 + n),
		Last:     groupsync.Ref{Modified: int64(1000 + n), Hash: hash("last", n)},
	}
	if d.Deleted = n%5 == 4; !d.Deleted {
		d.Type = fmt.Sprintf("Type%d", n%2)
		d.JSON = fmt.Appendf(nil, `{"n":%d,"s":"é"}`, n)
	}
	return d
}

func (s *suite) documents() {
	d := document(1)
	d.Version = s.putLater(d)
	check := func(live, deleted int64) {
		s.Helper()
		s.both(func(r groupsync.Reader) {
			got, ok, err := r.Document(d.Group, d.Subject)
			s.must(err)
			s.equal("a document", got, d)
			s.equal("found", ok, true)
			if len(got.JSON) > 0 {
				got.JSON[0] = 'x' // the caller's to keep
			}
			_, other, err := r.Document(id("group", 2), d.Subject)
			s.must(err)
			s.equal("found elsewhere", other, false)
			l, n, err := r.DocumentCounts(d.Group)
			s.must(err)
			s.equal("counts", []int64{l, n}, []int64{live, deleted})
		})
	}
	check(1, 0)
	for _, deleted := range []bool{true, true, false, false} {
		d.Deleted, d.JSON, d.Type = deleted, nil, ""
		if !deleted {
			d.JSON, d.Type = []byte(`{"again":1}`), "Other"
		}
		d.Modified++
		d.Version = s.putLater(d)
		if deleted {
			check(0, 1)
		} else {
			check(1, 0)
		}
	}
	s.update(func(tx groupsync.Tx) error {
		return errors.Join(tx.DeleteDocument(d.Group, d.Subject), tx.DeleteDocument(d.Group, "unknown"), tx.DeleteDocument("unknown", "unknown"))
	})
	s.both(func(r groupsync.Reader) {
		_, ok, err := r.Document(d.Group, d.Subject)
		s.must(err)
		live, deleted, err := r.DocumentCounts(d.Group)
		s.must(err)
		s.equal("what is left", []any{ok, live, deleted}, []any{false, int64(0), int64(0)})
	})
	s.putLater(d)
}

// putLater stores d and checks that its version is greater than before.
func (s *suite) putLater(d groupsync.Document) int64 {
	s.Helper()
	var version int64
	s.update(func(tx groupsync.Tx) error {
		v, err := tx.PutDocument(d)
		if v <= d.Version {
			s.Errorf("version %d after %d", v, d.Version)
		}
		version = v
		return err
	})
	return version
}

func (s *suite) documentQueries() {
	const n = 401
	var all []groupsync.Document
	s.update(func(tx groupsync.Tx) error {
		for i := range n {
			d := document(i * 37 % n) // not in the order of subjects
			v, err := tx.PutDocument(d)
			s.must(err)
			d.Version = v
			all = append(all, d)
			d.Group = id("group", 2)
			_, err = tx.PutDocument(d)
			s.must(err)
		}
		return nil
	})
	g := id("group", 1)
	queries := []groupsync.DocumentQuery{
		{Group: g}, {Group: g, IncludeDeleted: true}, {Group: g, Limit: 3}, {Group: g, Limit: 300, IncludeDeleted: true},
		{Group: g, Type: "Type1"}, {Group: g, Type: "Type1", After: id("subject", 55), Limit: 7}, {Group: g, Type: "None"},
		{Group: g, After: id("subject", 350), IncludeDeleted: true},
		{Group: g, ByVersion: true}, {Group: g, ByVersion: true, AfterVersion: 501, Limit: 9},
		{Group: g, ByVersion: true, AfterVersion: 300, Type: "Type0", IncludeDeleted: true},
		{Group: g, AfterVersion: 1 << 40},
		{Group: id("group", 3)},
	}
	s.both(func(r groupsync.Reader) {
		for _, q := range queries {
			var want, got []groupsync.Document
			for _, d := range all {
				if q.Group == g && (q.IncludeDeleted || !d.Deleted) && (q.Type == "" || d.Type == q.Type) && d.Subject > q.After &&
					(!q.ByVersion || d.Version > q.AfterVersion) {
					want = append(want, d)
				}
			}
			slices.SortFunc(want, func(a, b groupsync.Document) int {
				if q.ByVersion {
					return int(a.Version - b.Version)
				}
				return strings.Compare(string(a.Subject), string(b.Subject))
			})
			if q.Limit > 0 && len(want) > q.Limit {
				want = want[:q.Limit]
			}
			s.must(r.Documents(q, collect(&got)))
			s.equal(fmt.Sprintf("documents of %+v", q), got, want)
		}
		err := r.Documents(queries[0], func(groupsync.Document) error { return errStop })
		s.equal("the callback's error", err, errStop)
	})
}

func (s *suite) badDocuments() {
	for what, change := range map[string]func(*groupsync.Document){
		"no group":                func(d *groupsync.Document) { d.Group = "" },
		"no subject":              func(d *groupsync.Document) { d.Subject = "" },
		"no content":              func(d *groupsync.Document) { d.JSON = nil },
		"content, though deleted": func(d *groupsync.Document) { d.Deleted = true },
	} {
		d := document(1)
		change(&d)
		err := s.store.Update(context.Background(), func(tx groupsync.Tx) error {
			_, err := tx.PutDocument(d)
			return err
		})
		if err == nil {
			s.Errorf("a document with %s was stored", what)
		}
	}
}

func (s *suite) values() {
	type kv struct{ bucket, key, value string }
	for _, v := range []kv{{"a", "k2", "2"}, {"a", "k1", ""}, {"a", "k", "0"}, {"ab", "k", "x"}, {"", "", "empty"}, {"a", "é\x00", "3"}} {
		s.update(func(tx groupsync.Tx) error { return tx.PutValue(v.bucket, v.key, []byte(v.value)) })
	}
	s.update(func(tx groupsync.Tx) error {
		return errors.Join(tx.PutValue("a", "k", []byte("1")), tx.PutValue("a", "k2", nil), tx.PutValue("none", "none", nil))
	})
	s.both(func(r groupsync.Reader) {
		var got []kv
		s.must(r.Values("a", func(key string, value []byte) error {
			got = append(got, kv{"a", key, string(value)})
			return nil
		}))
		s.equal("values", got, []kv{{"a", "k", "1"}, {"a", "k1", ""}, {"a", "é\x00", "3"}})
		for _, c := range []struct {
			bucket, key string
			want        []byte
			found       bool
		}{{"a", "k", []byte("1"), true}, {"a", "k1", []byte{}, true}, {"a", "k2", nil, false}, {"", "", []byte("empty"), true}, {"b", "k", nil, false}} {
			v, ok, err := r.Value(c.bucket, c.key)
			s.must(err)
			s.equal("value "+c.bucket+"/"+c.key, []any{v, ok}, []any{c.want, c.found})
		}
		s.equal("the callback's error", r.Values("a", func(string, []byte) error { return errStop }), errStop)
	})
}

func (s *suite) purge() {
	a, b := id("group", 1), id("group", 2)
	s.update(func(tx groupsync.Tx) error { return fill(tx, 2) })
	only := dump(s, b)
	empty := dump(s, a)
	s.update(func(tx groupsync.Tx) error { return fill(tx, 1) })
	before, _ := dump(s)["position"].(int64)
	s.update(func(tx groupsync.Tx) error {
		s.must(tx.PurgeGroup(a))
		s.must(tx.PutValue("bucket", string(a), nil)) // values belong to no group
		if _, ok, err := tx.Group(a); ok || err != nil {
			s.Errorf("the purged group is there: %v", err)
		}
		return tx.PurgeGroup("unknown")
	})
	for what, want := range map[string]map[string]any{"the other group": only, "the purged group": empty} {
		group := b
		if what == "the purged group" {
			group = a
		}
		got := dump(s, group)
		got["position"] = want["position"]
		s.equal(what, got, want)
	}
	s.both(func(r groupsync.Reader) {
		rec := record(a, entry.Data, 1)
		_, ok, err := r.Record(rec.Hash)
		s.must(err)
		// The same grant is used in both groups.
		head, other, err := r.ChainHead(rec.As, rec.Dev, rec.Kind)
		s.must(err)
		s.equal("a record of the purged group and a chain of the other", []any{ok, other, head.Group}, []any{false, true, b})
		position, err := r.LastPosition()
		s.must(err)
		s.equal("the last position", position, before)
	})
	s.update(func(tx groupsync.Tx) error { return errors.Join(fill(tx, 1), tx.PurgeGroup(a), fill(tx, 1)) })
	s.update(func(tx groupsync.Tx) error { return errors.Join(tx.PurgeGroup(a), tx.PurgeGroup(b)) })
	s.update(func(tx groupsync.Tx) error { return fill(tx, 1) })
}
