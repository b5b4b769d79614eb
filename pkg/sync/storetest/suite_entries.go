package storetest

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

func (s *suite) groups() {
	a := groupsync.GroupRecord{ID: id("group", 1), Joined: true, Meta: []byte(`{"a":1}`)}
	b := groupsync.GroupRecord{ID: id("group", 2), Left: true}
	s.update(func(tx groupsync.Tx) error {
		s.must(tx.PutRecord(record(id("group", 3), entry.Data, 1))) // makes no group known
		s.must(tx.PutGroup(b))
		return tx.PutGroup(a)
	})
	a.Meta = []byte(`{"a":2}`)
	s.update(func(tx groupsync.Tx) error { return tx.PutGroup(a) })
	s.both(func(r groupsync.Reader) {
		all, err := r.Groups()
		s.must(err)
		s.equal("groups", all, []groupsync.GroupRecord{a, b})
		got, ok, err := r.Group(a.ID)
		s.must(err)
		s.equal("a group", got, a)
		got.Meta[0] = 'x' // the caller's to keep
		got, _, err = r.Group(a.ID)
		s.must(err)
		s.equal("the group read again", got, a)
		_, other, err := r.Group(id("group", 3))
		s.must(err)
		s.equal("found", []bool{ok, other}, []bool{true, false})
	})
}

func (s *suite) records() {
	g, other := id("group", 1), id("group", 2)
	op, data := record(g, entry.Operation, 0), record(g, entry.Data, 3)
	void := record(g, entry.Data, 4)
	void.Valid = false
	foreign := record(other, entry.Operation, 1)
	raw := bytes.Clone(data.Raw)
	s.update(func(tx groupsync.Tx) error {
		s.must(putAll(tx, op, data, void, foreign))
		data.Raw[0] = 'x' // the store keeps a copy
		return nil
	})
	data.Raw = raw
	s.both(func(r groupsync.Reader) {
		for _, want := range []groupsync.Record{op, data, void, foreign} {
			got, ok, err := r.Record(want.Hash)
			if err != nil || !ok || got.Position == 0 {
				s.Fatalf("Record: %v, %v, position %d", ok, err, got.Position)
			}
			s.equal("a record", without(got), want)
		}
		if _, ok, err := r.Record(hash("none", 0)); ok || err != nil {
			s.Errorf("an unknown record: %v, %v", ok, err)
		}
		has, err := r.Has([]peercrypto.Hash{void.Hash, hash("none", 0), op.Hash})
		s.must(err)
		s.equal("Has", has, []bool{true, false, true})
	})
	// Put again: flags change, and Raw unless it is nil; nothing else.
	again := data
	again.Raw, again.Valid, again.Subject, again.Origin = []byte(`{"m":1}`), false, "other", 9
	s.update(func(tx groupsync.Tx) error { return tx.PutRecord(again) })
	data.Raw, data.Valid = again.Raw, false
	s.both(func(r groupsync.Reader) {
		got, _, err := r.Record(data.Hash)
		s.must(err)
		s.equal("a record put again", without(got), data)
	})
	again.Raw, again.Valid = nil, true
	s.update(func(tx groupsync.Tx) error { return tx.PutRecord(again) })
	data.Valid = true
	s.both(func(r groupsync.Reader) {
		got, _, err := r.Record(data.Hash)
		s.must(err)
		s.equal("a record put without bytes", without(got), data)
	})
}

func (s *suite) badRecords() {
	good := record(id("group", 1), entry.Data, 1)
	for what, change := range map[string]func(*groupsync.Record){
		"no bytes":             func(r *groupsync.Record) { r.Raw = nil },
		"no kind":              func(r *groupsync.Record) { r.Kind = 0 },
		"an unknown kind":      func(r *groupsync.Record) { r.Kind = 3 },
		"no hash":              func(r *groupsync.Record) { r.Hash = peercrypto.Hash{} },
		"no group":             func(r *groupsync.Record) { r.Group = "" },
		"a negative time":      func(r *groupsync.Record) { r.Modified = -1 },
		"a time out of range":  func(r *groupsync.Record) { r.Modified = 1 << 53 },
		"valid and not shared": func(r *groupsync.Record) { r.Shared = false },
	} {
		r := good
		change(&r)
		err := s.store.Update(context.Background(), func(tx groupsync.Tx) error { return tx.PutRecord(r) })
		if err == nil {
			s.Errorf("a record with %s was stored", what)
		}
	}
	for what, h := range map[string]peercrypto.Hash{"unknown": hash("none", 0), "valid and not shared": good.Hash} {
		err := s.store.Update(context.Background(), func(tx groupsync.Tx) error {
			s.must(tx.PutRecord(good))
			return tx.SetFlags(h, true, false)
		})
		if err == nil {
			s.Errorf("flags of an entry that is %s were set", what)
		}
	}
	s.equal("the store", dump(s, good.Group)["position"], int64(0))
}

// placesOfChain expects sorted twins at place 2 and an operation at 7.
func (s *suite) placesOfChain(r groupsync.Reader, as peercrypto.Hash, dev peercrypto.ID, twins []groupsync.Record, op groupsync.Record) {
	for _, c := range []struct {
		dev   peercrypto.ID
		kind  entry.Kind
		seq   int64
		limit int
		want  []groupsync.Record
	}{
		{dev, entry.Data, 2, 9, twins}, {dev, entry.Data, 2, 2, twins[:2]}, {dev, entry.Data, 7, 9, nil},
		{dev, entry.Operation, 7, 9, []groupsync.Record{op}}, {"nobody", entry.Data, 2, 9, nil},
	} {
		got, err := r.ChainAt(as, c.dev, c.kind, c.seq, c.limit)
		s.must(err)
		for i := range got {
			got[i] = without(got[i])
		}
		want := slices.Clone(c.want)
		for i := range want {
			want[i].Raw = nil
		}
		s.equal(fmt.Sprintf("place %d of a chain", c.seq), append([]groupsync.Record{}, got...), append([]groupsync.Record{}, want...))
	}
}

func (s *suite) chains() {
	g, as, dev := id("group", 1), hash("grant", 1), id("dev", 1)
	at := func(n int, seq int64, kind entry.Kind) groupsync.Record {
		r := record(g, kind, n)
		r.As, r.Dev, r.Seq, r.Valid = as, dev, seq, n%2 == 0
		return r
	}
	twins := []groupsync.Record{at(3, 2, entry.Data), at(4, 2, entry.Data), at(5, 2, entry.Data)}
	rest := []groupsync.Record{at(1, 0, entry.Data), at(2, 1, entry.Data)}
	op, elsewhere := at(1, 7, entry.Operation), at(9, 9, entry.Data)
	elsewhere.Dev = id("dev", 2)
	s.update(func(tx groupsync.Tx) error { return putAll(tx, append(slices.Concat(twins, rest), op, elsewhere)...) })
	slices.SortFunc(twins, func(a, b groupsync.Record) int { return a.Hash.Compare(b.Hash) })
	s.both(func(r groupsync.Reader) {
		for _, c := range []struct {
			dev  peercrypto.ID
			kind entry.Kind
			want peercrypto.Hash
		}{{dev, entry.Data, twins[0].Hash}, {dev, entry.Operation, op.Hash}, {elsewhere.Dev, entry.Data, elsewhere.Hash}} {
			head, ok, err := r.ChainHead(as, c.dev, c.kind)
			s.must(err)
			if !ok || head.Hash != c.want || len(head.Raw) == 0 {
				s.Errorf("the head of %s %v is %s, want %s", c.dev, c.kind, head.Hash.Short(), c.want.Short())
			}
		}
		if _, ok, err := r.ChainHead(as, elsewhere.Dev, entry.Operation); ok || err != nil {
			s.Errorf("the head of a chain without entries: %v, %v", ok, err)
		}
		s.placesOfChain(r, as, dev, twins, op)
		var data []groupsync.Record
		s.must(r.DataOf(as, collect(&data)))
		want := append(slices.Concat(twins, rest), elsewhere)
		for i := range want {
			want[i].Raw = nil
		}
		for i := range data {
			data[i] = without(data[i])
		}
		sortRecords(data)
		sortRecords(want)
		s.equal("the data of a grant", data, want)
	})
}

// subjects: operations in order whatever their flags, data only while valid.
func (s *suite) subjects() {
	g := id("group", 1)
	var ops, data []groupsync.Record
	s.update(func(tx groupsync.Tx) error {
		for n := range 400 { // more than one page
			op, d := record(g, entry.Operation, n), record(g, entry.Data, n)
			d.Subject = id("subject", 1)
			d.Valid = n%3 != 0
			op.Valid, op.Shared = n%2 == 0, n%4 != 1
			s.must(putAll(tx, op, d, record(id("group", 2), entry.Data, n)))
			ops = append(ops, op)
			if d.Valid {
				data = append(data, d)
			}
		}
		first := data[0]
		data = data[1:]
		return tx.SetFlags(first.Hash, false, true)
	})
	sortRecords(ops)
	sortRecords(data)
	s.both(func(r groupsync.Reader) {
		var got []groupsync.Record
		s.must(r.Operations(g, func(rec groupsync.Record) error { got = append(got, without(rec)); return nil }))
		s.equal("operations", got, ops)
		got = nil
		s.must(r.SubjectEntries(g, id("subject", 1), func(rec groupsync.Record) error { got = append(got, without(rec)); return nil }))
		s.equal("entries of a subject", got, data)
		for _, err := range []error{
			r.Operations(g, func(groupsync.Record) error { return errStop }),
			r.SubjectEntries(g, id("subject", 1), func(groupsync.Record) error { return errStop }),
			r.DataOf(data[0].As, func(groupsync.Record) error { return errStop }),
		} {
			s.equal("the callback's error", err, errStop)
		}
		s.must(r.SubjectEntries(g, id("subject", 2), func(groupsync.Record) error { return errStop }))
		s.must(r.Operations(id("group", 9), func(groupsync.Record) error { return errStop }))
	})
}

func (s *suite) positions() {
	g, other := id("group", 1), id("group", 2)
	recs := make([]groupsync.Record, 5)
	for n := range recs {
		recs[n] = record(g, entry.Kind(1+n%2), n)
	}
	recs[3].Valid, recs[3].Shared = false, false
	order := func(r groupsync.Reader, after int64, limit int) []peercrypto.Hash {
		got, err := r.SharedAfter(g, after, limit)
		s.must(err)
		var hashes []peercrypto.Hash
		for _, rec := range got {
			if rec.Position <= after || rec.Raw != nil {
				s.Fatalf("position %d is not greater than %d", rec.Position, after)
			}
			after = rec.Position
			hashes = append(hashes, rec.Hash)
		}
		return hashes
	}
	s.update(func(tx groupsync.Tx) error {
		s.must(putAll(tx, recs[0], record(other, entry.Data, 1), recs[1]))
		return putAll(tx, recs[2:]...)
	})
	var middle int64
	s.both(func(r groupsync.Reader) {
		s.equal("the log", order(r, 0, 10), []peercrypto.Hash{recs[0].Hash, recs[1].Hash, recs[2].Hash, recs[4].Hash})
		s.equal("the log's begin", order(r, 0, 2), []peercrypto.Hash{recs[0].Hash, recs[1].Hash})
		rec, _, err := r.Record(recs[1].Hash)
		s.must(err)
		middle = rec.Position
		s.equal("the log's end", order(r, middle, 0), []peercrypto.Hash{recs[2].Hash, recs[4].Hash})
		if last, err := r.LastPosition(); err != nil || last != 5 {
			s.Errorf("the last position is %d, %v", last, err)
		}
	})
	// What becomes shared later, or again, comes at the end; other flags move nothing.
	s.update(func(tx groupsync.Tx) error {
		s.must(tx.SetFlags(recs[4].Hash, false, true))
		s.must(tx.SetFlags(recs[3].Hash, true, true))
		s.must(tx.SetFlags(recs[0].Hash, false, false))
		return tx.SetFlags(recs[2].Hash, false, false)
	})
	s.update(func(tx groupsync.Tx) error { return tx.SetFlags(recs[0].Hash, false, true) })
	s.both(func(r groupsync.Reader) {
		s.equal("the log", order(r, 0, 10), []peercrypto.Hash{recs[1].Hash, recs[4].Hash, recs[3].Hash, recs[0].Hash})
		rec, _, err := r.Record(recs[2].Hash)
		s.must(err)
		s.equal("the position of what is not shared", rec.Position, int64(0))
	})
}

// origin lasts as long as the process.
func (s *suite) origin() {
	r := record(id("group", 1), entry.Data, 1)
	r.Origin = 1 << 40
	check := func(want int64) {
		s.Helper()
		s.both(func(reader groupsync.Reader) {
			got, _, err := reader.Record(r.Hash)
			s.must(err)
			s.equal("the origin", got.Origin, want)
			log, err := reader.SharedAfter(r.Group, 0, 1)
			s.must(err)
			s.equal("the origin in the log", log[0].Origin, want)
		})
	}
	s.update(func(tx groupsync.Tx) error { return tx.PutRecord(r) })
	check(r.Origin)
	if s.restart != nil {
		s.store = s.restart()
		check(0)
	}
}

// largeEntries: a range of large entries is read piece by piece.
func (s *suite) largeEntries() {
	g := id("group", 1)
	scope := groupsync.Scope{Group: g, Kind: entry.Data}
	s.update(func(tx groupsync.Tx) error {
		for n := range 10 {
			r := record(g, entry.Data, n)
			r.Raw = bytes.Repeat([]byte{byte(n)}, entry.MaxSize)
			s.must(tx.PutRecord(r))
		}
		return nil
	})
	s.view(func(r groupsync.Reader) error {
		n := 0
		s.must(r.Shared(scope, groupsync.Ref{}, everything, func(rec groupsync.Record) (bool, error) {
			if len(rec.Raw) != entry.MaxSize || rec.Raw[0] != byte(rec.Seq) {
				s.Error("wrong bytes")
			}
			n++
			return true, nil
		}))
		s.equal("entries", n, 10)
		return nil
	})
}

// writingWhileReading: callbacks may change what they walk over.
func (s *suite) writingWhileReading() {
	g := id("group", 1)
	scope := groupsync.Scope{Group: g, Kind: entry.Data}
	const n = 400
	s.update(func(tx groupsync.Tx) error {
		for i := range n {
			s.must(tx.PutRecord(record(g, entry.Data, i)))
		}
		return nil
	})
	s.update(func(tx groupsync.Tx) error {
		seen := 0
		s.must(tx.Shared(scope, groupsync.Ref{}, everything, func(r groupsync.Record) (bool, error) {
			seen++
			if _, ok, err := tx.Record(r.Hash); !ok || err != nil {
				s.Error("a record can't be read during a walk")
			}
			return true, tx.SetFlags(r.Hash, false, seen%2 == 0)
		}))
		s.equal("entries", seen, n)
		sum, err := tx.Summary(scope, groupsync.Ref{}, everything)
		s.equal("shared entries", sum.Count, int64(n/2))
		return err
	})
}
