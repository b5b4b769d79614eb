package group_test

import (
	"math/rand/v2"
	"testing"
)

// byteSource makes random numbers of given bytes, one each, then of a fixed
// generator.
type byteSource struct {
	bytes []byte
	rest  *rand.PCG
}

func (s *byteSource) Uint64() uint64 {
	if len(s.bytes) == 0 {
		return s.rest.Uint64()
	}
	b := s.bytes[0]
	s.bytes = s.bytes[1:]
	return uint64(b)<<56 | 1<<55
}

// FuzzEvaluate makes a small history of bytes and compares with the rules.
func FuzzEvaluate(f *testing.F) {
	for seed := range uint64(5) {
		rng := rand.New(rand.NewPCG(seed, 2))
		bytes := make([]byte, 40*seed)
		for i := range bytes {
			bytes[i] = byte(rng.Uint32())
		}
		f.Add(bytes)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		rng := rand.New(&byteSource{data[:min(len(data), 4096)], rand.NewPCG(1, 3)})
		h := newHistory(t, rng, 3, 10)
		o := newOracle(h.ops)
		solutions := o.solutions()
		if len(solutions) != 1 {
			t.Fatalf("%d solutions", len(solutions))
		}
		compareWithOracle(t, h, o, solutions[0])
		if dump(deliver(t, rng, h.create.Group, h.ops), h.ops) != dump(h.log.State(), h.ops) {
			t.Error("another order gives another state")
		}
	})
}
