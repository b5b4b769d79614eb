package sync

import (
	"math/rand/v2"
	"testing"
)

// What behind passes over came from that origin, whatever other groups and origins share in between.
func TestStretchHoldsOneOrigin(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 9))
	skipped := 0
	for range 200 {
		g := &replica{}
		origins := map[int64]int64{} // of this group's entries, by position
		next := int64(0)
		for range 30 {
			next += rng.Int64N(2) * 5 // another group's
			var s sharing
			for several, origin := rng.IntN(4) == 0, rng.Int64N(3); s.entries < 1+rng.IntN(3); {
				if several {
					origin = rng.Int64N(3)
				}
				next++
				origins[next] = origin
				s.add(origin)
			}
			g.moveHead(next, s)
			for range 5 {
				at, origin := rng.Int64N(next+1), rng.Int64N(3)
				to := g.behind(at, origin)
				for p := at + 1; p <= to; p++ {
					if o, ours := origins[p]; ours && o != origin {
						t.Fatalf("%d of origin %d was passed over from %d to %d for origin %d", p, o, at, to, origin)
					}
				}
				skipped += int(to - at)
			}
		}
	}
	if skipped < 1000 {
		t.Errorf("%d positions were passed over", skipped)
	}
}
