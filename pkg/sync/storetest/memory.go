package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// Memory is a Store in memory. Views read snapshots of immutable trees and wait
// for nobody. It keeps copies of what it is given and gives copies away.
type Memory struct {
	writer  chan struct{} // holds one token; whoever has it may set current
	current atomic.Pointer[state]

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup // transactions; grows only under mu while !closed
}

var errEnded = errors.New("the transaction has ended")

// NewMemory returns an empty store.
func NewMemory() groupsync.Store {
	m := &Memory{writer: make(chan struct{}, 1)}
	m.writer <- struct{}{}
	m.current.Store(&state{})
	return m
}

// state is everything, at one moment. Its trees' keys are built by the functions below.
type state struct {
	groups  tree[groupRow]
	records tree[groupsync.Record] // by hash
	ops     tree[peercrypto.Hash]  // group, ref
	shared  tree[groupsync.Ref]    // group, kind, ref
	log     tree[peercrypto.Hash]  // group, position
	chains  tree[peercrypto.Hash]  // grant, device, kind, seq downwards, hash
	grants  tree[peercrypto.Hash]  // data: grant, hash
	subject tree[peercrypto.Hash]  // valid data: group, subject, ref
	docs    tree[groupsync.Document]
	changed tree[peercrypto.ID] // group, version
	expires tree[string]        // when a document ends, its group and subject: the key in docs
	indexes tree[groupsync.IndexSpec]

	held    tree[groupsync.Quarantined] // by key
	oldest  tree[peercrypto.Hash]       // received, key
	waiting tree[peercrypto.Hash]       // group, wait, received, key
	due     tree[peercrypto.Hash]       // due time, key

	values tree[[]byte]

	position, version int64
}

type groupRow struct {
	groupsync.GroupRecord
	known         bool // by PutGroup; a row may exist for the counts alone
	roots         [3]groupsync.Summary
	live, deleted int64
	unshared      int64 // data
}

func (g *groupRow) setApart(kind entry.Kind, n int64) {
	if kind == entry.Data {
		g.unshared += n
	}
}

func kindKey(k keyer, kind entry.Kind) keyer { return append(k, byte(kind)) }

func refKey(k keyer, r groupsync.Ref) string { return string(k.number(r.Modified).hash(r.Hash)) }

func scopeKey(s groupsync.Scope) keyer { return kindKey(keyer{}.text(string(s.Group)), s.Kind) }

func chainKey(as peercrypto.Hash, dev peercrypto.ID, kind entry.Kind) keyer {
	return kindKey(keyer{}.hash(as).text(string(dev)), kind)
}

func docKey(group, subject peercrypto.ID) string {
	return string(keyer{}.text(string(group)).last(string(subject)))
}

func waitKey(group peercrypto.ID, w groupsync.Wait) keyer {
	return keyer{}.text(string(group)).text(w.Kind).text(w.Ref)
}

// Update runs fn; see groupsync.Store.
func (m *Memory) Update(ctx context.Context, fn func(tx groupsync.Tx) error) error {
	if err := m.begin(); err != nil {
		return fmt.Errorf("updating the store: %w", err)
	}
	defer m.running.Done()
	select {
	case <-ctx.Done():
		return fmt.Errorf("updating the store: %w", ctx.Err())
	case <-m.writer:
	}
	defer func() { m.writer <- struct{}{} }()
	next := *m.current.Load()
	tx := &memoryTx{memoryReader{state: &next}}
	defer tx.ended.Store(true)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("updating the store: %w", err)
	}
	if err := fn(tx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("updating the store: %w", err)
	}
	tx.ended.Store(true)
	published := next // a transaction that is used after its end reaches its own copy only
	m.current.Store(&published)
	return nil
}

// View runs fn; see groupsync.Store.
func (m *Memory) View(ctx context.Context, fn func(r groupsync.Reader) error) error {
	if err := m.begin(); err != nil {
		return fmt.Errorf("reading the store: %w", err)
	}
	defer m.running.Done()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("reading the store: %w", err)
	}
	r := &memoryReader{state: m.current.Load()}
	defer r.ended.Store(true)
	return fn(r)
}

func (m *Memory) begin() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return groupsync.ErrStoreClosed
	}
	m.running.Add(1)
	return nil
}

// Close waits for running transactions. The content stays in memory until the
// store is garbage.
func (m *Memory) Close() error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.running.Wait()
	return nil
}
