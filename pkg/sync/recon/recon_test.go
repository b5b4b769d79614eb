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
	var last recon.Ref
	for chunk := range slices.Chunk(in, size) {
		out = append(out, recon.Part{})
		if n := len(out); n > 1 {
			out[n-2].End = between(last, chunk[0])
		}
		last = chunk[len(chunk)-1]
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

// between is the shortest bound between neighbours.
func between(a, b recon.Ref) recon.Ref {
	r := recon.Ref{Modified: b.Modified}
	for i := 0; r.Compare(a) <= 0; i++ {
		r.Hash[i] = b.Hash[i]
	}
	return r
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
	trips           int // how many frames wait for one another
}

// An end is one side of a test.
type end struct {
	*recon.Exchange
	set  set
	got  []recon.Ref // what the other side sent
	over bool
}

// turn lets a side go on until it is idle and returns its frames.
func (e *end) turn(t testing.TB, other *end) (frames [][]byte) {
	t.Helper()
	for steps := 0; ; steps++ {
		step, err := e.Next(e.set)
		if err != nil {
			t.Fatal(err)
		}
		if len(step.Frame) > recon.MaxMessage {
			t.Fatalf("a frame of %d bytes", len(step.Frame))
		}
		for _, s := range step.Send {
			refs := s.Only
			if refs == nil {
				refs = e.set.cut(s.Lo, s.Hi)
			}
			other.got = append(other.got, refs...)
		}
		if step.Frame != nil {
			frames = append(frames, step.Frame)
		}
		e.over = step.Over
		if step.Idle && step.Frame == nil {
			return frames
		}
		if steps > 10_000 {
			t.Fatal("it does not end")
		}
	}
}

// exchange lets two sides converge and returns what each got.
func exchange(t testing.TB, a, b set) (toA, toB []recon.Ref, c cost) {
	t.Helper()
	rec := recon.Reconciler{Salt: sha256.Sum256([]byte("salt"))}.Round(7)
	asks, answers := &end{Exchange: rec.Ask(), set: a}, &end{Exchange: rec.Answer(), set: b}
	sides := []*end{asks, answers}
	for turn := 0; !asks.over || turn%2 == 1; turn++ {
		if turn > 2_000 {
			t.Fatal("it does not end")
		}
		me, other := sides[turn%2], sides[1-turn%2]
		frames := me.turn(t, other)
		for _, frame := range frames {
			c.messages++
			c.bytes += len(frame)
			if asks.over && turn%2 == 1 {
				continue // the last acknowledgements are for nobody
			}
			if err := other.Receive(frame); err != nil {
				t.Fatal(err)
			}
		}
		if len(frames) > 0 {
			c.trips = (turn + 2) / 2
		}
	}
	return asks.got, answers.got, c
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
	if c := checkConverged(t, all, all); c.messages != 2 || c.bytes > 200 {
		t.Errorf("equal sets cost %+v", c)
	}
	if c := checkConverged(t, nil, all); c.messages != 2 || c.bytes > 64 {
		t.Errorf("an empty side costs %+v", c)
	}
	if c := checkConverged(t, all, nil); c.messages > 4 || c.bytes > 400 {
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
	if c.bytes > 4<<10 || c.trips > 3 {
		t.Errorf("10 of 20,000 cost %+v", c)
	}
	c = checkConverged(t, all[:len(all)-10], all)
	t.Logf("the newest 10 of 20,000: %+v", c)
	if c.bytes > 600 || c.trips > 3 {
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

// However many lists there are to send, they are on the way at the same time.
func TestListsAreOneTrip(t *testing.T) {
	all := spread(1_000_000)
	var a, b []recon.Ref
	for i, r := range all {
		if i%10 != 3 {
			a = append(a, r)
		}
		if i%10 != 8 {
			b = append(b, r)
		}
	}
	_, _, c := exchange(t, a, b)
	t.Logf("a fifth of 1,000,000: %+v", c)
	if c.trips > 3 || c.messages < 80 {
		t.Errorf("%+v", c)
	}
}

// A frame that can't be read is refused, by either side and at the latest when it is gone into.
func TestRefusesMalformed(t *testing.T) {
	rec := recon.Reconciler{}
	for name, msg := range map[string][]byte{
		"nothing":          {},
		"cut bound":        {0, 1},
		"long prefix":      {0, 1, 33 << 2},
		"no mode":          {0, 0},
		"a mode of no end": {0, 0, 1 << 2},
		"cut fp":           {0, 0, 1, 2, 3},
		"cut list":         {0, 0, 2, 3, 1, 2},
		"huge list":        {0, 0, 2, 0xff, 0xff, 0xff, 0x7f},
		"behind the end":   {0, 0, 0, 0, 0},
		"not rising":       {0, 1, 0},
		"long integer":     {0, 0x81, 0x00, 0, 0},
		"too long":         make([]byte, 70<<10),
		"answers nothing":  {9, 0, 0},
	} {
		for side, x := range map[string]*recon.Exchange{"asking": rec.Ask(), "answering": rec.Answer()} {
			if _, err := x.Next(spread(100)); err != nil {
				t.Fatal(err)
			}
			err := x.Receive(msg)
			if err == nil {
				_, err = x.Next(spread(10))
			}
			if !errors.Is(err, recon.ErrMessage) {
				t.Errorf("the %s side took a frame with %s: %v", side, name, err)
			}
		}
	}
}

// Who sends more than may be on the way, or answers nobody's question, is refused.
func TestWindow(t *testing.T) {
	rec := recon.Reconciler{}
	frame := (&end{Exchange: rec.Ask(), set: spread(1000)}).turn(t, &end{})[0]
	x := rec.Answer()
	for range recon.Window {
		if err := x.Receive(frame); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.Receive(frame); !errors.Is(err, recon.ErrMessage) {
		t.Errorf("a frame too many: %v", err)
	}
	if err := rec.Ask().Receive(frame); !errors.Is(err, recon.ErrMessage) {
		t.Errorf("an answer to nothing: %v", err)
	}
	long, n := make([]byte, 64<<10), 0
	for x = rec.Answer(); x.Receive(long) == nil && n < recon.Window; n++ {
	}
	if n == 0 || n > 128 {
		t.Errorf("%d frames of 64 KiB were queued", n)
	}
}

// A side that says for ever that all is different, in whatever ranges, is refused in the end, and each step is bounded until then.
func TestLiarComesToAnEnd(t *testing.T) {
	rec := recon.Reconciler{}
	x, mine := rec.Ask(), spread(5_000)
	frames, bytes := 0, 0
	for {
		step, err := x.Next(mine)
		if errors.Is(err, recon.ErrMessage) {
			break
		}
		if err != nil || step.Over || len(step.Frame) > recon.MaxMessage {
			t.Fatalf("%d bytes, over %v, %v", len(step.Frame), step.Over, err)
		}
		if step.Frame == nil {
			continue
		}
		if bytes += len(step.Frame); frames > 10_000 {
			t.Fatal("it does not end")
		}
		frames++
		if err := x.Receive([]byte{1, 0, 1, 1, 2, 3, 4}); err != nil { // a wrong fingerprint of everything
			t.Fatal(err)
		}
	}
	t.Logf("%d frames, %d bytes", frames, bytes)
}

// Garbage of any shape gives an error or a bounded answer that the other side can read, and the same one each time.
func FuzzStep(f *testing.F) {
	rec := recon.Reconciler{}
	small, big := spread(50), spread(3_000)
	for _, s := range []set{nil, small, big} {
		a, b := &end{Exchange: rec.Ask(), set: s}, &end{Exchange: rec.Answer(), set: big[:2_900]}
		for turn, me, other := 0, a, b; turn < 4; turn, me, other = turn+1, other, me {
			for _, frame := range me.turn(f, other) {
				f.Add(frame)
				if err := other.Receive(frame); err != nil {
					f.Fatal(err)
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		for _, s := range []set{nil, small, big} {
			a, errA := answerAll(t, rec, s, msg)
			b, errB := answerAll(t, rec, s, msg)
			if !bytes.Equal(a, b) || (errA == nil) != (errB == nil) {
				t.Fatal("another answer to the same message")
			}
			asks := rec.Ask()
			if _, err := asks.Next(s); err != nil {
				t.Fatal(err)
			}
			err := asks.Receive(msg)
			for i := 0; err == nil && i < 100; i++ {
				var step recon.Step
				if step, err = asks.Next(s); step.Idle {
					break
				}
			}
			if err != nil && !errors.Is(err, recon.ErrMessage) {
				t.Fatal(err)
			}
		}
	})
}

// answerAll returns all frames that one leads to, read back.
func answerAll(t *testing.T, rec recon.Reconciler, s set, msg []byte) (all []byte, err error) {
	x, reads := rec.Answer(), rec.Ask()
	if _, err := reads.Next(spread(100)); err != nil {
		t.Fatal(err)
	}
	if err := x.Receive(msg); err != nil {
		return nil, err
	}
	for {
		step, err := x.Next(s)
		if err != nil {
			if !errors.Is(err, recon.ErrMessage) {
				t.Fatal(err)
			}
			return all, err
		}
		if len(step.Frame) > recon.MaxMessage {
			t.Fatalf("a frame of %d bytes", len(step.Frame))
		}
		all = append(all, step.Frame...)
		if step.Frame != nil {
			if err := reads.Receive(step.Frame); err != nil {
				t.Fatalf("the answer can't be read: %v", err)
			}
			for idle := false; !idle; {
				read, err := reads.Next(spread(100))
				if err != nil {
					t.Fatalf("the answer can't be read: %v", err)
				}
				idle = read.Idle
			}
		}
		if step.Idle {
			return all, nil
		}
	}
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
