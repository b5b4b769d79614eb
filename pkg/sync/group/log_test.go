package group_test

import (
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"crypto/ed25519"
	"crypto/sha512"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/group"
)

func TestEmptyLog(t *testing.T) {
	l := group.NewLog(numberedID(3))
	s := l.State()
	if len(s.Members()) != 0 || s.Owner() != "" || s.Deleted() || len(s.Heads()) != 0 || l.Len() != 0 {
		t.Error("an empty log says something")
	}
	if _, ok := l.Create(); ok {
		t.Error("an empty log has a create")
	}
	if valid, shared := s.JudgeData(hash{1}, []group.DataRef{{Hash: hash{2}, As: hash{1}}}); valid[hash{2}] || shared[hash{2}] {
		t.Error("data of an unknown grant counts")
	}
	w := newWorld(t)
	w.unsound("it is not an operation of this group", l.Check(w.create))
}

func TestKnownIsKnown(t *testing.T) {
	w := newWorld(t)
	before := w.log.State()
	if outcome, err := w.log.Add(w.create); outcome != group.Known || err != nil {
		t.Errorf("got %v, %v", outcome, err)
	}
	if err := w.log.Check(w.create); !errors.Is(err, group.ErrKnown) {
		t.Errorf("got %v", err)
	}
	if err := w.log.Restore(w.create); err != nil {
		t.Error(err)
	}
	if w.log.State() != before {
		t.Error("a known operation made a new state")
	}
}

// TestSmallestSignatureStays signs one operation with other nonces, as a key's
// owner can.
func TestSmallestSignatureStays(t *testing.T) {
	w := newWorld(t)
	e := w.op(ann, w.create, entry.Merge{})
	twins := []*entry.Entry{e}
	for i := range 6 {
		twins = append(twins, resign(t, ann.key, e, byte(i)))
	}
	smallest := slices.MinFunc(twins, func(a, b *entry.Entry) int { return a.Signature.Compare(b.Signature) })
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(twins), func(i, j int) { twins[i], twins[j] = twins[j], twins[i] })
	best := e.Signature
	for _, twin := range twins {
		outcome, err := w.log.Add(twin)
		want := group.Known
		if twin.Signature.Compare(best) < 0 {
			want, best = group.Replaced, twin.Signature
		}
		if err != nil || outcome != want {
			t.Errorf("got %v, %v, want %v", outcome, err, want)
		}
	}
	if got, _ := w.log.Get(e.Hash); got.Signature != smallest.Signature {
		t.Error("not the smallest signature stayed")
	}
	broken, err := entry.Decode(withSignature(t, e, peercrypto.Signature{31: 1}))
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.log.Add(broken)
	w.unsound("the signature is wrong", err)
}

// resign makes a valid Ed25519 signature with another nonce.
func resign(t *testing.T, key peercrypto.SigningKey, e *entry.Entry, nonce byte) *entry.Entry {
	t.Helper()
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	little := func(b []byte) *big.Int {
		b = slices.Clone(b)
		slices.Reverse(b)
		return new(big.Int).SetBytes(b)
	}
	digest := sha512.Sum512(key.ExportSeed())
	scalar := digest[:32]
	scalar[0] &= 248
	scalar[31] = scalar[31]&127 | 64
	// R is the public key of another seed: its scalar is the nonce.
	var seed [32]byte
	seed[0] = nonce
	other := sha512.Sum512(seed[:])
	r := other[:32]
	r[0] &= 248
	r[31] = r[31]&127 | 64
	public := key.Public()
	point := ed25519.NewKeyFromSeed(seed[:])[32:]
	k := sha512.Sum512(slices.Concat(point, public[:], []byte(e.Hash.Hex())))
	s := new(big.Int).Mul(little(k[:]), little(scalar))
	s.Add(s, little(r)).Mod(s, order)
	var sig peercrypto.Signature
	copy(sig[:], point)
	end := s.FillBytes(make([]byte, 32))
	slices.Reverse(end)
	copy(sig[32:], end)
	twin, err := entry.Decode(withSignature(t, e, sig))
	if err != nil {
		t.Fatal(err)
	}
	if !twin.VerifySignature(public) || twin.Hash != e.Hash || twin.Signature == e.Signature {
		t.Fatal("no twin")
	}
	return twin
}

func withSignature(t *testing.T, e *entry.Entry, sig peercrypto.Signature) []byte {
	t.Helper()
	return []byte(string(e.Raw[:indexOf(e.Raw, `"signature":"`)]) + `"signature":"` + sig.String() + `"` +
		string(e.Raw[indexOf(e.Raw, `,"signer"`):]))
}

func indexOf(raw []byte, s string) int {
	for i := range raw {
		if len(raw)-i >= len(s) && string(raw[i:i+len(s)]) == s {
			return i
		}
	}
	return -1
}

// TestManyHeadsAreMerged has more concurrent operations than one can name.
func TestManyHeadsAreMerged(t *testing.T) {
	w := newWorld(t)
	b := w.addUnaccepted(ann, w.create, bob, entry.Write)
	for i := range 3 * entry.MaxDeps {
		w.op(bob, b, entry.Accept{}, on(i))
	}
	merges := 0
	for {
		d, err := group.NextOp(w.log, w.log.State(), ann.id, device(0), entry.Admin)
		if err != nil {
			t.Fatal(err)
		}
		if d.Op == nil {
			d.Op = entry.Policy{Name: new("merged")}
		} else {
			merges++
		}
		w.next++
		d.ID = numberedID(w.next)
		e, err := entry.SignOperation(ann.key, d)
		if err != nil {
			t.Fatal(err)
		}
		w.keep(e)
		if e.Op.Kind() == entry.KindPolicy {
			break
		}
	}
	s := w.log.State()
	if heads := s.Heads(); len(heads) != 1 || merges != 3 {
		t.Errorf("%d merges leave %d heads", merges, len(heads))
	}
	last := w.ops[len(w.ops)-1]
	for _, e := range w.ops[:len(w.ops)-1] {
		if !w.log.InPast(e.Hash, last.Hash) {
			t.Fatal("something is not in the past of what merged all")
		}
	}
}

// TestDrafts checks what an author is given.
func TestDrafts(t *testing.T) {
	w := newWorld(t)
	low := w.add(ann, w.create, bob, entry.Write)
	high := w.add(ann, w.create, bob, entry.Admin)
	s := w.log.State()
	if m, ok := s.Member(bob.id); !ok || m.Role != entry.Admin || !slices.Equal(m.Principals, []hash{high.Hash, low.Hash}) {
		t.Errorf("bob is %+v", m)
	}
	d, err := group.NextOp(w.log, s, bob.id, device(5), entry.Read)
	if err != nil || d.As != high.Hash || d.Seq != 0 || d.Dev != device(5) || d.Modified == 0 {
		t.Errorf("draft %+v, %v", d, err)
	}
	d, err = group.NextOpAs(w.log, s, low.Hash, device(0)) // the accept is seq 0
	if err != nil || d.As != low.Hash || d.Seq != 1 || d.Dev != "" || d.Prev.IsZero() {
		t.Errorf("draft %+v, %v", d, err)
	}
	if _, err := group.NextOpAs(w.log, s, hash{9}, device(0)); !errors.Is(err, group.ErrNoGrant) {
		t.Errorf("got %v", err)
	}
	if _, err := group.NextAccept(s, hash{9}, device(0)); !errors.Is(err, group.ErrNoGrant) {
		t.Errorf("got %v", err)
	}
	f := group.FrontierOf(w.log, high.Hash, []hash{{7}, {5}, {7}})
	if len(f) != 3 || !slices.IsSortedFunc(f, hash.Compare) {
		t.Errorf("frontier %v", f)
	}
}

// largeLog has one admin who adds again and again, and members who accept
// without waiting for each other.
func largeLog(t testing.TB, adds int, accepts bool) *world {
	w := newWorld(t)
	prev := w.create
	for i := range adds {
		e := sign(t, ann, w, entry.OpDraft{
			As: w.create.Hash, Deps: []hash{prev.Hash}, Seq: int64(i), Prev: prevOf(i, prev), Dev: devOf(i), Modified: start + int64(i) + 1,
			Op: entry.Add{UserID: bob.id, User: bob.genesis, Role: entry.Write},
		})
		w.ops = append(w.ops, e)
		prev = e
		if accepts {
			w.ops = append(w.ops, sign(t, bob, w, entry.OpDraft{
				As: e.Hash, Deps: []hash{e.Hash}, Dev: device(1), Modified: e.Modified + 1, Op: entry.Accept{},
			}))
		}
	}
	return w
}

func prevOf(i int, prev *entry.Entry) hash {
	if i == 0 {
		return hash{}
	}
	return prev.Hash
}

func devOf(i int) peercrypto.ID {
	if i == 0 {
		return device(0)
	}
	return ""
}

func sign(t testing.TB, by *person, w *world, d entry.OpDraft) *entry.Entry {
	t.Helper()
	w.next++
	d.ID, d.Group, d.Signer = numberedID(w.next), w.create.Group, by.id
	e, err := entry.SignOperation(by.key, d)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestLargeLog(t *testing.T) {
	w := largeLog(t, 800, true)
	l := load(t, w.create.Group, w.ops)
	d, err := group.NextOp(l, l.State(), ann.id, device(0), entry.Admin)
	if err != nil || len(d.Deps) != entry.MaxDeps {
		t.Fatalf("%d deps, %v", len(d.Deps), err)
	}
	m, _ := l.State().Member(bob.id)
	if len(m.Principals) != 800 {
		t.Errorf("%d active grants", len(m.Principals))
	}
}

func BenchmarkRestore(b *testing.B) {
	for _, accepts := range []bool{false, true} {
		w := largeLog(b, 5000, accepts)
		b.Run(fmt.Sprintf("accepts=%v", accepts), func(b *testing.B) {
			for b.Loop() {
				load(b, w.create.Group, w.ops)
			}
			b.ReportMetric(float64(len(w.ops)), "operations")
		})
	}
}

func BenchmarkState(b *testing.B) {
	w := largeLog(b, 5000, true)
	last := w.ops[len(w.ops)-1]
	l := load(b, w.create.Group, w.ops[:len(w.ops)-1])
	for b.Loop() {
		if err := l.Restore(last); err != nil {
			b.Fatal(err)
		}
		l.State()
		b.StopTimer()
		l = load(b, w.create.Group, w.ops[:len(w.ops)-1])
		b.StartTimer()
	}
}

func BenchmarkCheckData(b *testing.B) {
	w := newWorld(b)
	e := w.data(ann, w.create, 0, nil)
	for b.Loop() {
		if err := group.CheckData(w.log, e, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// TestStateOutlivesLog reads a state, and checks data, while others do so; the
// race detector watches.
func TestStateOutlivesLog(t *testing.T) {
	w := newWorld(t)
	b := w.add(ann, w.create, bob, entry.Write)
	s := w.log.State()
	change := w.data(bob, b, 0, nil)
	some := slices.Clone(w.ops[:2])
	done := make(chan string)
	go func() {
		for range 50 {
			s.JudgeData(b.Hash, []group.DataRef{group.RefOf(change)})
		}
		done <- dump(s, some)
	}()
	for i := range 50 {
		w.add(ann, w.create, cat, entry.Read, on(i))
	}
	if got := <-done; got != dump(s, some) {
		t.Error("a state changed")
	}
}
