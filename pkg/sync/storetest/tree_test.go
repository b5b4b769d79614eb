package storetest

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
)

// The tree does what a map does, and old versions stay as they were.
func TestTreeIsAMapWithSnapshots(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var now tree[int]
	want := map[string]int{}
	type snapshot struct {
		tree tree[int]
		want map[string]int
	}
	var old []snapshot
	for i := range 3000 {
		key := strconv.Itoa(rng.IntN(300))
		if rng.IntN(3) == 0 {
			now = now.without(key)
			delete(want, key)
		} else {
			now = now.with(key, i)
			want[key] = i
		}
		if i%500 == 0 {
			old = append(old, snapshot{now, maps.Clone(want)})
		}
	}
	for _, s := range append(old, snapshot{now, want}) {
		var keys []string
		for key, v := range s.tree.from("") {
			if s.want[key] != v {
				t.Fatalf("%s is %d, want %d", key, v, s.want[key])
			}
			keys = append(keys, key)
		}
		if !slices.Equal(keys, slices.Sorted(maps.Keys(s.want))) {
			t.Fatalf("keys %v", keys)
		}
		var from []string
		for key := range s.tree.prefixed("12") {
			from = append(from, key)
		}
		keys = slices.DeleteFunc(keys, func(k string) bool { return len(k) < 2 || k[:2] != "12" })
		if !slices.Equal(from, keys) {
			t.Fatalf("with prefix 12: %v, want %v", from, keys)
		}
	}
}
