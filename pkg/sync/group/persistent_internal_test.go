package group

import (
	"cmp"
	"math/rand/v2"
	"testing"
)

// TestTree compares with a plain map, keeps snapshots and finds differences.
func TestTree(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	live := newTree[int, int](cmp.Compare[int])
	plain := map[int]int{}
	type kept struct {
		tree  tree[int, int]
		plain map[int]int
	}
	var snapshots []kept
	for step := range 4000 {
		k := rng.IntN(300)
		if rng.IntN(3) == 0 {
			live.delete(k)
			delete(plain, k)
		} else {
			live.set(k, step)
			plain[k] = step
		}
		if rng.IntN(50) == 0 {
			copied := map[int]int{}
			for k, v := range plain {
				copied[k] = v
			}
			snapshots = append(snapshots, kept{live.snapshot(), copied})
		}
	}
	for i, s := range snapshots {
		count, last := 0, -1
		s.tree.each(func(k, v int) bool {
			if k <= last || s.plain[k] != v {
				t.Fatalf("snapshot %d holds %d=%d", i, k, v)
			}
			count, last = count+1, k
			return true
		})
		if count != len(s.plain) {
			t.Fatalf("snapshot %d has %d keys, want %d", i, count, len(s.plain))
		}
		old := snapshots[rng.IntN(i+1)]
		got := map[int]bool{}
		s.tree.differences(old.tree, func(k int, is, was *int) {
			if is == nil || was == nil || *is != *was {
				got[k] = true
			}
		})
		for k := range 300 {
			a, inA := s.plain[k]
			b, inB := old.plain[k]
			if got[k] != (a != b || inA != inB) {
				t.Fatalf("key %d: difference is %v", k, got[k])
			}
		}
	}
}

// TestTreeDifferencesAreCheap counts what is looked at for one change.
func TestTreeDifferencesAreCheap(t *testing.T) {
	live := newTree[int, int](cmp.Compare[int])
	for k := range 100_000 {
		live.set(k, k)
	}
	old := live.snapshot()
	live.set(100_001, 1)
	live.delete(5)
	is := live.snapshot()
	seen := 0
	is.differences(old, func(int, *int, *int) { seen++ })
	if seen > 400 {
		t.Errorf("%d keys were looked at for two changes", seen)
	}
}
