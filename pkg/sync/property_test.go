package sync_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// deliver gives entries to a node in random batches, order and with duplicates.
func deliver(t *testing.T, rng *rand.Rand, to, from *node, group peercrypto.ID, raws []json.RawMessage) {
	t.Helper()
	list := slices.Concat(raws, raws[:len(raws)/3])
	rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	for len(list) > 0 {
		n := min(len(list), 1+rng.IntN(12))
		var batch [][]byte
		for _, r := range list[:n] {
			batch = append(batch, slices.Clone(r))
		}
		res, err := to.Ingest(t.Context(), from.peer(), group, batch)
		if errors.Is(err, groupsync.ErrNotAdmitted) {
			return // it learned that one of both was removed
		}
		must(t, err)
		if res.Rejected > 0 {
			t.Fatalf("refused: %v", res.Errors)
		}
		if res.Accepted+res.Known+res.Deferred+res.Rejected != n {
			t.Fatalf("%+v for %d entries", res, n)
		}
		list = list[n:]
	}
}

// scribble writes random things; what this user may not do is skipped.
func scribble(t *testing.T, rng *rand.Rand, n *node, group peercrypto.ID, subjects []peercrypto.ID, others []*node) {
	t.Helper()
	id := subjects[rng.IntN(len(subjects))]
	var err error
	switch rng.IntN(12) {
	case 0:
		err = n.Delete(t.Context(), group, id)
	case 1:
		_, err = n.Put(t.Context(), group, json.RawMessage(`{"type":"Note","fresh":true}`))
	case 2:
		err = n.Rename(t.Context(), group, fmt.Sprintf("name %d", rng.IntN(100)))
	case 3:
		if rng.IntN(4) == 0 {
			err = n.Remove(t.Context(), group, others[rng.IntN(len(others))].UserID(), "random")
		}
	case 4:
		if rng.IntN(3) == 0 {
			roles := []entry.Role{entry.Read, entry.Write, entry.Admin}
			err = n.SetRole(t.Context(), group, others[rng.IntN(len(others))].UserID(), roles[rng.IntN(3)])
		}
	default:
		_, err = n.Put(t.Context(), group, json.RawMessage(fmt.Sprintf(
			`{"id":%q,"type":"Note","a":{"k%d":%d},"list":[%d,2],"by":%q}`, id, rng.IntN(3), rng.IntN(5), rng.IntN(5), n.UserID())))
	}
	_ = err // not allowed, not found: fine
}

// TestReplicasConverge lets three members write without seeing each other, removing one another too, and delivers everything
// to everybody in random orders.
func TestReplicasConverge(t *testing.T) {
	rounds := 12
	if testing.Short() || raceEnabled {
		rounds = 3
	}
	seed := rand.Uint64()
	for round := range rounds {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("seed %d", seed)
				}
			}()
			converge(t, rand.New(rand.NewPCG(seed, uint64(round))))
		})
	}
}

func converge(t *testing.T, rng *rand.Rand) {
	nodes := []*node{newNode(t, 0), newNode(t, 1), newNode(t, 2)}
	owner := nodes[0]
	g := owner.create("g")
	join(t, owner, g, entry.Admin, nodes[1])
	join(t, owner, g, entry.Write, nodes[2])
	syncPair(t, owner, nodes[1], g).end()
	var subjects []peercrypto.ID
	for i := range 4 {
		subjects = append(subjects, owner.put(g, `{"type":"Note","n":%d}`, i).Subject)
	}
	for phase := range 2 {
		for range 25 {
			n := nodes[rng.IntN(3)]
			scribble(t, rng, n, g, subjects, []*node{nodes[rng.IntN(2)+1]})
		}
		// Everything that anybody has, to everybody: also what is void at its receiver.
		var all [][]json.RawMessage
		for _, n := range nodes {
			all = append(all, n.exportLog(g))
		}
		for turn := range 2 { // twice: what was void and not taken comes again
			for i, n := range nodes {
				from := owner
				if i == 0 {
					from = activeOther(owner, g, nodes)
				}
				if from != nil && n.Admits(from.UserID()) == groupsync.AdmitMember {
					deliver(t, rng, n, from, g, slices.Concat(all...))
				}
			}
			_ = turn
		}
		checkSame(t, g, phase, nodes)
	}
}

func activeOther(owner *node, g peercrypto.ID, nodes []*node) *node {
	for _, n := range nodes[1:] {
		if owner.Admits(n.UserID()) == groupsync.AdmitMember {
			return n
		}
	}
	return nil
}

// checkSame compares what members hold; who learned of their own removal stopped listening.
func checkSame(t *testing.T, g peercrypto.ID, phase int, nodes []*node) {
	t.Helper()
	var members []*node
	for _, n := range nodes {
		if nodes[0].Admits(n.UserID()) == groupsync.AdmitMember && n.info(g).Joined {
			members = append(members, n)
		}
	}
	for _, n := range members[1:] {
		if a, b := members[0].export(g), n.export(g); a != b {
			t.Fatalf("phase %d: documents differ\n%s\n%s", phase, a, b)
		}
		if a, b := members[0].exportLog(g), n.exportLog(g); !slices.EqualFunc(a, b, func(x, y json.RawMessage) bool { return string(x) == string(y) }) {
			t.Fatalf("phase %d: logs of %d and %d entries differ", phase, len(a), len(b))
		}
		if a, b := members[0].info(g).Fingerprint, n.info(g).Fingerprint; a != b {
			t.Fatalf("phase %d: fingerprints differ", phase)
		}
	}
	for _, n := range members {
		before, fp := n.export(g), n.info(g).Fingerprint
		n.reopen()
		if n.export(g) != before || n.info(g).Fingerprint != fp {
			t.Fatalf("phase %d: not the same after reopening", phase)
		}
	}
}
