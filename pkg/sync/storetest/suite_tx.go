package storetest

import (
	"context"
	"errors"
	"sync"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// fill writes something into each table.
func fill(tx groupsync.Tx, n int) error {
	g := id("group", n)
	_, err := tx.PutDocument(groupsync.Document{Group: g, Subject: id("subject", 1), Type: "Note", JSON: []byte(`{"a":1}`), Modified: 5})
	return errors.Join(err,
		tx.PutGroup(groupsync.GroupRecord{ID: g, Joined: true, Meta: []byte("meta")}),
		putAll(tx, record(g, entry.Operation, 0), record(g, entry.Data, 1), record(g, entry.Data, 2)),
		tx.SetFlags(record(g, entry.Data, 2).Hash, false, false),
		tx.PutQuarantined(held(g, 1, id("user", 1), groupsync.Wait{Kind: "entry", Ref: "x"})),
		tx.PutValue("bucket", string(g), []byte("value")),
	)
}

func (s *suite) atomicity() {
	s.update(func(tx groupsync.Tx) error { return fill(tx, 1) })
	before := dump(s, id("group", 1), id("group", 2))
	err := s.store.Update(context.Background(), func(tx groupsync.Tx) error {
		err := errors.Join(fill(tx, 2), tx.PurgeGroup(id("group", 1)))
		if n, e := tx.LastPosition(); err != nil || e != nil || n != 6 {
			s.Errorf("in the transaction the last position is %d (%v, %v), want 6", n, err, e)
		}
		return errStop
	})
	if !errors.Is(err, errStop) {
		s.Fatalf("Update returned %v, want the function's error", err)
	}
	s.equal("the store after a failed transaction", dump(s, id("group", 1), id("group", 2)), before)
	s.update(func(tx groupsync.Tx) error { return fill(tx, 2) }) // the positions were not used up
	s.view(func(r groupsync.Reader) error {
		n, err := r.LastPosition()
		s.equal("the last position", n, int64(6))
		return err
	})
}

func (s *suite) panics() {
	before := dump(s, id("group", 1))
	func() {
		defer func() {
			if recover() == nil {
				s.Error("the panic was swallowed")
			}
		}()
		_ = s.store.Update(context.Background(), func(tx groupsync.Tx) error {
			s.must(fill(tx, 1))
			panic("in a transaction")
		})
	}()
	s.equal("the store after a panic", dump(s, id("group", 1)), before)
	s.update(func(tx groupsync.Tx) error { return fill(tx, 1) })
}

// snapshots: a view does not change while others write, and does not wait for them.
func (s *suite) snapshots() {
	g := id("group", 1)
	has := func(r groupsync.Reader) bool {
		_, ok, err := r.Group(g)
		s.must(err)
		return ok
	}
	s.view(func(r groupsync.Reader) error {
		s.update(func(tx groupsync.Tx) error {
			s.must(fill(tx, 1))
			if !has(tx) {
				s.Error("a transaction does not see its own writes")
			}
			s.view(func(other groupsync.Reader) error {
				if has(other) {
					s.Error("a view sees what is not committed")
				}
				return nil
			})
			return nil
		})
		if has(r) {
			s.Error("a view changed")
		}
		records, err := r.SharedAfter(g, 0, 10)
		if len(records) != 0 {
			s.Error("a view changed")
		}
		return err
	})
	s.view(func(r groupsync.Reader) error {
		if !has(r) {
			s.Error("a view does not see what was committed before it")
		}
		return nil
	})
}

func (s *suite) cancellation() {
	ctx, cancel := context.WithCancel(context.Background())
	err := s.store.Update(ctx, func(tx groupsync.Tx) error {
		cancel()
		return fill(tx, 1)
	})
	if !errors.Is(err, context.Canceled) {
		s.Errorf("Update returned %v after its context was canceled", err)
	}
	for what, err := range map[string]error{
		"Update": s.store.Update(ctx, func(groupsync.Tx) error { return nil }),
		"View":   s.store.View(ctx, func(groupsync.Reader) error { return nil }),
	} {
		if !errors.Is(err, context.Canceled) {
			s.Errorf("%s returned %v for a canceled context", what, err)
		}
	}
	s.equal("groups", dump(s)["groups"], []groupsync.GroupRecord(nil))
	// One that waits for its turn stops waiting.
	s.update(func(groupsync.Tx) error {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- s.store.Update(ctx, func(groupsync.Tx) error { return nil }) }()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			s.Errorf("a waiting Update returned %v", err)
		}
		return nil
	})
}

func (s *suite) endOfTransaction() {
	var tx groupsync.Tx
	var r groupsync.Reader
	s.update(func(x groupsync.Tx) error { tx = x; return nil })
	s.view(func(x groupsync.Reader) error { r = x; return nil })
	if err := tx.PutGroup(groupsync.GroupRecord{ID: id("group", 1)}); err == nil {
		s.Error("a transaction that ended still writes")
	}
	if _, _, err := r.Group(id("group", 1)); err == nil {
		s.Error("a view that ended still reads")
	}
	s.equal("groups", dump(s)["groups"], []groupsync.GroupRecord(nil))
}

func (s *suite) closing() {
	inside, goOn, closed := make(chan bool), make(chan bool), make(chan error)
	result := make(chan error, 1)
	go func() {
		result <- s.store.View(context.Background(), func(r groupsync.Reader) error {
			close(inside)
			<-goOn
			_, err := r.Groups()
			return err
		})
	}()
	<-inside
	go func() { closed <- s.store.Close() }()
	select {
	case err := <-closed:
		s.Fatalf("Close returned %v while a view ran", err)
	default:
	}
	close(goOn)
	s.must(<-closed)
	s.must(<-result)
	s.must(s.store.Close())
	for what, err := range map[string]error{
		"Update": s.store.Update(context.Background(), func(groupsync.Tx) error { return nil }),
		"View":   s.store.View(context.Background(), func(groupsync.Reader) error { return nil }),
	} {
		if !errors.Is(err, groupsync.ErrStoreClosed) {
			s.Errorf("%s returned %v after Close", what, err)
		}
	}
}

// concurrency: writers take turns and nothing is lost; every view is whole.
func (s *suite) concurrency() {
	const writers, each = 4, 25
	g := id("group", 1)
	scope := groupsync.Scope{Group: g, Kind: entry.Data}
	var wg sync.WaitGroup
	fail := make(chan error, 2*writers)
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				n := 2 * (w*each + i)
				err := s.store.Update(context.Background(), func(tx groupsync.Tx) error {
					return putAll(tx, record(g, entry.Data, n), record(g, entry.Data, n+1))
				})
				if err != nil {
					fail <- err
					return
				}
			}
		})
		wg.Go(func() {
			for range each {
				err := s.store.View(context.Background(), func(r groupsync.Reader) error {
					sum, err := r.Summary(scope, groupsync.Ref{}, everything)
					if err != nil {
						return err
					}
					refs, err := r.Refs(scope, groupsync.Ref{}, everything, 0)
					if int64(len(refs)) != sum.Count || sum.Count%2 != 0 {
						s.Errorf("a view has %d entries and counts %d", len(refs), sum.Count)
					}
					return err
				})
				if err != nil {
					fail <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(fail)
	for err := range fail {
		s.Error(err)
	}
	s.view(func(r groupsync.Reader) error {
		sum, err := r.Summary(scope, groupsync.Ref{}, everything)
		s.equal("the count", sum.Count, int64(2*writers*each))
		return err
	})
}

// reopen: everything that was acknowledged is there, and numbers go on.
func (s *suite) reopen() {
	if s.restart == nil {
		s.Skip("this store forgets")
	}
	groups := []groupsync.Scope{{Group: id("group", 1)}, {Group: id("group", 2)}}
	s.update(func(tx groupsync.Tx) error { return errors.Join(fill(tx, 1), fill(tx, 2)) })
	before := dump(s, groups[0].Group, groups[1].Group)
	s.store = s.restart()
	s.equal("the store after it was opened again", dump(s, groups[0].Group, groups[1].Group), before)
	s.update(func(tx groupsync.Tx) error {
		position, err := tx.LastPosition()
		s.must(err)
		s.must(tx.PutRecord(record(groups[0].Group, entry.Data, 9)))
		r, _, err := tx.Record(record(groups[0].Group, entry.Data, 9).Hash)
		s.equal("the position after it was opened again", r.Position, position+1)
		return err
	})
}
