package sync_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// endings writes what voids the data of a member and what saves some of it: removals and adoptions that name entries at random.
func endings(t *testing.T, rng *rand.Rand, owner *node, g peercrypto.ID, data []*entry.Entry) (ops [][]byte) {
	t.Helper()
	var grant, create *entry.Entry
	for _, raw := range owner.logOf(g) {
		e, err := entry.Decode(raw)
		must(t, err)
		if add, ok := e.Op.(entry.Add); ok && add.UserID == data[0].Signer {
			grant = e
		} else if _, ok := e.Op.(entry.Create); ok {
			create = e
		}
	}
	for i := range 1 + rng.IntN(3) {
		var named []peercrypto.Hash
		for range rng.IntN(4) {
			named = append(named, data[rng.IntN(len(data))].Hash)
		}
		slices.SortFunc(named, peercrypto.Hash.Compare)
		named = slices.Compact(named)
		var op entry.Op = entry.Remove{Grant: grant.Hash, Frontier: named}
		if i > 0 && len(named) > 0 && rng.IntN(2) == 0 {
			op = entry.Adopt{Entries: named}
		}
		ops = append(ops, sideOp(t, owner, create, grant, int64(i), op).Raw)
	}
	return ops
}

// sideOp signs an operation of the owner that follows another one, the n-th on a device of its own.
func sideOp(t *testing.T, owner *node, create, after *entry.Entry, n int64, op entry.Op) *entry.Entry {
	t.Helper()
	e, err := entry.SignOperation(owner.ident.User, entry.OpDraft{
		ID: peercrypto.NewID(time.Now()), Group: create.Group, Signer: owner.UserID(), Modified: after.Modified + 1 + n,
		As: create.Hash, Deps: []peercrypto.Hash{after.Hash}, Dev: peercrypto.DeviceBody{Created: 1 + n, Key: owner.ident.User.Public()}.ID(), Op: op,
	})
	must(t, err)
	return e
}

// forkedData is data of a member in chains that fork.
func forkedData(t *testing.T, rng *rand.Rand, b *node, g peercrypto.ID) (data []*entry.Entry) {
	t.Helper()
	pens := []*pen{newPen(t, b, g)}
	subjects := []peercrypto.ID{peercrypto.NewID(time.Now()), peercrypto.NewID(time.Now())}
	for range 30 {
		p := pens[rng.IntN(len(pens))]
		if rng.IntN(6) == 0 {
			twin := *p
			pens = append(pens, &twin)
		}
		data = append(data, p.write(func(d *entry.DataDraft) {
			d.Subject = subjects[rng.IntN(2)]
			d.Changes[0].Value = fmt.Appendf(nil, `{"group":%q,"id":%q,"type":"Note"}`, g, d.Subject)
		}))
	}
	return data
}

// TestVoidDataIsJudgedAlike: data that comes after what voids it counts and travels as if everything had been judged at once.
func TestVoidDataIsJudgedAlike(t *testing.T) {
	seed := rand.Uint64()
	rounds := 40
	if testing.Short() || raceEnabled {
		rounds = 6
	}
	for round := range rounds {
		rng := rand.New(rand.NewPCG(seed, uint64(round)))
		owner, b, c := newNode(t, 0), newNode(t, 1), newNode(t, 2)
		g := owner.create("g")
		join(t, owner, g, entry.Write, b, c)
		syncPair(t, owner, b, g).end()
		before := owner.logOf(g)
		data := forkedData(t, rng, b, g)
		ops := endings(t, rng, owner, g, data)
		var all, late [][]byte
		for _, e := range data {
			all = append(all, e.Raw)
		}
		late = slices.Concat(ops[1:], all)
		rng.Shuffle(len(late), func(i, k int) { late[i], late[k] = late[k], late[i] })

		nodes := []*node{owner, c}
		for i, steps := range [][][]byte{slices.Concat(all, ops), slices.Concat(ops[:1], late, late)} {
			for len(steps) > 0 {
				n := min(len(steps), 1+rng.IntN(len(steps)), 1+49*(1-i)+rng.IntN(9)) // to the first one, at once
				_, err := nodes[i].Ingest(t.Context(), nodes[1-i].peer(), g, steps[:n])
				must(t, err)
				steps = steps[n:]
			}
		}
		if len(before) == len(owner.logOf(g)) || owner.export(g) != c.export(g) || owner.info(g).Fingerprint != c.info(g).Fingerprint ||
			!slices.EqualFunc(owner.exportLog(g), c.exportLog(g), func(x, y json.RawMessage) bool { return string(x) == string(y) }) {
			t.Fatalf("seed %d, round %d: %d and %d entries of %d count or travel\n%s\n%s",
				seed, round, owner.info(g).Entries, c.info(g).Entries, len(data), owner.export(g), c.export(g))
		}
	}
}

// TestVoidDataReadsNothing: what a removed member wrote after the removal costs the same however much that member had written before, also where the chain forks.
func TestVoidDataReadsNothing(t *testing.T) {
	a, b, g := pair(t)
	c := newNode(t, 2)
	join(t, a, g, entry.Write, c)
	p := newPen(t, b, g)
	var first []*entry.Entry
	for range 40 {
		first = append(first, p.write(nil))
	}
	fork := *p
	a.ingest(b, g, first...)
	must(t, a.Remove(t.Context(), g, b.UserID(), ""))
	fork.seq, fork.prev = 7, first[6].Hash
	for name, late := range map[string]*entry.Entry{"behind all": p.write(nil), "in the middle": fork.write(nil)} {
		if res := a.ingest(c, g, late); res.Deferred != 1 || res.Again() != 0 {
			t.Errorf("%s: %+v", name, res)
		}
	}
}

// TestVoidDataThatWasForgotten: a void change that quarantine had no room for counts when it comes again, if what follows it was adopted meanwhile.
func TestVoidDataThatWasForgotten(t *testing.T) {
	owner, b, c := newNode(t, 0), newNode(t, 1), newNode(t, 2)
	g := owner.create("g")
	join(t, owner, g, entry.Write, b)
	r := newNode(t, 3, func(c *groupsync.Config) { c.Limits.GroupItems = 1 })
	join(t, owner, g, entry.Write, c, r)
	p := newPen(t, b, g)
	first, second := p.write(nil), p.write(nil)
	must(t, owner.Remove(t.Context(), g, b.UserID(), ""))
	syncPair(t, owner, r, g).end()
	for _, e := range []*entry.Entry{first, second} {
		if res := r.ingest(c, g, e); res.Deferred != 1 {
			t.Fatalf("%+v", res)
		}
		r.clock.add(time.Second)
	}
	create, err := entry.Decode(owner.logOf(g)[0])
	must(t, err)
	adopted := sideOp(t, owner, create, create, 0, entry.Adopt{Entries: []peercrypto.Hash{second.Hash}})
	if res := r.ingest(c, g, adopted); res.Accepted != 1 || r.info(g).Entries != 1 {
		t.Fatalf("%+v, and %d entries", res, r.info(g).Entries)
	}
	if res := r.ingest(c, g, first); res.Accepted != 1 || r.info(g).Entries != 2 {
		t.Errorf("%+v, and %d entries", res, r.info(g).Entries)
	}
}
