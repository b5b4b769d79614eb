package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// Opener opens an empty store for one test and arranges that it is closed at
// the end. reopen closes the store and opens it again; it is nil for stores that
// forget.
type Opener func(t *testing.T) (store groupsync.Store, reopen func() groupsync.Store)

// Run checks that a Store does what its interface promises.
func Run(t *testing.T, open Opener) {
	for _, c := range []struct {
		name string
		run  func(*suite)
	}{
		{"Atomicity", (*suite).atomicity},
		{"Panic", (*suite).panics},
		{"Snapshots", (*suite).snapshots},
		{"Cancellation", (*suite).cancellation},
		{"EndOfTransaction", (*suite).endOfTransaction},
		{"Close", (*suite).closing},
		{"Concurrency", (*suite).concurrency},
		{"Groups", (*suite).groups},
		{"Records", (*suite).records},
		{"BadRecords", (*suite).badRecords},
		{"Chains", (*suite).chains},
		{"Subjects", (*suite).subjects},
		{"Positions", (*suite).positions},
		{"Origin", (*suite).origin},
		{"Ranges", (*suite).ranges},
		{"LargeEntries", (*suite).largeEntries},
		{"WritingWhileReading", (*suite).writingWhileReading},
		{"Documents", (*suite).documents},
		{"DocumentQueries", (*suite).documentQueries},
		{"BadDocuments", (*suite).badDocuments},
		{"FieldQueries", (*suite).fieldQueries},
		{"BadQueries", (*suite).badQueries},
		{"Expiry", (*suite).expiry},
		{"Values", (*suite).values},
		{"Quarantine", (*suite).quarantine},
		{"QuarantineTime", (*suite).quarantineTime},
		{"Eviction", (*suite).eviction},
		{"BadQuarantine", (*suite).badQuarantine},
		{"Purge", (*suite).purge},
		{"Reopen", (*suite).reopen},
	} {
		t.Run(c.name, func(t *testing.T) {
			store, reopen := open(t)
			c.run(&suite{t, store, reopen})
		})
	}
}

type suite struct {
	*testing.T
	store   groupsync.Store
	restart func() groupsync.Store
}

var errStop = errors.New("stop")

func (s *suite) update(fn func(tx groupsync.Tx) error) {
	s.Helper()
	if err := s.store.Update(context.Background(), fn); err != nil {
		s.Fatalf("Update: %v", err)
	}
}

func (s *suite) view(fn func(r groupsync.Reader) error) {
	s.Helper()
	if err := s.store.View(context.Background(), fn); err != nil {
		s.Fatalf("View: %v", err)
	}
}

// both runs fn on a snapshot and inside of a transaction.
func (s *suite) both(fn func(r groupsync.Reader)) {
	s.Helper()
	s.view(func(r groupsync.Reader) error { fn(r); return nil })
	s.update(func(tx groupsync.Tx) error { fn(tx); return nil })
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) equal(what string, got, want any) {
	s.Helper()
	if !reflect.DeepEqual(got, want) {
		s.Fatalf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

func id(kind string, n int) peercrypto.ID {
	return peercrypto.ID(fmt.Sprintf("00mwrj0xzz%s%0*d", kind, 15-len(kind), n))
}

func hash(what string, n int) peercrypto.Hash {
	return peercrypto.Sum(fmt.Appendf(nil, "%s %d", what, n))
}

// record makes the n-th entry of a group. Many share a time.
func record(group peercrypto.ID, kind entry.Kind, n int) groupsync.Record {
	r := groupsync.Record{
		Ref:     groupsync.Ref{Modified: 1_700_000_000_000 + int64(n*7919%50), Hash: hash(string(group)+kind.String(), n)},
		Group:   group,
		Kind:    kind,
		Subject: id("subject", n%5),
		As:      hash("grant", n%3),
		Dev:     id("dev", n%2),
		Seq:     int64(n),
		Raw:     fmt.Appendf(nil, `{"n":%d}`, n),
		Valid:   true, Shared: true,
	}
	if n > 0 {
		r.Prev = hash("prev", n)
	}
	if kind == entry.Operation {
		r.Subject = group
	}
	return r
}

// without clears what the store gives.
func without(r groupsync.Record) groupsync.Record {
	r.Position = 0
	return r
}

func collect[T any](into *[]T) func(T) error {
	return func(v T) error {
		*into = append(*into, v)
		return nil
	}
}

func sortRecords(rs []groupsync.Record) {
	slices.SortFunc(rs, func(a, b groupsync.Record) int { return a.Compare(b.Ref) })
}

func putAll(tx groupsync.Tx, rs ...groupsync.Record) error {
	for _, r := range rs {
		if err := tx.PutRecord(r); err != nil {
			return err
		}
	}
	return nil
}

// everything is the whole range.
var everything = groupsync.Ref{Modified: 1<<63 - 1}

// dump reads all there is of some groups.
func dump(s *suite, groups ...peercrypto.ID) map[string]any {
	s.Helper()
	out := map[string]any{}
	s.view(func(r groupsync.Reader) error {
		all, err := r.Groups()
		s.must(err)
		out["groups"] = all
		out["position"], err = r.LastPosition()
		s.must(err)
		for _, g := range groups {
			dumpGroup(s, r, g, out)
		}
		var values []string
		s.must(r.Values("bucket", func(key string, value []byte) error {
			values = append(values, key+"="+string(value))
			return nil
		}))
		out["values"] = values
		return nil
	})
	return out
}

func dumpGroup(s *suite, r groupsync.Reader, g peercrypto.ID, out map[string]any) {
	s.Helper()
	put := func(what string, v any, err error) {
		s.Helper()
		s.must(err)
		out[string(g)+what] = v
	}
	var ops []groupsync.Record
	put("ops", &ops, r.Operations(g, collect(&ops)))
	log, err := r.SharedAfter(g, 0, 1000)
	for i := range log {
		rec, _, err := r.Record(log[i].Hash)
		s.must(err)
		log[i].Origin, log[i].Raw = 0, rec.Raw
	}
	put("log", log, err)
	for _, kind := range []entry.Kind{entry.Operation, entry.Data} {
		sum, err := r.Summary(groupsync.Scope{Group: g, Kind: kind}, groupsync.Ref{}, everything)
		put("sum"+kind.String(), sum, err)
	}
	var docs []groupsync.Document
	put("docs", &docs, r.Documents(groupsync.DocumentQuery{Group: g, IncludeDeleted: true}, collect(&docs)))
	live, deleted, err := r.DocumentCounts(g)
	put("counts", []int64{live, deleted}, err)
	var held []groupsync.Quarantined
	put("held", &held, r.Quarantine(g, 0, collect(&held)))
	usage, err := r.QuarantineUsage(g, "")
	put("usage", usage, err)
}
