package recon_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/peersignal/peersignal/pkg/sync/recon"
)

// A set is a sorted slice as a Source.
type set []recon.Ref

func (s set) cut(lo, hi recon.Ref) set {
	i, _ := slices.BinarySearchFunc(s, lo, recon.Ref.Compare)
	j, _ := slices.BinarySearchFunc(s, hi, recon.Ref.Compare)
	return s[i:max(i, j)]
}

func (s set) Summary(lo, hi recon.Ref) (recon.Summary, error) {
	var out recon.Summary
	for _, r := range s.cut(lo, hi) {
		out.Count++
		carry := 0
		for i := 31; i >= 0; i-- {
			carry += int(out.Sum[i]) + int(r.Hash[i])
			out.Sum[i] = byte(carry)
			carry >>= 8
		}
	}
	return out, nil
}

func (s set) Split(lo, hi recon.Ref, parts int) ([]recon.Part, error) {
	in := s.cut(lo, hi)
	size := max(1, (len(in)+parts-1)/parts)
	var out []recon.Part
	for chunk := range slices.Chunk(in, size) {
		out = append(out, recon.Part{})
		if n := len(out); n > 1 {
			out[n-2].End = chunk[0]
		}
	}
	if len(out) == 0 {
		out = append(out, recon.Part{})
	}
	out[len(out)-1].End = hi
	for i := range out {
		out[i].Summary, _ = s.Summary(lo, out[i].End)
		lo = out[i].End
	}
	return out, nil
}

func (s set) Refs(lo, hi recon.Ref, limit int) ([]recon.Ref, error) {
	in := s.cut(lo, hi)
	return in[:min(limit, len(in))], nil
}

func refAt(ms int64, n uint64) recon.Ref {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	return recon.Ref{Modified: ms, Hash: sha256.Sum256(b[:])}
}

func sorted(refs []recon.Ref) set {
	slices.SortFunc(refs, recon.Ref.Compare)
	return slices.Compact(refs)
}

type cost struct {
	messages, bytes int
}

// exchange lets two sides converge and returns what each got.
func exchange(t testing.TB, a, b set) (toA, toB []recon.Ref, c cost) {
	t.Helper()
	rec := recon.Reconciler{Salt: sha256.Sum256([]byte("salt"))}
	msg, err := rec.Start(a)
	if err != nil {
		t.Fatal(err)
	}
	sides := []set{b, a}
	got := [2][]recon.Ref{}
	for turn := 0; ; turn++ {
		if turn > 200 {
			t.Fatal("it does not end")
		}
		if len(msg) > recon.MaxMessage+1024 {
			t.Fatalf("a message of %d bytes", len(msg))
		}
		c.messages++
		c.bytes += len(msg)
		side := sides[turn%2]
		res, err := rec.Step(side, msg)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range res.Send {
			refs := s.Only
			if refs == nil {
				refs = side.cut(s.Lo, s.Hi)
			}
			got[turn%2] = append(got[turn%2], refs...)
		}
		if res.Final {
			break
		}
		msg = res.Reply
	}
	return got[0], got[1], c
}

func checkConverged(t *testing.T, a, b set) cost {
	t.Helper()
	toA, toB, c := exchange(t, a, b)
	ua := sorted(append(slices.Clone(a), toA...))
	ub := sorted(append(slices.Clone(b), toB...))
	if !slices.Equal(ua, ub) {
		t.Fatalf("%d and %d elements after the exchange of %d and %d", len(ua), len(ub), len(a), len(b))
	}
	if union := sorted(append(slices.Clone(a), b...)); len(union) != len(ua) {
		t.Fatalf("%d elements, want %d", len(ua), len(union))
	}
	if len(toA)+len(toB) != 2*len(ua)-len(a)-len(b) {
		t.Fatalf("%d and %d were sent for %d and %d of %d: something twice", len(toA), len(toB), len(a), len(b), len(ua))
	}
	return c
}

func TestExchangeConverges(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	for round := range 150 {
		n := rng.IntN(1 << rng.IntN(13))
		common, onlyA, onlyB := rng.Float64(), rng.Float64(), rng.Float64()
		span := int64(1) << rng.IntN(20) // few values: many of the same time
		var a, b []recon.Ref
		for i := range n {
			r := refAt(1_500_000_000_000+rng.Int64N(span), uint64(i)<<8|uint64(round))
			p := rng.Float64() * (common + onlyA + onlyB)
			if p < common || p < common+onlyA {
				a = append(a, r)
			}
			if p < common || p >= common+onlyA {
				b = append(b, r)
			}
		}
		if t.Run(fmt.Sprintf("%d of %d and %d", round, len(a), len(b)), func(t *testing.T) {
			checkConverged(t, sorted(a), sorted(b))
		}); t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func spread(n int) set {
	refs := make([]recon.Ref, n)
	for i := range refs {
		refs[i] = refAt(1_500_000_000_000+int64(i)*977, uint64(i))
	}
	return sorted(refs)
}

func TestCost(t *testing.T) {
	all := spread(20_000)
	if c := checkConverged(t, all, all); c.messages != 2 || c.bytes > 64 {
		t.Errorf("equal sets cost %+v", c)
	}
	if c := checkConverged(t, nil, all); c.messages != 2 || c.bytes > 64 {
		t.Errorf("an empty side costs %+v", c)
	}
	if c := checkConverged(t, all, nil); c.messages > 3 || c.bytes > 64 {
		t.Errorf("an empty other side costs %+v", c)
	}
	rng := rand.New(rand.NewPCG(7, 7))
	lacking := slices.Clone(all)
	for range 10 {
		i := rng.IntN(len(lacking))
		lacking = slices.Delete(lacking, i, i+1)
	}
	c := checkConverged(t, lacking, all)
	t.Logf("10 of 20,000 at random places: %+v", c)
	if c.bytes > 12<<10 || c.messages > 8 {
		t.Errorf("10 of 20,000 cost %+v", c)
	}
	c = checkConverged(t, all[:len(all)-10], all)
	t.Logf("the newest 10 of 20,000: %+v", c)
	if c.bytes > 3<<10 {
		t.Errorf("the newest 10 cost %+v", c)
	}
}

func TestManyDifferencesStayWithinMessages(t *testing.T) {
	all := spread(60_000)
	var a, b []recon.Ref
	for i, r := range all {
		if i%3 != 0 {
			a = append(a, r)
		}
		if i%3 != 1 {
			b = append(b, r)
		}
	}
	t.Logf("two thirds of 60,000 each: %+v", checkConverged(t, a, b))
}

func TestRefusesMalformed(t *testing.T) {
	rec := recon.Reconciler{}
	for name, msg := range map[string][]byte{
		"cut bound":      {1},
		"long prefix":    {1, 33},
		"no mode":        {0},
		"unknown mode":   {0, 9},
		"cut fp":         {0, 1, 2, 3},
		"cut list":       {0, 2, 3, 1, 2},
		"huge list":      {0, 2, 0xff, 0xff, 0xff, 0x7f},
		"behind the end": {0, 0, 0, 0},
		"not rising":     {1, 0, 0},
		"long integer":   {0x81, 0x00, 0, 0},
		"too long":       make([]byte, 70<<10),
	} {
		if _, err := rec.Step(spread(10), msg); !errors.Is(err, recon.ErrMessage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzStep(f *testing.F) {
	rec := recon.Reconciler{}
	small, big := spread(50), spread(3_000)
	for _, s := range []set{nil, small, big} {
		msg, _ := rec.Start(s)
		f.Add(msg)
		res, err := rec.Step(big, msg)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(res.Reply)
		res, _ = rec.Step(big[:2_900], res.Reply)
		f.Add(res.Reply)
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		for _, s := range []set{nil, small, big} {
			res, err := rec.Step(s, msg)
			if err != nil {
				continue
			}
			if len(res.Reply) > recon.MaxMessage+1024 || (res.Final && res.Open) {
				t.Fatalf("reply of %d bytes, final %v, open %v", len(res.Reply), res.Final, res.Open)
			}
			if _, err := rec.Step(s, res.Reply); err != nil {
				t.Fatalf("the reply can't be read: %v", err)
			}
			again, err := rec.Step(s, msg)
			if err != nil || !bytes.Equal(again.Reply, res.Reply) {
				t.Fatal("another answer to the same message")
			}
		}
	})
}

func BenchmarkRecon(b *testing.B) {
	all := spread(20_000)
	lacking := slices.Delete(slices.Clone(all), 5_000, 5_010)
	var c cost
	for b.Loop() {
		_, _, c = exchange(b, lacking, all)
	}
	b.ReportMetric(float64(c.bytes), "bytes/op")
	b.ReportMetric(float64(c.messages), "messages/op")
}
