package storetest

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

// held makes the n-th quarantined item; the higher n, the younger.
func held(group peercrypto.ID, n int, from peercrypto.ID, waits ...groupsync.Wait) groupsync.Quarantined {
	return groupsync.Quarantined{
		Key: hash(string(group)+"key", n), Group: group, Hash: hash("entry", n), From: from,
		Raw: bytes.Repeat([]byte{'x'}, 10), Received: int64(1000 + n), Waits: waits,
	}
}

func entryWait(n int) groupsync.Wait {
	return groupsync.Wait{Kind: "entry", Ref: hash("awaited", n).String()}
}

func timeWait(ms int64) groupsync.Wait {
	return groupsync.Wait{Kind: "time", Ref: fmt.Sprintf("%013d", ms)}
}

func (s *suite) putHeld(items ...groupsync.Quarantined) {
	s.Helper()
	s.update(func(tx groupsync.Tx) error {
		for _, q := range items {
			s.must(tx.PutQuarantined(q))
		}
		return nil
	})
}

func (s *suite) usage(r groupsync.Reader, group, from peercrypto.ID) groupsync.QuarantineUsage {
	s.Helper()
	u, err := r.QuarantineUsage(group, from)
	s.must(err)
	return u
}

func (s *suite) quarantine() {
	a, b := id("group", 1), id("group", 2)
	eve, bob := id("user", 1), id("user", 2)
	one := held(a, 3, eve, entryWait(1), entryWait(2))
	two := held(a, 1, bob, entryWait(1))
	three := held(b, 2, eve, entryWait(1), groupsync.Wait{Kind: "void", Ref: "grant"})
	s.putHeld(one, two, three)
	raw := bytes.Clone(one.Raw)
	one.Raw[0] = 'y' // the store keeps a copy
	one.Raw = raw
	usage := s.usage
	s.both(func(r groupsync.Reader) {
		for _, c := range []struct {
			group peercrypto.ID
			wait  groupsync.Wait
			want  []groupsync.Quarantined
		}{
			{a, entryWait(1), []groupsync.Quarantined{two, one}}, // oldest first
			{a, entryWait(2), []groupsync.Quarantined{one}},
			{b, entryWait(1), []groupsync.Quarantined{three}},
			{b, groupsync.Wait{Kind: "void", Ref: "grant"}, []groupsync.Quarantined{three}},
			{b, groupsync.Wait{Kind: "entry", Ref: "grant"}, nil},
		} {
			var got []groupsync.Quarantined
			s.must(r.Waiting(c.group, c.wait, collect(&got)))
			s.equal("items that wait", got, c.want)
		}
		var all, first, none []groupsync.Quarantined
		s.must(r.Quarantine(a, 0, collect(&all)))
		s.must(r.Quarantine(a, 1, collect(&first)))
		s.must(r.Quarantine(id("group", 3), 0, collect(&none)))
		s.equal("the quarantine", [][]groupsync.Quarantined{all, first, none}, [][]groupsync.Quarantined{{two, one}, {two}, nil})
		s.equal("usage of all", usage(r, "", ""), groupsync.QuarantineUsage{Items: 3, Bytes: 30})
		s.equal("usage of a group", usage(r, a, ""), groupsync.QuarantineUsage{Items: 2, Bytes: 20})
		s.equal("usage of a sender", usage(r, "", eve), groupsync.QuarantineUsage{Items: 2, Bytes: 20})
		s.equal("usage of both", usage(r, b, eve), groupsync.QuarantineUsage{Items: 1, Bytes: 10})
		s.equal("usage of none", usage(r, b, bob), groupsync.QuarantineUsage{})
	})
	// Replaced by key: with other waits, bytes and sender.
	one.Raw, one.From, one.Waits = []byte("longer than before"), bob, []groupsync.Wait{entryWait(5)}
	s.putHeld(one, one)
	s.both(func(r groupsync.Reader) {
		var old, now []groupsync.Quarantined
		s.must(r.Waiting(a, entryWait(2), collect(&old)))
		s.must(r.Waiting(a, entryWait(5), collect(&now)))
		s.equal("items that wait", [][]groupsync.Quarantined{old, now}, [][]groupsync.Quarantined{nil, {one}})
		s.equal("usage of a sender", usage(r, a, bob), groupsync.QuarantineUsage{Items: 2, Bytes: 28})
		s.equal("usage of the other", usage(r, a, eve), groupsync.QuarantineUsage{})
	})
	// Deleting inside of the walk is how items are released.
	s.update(func(tx groupsync.Tx) error {
		s.must(tx.DeleteQuarantined(hash("none", 1)))
		return tx.Quarantine("", 0, func(q groupsync.Quarantined) error { return tx.DeleteQuarantined(q.Key) })
	})
	s.both(func(r groupsync.Reader) {
		s.equal("usage", usage(r, "", ""), groupsync.QuarantineUsage{})
		s.must(r.Waiting(a, entryWait(5), func(groupsync.Quarantined) error { return errStop }))
	})
}

func (s *suite) quarantineTime() {
	a, b := id("group", 1), id("group", 2)
	late := held(a, 1, "", timeWait(3000), entryWait(1))
	soon := held(b, 2, "", timeWait(1000))
	next := held(a, 3, "", timeWait(2000), timeWait(2500))
	s.putHeld(late, soon, next, held(a, 4, "", entryWait(1)))
	s.both(func(r groupsync.Reader) {
		for _, c := range []struct {
			now   int64
			limit int
			want  []groupsync.Quarantined
		}{
			{-5, 0, nil}, {999, 0, nil}, {1000, 0, []groupsync.Quarantined{soon}},
			{2600, 0, []groupsync.Quarantined{soon, next}}, {9999, 0, []groupsync.Quarantined{soon, next, late}},
			{9999, 1, []groupsync.Quarantined{soon}},
		} {
			var got []groupsync.Quarantined
			s.must(r.Due(c.now, c.limit, collect(&got)))
			s.equal(fmt.Sprintf("items due at %d", c.now), got, c.want)
		}
		s.equal("the callback's error", r.Due(9999, 0, func(groupsync.Quarantined) error { return errStop }), errStop)
	})
}

func (s *suite) eviction() {
	a, b := id("group", 1), id("group", 2)
	eve, bob := id("user", 1), id("user", 2)
	for _, c := range []struct {
		what                       string
		group, from                peercrypto.ID
		maxItems, maxBytes, before int64
		want                       int64
		left                       []int // numbers of those left, of 0 to 9
	}{
		{"within limits", "", "", 10, 100, 0, 0, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}},
		{"items of all", "", "", 4, 1000, 0, 6, []int{6, 7, 8, 9}},
		{"bytes of all", "", "", 1000, 45, 0, 6, []int{6, 7, 8, 9}},
		{"items of a group", a, "", 2, 1000, 0, 3, []int{1, 3, 5, 6, 7, 8, 9}},
		{"bytes of a sender", "", eve, 1000, 10, 0, 2, []int{1, 2, 4, 5, 6, 7, 8, 9}},
		{"items of a sender in a group", b, bob, 0, 1000, 0, 4, []int{0, 2, 3, 4, 6, 8}},
		{"old ones", "", "", 1000, 1000, 1003, 3, []int{3, 4, 5, 6, 7, 8, 9}},
		{"old ones without limits", a, "", -1, -1, 1005, 3, []int{1, 3, 5, 6, 7, 8, 9}},
		{"everything", "", "", 0, 0, 0, 10, nil},
	} {
		s.update(func(tx groupsync.Tx) error {
			_, err := tx.EvictQuarantine("", "", 0, 0, 0)
			return err
		})
		for n := range 10 {
			group, from := a, bob
			if n%2 == 1 {
				group = b
			}
			if n%3 == 0 && n < 9 {
				from = eve
			}
			s.putHeld(held(group, n, from, entryWait(n)))
		}
		s.update(func(tx groupsync.Tx) error {
			n, err := tx.EvictQuarantine(c.group, c.from, c.maxItems, c.maxBytes, c.before)
			if n != c.want {
				s.Errorf("%s: evicted %d, want %d", c.what, n, c.want)
			}
			return err
		})
		s.view(func(r groupsync.Reader) error {
			var left []int
			err := r.Quarantine("", 0, func(q groupsync.Quarantined) error {
				left = append(left, int(q.Received-1000))
				return nil
			})
			if !slices.Equal(left, c.left) {
				s.Errorf("%s: left %v, want %v", c.what, left, c.left)
			}
			return err
		})
	}
}

func (s *suite) badQuarantine() {
	for what, change := range map[string]func(*groupsync.Quarantined){
		"no key":       func(q *groupsync.Quarantined) { q.Key = peercrypto.Hash{} },
		"no group":     func(q *groupsync.Quarantined) { q.Group = "" },
		"no bytes":     func(q *groupsync.Quarantined) { q.Raw = nil },
		"no wait":      func(q *groupsync.Quarantined) { q.Waits = nil },
		"a wrong time": func(q *groupsync.Quarantined) { q.Waits = []groupsync.Wait{{Kind: "time", Ref: "12"}} },
	} {
		q := held(id("group", 1), 1, "", entryWait(1))
		change(&q)
		err := s.store.Update(context.Background(), func(tx groupsync.Tx) error { return tx.PutQuarantined(q) })
		if err == nil {
			s.Errorf("an item with %s was stored", what)
		}
	}
}
