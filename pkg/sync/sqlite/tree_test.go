package sqlite

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

const treeGroup = peercrypto.ID("00mwrj0xzzgroup0000000001")

var (
	treeScope = groupsync.Scope{Group: treeGroup, Kind: entry.Data}
	treeEnd   = groupsync.Ref{Modified: 1 << 62}
)

func treeStore(t testing.TB) *Store {
	t.Helper()
	store, err := Open(filepath.Join(t.TempDir(), "store.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

func treeRecord(modified int64, n int) groupsync.Record {
	return groupsync.Record{
		Ref:   groupsync.Ref{Modified: modified, Hash: peercrypto.Sum(fmt.Append(nil, n))},
		Group: treeGroup, Kind: entry.Data, Subject: "s", Dev: "d", Seq: int64(n), Raw: []byte("{}"), Valid: true, Shared: true,
	}
}

// A naive set does what a tree does.
type naive []groupsync.Ref

func (s naive) in(lo, hi groupsync.Ref) naive {
	i, _ := slices.BinarySearchFunc(s, lo, groupsync.Ref.Compare)
	j, _ := slices.BinarySearchFunc(s, hi, groupsync.Ref.Compare)
	return s[i:max(i, j)]
}

func (s naive) sum(lo, hi groupsync.Ref) (sum groupsync.Summary) {
	for _, ref := range s.in(lo, hi) {
		count(&sum, ref.Hash, 1)
	}
	return sum
}

func (s *naive) flip(ref groupsync.Ref) (in bool) {
	i, found := slices.BinarySearchFunc(*s, ref, groupsync.Ref.Compare)
	if found {
		*s = slices.Delete(*s, i, i+1)
	} else {
		*s = slices.Insert(*s, i, ref)
	}
	return !found
}

// compare asks for some ranges.
func (s naive) compare(t *testing.T, r groupsync.Reader, rng *rand.Rand) {
	t.Helper()
	for range 5 {
		lo, hi := groupsync.Ref{Modified: rng.Int64N(5_000)}, groupsync.Ref{Modified: rng.Int64N(5_000)}
		if len(s) > 0 && rng.IntN(2) == 0 {
			lo = s[rng.IntN(len(s))]
		}
		if rng.IntN(4) == 0 {
			hi = treeEnd
		}
		want := s.in(lo, hi)
		refs, err := r.Refs(treeScope, lo, hi, len(s)+1)
		sum, err2 := r.Summary(treeScope, lo, hi)
		parts, err3 := r.Split(treeScope, lo, hi, 1+rng.IntN(40))
		if err := errors.Join(err, err2, err3); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(naive(refs), want) || sum != s.sum(lo, hi) {
			t.Fatalf("%d refs and %d counted, want %d", len(refs), sum.Count, len(want))
		}
		for _, part := range parts {
			if part.Summary != s.sum(lo, part.End) {
				t.Fatalf("a part of %d, want %d", part.Count, len(s.in(lo, part.End)))
			}
			if average := int64(len(want) / len(parts)); part.Count < average-average/2 || part.Count > average+average/2+1 {
				t.Fatalf("a part of %d, the average is %d", part.Count, average)
			}
			lo = part.End
		}
		if lo != hi {
			t.Fatalf("the parts end at %v, want %v", lo, hi)
		}
	}
}

// Whatever is put in and taken out in whatever order, in few or many transactions, the tree is the set.
func TestTreeIsTheSet(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	store := treeStore(t)
	var set naive
	known := map[groupsync.Ref]bool{}
	next := func(round, i int) groupsync.Record {
		n := round*1000 + i
		switch round % 4 {
		case 0: // in the order of time
			return treeRecord(int64(n), n)
		case 1: // backwards
			return treeRecord(int64(5_000-n%1000), n)
		case 2: // all of one moment
			return treeRecord(2_500, n)
		}
		return treeRecord(rng.Int64N(5_000), n)
	}
	for round := range 12 {
		err := store.Update(t.Context(), func(tx groupsync.Tx) error {
			for i := range 1 + rng.IntN(900) {
				r := next(round, i)
				if round%3 == 2 && len(set) > 0 { // mostly out again
					r.Ref = set[rng.IntN(len(set))]
				}
				in := set.flip(r.Ref)
				if known[r.Ref] {
					if err := tx.SetFlags(r.Hash, in, in); err != nil {
						return err
					}
					continue
				}
				known[r.Ref] = true
				if err := tx.PutRecord(r); err != nil {
					return err
				}
			}
			set.compare(t, tx, rng)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		err = store.View(t.Context(), func(r groupsync.Reader) error { set.compare(t, r, rng); return nil })
		if err = errors.Join(err, store.Check(context.Background())); err != nil {
			t.Fatal(err)
		}
	}
	emptyTree(t, store, set)
}

// emptyTree takes all out, in no order, until nothing is left of the tree.
func emptyTree(t *testing.T, store *Store, set naive) {
	rand.Shuffle(len(set), func(i, j int) { set[i], set[j] = set[j], set[i] })
	err := store.Update(t.Context(), func(tx groupsync.Tx) error {
		for _, ref := range set {
			if err := tx.SetFlags(ref.Hash, false, false); err != nil {
				return err
			}
		}
		return nil
	})
	if err = errors.Join(err, store.Check(context.Background())); err != nil {
		t.Fatal(err)
	}
	if n := treeNodes(t, store); n != 0 {
		t.Errorf("an empty tree has %d nodes", n)
	}
}

func treeNodes(t *testing.T, store *Store) (n int) {
	t.Helper()
	err := store.View(t.Context(), func(r groupsync.Reader) error {
		_, err := r.(*reader).one("SELECT count(*) FROM tree", nil, &n)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// More nodes than a transaction remembers are written on the way; a rollback takes all of them back.
func TestTreeOfALargeTransaction(t *testing.T) {
	store := treeStore(t)
	errStop := errors.New("stop")
	const n = (maxNodes + 100) * maxItems // in the order of time, so nodes are full
	grow := func(result error) error {
		return store.Update(t.Context(), func(x groupsync.Tx) error {
			t := x.(*tx)
			g, err := t.ensureGroup(treeGroup)
			for i := 0; i < n && err == nil; i++ {
				err = t.put(g, entry.Data, item{groupsync.Ref{Modified: int64(i)}, int64(i)})
			}
			return errors.Join(err, result)
		})
	}
	if err := grow(errStop); !errors.Is(err, errStop) {
		t.Fatal(err)
	}
	if n := treeNodes(t, store); n != 0 {
		t.Errorf("%d nodes of a transaction that was rolled back", n)
	}
	if err := grow(nil); err != nil {
		t.Fatal(err)
	}
	err := store.View(t.Context(), func(r groupsync.Reader) error {
		sum, err := r.Summary(treeScope, groupsync.Ref{Modified: 1000}, groupsync.Ref{Modified: n - 1000})
		if sum.Count != n-2000 {
			return fmt.Errorf("%d were counted, want %d (%w)", sum.Count, n-2000, err)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := treeNodes(t, store); got > maxNodes+100+20 {
		t.Errorf("%d nodes: they are not full", got)
	}
}

// Damage of a tree is found by Check, and by reading as far as it is touched.
func TestDamagedTree(t *testing.T) {
	for what, text := range map[string]string{
		"a lost node":         "DELETE FROM tree WHERE nid = 2",
		"a spoilt node":       "UPDATE tree SET node = x'00ff01' WHERE nid = 1",
		"a lost root":         "UPDATE groups SET data_tree = 0",
		"another root":        "UPDATE groups SET data_tree = 1",
		"a node of nobody":    "INSERT INTO tree (nid, node) SELECT 1000, node FROM tree WHERE nid = 1",
		"a node at two ends":  "UPDATE tree SET node = (SELECT node FROM tree WHERE nid = 1) WHERE nid = 2",
		"an entry of nobody":  "UPDATE entries SET shared = 0, valid = 0, position = 0 WHERE eid = 17",
		"an entry not in it":  "UPDATE entries SET modified = modified + 1 WHERE eid = 17",
		"another group's sum": "UPDATE groups SET data = data + 1",
	} {
		store := treeStore(t)
		err := store.Update(t.Context(), func(tx groupsync.Tx) error {
			for i := range 300 {
				if err := tx.PutRecord(treeRecord(int64(i), i)); err != nil {
					return err
				}
			}
			return nil
		})
		if err = errors.Join(err, store.Check(t.Context())); err != nil {
			t.Fatal(err)
		}
		if err := store.Update(t.Context(), func(x groupsync.Tx) error { _, err := x.(*tx).exec(text); return err }); err != nil {
			t.Fatal(err)
		}
		if err := store.Check(t.Context()); !errors.Is(err, ErrCorrupt) {
			t.Errorf("with %s Check returned %v", what, err)
		}
	}
}

// A node is decoded as it was encoded or not at all.
func FuzzNode(f *testing.F) {
	leaf := node{items: []item{{treeRecord(5, 1).Ref, 7}, {treeRecord(9, 2).Ref, 3}}}
	inner := node{level: 1, kids: []kid{{nid: 3, Summary: groupsync.Summary{Count: 2}}, {lo: groupsync.Ref{Modified: 7}, nid: 9, Summary: groupsync.Summary{Count: 5}}}}
	f.Add(leaf.encode())
	f.Add(inner.encode())
	f.Add([]byte{0, 0})
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := decodeNode(1, b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		again, err := decodeNode(1, n.encode())
		if err != nil || !slices.Equal(again.items, n.items) || !slices.Equal(again.kids, n.kids) {
			t.Fatalf("%+v and %+v, %v", n, again, err)
		}
		_ = n.summary()
	})
}
